# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/PointCloud2 to arrays and back, without ROS.

Only a message's attributes are used, so messages of rclpy and of rosbags both work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import itertools
import reprlib
import struct
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import CloudError
from pointdistiller_core.geometry.returns import find_returns
from pointdistiller_core.messages.storage import NANOSECONDS

DATATYPES = {
    number: np.dtype(code)
    for number, code in enumerate(('i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'f4', 'f8'), start=1)
}
DATATYPE_NUMBERS = {dtype: number for number, dtype in DATATYPES.items()}
INTENSITY_NAMES = ('intensity', 'reflectivity', 'signal', 'i')  # drivers differ; the first wins

_SHORT = reprlib.Repr()  # a message may declare any number of fields, with names of any length
_SHORT.maxlist, _SHORT.maxstring = 20, 60

MissingIntensity = Literal['error', 'zero', 'constant']


def points_from_cloud(
    cloud: Any,
    *,
    intensity_field: str = '',
    missing_intensity: MissingIntensity = 'error',
    constant_intensity: float = 0.0,
    intensity_scale: float | None = None,
) -> NDArray[np.float32]:
    """Points of a PointCloud2 of any layout.

    Every point of the message is kept, also those that are not finite or have no return
    (`drop_no_returns`), so that they can be counted. The result is a view of the message's data if
    that is plain float32 x, y, z, intensity.

    Args:
        cloud: message with the attributes of sensor_msgs/PointCloud2.
        intensity_field: field to read the intensity from; empty is the first of
            `INTENSITY_NAMES` that the cloud has.
        missing_intensity: for a cloud without such a field: refuse it, or take zero or
            `constant_intensity` as its intensity.
        constant_intensity: for `missing_intensity='constant'`; not scaled.
        intensity_scale: factor on the raw intensity; None is 1 for floating point and
            1 / (largest value) for integers.

    Returns:
        (N, 4) float32 x, y, z [m], scaled intensity, in the frame of the message; rows of an
        organized cloud one after another.

    Raises:
        CloudError: a field is missing or the message contradicts itself.
    """
    if cloud.width * cloud.height == 0:  # needs no fields
        _checked_row_step(cloud)
        return np.zeros((0, 4), np.float32)
    intensity = _intensity_names(cloud, intensity_field, missing_intensity)
    records = _organized_records(cloud, ('x', 'y', 'z', *intensity))
    scale = 1.0
    if intensity:
        scale = (
            default_intensity_scale(records.dtype[-1])
            if intensity_scale is None
            else intensity_scale
        )
    if scale == 1.0 and _is_plain(records):
        return records.view(np.float32).reshape(-1, 4)
    points = np.empty((*records.shape, 4), np.float32)
    with np.errstate(over='ignore', invalid='ignore'):  # float64 beyond float32 becomes infinite
        _copy_columns(records, points)
        if scale != 1.0:
            points[..., 3] *= scale
    if not intensity:
        points[..., 3] = constant_intensity if missing_intensity == 'constant' else 0.0
    return points.reshape(-1, 4)


def stamp_of_cdr(cdr: bytes) -> int:
    """The time [ns] in the header of a serialized PointCloud2, which need not be read for it.

    Raises:
        CloudError: these bytes are no message with a header.
    """
    if len(cdr) < 12:
        raise CloudError(f'{len(cdr)} bytes are no serialized message with a header')
    seconds, nanoseconds = struct.unpack_from('<iI' if cdr[1] & 1 else '>iI', cdr, 4)
    return int(seconds) * NANOSECONDS + int(nanoseconds)


def own_intensity_scale(cloud: Any, intensity_field: str = '') -> float | None:
    """The factor that `points_from_cloud` uses by default; None for a cloud without intensity."""
    for name in [intensity_field] if intensity_field else INTENSITY_NAMES:
        for field in cloud.fields:
            if field.name == name:
                return default_intensity_scale(_column_type(cloud, field))
    return None


def drop_no_returns(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points without those at exactly (0, 0, 0), where some drivers put rays without a return.

    Args:
        points: (N, 3 or more) x, y, z, ...

    Returns:
        The others, in their order; `points` itself if there is nothing to drop.
    """
    returns = find_returns(points)
    return points if returns.all() else points.compress(returns, axis=0)


def records_from_cloud(cloud: Any, names: Sequence[str]) -> NDArray[np.void]:
    """Named fields of a PointCloud2 as a structured array; a view if its rows are not padded.

    Args:
        cloud: message with the attributes of sensor_msgs/PointCloud2.
        names: fields to read; each must hold one value a point.

    Returns:
        (N,) structured array with these names, in the message's number types.

    Raises:
        CloudError: a field is missing or the message contradicts itself.
    """
    return _organized_records(cloud, names).reshape(-1)


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


def _intensity_names(
    cloud: Any, intensity_field: str, missing_intensity: MissingIntensity
) -> list[str]:
    """The field that holds the intensity; empty if the cloud has none."""
    wanted = [intensity_field] if intensity_field else list(INTENSITY_NAMES)
    present = [field.name for field in cloud.fields]
    found = [name for name in wanted if name in present][:1]
    if not found and missing_intensity == 'error':
        raise CloudError(
            f'{_name(cloud)} has none of the intensity fields {wanted}, only '
            f'{_SHORT.repr(present)}; name one in intensity_field, or set missing_intensity to '
            "'zero' or 'constant' to detect without intensity"
        )
    return found


def _organized_records(cloud: Any, names: Sequence[str]) -> NDArray[np.void]:
    """(height, width) view of the named fields; everything is checked first."""
    row_step = _checked_row_step(cloud)
    fields, shape = _wanted_fields(cloud, names), (cloud.height, cloud.width)
    if 0 in shape:  # the other sizes may then be anything
        return np.zeros((0, 0), [(name, column) for name, column, _ in fields])
    formats, offsets = [column for _, column, _ in fields], [offset for *_, offset in fields]
    dtype = np.dtype(
        {
            'names': list(names),
            'formats': formats,
            'offsets': offsets,
            'itemsize': cloud.point_step,
        }
    )
    return np.ndarray(shape, dtype, buffer=cloud.data, strides=(row_step, cloud.point_step))


def _checked_row_step(cloud: Any) -> int:
    """Bytes from row to row, which fit the message's data."""
    row_size = cloud.width * cloud.point_step
    # Some drivers leave row_step empty; for a single row it has no meaning.
    row_step: int = cloud.row_step if cloud.height > 1 and cloud.row_step else row_size
    if row_step < row_size:
        raise CloudError(
            f'{_name(cloud)}: row_step {row_step} is less than {cloud.width} points of '
            f'{cloud.point_step} bytes'
        )
    # The last row may lack its padding.
    least = (cloud.height - 1) * row_step + row_size if cloud.height else 0
    most = cloud.height * max(row_step, cloud.row_step)
    if not least <= len(cloud.data) <= most:
        raise CloudError(
            f'{_name(cloud)}: {cloud.height} x {cloud.width} points of {cloud.point_step} bytes '
            f'(row_step {cloud.row_step}) need {least} bytes of data, the message has '
            f'{len(cloud.data)}'
        )
    return row_step


def _wanted_fields(cloud: Any, names: Sequence[str]) -> list[tuple[str, np.dtype[Any], int]]:
    """Name, type and offset of the wanted fields; other fields do not matter."""
    present = [field.name for field in cloud.fields]
    if missing := [name for name in names if name not in present]:
        raise CloudError(
            f'{_name(cloud)} lacks fields {missing}; it has {_SHORT.repr(sorted(present))}'
        )
    if repeated := [name for name in names if present.count(name) > 1]:
        raise CloudError(f'{_name(cloud)} declares fields {repeated} more than once')
    fields = [cloud.fields[present.index(name)] for name in names]
    wanted = [(field.name, _column_type(cloud, field), field.offset) for field in fields]
    spans = sorted((offset, offset + column.itemsize, name) for name, column, offset in wanted)
    for (_, end, name), (begin, _, other) in itertools.pairwise(spans):
        if begin < end:
            raise CloudError(
                f'{_name(cloud)}: field {other!r} at offset {begin} overlaps field {name!r}, '
                f'which ends at {end}'
            )
    return wanted


def _column_type(cloud: Any, field: Any) -> np.dtype[Any]:
    where = f'{_name(cloud)}: field {field.name!r}'
    if field.datatype not in DATATYPES:
        raise CloudError(f'{where} has the unknown datatype {field.datatype}')
    if field.count > 1:  # PCL reads 0 as 1, too
        raise CloudError(f'{where} holds {field.count} values a point instead of one')
    column = DATATYPES[field.datatype].newbyteorder('>' if cloud.is_bigendian else '<')
    if field.offset + column.itemsize > cloud.point_step:
        raise CloudError(
            f'{where} of {column.itemsize} bytes at offset {field.offset} does not fit into '
            f'point_step {cloud.point_step}'
        )
    return column


def _copy_columns(records: NDArray[np.void], points: NDArray[np.float32]) -> None:
    """Write the fields into the first columns of `points` (height, width, 4)."""
    names = records.dtype.names or ()
    num_done, start = _side_by_side(records.dtype)
    if num_done:
        # One copy of 16 bytes a point takes a fraction of the time of four strided columns.
        points.view('V16')[..., 0] = records.getfield('V16', start)
    for column in range(num_done, len(names)):
        points[..., column] = records[names[column]]


def _side_by_side(dtype: np.dtype[np.void]) -> tuple[int, int]:
    """How many columns one copy of 16 bytes fills (0, 3 or 4), and where these bytes begin."""
    fields: Mapping[str, Any] = dtype.fields or {}
    columns = [fields[name][:2] for name in dtype.names or ()]
    start = columns[0][1]
    expected = [(np.dtype(np.float32), start + 4 * index) for index in range(4)]
    for num_columns in (4, 3):
        if columns[:num_columns] == expected[:num_columns] and start + 16 <= dtype.itemsize:
            return num_columns, start
    return 0, 0


def default_intensity_scale(column: np.dtype[Any]) -> float:
    """Factor on intensities of a number type: 1 for floating point, else 1 / (largest value)."""
    return 1.0 if column.kind == 'f' else 1.0 / float(np.iinfo(column).max)


def _is_plain(records: NDArray[np.void]) -> bool:
    """Whether records are native float32 x, y, z, intensity side by side and nothing else."""
    plain = np.dtype([(name, np.float32) for name in records.dtype.names or ()])
    return records.dtype == plain and plain.itemsize == 16 and records.flags.c_contiguous


def _name(cloud: Any) -> str:
    return f'cloud in {_SHORT.repr(cloud.header.frame_id)}'
