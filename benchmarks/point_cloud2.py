# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Time to read the points of a PointCloud2, for the layouts that drivers publish.

python benchmarks/point_cloud2.py [--points 120000] [--json bench_output/point_cloud2.json]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
import json
from pathlib import Path
import sys
from time import perf_counter
from types import SimpleNamespace

import numpy as np

from pointdistiller_core.files import write_text
from pointdistiller_core.messages.point_cloud2 import (
    DATATYPE_NUMBERS,
    drop_no_returns,
    points_from_cloud,
)

MOST_MS = 3.0  # median


@dataclass(frozen=True)
class Layout:
    """How a driver lays out its points.

    Attributes:
        point_step: bytes from point to point.
        fields: offset and number type by name, in the order of the message.
        rows: height of the cloud.
        row_padding: bytes after each row.
        big_endian: byte order.
    """

    point_step: int
    fields: Mapping[str, tuple[int, str]]
    rows: int = 1
    row_padding: int = 0
    big_endian: bool = False


XYZ = {'x': (0, 'f4'), 'y': (4, 'f4'), 'z': (8, 'f4')}
XYZI = {**XYZ, 'intensity': (12, 'f4')}
TIMED = {**XYZI, 'ring': (16, 'u2'), 'timestamp': (18, 'f8')}
PCL_XYZI = {**XYZ, 'intensity': (16, 'f4')}  # PCL keeps x, y, z in 16 bytes

LAYOUTS: Mapping[str, Layout] = {
    'KITTI': Layout(16, XYZI),
    'KITTI, intensity called i': Layout(16, {**XYZ, 'i': (12, 'f4')}),
    'Velodyne': Layout(22, {**XYZI, 'ring': (16, 'u2'), 'time': (18, 'f4')}),
    'Velodyne, through PCL': Layout(32, {**PCL_XYZI, 'ring': (20, 'u2')}),
    'Ouster': Layout(
        48,
        {
            **PCL_XYZI,
            't': (20, 'u4'),
            'reflectivity': (24, 'u2'),
            'ring': (26, 'u2'),
            'ambient': (28, 'u2'),
            'range': (32, 'u4'),
        },
        rows=64,
    ),
    'Ouster, native': Layout(
        48,
        {
            **XYZ,
            't': (16, 'u4'),
            'ring': (20, 'u2'),
            'range': (24, 'u4'),
            'signal': (28, 'u2'),
            'reflectivity': (30, 'u2'),
            'near_ir': (32, 'u2'),
        },
        rows=64,
    ),
    'Hesai': Layout(26, TIMED),
    'Livox': Layout(26, {**XYZI, 'tag': (16, 'u1'), 'line': (17, 'u1'), 'timestamp': (18, 'f8')}),
    'RoboSense': Layout(26, TIMED, rows=32),
    'RoboSense, through PCL': Layout(
        32, {**XYZ, 'intensity': (16, 'u1'), 'ring': (18, 'u2'), 'timestamp': (24, 'f8')}, rows=32
    ),
    'Autoware (XYZIRC)': Layout(
        16, {**XYZ, 'intensity': (12, 'u1'), 'return_type': (13, 'u1'), 'channel': (14, 'u2')}
    ),
    'float64': Layout(
        32, {'x': (0, 'f8'), 'y': (8, 'f8'), 'z': (16, 'f8'), 'intensity': (24, 'f8')}
    ),
    'big-endian': Layout(16, XYZI, big_endian=True),
    'padded rows': Layout(16, XYZI, rows=64, row_padding=64),
}


def build_message(layout: Layout, values: np.ndarray) -> SimpleNamespace:
    """A message whose fields hold the columns of `values` (N, number of fields).

    Bytes between the fields are 0xA5, so reading them gives nonsense.
    """
    order = '>' if layout.big_endian else '<'
    dtype = np.dtype(
        {
            'names': list(layout.fields),
            'formats': [order + code for _, code in layout.fields.values()],
            'offsets': [offset for offset, _ in layout.fields.values()],
            'itemsize': layout.point_step,
        }
    )
    width = len(values) // layout.rows
    row_step = width * layout.point_step + layout.row_padding
    data = np.full(layout.rows * row_step, 0xA5, np.uint8)
    shape, strides = (layout.rows, width), (row_step, layout.point_step)
    records = np.ndarray(shape, dtype, buffer=data, strides=strides)
    for name, column in zip(layout.fields, values.T, strict=True):
        records[name] = column.reshape(shape)
    fields = [
        SimpleNamespace(
            name=name, offset=offset, datatype=DATATYPE_NUMBERS[np.dtype(code)], count=1
        )
        for name, (offset, code) in layout.fields.items()
    ]
    return SimpleNamespace(
        header=SimpleNamespace(frame_id='lidar'),
        height=layout.rows,
        width=width,
        fields=fields,
        is_bigendian=layout.big_endian,
        point_step=layout.point_step,
        row_step=row_step,
        data=data.tobytes(),
        is_dense=True,
    )


def measure(cloud: SimpleNamespace, repeats: int) -> np.ndarray:
    """(repeats,) milliseconds to read all points and drop those without a return."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        drop_no_returns(points_from_cloud(cloud, intensity_scale=1 / 255))
        times.append((perf_counter() - start) * 1e3)
    return np.array(times)


def main() -> int:
    """Time every layout; the intensity is scaled, a tenth of the points have no return.

    1 if one takes too long.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--points', type=int, default=120_000)
    parser.add_argument('--repeats', type=int, default=300)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, default=Path('bench_output/point_cloud2.json'))
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    # malloc keeps the memory of arrays for later ones only after a bigger one was freed, which
    # soon happens in a process with a network. Before that, page faults would be measured.
    np.zeros(2**24, np.uint8)
    print(f'{arguments.points} points, {arguments.repeats} repeats, milliseconds')
    print(f'{"layout":32} {"bytes a point":>13} {"median":>7} {"p95":>7} {"p99":>7}')
    records = []
    for name, layout in LAYOUTS.items():
        num_points = arguments.points // layout.rows * layout.rows
        values = rng.uniform(1, 127, (num_points, len(layout.fields)))
        values[::10, :3] = 0.0
        cloud = build_message(layout, values)
        times = measure(cloud, arguments.repeats)
        median, p95, p99 = np.percentile(times, [50, 95, 99])
        print(f'{name:32} {layout.point_step:13} {median:7.3f} {p95:7.3f} {p99:7.3f}')
        records.append({'layout': name, 'median_ms': median, 'p95_ms': p95, 'p99_ms': p99})
    record = {'points': arguments.points, 'seed': arguments.seed, 'layouts': records}
    write_text(arguments.json, json.dumps(record, indent=2) + '\n')
    return int(any(layout['median_ms'] > MOST_MS for layout in records))


if __name__ == '__main__':
    sys.exit(main())
