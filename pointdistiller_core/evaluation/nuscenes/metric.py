# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""mAP and NDS of nuScenes' detection task, with every rule of the official program.

`docs/reference/nuscenes_metric.md` lists the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.evaluation.nuscenes.matching import match_greedily, near_pairs
from pointdistiller_core.formats.nuscenes.annotations import SampleTruth
from pointdistiller_core.formats.nuscenes.names import CLASS_NAMES, CYCLES, VEHICLES
from pointdistiller_core.formats.nuscenes.rotations import rotations_of, yaws_of
from pointdistiller_core.formats.nuscenes.submission import GlobalBoxes

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

Counts: TypeAlias = 'Mapping[str, Mapping[str, int]]'  # step -> class -> boxes left

DISTANCES = (0.5, 1.0, 2.0, 4.0)  # [m] that a hit must be nearer than
ERROR_DISTANCE = 2.0  # [m], whose hits the errors are of
RANGES: Mapping[str, float] = {  # [m] from the vehicle
    **dict.fromkeys(VEHICLES, 50.0),
    **dict.fromkeys(('pedestrian', *CYCLES), 40.0),
    **dict.fromkeys(('traffic_cone', 'barrier'), 30.0),
}
OTHER_RANGE = 50.0  # of classes that nuScenes does not have
ERRORS = ('trans_err', 'scale_err', 'orient_err', 'vel_err', 'attr_err')
NOT_MEASURED: Mapping[str, tuple[str, ...]] = {
    'traffic_cone': ('orient_err', 'vel_err', 'attr_err'),
    'barrier': ('vel_err', 'attr_err'),
}
RECALLS = np.linspace(0, 1, 101)
FIRST = 11  # of the recalls that count: they are above 0.1
LEAST_PRECISION = 0.1
AP_WEIGHT = 5  # of mAP among the five errors, in NDS


@dataclass(frozen=True)
class NuScenesResult:
    """All numbers of the metric for K classes.

    Attributes:
        class_names: K names.
        average_precision: (K, 4) at `DISTANCES`, in [0, 1].
        errors: (K, 5) `ERRORS` in m, 1, rad, m/s, 1; NaN where a class has none.
        precision: (K, 4, 101) at `RECALLS`.
        confidence: (K, 4, 101) the least score at these recalls.
        error_curves: (K, 5, 101) mean errors of hits down to that score.
        counts: of labels (`truth`) and detections (`found`): all, and those left after each
            filter, by class.
    """

    class_names: tuple[str, ...]
    average_precision: FloatArray
    errors: FloatArray
    precision: FloatArray
    confidence: FloatArray
    error_curves: FloatArray
    counts: Mapping[str, Counts]

    @property
    def mean_ap(self) -> float:
        """Mean over classes and distances, in [0, 1]."""
        return float(self.average_precision.mean())

    @property
    def mean_errors(self) -> dict[str, float]:
        """Mean of each error over the classes that have it."""
        known = ~np.isnan(self.errors)
        sums = np.where(known, self.errors, 0).sum(axis=0)
        means = sums / np.maximum(known.sum(axis=0), 1)
        return dict(zip(ERRORS, np.where(known.any(axis=0), means, 1.0).tolist(), strict=True))

    @property
    def detection_score(self) -> float:
        """NDS, in [0, 1]."""
        scores = [max(0.0, 1.0 - error) for error in self.mean_errors.values()]
        return float((AP_WEIGHT * self.mean_ap + sum(scores)) / (AP_WEIGHT + len(scores)))

    def to_dict(self) -> dict[str, Any]:
        """All but the curves, as plain values; None for an error that a class does not have."""
        means = self.mean_errors
        titles = ('mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE')
        return {
            'mAP': self.mean_ap,
            'NDS': self.detection_score,
            **dict(zip(titles, means.values(), strict=True)),
            'classes': {
                name: {
                    'AP': float(precision.mean()),
                    'AP_by_distance': dict(
                        zip(map(str, DISTANCES), precision.tolist(), strict=True)
                    ),
                    **{
                        error: None if np.isnan(value) else value
                        for error, value in zip(ERRORS, errors.tolist(), strict=True)
                    },
                }
                for name, precision, errors in zip(
                    self.class_names, self.average_precision, self.errors, strict=True
                )
            },
            'counts': self.counts,
        }


def evaluate_nuscenes(
    truth: SampleTruth, found: GlobalBoxes, class_names: Sequence[str] = CLASS_NAMES
) -> NuScenesResult:
    """Evaluate detections of some samples.

    Args:
        truth: labels of the samples.
        found: detections, indexing the same samples; of equal scores, later ones match first.
        class_names: that labels and detections index.

    Raises:
        DatasetError: a hit has no extent.
    """
    counts = {}
    labels, counts['truth'] = _filter(truth.boxes, truth, class_names)
    ranked = found[np.argsort(found.scores, kind='stable')[::-1]]
    ranked, counts['found'] = _filter(ranked, truth, class_names)
    pairs = near_pairs(labels, ranked, max(DISTANCES))
    matches = {
        distance: match_greedily(pairs[pairs.distance < distance], len(ranked), len(labels))
        for distance in DISTANCES
    }
    errors = _errors_of_hits(labels, ranked, matches, class_names)
    classes = [
        _evaluate_class(number, labels, ranked, matches, errors)
        for number in range(len(class_names))
    ]
    precision, confidence, error_curves = (np.array(each) for each in zip(*classes, strict=True))
    return NuScenesResult(
        class_names=tuple(class_names),
        average_precision=_average_precision(precision),
        errors=_mean_errors(confidence, error_curves, class_names),
        precision=precision,
        confidence=confidence,
        error_curves=error_curves,
        counts=counts,
    )


# --- filters ---------------------------------------------------------------------------------


def _filter(
    boxes: GlobalBoxes, truth: SampleTruth, class_names: Sequence[str]
) -> tuple[GlobalBoxes, Counts]:
    """The boxes that count, and how many are left after each step, by class."""
    ranges = np.array([RANGES.get(name, OTHER_RANGE) for name in class_names])
    steps: dict[str, Callable[[GlobalBoxes], BoolArray]] = {
        'in_range': lambda own: _distances(own, truth) < ranges[own.labels],
        'with_points': lambda own: own.num_points != 0,
        'outside_racks': lambda own: ~_in_racks(own, truth, class_names),
    }
    counts = {'loaded': _count(boxes, class_names)}
    for name, keeps in steps.items():
        boxes = boxes[keeps(boxes)]
        counts[name] = _count(boxes, class_names)
    return boxes, counts


def _count(boxes: GlobalBoxes, class_names: Sequence[str]) -> dict[str, int]:
    numbers = np.bincount(boxes.labels, minlength=len(class_names)).tolist()
    return dict(zip(class_names, numbers, strict=True))


def _distances(boxes: GlobalBoxes, truth: SampleTruth) -> FloatArray:
    """(N,) from the vehicle, seen from above [m]."""
    offsets = boxes.translation[:, :2] - truth.vehicles[boxes.samples]
    distances: FloatArray = np.sqrt((offsets * offsets).sum(axis=1))
    return distances


def _in_racks(boxes: GlobalBoxes, truth: SampleTruth, class_names: Sequence[str]) -> BoolArray:
    """(N,) whether boxes are cycles whose center is in a rack."""
    inside = np.zeros(len(boxes), np.bool_)
    cycles = np.flatnonzero(np.isin(np.array(class_names), CYCLES)[boxes.labels])
    order = cycles[np.argsort(boxes.samples[cycles], kind='stable')]
    of_sample = boxes.samples[order]
    turns = rotations_of(truth.racks[:, 6:])
    for rack, turn, sample in zip(truth.racks, turns, truth.rack_samples, strict=True):
        own = order[slice(*np.searchsorted(of_sample, [sample, sample + 1]))]
        local = (boxes.translation[own] - rack[:3]) @ turn
        width, length, height = rack[3:6]
        inside[own] |= (abs(local) <= np.array([length, width, height]) / 2).all(axis=1)
    return inside


# --- hits ------------------------------------------------------------------------------------


def _errors_of_hits(
    truth: GlobalBoxes,
    found: GlobalBoxes,
    matches: Mapping[float, IntArray],
    class_names: Sequence[str],
) -> FloatArray:
    """(N, 5) `ERRORS` of detections that hit within `ERROR_DISTANCE`; NaN where unknown.

    Raises:
        DatasetError: a hit at any distance has no extent.
    """
    for match in matches.values():
        flat = (found.size[match >= 0] <= 0).any() or (truth.size[match[match >= 0]] <= 0).any()
        if flat:
            raise DatasetError(
                'a detection that hits, or its label, has a width, length or height of 0 or less'
            )
    match = matches[ERROR_DISTANCE]
    hits = np.flatnonzero(match >= 0)
    own, label = found[hits], truth[match[hits]]
    offsets = label.translation[:, :2] - own.translation[:, :2]
    both = np.minimum(own.size, label.size).prod(axis=1)
    either = own.size.prod(axis=1) + label.size.prod(axis=1) - both
    halves = np.array([name == 'barrier' for name in class_names])  # have no front
    turns = yaws_of(rotations_of(label.rotation)) - yaws_of(rotations_of(own.rotation))
    different = (own.attributes != label.attributes).astype(float)
    errors = np.full((len(found), len(ERRORS)), np.nan)
    errors[hits] = np.stack(
        [
            np.sqrt((offsets * offsets).sum(axis=1)),
            1 - both / either,
            _smallest_turns(turns, np.where(halves[own.labels], np.pi, 2 * np.pi)),
            np.sqrt(((own.velocity - label.velocity) ** 2).sum(axis=1)),
            np.where(label.attributes < 0, np.nan, different),
        ],
        axis=1,
    )
    return errors


def _smallest_turns(turns: FloatArray, periods: FloatArray) -> FloatArray:
    """(N,) smallest absolute angles [rad], where full periods make no difference."""
    return np.abs((turns + periods / 2) % periods - periods / 2)


# --- curves ----------------------------------------------------------------------------------


def _evaluate_class(
    number: int,
    truth: GlobalBoxes,
    found: GlobalBoxes,
    matches: Mapping[float, IntArray],
    errors: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Precision (4, 101), confidence (4, 101) and errors (5, 101) of a class over recall."""
    own = np.flatnonzero(found.labels == number)
    scores = found.scores[own]
    num_labels = int((truth.labels == number).sum())
    shape = len(matches), len(RECALLS)
    precision, confidence = np.zeros(shape), np.zeros(shape)
    error_curves = np.ones((len(ERRORS), len(RECALLS)))
    for place, (distance, match) in enumerate(matches.items()):
        hits = match[own] >= 0
        if not hits.any():
            continue
        so_far = np.cumsum(hits)
        recall = so_far / num_labels
        precisions = so_far / np.arange(1, len(own) + 1)
        precision[place] = np.interp(RECALLS, recall, precisions, right=0)
        confidence[place] = np.interp(RECALLS, recall, scores, right=0)
        if distance == ERROR_DISTANCE:
            for curve, values in zip(error_curves, errors[own[hits]].T, strict=True):
                # Ascending, as `interp` needs it; of equal scores this very order counts.
                curve[::-1] = np.interp(
                    confidence[place][::-1], scores[hits][::-1], _running_mean(values)[::-1]
                )
    return precision, confidence, error_curves


def _running_mean(values: FloatArray) -> FloatArray:
    """(n,) mean so far without NaN; 0 where there was nothing else, 1 where there never is."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    counts = np.cumsum(known)
    sums = np.cumsum(np.where(known, values, 0))
    means: FloatArray = np.divide(sums, counts, out=np.zeros(len(values)), where=counts > 0)
    return means


def _average_precision(precision: FloatArray) -> FloatArray:
    """(...) of precisions (..., 101): what is above `LEAST_PRECISION`, at recalls above 0.1."""
    above = np.maximum(precision[..., FIRST:] - LEAST_PRECISION, 0)
    average: FloatArray = above.mean(axis=-1) / (1 - LEAST_PRECISION)
    return average


def _mean_errors(
    confidence: FloatArray, error_curves: FloatArray, class_names: Sequence[str]
) -> FloatArray:
    """(K, 5) means over the recalls above 0.1 that are reached; 1 if none is."""
    means = np.ones((len(class_names), len(ERRORS)))
    at = list(DISTANCES).index(ERROR_DISTANCE)
    for number, name in enumerate(class_names):
        reached = np.flatnonzero(confidence[number, at])
        last = reached[-1] if len(reached) else 0
        if last >= FIRST:
            means[number] = error_curves[number, :, FIRST : last + 1].mean(axis=1)
        for error in NOT_MEASURED.get(name, ()):
            means[number, ERRORS.index(error)] = np.nan
    return means
