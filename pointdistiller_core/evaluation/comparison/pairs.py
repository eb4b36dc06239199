# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How well boxes agree with a reference, cloud by cloud: a student with its teacher or the truth.

A box of the reference is found by a box of the same class that overlaps it enough. Boxes are
paired one to one: by descending score of the student, each with the best free one. This is the
rule of PASCAL VOC (Everingham et al., 2010, section 4.2) and of nuScenes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.evaluation.matching import Matches, match_detections
from pointdistiller_core.geometry.boxes import wrap_angle
from pointdistiller_core.geometry.iou import aligned_iou_3d, aligned_iou_bev
from pointdistiller_core.records import IGNORE_LABEL, Detections, GroundTruth, renumber

if TYPE_CHECKING:
    IntArray = NDArray[np.int64]
    DoubleArray = NDArray[np.float64]

# Of a pair of boxes, in this order everywhere; the errors in metres and radians.
MEASURES = ('iou_bev', 'iou_3d', 'center_error', 'size_error', 'yaw_error')
IOU_BINS = 20  # of a histogram over [0, 1]


@dataclass(frozen=True)
class CloudAgreement:
    """Boxes of one cloud beside those of a reference.

    Attributes:
        reference: boxes to find; those labelled `IGNORE_LABEL` are ignored.
        found: boxes that were found.
        matches: of `found` against `reference`.
    """

    reference: GroundTruth
    found: Detections
    matches: Matches

    @property
    def pairs(self) -> tuple[GroundTruth, Detections]:
        """Boxes of the reference and, row by row, the boxes that found them."""
        agreed = self.matches.true_positives
        return self.reference[self.matches.truth_index[agreed]], self.found[agreed]

    @property
    def missed(self) -> GroundTruth:
        """Boxes of the reference that nothing found."""
        return self.reference[self.matches.missed]

    @property
    def extra(self) -> Detections:
        """Boxes that the reference does not have."""
        return self.found[self.matches.false_positives]

    @property
    def num_disagreements(self) -> int:
        """Number of boxes that only one of the two has."""
        return int(self.matches.missed.sum() + self.matches.false_positives.sum())


def compare_cloud(
    reference: Detections | GroundTruth, found: Detections, iou_thresholds: Sequence[float]
) -> CloudAgreement:
    """Pair the boxes of one cloud with those of a reference.

    Args:
        reference: of the teacher, or labelled.
        found: in the same cloud.
        iou_thresholds: least IoU from above of a pair, for each class.

    Raises:
        ValueError: a label of `found` has no threshold.
    """
    truth = GroundTruth(reference.boxes, reference.labels)
    return CloudAgreement(truth, found, match_detections(found, truth, iou_thresholds))


def pair_measures(
    reference: NDArray[np.floating[Any]], found: NDArray[np.floating[Any]]
) -> tuple[DoubleArray, NDArray[np.bool_]]:
    """`MEASURES` of pairs of boxes, and which of them are headed the wrong way.

    Args:
        reference: (M, 7) boxes.
        found: (M, 7) boxes, same frame.

    Returns:
        (M, 5) IoU from above and in 3D, distance of the centers [m], mean difference of length,
        width and height [m], and smallest angle between the axes [rad], at most a quarter turn;
        and (M,) bool, whether the headings are more than that apart.
    """
    a, b = reference.astype(np.float64), found.astype(np.float64)
    center = np.linalg.norm(b[:, :3] - a[:, :3], axis=1)
    size = np.abs(b[:, 3:6] - a[:, 3:6]).mean(axis=1)
    turn = np.abs(wrap_angle(b[:, 6] - a[:, 6]))
    flipped = turn > math.pi / 2
    yaw = np.where(flipped, math.pi - turn, turn)
    columns = (aligned_iou_bev(a, b), aligned_iou_3d(a, b), center, size, yaw)
    return np.stack(columns, axis=1), flipped


def relabel(detections: Detections, names: Sequence[str], new_names: Sequence[str]) -> Detections:
    """Detections with labels that index other names; those of other classes are left out.

    Args:
        detections: with labels that index `names`.
        names: of the detector.
        new_names: to index instead.
    """
    new_labels = renumber(detections.labels, names, new_names)
    kept = np.flatnonzero(new_labels != IGNORE_LABEL)
    return replace(detections[kept], labels=new_labels[kept], importance=None)


def relabel_truth(
    truth: GroundTruth, names: Sequence[str], new_names: Sequence[str]
) -> GroundTruth:
    """Labels that index other names; boxes of other classes are ignored.

    Args:
        truth: with labels that index `names`, or are outside them.
        names: of the labels.
        new_names: to index instead.
    """
    return replace(truth, labels=renumber(truth.labels, names, new_names))


@dataclass(frozen=True)
class AgreementNumbers:
    """Sums over clouds; a ratio with nothing to divide by is NaN.

    Attributes:
        num_reference: boxes of the reference that count.
        num_found: boxes of the other that count.
        num_matched: pairs of the two.
        num_flipped: pairs that head in opposite directions.
        means: of each of `MEASURES`, over the pairs.
    """

    num_reference: int
    num_found: int
    num_matched: int
    num_flipped: int
    means: Mapping[str, float]

    @property
    def recall(self) -> float:
        """Part of the reference that was found."""
        return _ratio(self.num_matched, self.num_reference)

    @property
    def precision(self) -> float:
        """Part of the found boxes that the reference has."""
        return _ratio(self.num_matched, self.num_found)

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision."""
        return _ratio(2 * self.num_matched, self.num_reference + self.num_found)

    def to_dict(self) -> dict[str, float]:
        """All numbers by name."""
        values = {key: value for key, value in asdict(self).items() if key != 'means'}
        rates = {'recall': self.recall, 'precision': self.precision, 'f1': self.f1}
        return values | rates | {f'mean_{name}': value for name, value in self.means.items()}


class Tally:
    """Sums by class and distance, in memory that does not grow.

    A pair counts where the box of the reference is; any other box counts where it is itself.

    Args:
        num_classes: classes that labels may have.
        distances: from the sensor, seen from above, at which the next band begins [m]; ascending.
    """

    def __init__(self, num_classes: int, distances: Sequence[float]) -> None:
        shape = num_classes, len(distances) + 1
        self.distances = tuple(distances)
        self._counts = np.zeros((*shape, 4), np.int64)
        self._sums = np.zeros((*shape, len(MEASURES)))
        self._histograms = np.zeros((*shape, 2, IOU_BINS), np.int64)

    def add(self, cloud: CloudAgreement) -> None:
        """Count the boxes of one more cloud."""
        reference, found = cloud.pairs
        measures, flipped = pair_measures(reference.boxes, found.boxes)
        cells = self._cells(reference)
        ones = np.ones(len(reference), np.int64)
        np.add.at(self._counts, cells, np.stack([ones, ones, ones, flipped], axis=1))
        np.add.at(self._counts, self._cells(cloud.missed), (1, 0, 0, 0))
        np.add.at(self._counts, self._cells(cloud.extra), (0, 1, 0, 0))
        np.add.at(self._sums, cells, measures)
        bins = (measures[:, :2] * IOU_BINS).astype(np.int64).clip(0, IOU_BINS - 1)
        for index in range(2):
            np.add.at(self._histograms[:, :, index], (*cells, bins[:, index]), 1)

    def numbers(self, label: int | None = None, band: int | None = None) -> AgreementNumbers:
        """Sums of one class or all, in one band of distances or all."""
        counts, sums = (
            self._select(self._counts, label, band),
            self._select(self._sums, label, band),
        )
        num_reference, num_found, num_matched, num_flipped = counts.tolist()
        means = {
            name: _ratio(value, num_matched)
            for name, value in zip(MEASURES, sums.tolist(), strict=True)
        }
        return AgreementNumbers(num_reference, num_found, num_matched, num_flipped, means)

    def iou_histograms(self, label: int | None = None) -> IntArray:
        """(2, IOU_BINS) pairs by IoU from above, and by IoU in 3D."""
        return self._select(self._histograms, label, None)

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """All numbers: of everything, by band, by class, and by class and band."""
        bands = {name: index for index, name in enumerate(band_names(self.distances))}

        def by_band(label: int | None) -> dict[str, Any]:
            return {name: self.numbers(label, index).to_dict() for name, index in bands.items()}

        classes = {
            name: {**self.numbers(label).to_dict(), 'distances': by_band(label)}
            for label, name in enumerate(class_names)
        }
        return {**self.numbers().to_dict(), 'distances': by_band(None), 'classes': classes}

    def _cells(self, records: GroundTruth | Detections) -> tuple[IntArray, IntArray]:
        """Class and band of each box."""
        away = np.hypot(records.boxes[:, 0], records.boxes[:, 1])
        return records.labels, np.searchsorted(np.array(self.distances), away, side='right')

    @staticmethod
    def _select(sums: NDArray[Any], label: int | None, band: int | None) -> NDArray[Any]:
        of_class = sums.sum(axis=0) if label is None else sums[label]
        return np.asarray(of_class.sum(axis=0) if band is None else of_class[band])


def band_names(distances: Sequence[float]) -> list[str]:
    """Names of the bands of distances, e.g. 0-20 m, 20-40 m, 40+ m."""
    edges = [0.0, *distances]
    between = [f'{low:g}-{high:g} m' for low, high in pairwise(edges)]
    return [*between, f'{edges[-1]:g}+ m']


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
