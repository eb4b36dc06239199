# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The scale of intensities: what a detector was trained on, and what clouds bring.

Drivers write 0 to 1, 0 to 255, 0 to 65535 or photons without a limit. A network reads each as the
scale it was trained on, so a wrong scale gives wrong boxes and no error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import ConfigError
from pointdistiller_core.geometry.returns import find_returns

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]

AUTO = 'auto'
JUDGED_CLOUDS = 10  # the first ones; then the judgement is final
LEAST_POINTS = 10  # of a cloud; fewer tell nothing
SAMPLED_POINTS = 8192  # of a cloud: enough for what one in a thousand points has
RARE = 0.001  # share of the points at either end that is not looked at
FULL_SCALES = (1.0, 255.0, 65535.0)
# Highest usual intensity of a cloud, from and to, and the full scale that it points to. The first
# row is eight bits in a field of sixteen that was divided by its largest value.
_SPOKEN_OF = (
    (0.0002, 0.004, 255 / 65535),
    (0.05, 4.0, 1.0),
    (4.0, 260.0, 255.0),
    (8192.0, 65536.0, 65535.0),
)
_PLAUSIBLE = 1e-6, 1e7  # beyond these, numbers are no intensities on any scale
_DULL = 1 / 20  # part of its range that even a cloud without bright points reaches
_MARGIN = 0.1  # part of a range by which a cloud may exceed it without a warning

Range = tuple[float, float]


def parse_scale(text: str) -> float | None:
    """A factor such as `1/255` or `0.0039`; None is `auto`.

    Raises:
        ConfigError: neither `auto` nor a positive number.
    """
    if text == AUTO:
        return None
    top, _, bottom = text.partition('/')
    try:
        scale = float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        scale = math.nan
    if not 0 < scale < math.inf:
        raise ConfigError(
            f'intensity scale {text!r}: expected {AUTO}, or a positive factor such as 1/255'
        )
    return scale


def scale_intensity(points: FloatArray, factor: float) -> FloatArray:
    """Points (N, 4) x, y, z [m], intensity, the last multiplied; a copy unless the factor is 1."""
    if factor == 1:
        return points
    scaled = points.copy()
    with np.errstate(over='ignore'):  # beyond float32 it becomes infinite, and is counted as such
        scaled[:, 3] *= factor
    return scaled


def clip_intensity(points: FloatArray, limits: Range) -> FloatArray:
    """Points with their intensity clipped to a range; the same array if nothing changes.

    Args:
        points: (N, 4) x, y, z [m], intensity; stays as it is.
        limits: least and largest intensity.
    """
    intensity = points[:, 3]
    if not len(points) or (intensity.min() >= limits[0] and intensity.max() <= limits[1]):
        return points
    clipped = points.copy()
    intensity.clip(*limits, out=clipped[:, 3])
    return clipped


def measure_intensity(clouds: Iterable[FloatArray]) -> Range:
    """Least and largest intensity of clouds, outliers aside.

    Nothing ordinary is cut off: the intensity that one in a thousand points reaches is doubled
    before it becomes a limit. A range that nearly fills a usual scale becomes that scale.

    Args:
        clouds: (N, 4) points each.

    Returns:
        The range; 0 to 1 if no cloud has a point.
    """
    values: NDArray[np.floating[Any]] = np.concatenate(
        [np.zeros(0, np.float32), *map(_sample, clouds)]
    )
    if not len(values):
        return 0.0, 1.0
    values = values.astype(np.float64)  # sums of float32 may overflow
    low, high = _usual_span(values)
    usual = values[(values >= 2 * low - high) & (values <= 2 * high - low)]
    least, most = float(usual.min()), float(usual.max())
    most = next((full for full in FULL_SCALES if (1 - _MARGIN) * full <= most <= full), most)
    return (0.0 if 0 <= least <= _MARGIN * most else least), most


def describe_constant(intensity: float) -> str:
    """What is said of clouds whose points all have the same intensity."""
    return f'intensity is {intensity:.3g} throughout'


@dataclass(frozen=True)
class _Verdict:
    """What is wrong, what follows, and the scale that would mend it, if any."""

    about: str = ''  # empty if nothing is wrong
    consequence: str = ''
    scale: float | None = None


class IntensityJudge:
    """Judges the first clouds against the range that a detector was trained on.

    A scale is a factor on the numbers that a driver or a file gives.

    Args:
        training_range: least and largest intensity of the training clouds.
        expected: how messages describe this range.
        remedy: what the user can do about a likely scale.
        auto: whether to use that scale instead of recommending it.

    Attributes:
        scale: to use instead of the reader's own; None keeps it. Only `auto` sets it. It is final
            after `JUDGED_CLOUDS` clouds.
        finding: a plain sentence about what is wrong so far; empty if nothing is.
    """

    def __init__(
        self,
        training_range: Range,
        *,
        expected: str = '',
        remedy: Callable[[float], str] = '({:.6g})'.format,
        auto: bool = False,
    ) -> None:
        low, high = training_range
        self.scale: float | None = None
        self.finding = ''
        self._range = training_range
        self._expected = expected or f'the bundle was trained on {low:.4g} to {high:.4g}'
        self._remedy = remedy
        self._auto = auto
        self._own_scale = 1.0  # of the reader
        self._spans: list[Range] = []  # without any scale
        self._said = _Verdict()

    @property
    def decided(self) -> bool:
        """Whether no further cloud can change anything."""
        return len(self._spans) >= JUDGED_CLOUDS

    def add(self, points: FloatArray, *, scale: float = 1.0) -> str:
        """Look at a cloud, if it is one of the first.

        Args:
            points: (N, 4) x, y, z [m], intensity.
            scale: the factor that was applied to their intensity; for the first cloud the reader's
                own.

        Returns:
            The finding if it is new; otherwise empty.
        """
        values = _sample(points) if not self.decided else points[:0, 3]
        if len(values) < LEAST_POINTS:
            return ''
        if not self._spans:
            self._own_scale = scale
        low, high = _usual_span(values)
        self._spans.append((low / scale, high / scale))
        verdict, said = _judge(self._spans, self._own_scale, self._range), self._said
        if self._auto:
            self.scale = verdict.scale
        self.finding = self._sentence(verdict)
        if not verdict.about or _alike(verdict, said):
            return ''
        self._said = verdict
        return self.finding

    def _sentence(self, verdict: _Verdict) -> str:
        if not verdict.about:
            return ''
        consequence = verdict.consequence
        if verdict.scale is not None:
            text = _scale_text(verdict.scale)
            consequence = (
                f'scaled by {text} ({verdict.scale:.6g})'
                if self._auto
                else f'likely scale {text} {self._remedy(verdict.scale)}'
            )
        return f'{verdict.about}, {self._expected}: {consequence}'


def _sample(points: NDArray[np.floating[Any]]) -> FloatArray:
    """(n,) finite intensities of evenly spread points that have a return."""
    # An odd step meets every ring of a sensor, whose rings are a power of two.
    rows = points[:: len(points) // SAMPLED_POINTS | 1]
    valid = np.isfinite(rows).all(axis=1) & find_returns(rows)
    values: FloatArray = rows[valid, 3].astype(np.float32, copy=False)
    return values


def _usual_span(values: NDArray[np.floating[Any]]) -> Range:
    """Least and largest of (n,) values, without the few at either end."""
    rare = min(math.ceil(RARE * len(values)), (len(values) - 1) // 2)
    ends = np.partition(values, [rare, len(values) - 1 - rare])
    return float(ends[rare]), float(ends[len(values) - 1 - rare])


def _judge(spans: Sequence[Range], own_scale: float, training_range: Range) -> _Verdict:
    """Compare the median of the clouds' usual spans with the range."""
    raw_low, raw_high = (float(np.median(ends)) for ends in zip(*spans, strict=True))
    low, high = raw_low * own_scale, raw_high * own_scale
    least, most = training_range
    margin = _MARGIN * (most - least)
    in_range = least - margin <= low and high <= most + margin
    if low == high:
        if in_range and least == most:
            return _Verdict()
        consequence = (
            'it has only shapes to go by' if in_range else 'no scale is likely; it is clipped'
        )
        return _Verdict(describe_constant(high), consequence)
    if in_range and high >= _DULL * most:
        return _Verdict()
    if low < least - margin:
        about = f'intensity goes from {low:.3g} to {high:.3g}'
        return _Verdict(about, 'no scale is likely; what is outside is clipped')
    about = f'intensity reaches {high:.3g}' + (' at most' if in_range else '')
    scale = _full_scale(most) / _full_scale(raw_high)
    if scale < own_scale / 2 or scale > own_scale * 2:
        return _Verdict(about, scale=scale)
    return _Verdict(about, 'no scale is likely; what is outside is clipped')


def _full_scale(highest: float) -> float:
    """The full scale that the highest usual intensity of clouds points to; NaN for none."""
    if not _PLAUSIBLE[0] <= highest <= _PLAUSIBLE[1]:
        return math.nan
    scales = (full for least, most, full in _SPOKEN_OF if least <= highest <= most)
    return next(scales, highest)


def _alike(verdict: _Verdict, said: _Verdict) -> bool:
    """Whether this was said already, with slightly different numbers."""
    if (verdict.about == '') != (said.about == '') or verdict.consequence != said.consequence:
        return False
    return verdict.scale == said.scale or (
        verdict.scale is not None
        and said.scale is not None
        and said.scale / 2 < verdict.scale < said.scale * 2
    )


def _scale_text(scale: float) -> str:
    return f'1/{1 / scale:.4g}' if scale < 1 else f'{scale:.4g}'
