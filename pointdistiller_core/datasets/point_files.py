# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""One point cloud from a file: raw numbers, NumPy's `.npy` or PCL's `.pcd`."""

from __future__ import annotations

from collections.abc import Mapping
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.datasets.pcd import MAGIC as PCD_MAGIC
from pointdistiller_core.datasets.pcd import read_pcd
from pointdistiller_core.datasets.raw_points import (
    KITTI_LAYOUT,
    NUSCENES_LAYOUT,
    far_points,
    find_layout,
    read_raw,
)
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.messages.point_cloud2 import (
    INTENSITY_NAMES,
    default_intensity_scale,
)

logger = logging.getLogger(__name__)

NUMPY_MAGIC = b'\x93NUMPY'
REMEDY = "save x, y, z, intensity as (N, 4) with np.save('cloud.npy', points)"
NOT_READ = {
    b'ARROW1': 'a feather file (pandas.read_feather reads it)',
    b'FEA1': 'a feather file (pandas.read_feather reads it)',
    b'PAR1': 'a parquet file (pandas.read_parquet reads it)',
    b'PK\x03\x04': 'a zip archive, such as .npz (np.load reads it)',
    b'\x89HDF': 'an HDF5 file (h5py reads it)',
    b'LASF': 'a LAS or LAZ file (laspy reads it)',
    b'ply\n': 'a PLY file',
    b'ply\r': 'a PLY file',
    b'\x1f\x8b\x08': 'compressed with gzip; unpack it first',
}
BAGS = (b'#ROSBAG', b'\x89MCAP0', b'SQLite format 3')
MOST_COLUMNS = 16  # of an array; wider ones are something else


def read_points(path: Path, *, needs_intensity: bool = True) -> NDArray[np.float32]:
    """Read a file of points; those that are not finite are dropped with a warning.

    A file is recognized by its first bytes, not by its name. Raw numbers may be 4 columns of
    float32 (KITTI), 5 (nuScenes), or the same in float64. An `.npy` file may have named columns,
    too.

    Args:
        path: of the file.
        needs_intensity: whether a file without intensities is an error; otherwise they are zero.

    Returns:
        (N, 4) float32 x, y, z [m], intensity, in the frame of the file; integer intensities are
        divided by the largest value of their type, as in messages.

    Raises:
        DatasetError: the file is missing, damaged or of another kind; its numbers are not metres;
            it has no intensities.
    """
    data = read_raw(path)
    start = data[:16].tobytes()
    if start.startswith(NUMPY_MAGIC):
        columns = _read_numpy(path)
    elif start.lstrip().startswith(PCD_MAGIC):
        columns, note = read_pcd(data.tobytes(), str(path))
        if note:
            logger.warning('%s: %s', path, note)
    else:
        _refuse_others(path, data)
        columns = _read_numbers(path, data)
    points = _join(columns, path, needs_intensity=needs_intensity)
    if doubt := far_points(points):
        raise DatasetError(f'{path}: {doubt}')
    if not len(points):
        logger.warning('%s: has no points', path)
    return drop_not_finite(points, path)


def drop_not_finite(points: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    """The points whose four numbers are finite; those left out are counted in a warning."""
    if np.isfinite(points).all():
        return points
    finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(points), axis=1)
    logger.warning('%s: dropped %d of %d points, not finite', path, (~finite).sum(), len(points))
    return points[finite]


def _refuse_others(path: Path, data: NDArray[np.uint8]) -> None:
    start = data[:1024].tobytes()
    if start.startswith(BAGS):
        raise DatasetError(f'{path}: is a bag, not a file of points; `run detect --bag` plays it')
    for magic, kind in NOT_READ.items():
        if start.startswith(magic):
            raise DatasetError(f'{path}: is {kind}; {REMEDY}')
    if start and all(byte in b'\t\n\r' or 32 <= byte < 127 for byte in start):
        raise DatasetError(f'{path}: is text (np.loadtxt may read it); {REMEDY}')


def _read_numbers(path: Path, data: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    expected = KITTI_LAYOUT
    if path.name.endswith('.pcd.bin') and data.size % NUSCENES_LAYOUT.point_size == 0:
        expected = NUSCENES_LAYOUT
    layout = find_layout(data, str(path), expected=expected)
    if layout.num_columns > NUSCENES_LAYOUT.num_columns:  # their order is not known
        raise DatasetError(f'{path}: seems to be {layout}, whose meaning is not known; {REMEDY}')
    if layout != expected:
        logger.warning('%s: read as %s', path, layout)
    return _name_columns(layout.points(data))


def _read_numpy(path: Path) -> dict[str, NDArray[Any]]:
    try:  # mapped, so that a wrong shape in the header takes no memory
        array = np.load(path, mmap_mode='r', allow_pickle=False)
    except Exception as error:  # of a damaged header, whatever Python's own parser raises
        raise DatasetError(f'{path}: not a whole .npy file of numbers: {error}') from error
    if array.dtype.names:
        names = [name for name in array.dtype.names if array.dtype[name].kind in 'fiu']
        return {name: array[name].reshape(-1) for name in names}
    if array.dtype.kind != 'f' or array.ndim < 2 or not 3 <= array.shape[-1] <= MOST_COLUMNS:
        raise DatasetError(
            f'{path}: an array of {array.dtype} and shape {array.shape}; expected floating point '
            'numbers of shape (N, 4): x, y, z, intensity'
        )
    if array.shape[-1] > 4:
        logger.warning(
            '%s: the first 4 of %d columns are taken as x, y, z, intensity', path, array.shape[-1]
        )
    return _name_columns(array.reshape(-1, array.shape[-1]))


def _name_columns(table: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return dict(zip(('x', 'y', 'z', 'intensity'), table.T, strict=False))


def _join(
    columns: Mapping[str, NDArray[Any]], path: Path, *, needs_intensity: bool
) -> NDArray[np.float32]:
    """(N, 4) of named columns."""
    columns = {name.lower(): column for name, column in columns.items()}
    if missing := [name for name in ('x', 'y', 'z') if name not in columns]:
        raise DatasetError(f'{path}: has no column {missing}, only {sorted(columns)}')
    intensity = next((columns[name] for name in INTENSITY_NAMES if name in columns), None)
    if intensity is None and needs_intensity:
        raise DatasetError(
            f'{path}: has no intensity, only {sorted(columns)}; it is looked for in '
            f'{list(INTENSITY_NAMES)}; --missing-intensity zero detects without'
        )
    points = np.zeros((len(columns['x']), 4), np.float32)
    with np.errstate(over='ignore', invalid='ignore'):  # beyond float32 becomes infinite
        for place, name in enumerate(('x', 'y', 'z')):
            points[:, place] = columns[name]
        if intensity is not None:
            points[:, 3] = intensity
            points[:, 3] *= default_intensity_scale(intensity.dtype)
    return points
