# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How the KITTI metric matches detections with labels, for all frames and thresholds at once.

The official program goes through each frame once per threshold: the labels choose one after the
other, each its favorite among the detections that are left. A favorite does not depend on the
threshold, so here the first labels of all frames choose together, for all thresholds, from short
lists of the pairs that overlap enough; then the second ones, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.evaluation.scores import Alarms

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

NUM_RECALLS = 41


@dataclass(frozen=True)
class Pairs:
    """Labels and detections of the same frame.

    Attributes:
        truth: (P,) row of the label in the table of all frames.
        detection: (P,) row of the detection in the table of all frames.
        overlap: (P,) in [0, 1].
    """

    truth: IntArray
    detection: IntArray
    overlap: FloatArray

    def __getitem__(self, keep: NDArray[Any]) -> Pairs:
        return Pairs(self.truth[keep], self.detection[keep], self.overlap[keep])


@dataclass(frozen=True)
class Truth:
    """Labels of all frames as one class and difficulty see them.

    Attributes:
        turns: (G,) place in the file of the frame, from 0.
        counts: (G,) whether it can be a hit or a miss; other labels are matched and ignored.
        alpha: (G,) observation angle [rad].
    """

    turns: IntArray
    counts: BoolArray
    alpha: FloatArray


@dataclass(frozen=True)
class Candidates:
    """Detections of all frames as one class and difficulty see them.

    Attributes:
        counts: (D,) whether it can be a hit or a false alarm; others are matched and ignored.
        excused: (D,) no false alarm, because it lies in a `DontCare` area.
        scores: (D,) any real numbers.
        alpha: (D,) observation angle [rad].
    """

    counts: BoolArray
    excused: BoolArray
    scores: FloatArray
    alpha: FloatArray


@dataclass(frozen=True)
class Curve:
    """A quantity over recall, at T <= 41 thresholds.

    Attributes:
        scores: (T,) the thresholds, descending.
        recall: (T,) part of the labels that are found with at least this score.
        values: (T,) precision or orientation similarity of what is detected.
    """

    scores: FloatArray
    recall: FloatArray
    values: FloatArray

    @property
    def points(self) -> FloatArray:
        """(41,) the best value at each threshold or a later one.

        The official program stores the values by the number of their threshold, not by recall. If
        there are fewer than 41, the rest is 0.
        """
        values = np.zeros(NUM_RECALLS)
        values[: len(self.values)] = self.values
        best: FloatArray = np.maximum.accumulate(values[::-1])[::-1]
        return best

    @property
    def ap11(self) -> float:
        """Mean of points 0, 4, ..., 40 [%]."""
        return float(100 * self.points[::4].mean())

    @property
    def ap40(self) -> float:
        """Mean of points 1 to 40 [%]."""
        return float(100 * self.points[1:].mean())


def measure(pairs: Pairs, truth: Truth, candidates: Candidates) -> tuple[Curve, Curve]:
    """Precision and orientation similarity over recall, at the official thresholds.

    Args:
        pairs: those that overlap enough, of labels that count or are ignored with detections that
            count or are ignored.
        truth: the labels that `pairs` points into.
        candidates: the detections that `pairs` points into.
    """
    scores = np.array(
        recall_thresholds(_hit_scores(pairs, truth, candidates).tolist(), int(truth.counts.sum()))
    )
    outcome = _count(pairs, truth, candidates, scores)
    detected = outcome.hits + outcome.alarms
    return (
        Curve(scores, outcome.recall, _ratio(outcome.hits, detected)),
        Curve(scores, outcome.recall, _ratio(outcome.similarity, detected)),
    )


def alarms_at(
    pairs: Pairs, truth: Truth, candidates: Candidates, recalls: Sequence[float]
) -> Alarms:
    """False alarms of a detector at some recalls.

    Args:
        pairs: see `measure`.
        truth: the labels that `pairs` points into.
        candidates: the detections that `pairs` points into.
        recalls: ascending, in (0, 1]; those that the detector does not reach are left out.
    """
    hit_scores, num_truth = _hit_scores(pairs, truth, candidates), int(truth.counts.sum())
    needed = np.ceil(np.asarray(recalls) * num_truth - 1e-9).astype(np.int64)  # 0.1 * 30 is > 3
    scores = hit_scores[needed[(needed >= 1) & (needed <= len(hit_scores))] - 1]
    outcome = _count(pairs, truth, candidates, scores)
    return Alarms(num_truth, scores, outcome.recall, outcome.alarms)


def recall_thresholds(scores: Sequence[float], num_truth: int) -> list[float]:
    """The scores whose recall is nearest to 0, 1/40, ..., 1; the first and the last always count.

    Args:
        scores: of the hits, descending.
        num_truth: labels that count.

    Returns:
        At most 41 scores, descending.
    """
    thresholds: list[float] = []
    recall, last = 0.0, len(scores) - 1
    for index, score in enumerate(scores):
        here, after = (index + 1) / num_truth, (index + 2) / num_truth
        if index < last and after - recall < recall - here:
            continue
        thresholds.append(score)
        recall += 1 / (NUM_RECALLS - 1)
    return thresholds


@dataclass(frozen=True)
class _Outcome:
    """Hits, misses, false alarms and the hits' orientation similarity at T thresholds, (T,)."""

    hits: FloatArray
    misses: FloatArray
    alarms: FloatArray
    similarity: FloatArray

    @property
    def recall(self) -> FloatArray:
        return _ratio(self.hits, self.hits + self.misses)


def _count(pairs: Pairs, truth: Truth, candidates: Candidates, scores: FloatArray) -> _Outcome:
    """What detections with at least each of some scores find, miss and make up."""
    counted = candidates.counts[pairs.detection]
    # The largest overlap wins; ignored detections come after all others, in the file's order.
    preference = (pairs.detection, np.where(counted, -pairs.overlap, 0))
    pairs, matched = _match(pairs, preference, truth.turns, candidates.scores, scores)
    counted, wanted = candidates.counts[pairs.detection], truth.counts[pairs.truth]
    angle = truth.alpha[pairs.truth] - candidates.alpha[pairs.detection]
    suspects = candidates.counts & ~candidates.excused
    ranked = np.sort(candidates.scores[suspects])
    return _Outcome(
        hits=matched @ (counted & wanted),
        misses=truth.counts.sum() - matched @ wanted,
        alarms=len(ranked) - np.searchsorted(ranked, scores) - matched @ suspects[pairs.detection],
        similarity=matched @ ((counted & wanted) * (1 + np.cos(angle)) / 2),
    )


def _hit_scores(pairs: Pairs, truth: Truth, candidates: Candidates) -> FloatArray:
    """Scores of the hits, descending, from the official pass in which the highest score wins."""
    preference = (pairs.detection, -candidates.scores[pairs.detection])
    all_scores = np.array([-np.inf])
    pairs, matched = _match(pairs, preference, truth.turns, candidates.scores, all_scores)
    hits = (matched[0] > 0) & truth.counts[pairs.truth] & candidates.counts[pairs.detection]
    scores: FloatArray = np.sort(candidates.scores[pairs.detection[hits]])[::-1]
    return scores


def _match(
    pairs: Pairs,
    preference: tuple[NDArray[Any], ...],
    turns: IntArray,
    scores: FloatArray,
    thresholds: FloatArray,
) -> tuple[Pairs, FloatArray]:
    """Let the labels choose, turn by turn, among the detections with at least each threshold.

    Args:
        pairs: P pairs in any order.
        preference: columns (P,), the last one decides first; a label likes small values.
        turns: (G,) when each label chooses.
        scores: (D,) of the detections.
        thresholds: (T,) scores.

    Returns:
        The pairs in the order of their turns, and which of them match: (T, P), 1 or 0.
    """
    pairs = pairs[np.lexsort((*preference, pairs.truth, turns[pairs.truth]))]
    eligible = scores[pairs.detection] >= thresholds[:, None]
    matched = np.zeros(eligible.shape)
    taken = np.zeros((len(thresholds), len(scores)), np.bool_)
    starts = np.flatnonzero(np.diff(turns[pairs.truth], prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(pairs.truth)], strict=False):
        free = eligible[:, start:end] & ~taken[:, pairs.detection[start:end]]
        row, column = _first_of_each(free, pairs.truth[start:end])
        matched[row, start + column] = 1
        taken[row, pairs.detection[start + column]] = True
    return pairs, matched


def _first_of_each(free: BoolArray, owners: IntArray) -> tuple[IntArray, IntArray]:
    """Rows and columns of the first free column of each owner in each row.

    Args:
        free: (T, n).
        owners: (n,), equal ones side by side.
    """
    num_columns = len(owners)
    column = np.where(free, np.arange(num_columns), num_columns)
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    first = np.minimum.reduceat(column, starts, axis=1)
    row, owner = np.nonzero(first < num_columns)
    return row, first[row, owner]


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Quotient; 0 if the divisor is 0."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
