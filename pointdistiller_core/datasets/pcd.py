# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Point Cloud Library's files (`.pcd`): as text, binary, or compressed with LZF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import DatasetError

MAGIC = (b'# .PCD', b'VERSION', b'FIELDS')  # comment and version may be missing
LONGEST_HEADER = 65536  # bytes
TYPES = frozenset({'F4', 'F8', *(f'{kind}{size}' for kind in 'IU' for size in (1, 2, 4, 8))})
HERE = ['0', '0', '0', '1', '0', '0', '0']  # VIEWPOINT of points in the sensor's own frame
MOST_VALUES = 9999  # of a field in one point
LONGEST_MATCH = 264  # bytes that LZF makes of three


def read_pcd(content: bytes, where: str) -> tuple[dict[str, NDArray[Any]], str]:
    """Columns of a `.pcd` file.

    Args:
        content: the whole file.
        where: its name in an error.

    Returns:
        Name -> (N,) of every field with one value per point, in its own type; names that come more
        than once, such as `_` for padding, are left out. And a note about the points, or an empty
        one.

    Raises:
        DatasetError: the header is malformed, or the data do not fit it.
    """
    header, start = _read_header(content, where)
    dtype = _point_type(header, where)
    num_points = _num_points(header, where)
    encoding, data = ' '.join(header['DATA']), content[start:]
    decode = DECODERS.get(encoding)
    if decode is None:
        raise DatasetError(f'{where}: DATA {encoding}; expected one of {sorted(DECODERS)}')
    columns = decode(data, dtype, num_points, where)
    pose = header.get('VIEWPOINT', HERE)
    note = '' if _is_here(pose) else f'VIEWPOINT is {" ".join(pose)}; the points are as they are'
    names = [name for name in header['FIELDS'] if header['FIELDS'].count(name) == 1]
    return {name: columns[name] for name in names if columns[name].ndim == 1}, note


def format_pcd(points: NDArray[np.float32], fields: Sequence[str]) -> bytes:
    """A binary `.pcd` file of points (N, F), a field of float32 for each column."""
    header = [
        '# .PCD v0.7 - Point Cloud Data file format',
        'VERSION 0.7',
        f'FIELDS {" ".join(fields)}',
        *(
            f'{key} {" ".join([value] * len(fields))}'
            for key, value in (('SIZE', '4'), ('TYPE', 'F'), ('COUNT', '1'))
        ),
        f'WIDTH {len(points)}',
        'HEIGHT 1',
        f'VIEWPOINT {" ".join(HERE)}',
        f'POINTS {len(points)}',
        'DATA binary',
    ]
    return '\n'.join([*header, '']).encode() + points.astype('<f4').tobytes()


def decompress_lzf(data: bytes, size: int) -> bytes:
    """Undo LZF.

    Args:
        data: compressed.
        size: bytes before.

    Raises:
        ValueError: the data are cut short or damaged, or not of that size.
    """
    out, place, end = bytearray(), 0, len(data)
    try:
        while place < end and len(out) <= size:
            control = data[place]
            place += 1
            if control < 32:  # so many bytes, plus one, to be copied
                out += data[place : place + control + 1]
                place += control + 1
                continue
            length = control >> 5  # earlier output, repeated
            if length == 7:
                length += data[place]
                place += 1
            distance = ((control & 31) << 8 | data[place]) + 1
            place += 1
            _repeat(out, distance, length + 2)
    except IndexError as error:
        raise ValueError('cut short') from error
    if place > end or len(out) != size:
        raise ValueError(f'{len(out)} bytes instead of {size}')
    return bytes(out)


def _repeat(out: bytearray, distance: int, length: int) -> None:
    start = len(out) - distance
    if start < 0:
        raise ValueError('points back before its beginning')
    piece = out[start : start + length]
    while len(piece) < length:  # it may reach into its own output
        piece += piece[: length - len(piece)]
    out += piece


def _read_header(content: bytes, where: str) -> tuple[dict[str, list[str]], int]:
    """Values by their key, and where the data begin."""
    header, start = {}, 0
    while start < min(len(content), LONGEST_HEADER):
        end = content.find(b'\n', start)
        line = content[start : end if end >= 0 else len(content)].decode('ascii', 'replace')
        start = end + 1 if end >= 0 else len(content)
        key, *values = line.split() or ['#']
        if key.startswith('#'):
            continue
        header['FIELDS' if key == 'COLUMNS' else key] = values
        if key == 'DATA':
            break
    if missing := [key for key in ('FIELDS', 'SIZE', 'TYPE', 'DATA') if not header.get(key)]:
        raise DatasetError(f'{where}: a .pcd file whose header lacks {missing}')
    return header, start


def _point_type(header: Mapping[str, Sequence[str]], where: str) -> np.dtype[Any]:
    """Type of a point; fields with the same name are numbered."""
    names, sizes, kinds = (header[key] for key in ('FIELDS', 'SIZE', 'TYPE'))
    counts = header.get('COUNT', ['1'] * len(names))
    if not len(names) == len(sizes) == len(kinds) == len(counts):
        lengths = [len(values) for values in (names, sizes, kinds, counts)]
        raise DatasetError(
            f'{where}: FIELDS, SIZE, TYPE and COUNT name {lengths} fields; they must agree'
        )
    fields: list[tuple[Any, ...]] = []
    for place, (name, size, kind, count) in enumerate(
        zip(names, sizes, kinds, counts, strict=True)
    ):
        if kind + size not in TYPES or not 0 < _number(count) <= MOST_VALUES:
            raise DatasetError(
                f'{where}: field {name!r} has TYPE {kind}, SIZE {size} and COUNT {count}; known '
                f'are {sorted(TYPES)}, with a COUNT from 1 to {MOST_VALUES}'
            )
        code = f'<{kind.lower()}{size}'
        shape = () if int(count) == 1 else (int(count),)
        fields.append((name if names.count(name) == 1 else f'{name} {place}', code, shape))
    return np.dtype(fields)


def _num_points(header: Mapping[str, Sequence[str]], where: str) -> int:
    keys = ['POINTS'] if 'POINTS' in header else ['WIDTH', 'HEIGHT']
    number = 1
    for key in keys:
        text = ' '.join(header.get(key, []))
        if (value := _number(text)) < 0:
            raise DatasetError(f'{where}: {key} is {text!r}; expected a number')
        number *= value
    return number


def _number(text: str) -> int:
    """A whole number of sensible size; -1 for anything else."""
    return int(text) if text.isdecimal() and len(text) < 16 else -1


def _is_here(pose: Sequence[str]) -> bool:
    try:
        return [float(value) for value in pose] == [float(value) for value in HERE]
    except ValueError:
        return False


def _check_size(found: int, expected: int, what: str, where: str) -> None:
    if found < expected:
        raise DatasetError(f'{where}: cut short: {found} of {expected} {what}')


def _from_text(data: bytes, dtype: np.dtype[Any], num_points: int, where: str) -> dict[str, Any]:
    names = dtype.names or ()
    widths = [int(np.prod(dtype[name].shape)) for name in names]
    words = data.split()
    if len(words) != num_points * sum(widths):
        raise DatasetError(
            f'{where}: {len(words)} numbers; {num_points} points of {sum(widths)} numbers were '
            'announced'
        )
    try:
        table = np.array(words).astype(np.float64).reshape(num_points, sum(widths))
    except ValueError as error:
        raise DatasetError(f'{where}: {error}') from error
    columns = np.split(table, np.cumsum(widths)[:-1], axis=1)
    with np.errstate(invalid='ignore'):  # "nan" in a column of whole numbers
        return {
            name: (column[:, 0] if width == 1 else column).astype(dtype[name].base)
            for name, column, width in zip(names, columns, widths, strict=True)
        }


def _from_binary(data: bytes, dtype: np.dtype[Any], num_points: int, where: str) -> dict[str, Any]:
    _check_size(len(data), num_points * dtype.itemsize, 'bytes', where)
    records: NDArray[Any] = np.ndarray(num_points, dtype, data)
    return {name: records[name] for name in dtype.names or ()}


def _from_compressed(
    data: bytes, dtype: np.dtype[Any], num_points: int, where: str
) -> dict[str, Any]:
    """Columns one after another, together compressed."""
    _check_size(len(data), 8, 'bytes', where)
    compressed, size = np.frombuffer(data, '<u4', 2).tolist()
    _check_size(len(data) - 8, compressed, 'bytes', where)
    if size != num_points * dtype.itemsize or size > compressed * LONGEST_MATCH:
        raise DatasetError(
            f'{where}: {compressed} bytes that are said to hold {size}; {num_points} points need '
            f'{num_points * dtype.itemsize}'
        )
    whole = data[8 : 8 + compressed]
    if compressed != size:  # some writers do not compress what compresses badly
        try:
            whole = decompress_lzf(whole, size)
        except ValueError as error:
            raise DatasetError(f'{where}: damaged, its compressed data are {error}') from error
    names = dtype.names or ()
    ends = np.cumsum([num_points * dtype[name].itemsize for name in names])
    return {
        name: np.ndarray((num_points, *dtype[name].shape), dtype[name].base, part.tobytes())
        for name, part in zip(
            names, np.split(np.frombuffer(whole, np.uint8), ends[:-1]), strict=True
        )
    }


DECODERS = {
    'ascii': _from_text,
    'binary': _from_binary,
    'binary_compressed': _from_compressed,
}
