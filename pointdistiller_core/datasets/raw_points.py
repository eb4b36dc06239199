# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Files of nothing but numbers: KITTI's `.bin`, nuScenes', and files that only look like them.

Such a file says neither how wide its numbers are nor how many of them make a point. Read in the
wrong way it is still a cloud, but of nonsense. So every reading is checked against what a LiDAR
can see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import DatasetError

logger = logging.getLogger(__name__)

FARTHEST = 1000.0  # [m] no LiDAR on a vehicle sees that far
LEAST = 1e-30  # [m] whole numbers read as floating point are smaller than that, but not 0
MOST_FAR = 0.1  # part of the points that may be beyond these: faulty returns
MOST_NEGATIVE = 0.01  # part of the intensities below 0
SAMPLE, LARGE_SAMPLE = 1024, 8192  # points that are looked at
ENOUGH = 64  # fewest points for which the spread of a column is meaningful
ALIKE = 1.4  # largest ratio of the spreads of columns with the same mixture of values


@dataclass(frozen=True)
class Layout:
    """How the numbers of a file make points.

    Attributes:
        code: NumPy's name of their type.
        num_columns: numbers of each point, x, y, z and, if four or more, intensity.
    """

    code: str
    num_columns: int

    def __str__(self) -> str:
        return f'{self.num_columns} columns of {np.dtype(self.code).name}'

    @property
    def point_size(self) -> int:
        """Bytes of a point."""
        return self.num_columns * np.dtype(self.code).itemsize

    def points(self, data: NDArray[np.uint8]) -> NDArray[Any]:
        """(N, num_columns) view of a file's bytes, which must be whole points."""
        return data.view(self.code).reshape(-1, self.num_columns)


KITTI_LAYOUT, NUSCENES_LAYOUT = Layout('<f4', 4), Layout('<f4', 5)
LAYOUTS = (
    *(KITTI_LAYOUT, NUSCENES_LAYOUT, Layout('<f8', 4)),
    # Three columns last: what has six would fit, too.
    *(Layout(code, count) for code in ('<f4', '<f8') for count in (5, 6, 7, 8, 3)),
)


def read_raw(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file.

    Raises:
        DatasetError: no such file, or it cannot be read.
    """
    try:
        return np.fromfile(path, np.uint8)
    except FileNotFoundError as error:
        raise DatasetError(f'{path}: no such file') from error
    except IsADirectoryError as error:
        raise DatasetError(f'{path}: is a folder; name the files in it') from error
    except OSError as error:
        raise DatasetError(f'{path}: cannot be read: {error.strerror or error}') from error


def find_layout(data: NDArray[np.uint8], where: str, *, expected: Layout = KITTI_LAYOUT) -> Layout:
    """Find out how the bytes of a file make points.

    Args:
        data: (bytes,) of the whole file.
        where: its name in an error.
        expected: used unless another layout, or none, makes points of the data.

    Raises:
        DatasetError: neither the expected layout nor another one makes points of it.
    """
    whole = data.size % expected.point_size == 0
    sample = _sample(expected.points(data)) if whole else None
    doubt = _doubt(sample) if sample is not None else ''
    if sample is not None and data.size and not len(sample):
        doubt = 'none of the points is finite'
    mixed = sample is not None and _is_mixed(sample)
    if sample is not None and not (doubt or mixed or _has_negative(sample)):
        return expected
    for negative in (False, True) if doubt or mixed or sample is None else (False,):
        for layout in LAYOUTS:
            if layout != expected and _makes_points(data, layout, negative=negative):
                return layout
    if sample is None:
        raise DatasetError(
            f'{where}: truncated, {data.size} bytes are not a whole number of '
            f'{expected.point_size}-byte points'
        )
    if doubt:
        raise DatasetError(f'{where}: {doubt}; read as {expected}, and no other layout fits')
    if mixed:
        logger.warning('%s: read as %s, but all of them look alike', where, expected)
    return expected


def far_points(points: NDArray[np.floating[Any]]) -> str:
    """A sentence about points that are mostly too far away to be in metres; empty if they are not.

    Args:
        points: (N, 3 or more) x, y, z; any of them may be not finite.
    """
    return _doubt(_sample(points), least=0.0)


def _sample(points: NDArray[Any], most: int = SAMPLE) -> NDArray[np.float64]:
    """(S, columns + 1): place in the file, then the numbers, of finite points throughout."""
    # Steps of equal length could always hit the same column of another layout.
    chosen: NDArray[np.int64] = np.arange(len(points))
    if len(points) > most:
        chosen = np.random.default_rng(0).integers(0, len(points), most)
    with np.errstate(invalid='ignore', over='ignore'):
        rows: NDArray[np.float64] = np.column_stack([chosen, points[chosen]]).astype(np.float64)
    return rows[np.isfinite(rows).all(axis=1)]


def _doubt(sample: NDArray[np.float64], *, least: float = LEAST) -> str:
    """Why numbers cannot be positions in metres; empty if they can."""
    if not len(sample):
        return ''
    sizes = np.abs(sample[:, 1:4])
    if (far := (sizes > FARTHEST).any(axis=1).mean()) > MOST_FAR:
        return (
            f'{far:.0%} of the points are farther than {FARTHEST:g} m (median of the greatest '
            f'coordinate: {np.median(sizes.max(axis=1)):.3g}); positions must be in metres, seen '
            'from the sensor'
        )
    if (tiny := ((sizes > 0) & (sizes < least)).any(axis=1).mean()) > MOST_FAR:
        return f'{tiny:.0%} of the points have coordinates below {least:g} m, but not 0'
    return ''


def _has_negative(sample: NDArray[np.float64]) -> bool:
    """Whether there are intensities below 0, which most sensors never send."""
    intensities = sample[:, 4:5]
    return bool(intensities.size and (intensities < 0).mean() > MOST_NEGATIVE)


def _is_mixed(sample: NDArray[np.float64]) -> bool:
    """Whether columns seem to hold a mixture of everything."""
    odd, values = sample[:, 0] % 2 == 1, sample[:, 1:5]
    if len(values) < ENOUGH:
        return False
    # A wrong number of columns spreads all kinds of numbers over all columns, ...
    spreads = np.subtract(*np.sort(values, axis=0)[[-(len(values) // 10), len(values) // 10]])
    if spreads.max() < ALIKE * spreads.min():
        return True
    # ... or puts those of one point into every other row: nothing is behind or to the right there.
    behind = values[:, :2] < 0
    if not odd.any() or odd.all():
        return False
    shares = sorted(behind[rows].mean() for rows in (odd, ~odd))
    return bool(shares[0] == 0 and shares[1] > 0.1)


def _makes_points(data: NDArray[np.uint8], layout: Layout, *, negative: bool) -> bool:
    """Whether an unexpected layout makes points of the data, with plausible intensities."""
    if data.size % layout.point_size:
        return False
    sample = _sample(layout.points(data), LARGE_SAMPLE)
    if len(sample) < ENOUGH or _doubt(sample) or _has_negative(sample) > negative:
        return False
    if _is_mixed(sample):
        return False
    return not any(_repeats(sample, period) for period in _periods(layout.num_columns))


def _periods(num_columns: int) -> Iterator[int]:
    return (count for count in range(3, num_columns) if num_columns % count == 0)


def _repeats(sample: NDArray[np.float64], period: int) -> bool:
    """Whether x seems to repeat after so many columns, so that a row holds two points."""
    first, again = np.quantile(sample[:, [1, 1 + period]], (0.1, 0.5, 0.9), axis=0).T
    return bool(np.abs(first - again).max() < 0.1 * np.ptp(first))
