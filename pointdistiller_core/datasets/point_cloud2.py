# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/PointCloud2 to arrays and back, without ROS.

A message is known by its attributes alone, so that those of rclpy and of rosbags both serve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import CloudError

DATATYPES = {
    number: np.dtype(code)
    for number, code in enumerate(('i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'f4', 'f8'), start=1)
}
DATATYPE_NUMBERS = {dtype: number for number, dtype in DATATYPES.items()}
INTENSITY_NAMES = ('intensity', 'reflectivity', 'signal', 'i')  # drivers differ; the first wins

MissingIntensity = Literal['error', 'zero']


def points_from_cloud(
    cloud: Any,
    *,
    missing_intensity: MissingIntensity = 'error',
    intensity_scale: float | None = None,
) -> NDArray[np.float32]:
    """Points of a PointCloud2 of any layout.

    Points that are not finite are kept, so that the reader of the points can count them. Where
    the message is plain float32 x, y, z, intensity, the result is a view of its data.

    Args:
        cloud: message with the attributes of sensor_msgs/PointCloud2.
        missing_intensity: what to make of a cloud without any of `INTENSITY_NAMES`.
        intensity_scale: factor on the raw intensity; None is 1 for floating point and
            1 / (largest value) for integers.

    Returns:
        (N, 4) float32 x, y, z [m], scaled intensity, in the frame of the message; rows of an
        organized cloud one after another.

    Raises:
        CloudError: a field is missing or the message contradicts itself.
    """
    if cloud.width * cloud.height == 0:
        return np.zeros((0, 4), np.float32)
    intensity = _intensity_names(cloud, missing_intensity)
    records = records_from_cloud(cloud, ('x', 'y', 'z', *intensity))
    scale = _default_scale(records.dtype[-1]) if intensity_scale is None else intensity_scale
    if scale == 1.0 and _is_plain(records.dtype):
        return records.view(np.float32).reshape(-1, 4)
    points = np.zeros((len(records), 4), np.float32)
    names = records.dtype.names or ()
    copied = _copy_adjacent(records, points)
    with np.errstate(over='ignore', invalid='ignore'):  # float64 beyond float32 becomes infinite
        for column in range(copied, len(names)):
            points[:, column] = records[names[column]]
        points[:, 3] *= scale
    return points


def records_from_cloud(cloud: Any, names: Sequence[str]) -> NDArray[np.void]:
    """Named fields of a PointCloud2 as a structured array; a view where its rows are not padded.

    Args:
        cloud: message with the attributes of sensor_msgs/PointCloud2.
        names: fields to read; each must hold one value a point.

    Returns:
        (N,) structured array with these names, in the message's number types.

    Raises:
        CloudError: a field is missing or the message contradicts itself.
    """
    row_size = cloud.width * cloud.point_step
    # Some drivers leave row_step empty, and for a single row it says nothing.
    row_step = cloud.row_step if cloud.height > 1 and cloud.row_step else row_size
    if row_step < row_size:
        raise CloudError(
            f'{_name(cloud)}: row_step {row_step} is less than {cloud.width} points of '
            f'{cloud.point_step} bytes'
        )
    needed = max(cloud.height - 1, 0) * row_step + row_size
    if len(cloud.data) < needed:
        raise CloudError(
            f'{_name(cloud)}: {cloud.height} x {cloud.width} points of {cloud.point_step} bytes '
            f'need {needed} bytes of data, the message has {len(cloud.data)}'
        )
    dtype = _record_type(cloud, names)
    shape, strides = (cloud.height, cloud.width), (row_step, cloud.point_step)
    return np.ndarray(shape, dtype, buffer=cloud.data, strides=strides).reshape(-1)


def cloud_layout(
    points: NDArray[np.float32], extra_fields: Mapping[str, NDArray[Any]] | None = None
) -> dict[str, Any]:
    """Attributes of a little-endian, unorganized PointCloud2: all but its header.

    Args:
        points: (N, 3) x, y, z or (N, 4) x, y, z, intensity; written as float32.
        extra_fields: further columns (N,) in their own number types, e.g. an int32 `label`.

    Returns:
        height, width, point_step, row_step, is_bigendian, is_dense, `data` as a uint8 array, and
        `fields` as dicts of name, offset, datatype and count.

    Raises:
        CloudError: an extra field has another length, or a number type unknown to PointCloud2.
    """
    columns = _columns(points, extra_fields or {})
    dtype = np.dtype([(name, column.dtype.newbyteorder('<')) for name, column in columns.items()])
    records = np.empty(len(points), dtype)
    fields: list[dict[str, Any]] = []
    for name, column in columns.items():
        records[name] = column
        offset = sum(columns[field['name']].itemsize for field in fields)
        number = DATATYPE_NUMBERS[column.dtype]
        fields.append({'name': name, 'offset': offset, 'datatype': number, 'count': 1})
    return {
        'height': 1,
        'width': len(points),
        'fields': fields,
        'is_bigendian': False,
        'point_step': dtype.itemsize,
        'row_step': dtype.itemsize * len(points),
        'data': records.view(np.uint8),
        'is_dense': bool(np.isfinite(points).all()),
    }


def _columns(
    points: NDArray[np.float32], extra_fields: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    coordinates = zip(('x', 'y', 'z', 'intensity'), points.T.astype(np.float32), strict=False)
    columns = {**dict(coordinates), **extra_fields}
    for name, column in columns.items():
        if column.shape != (len(points),) or column.dtype not in DATATYPE_NUMBERS:
            raise CloudError(
                f'field {name!r} is {column.dtype} {column.shape} for {len(points)} points; '
                f'it must be ({len(points)},) of {[str(dtype) for dtype in DATATYPE_NUMBERS]}'
            )
    return columns


def _intensity_names(cloud: Any, missing_intensity: MissingIntensity) -> list[str]:
    """The field that holds the intensity; none where the cloud has no such field."""
    present = [field.name for field in cloud.fields]
    found = [name for name in INTENSITY_NAMES if name in present][:1]
    if not found and missing_intensity == 'error':
        raise CloudError(
            f'{_name(cloud)} has none of the intensity fields {list(INTENSITY_NAMES)}, only '
            f"{present}; set missing_intensity to 'zero' to detect without intensity"
        )
    return found


def _record_type(cloud: Any, names: Sequence[str]) -> np.dtype[np.void]:
    """Structured type of the wanted fields; what else the message declares does not matter."""
    fields = {field.name: field for field in reversed(cloud.fields)}  # the first of a name counts
    if missing := [name for name in names if name not in fields]:
        raise CloudError(f'{_name(cloud)} lacks fields {missing}; it has {sorted(fields)}')
    wanted = [fields[name] for name in names]
    return np.dtype(
        {
            'names': list(names),
            'formats': [_column_type(cloud, field) for field in wanted],
            'offsets': [field.offset for field in wanted],
            'itemsize': cloud.point_step,
        }
    )


def _column_type(cloud: Any, field: Any) -> np.dtype[Any]:
    where = f'{_name(cloud)}: field {field.name!r}'
    if field.datatype not in DATATYPES:
        raise CloudError(f'{where} has the unknown datatype {field.datatype}')
    if field.count > 1:
        raise CloudError(f'{where} holds {field.count} values a point instead of one')
    column = DATATYPES[field.datatype].newbyteorder('>' if cloud.is_bigendian else '<')
    if field.offset + column.itemsize > cloud.point_step:
        raise CloudError(
            f'{where} of {column.itemsize} bytes at offset {field.offset} does not fit into '
            f'point_step {cloud.point_step}'
        )
    return column


def _default_scale(column: np.dtype[Any]) -> float:
    return 1.0 if column.kind == 'f' else 1.0 / float(np.iinfo(column).max)


def _is_plain(dtype: np.dtype[np.void]) -> bool:
    """Whether records are native float32 x, y, z, intensity side by side and nothing else."""
    plain = np.dtype([(name, np.float32) for name in dtype.names or ()])
    return dtype == plain and dtype.itemsize == 16


def _copy_adjacent(records: NDArray[np.void], points: NDArray[np.float32]) -> int:
    """Copy the leading fields that are native float32 side by side; returns how many these are.

    A whole row at a time, which is many times as fast as one column after another.
    """
    fields = list((records.dtype.fields or {}).values())
    start = fields[0][1]
    expected = [(np.dtype(np.float32), start + 4 * index) for index in range(len(fields))]
    matching = [field[:2] == wanted for field, wanted in zip(fields, expected, strict=True)]
    count = [*matching, False].index(False)
    if count:
        row = np.dtype((np.void, 4 * count))
        target: NDArray[np.void] = np.ndarray(len(points), row, points, 0, points.strides[:1])
        target[:] = np.ndarray(len(points), row, records, start, records.strides)
    return count


def _name(cloud: Any) -> str:
    return f'cloud in {cloud.header.frame_id!r}'
