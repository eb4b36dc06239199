# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Matching by the distance of centers seen from above, of all samples at once.

By descending score, each detection takes the nearest label of its class and sample that is not
taken yet, if that is near enough. Only pairs that are near enough are looked at: a detection whose
nearest free label is too far takes none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.formats.nuscenes.submission import GlobalBoxes

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

PAIRS_AT_ONCE = 2**21  # bounds the memory


@dataclass(frozen=True)
class Pairs:
    """Detections with labels of the same class and sample.

    The best detections come first, and of each its nearest label.

    Attributes:
        found: (P,) index of the detection.
        truth: (P,) index of the label.
        distance: (P,) [m] from above.
    """

    found: IntArray
    truth: IntArray
    distance: FloatArray

    def __getitem__(self, keep: NDArray[Any]) -> Pairs:
        return Pairs(self.found[keep], self.truth[keep], self.distance[keep])


def near_pairs(truth: GlobalBoxes, found: GlobalBoxes, most: float) -> Pairs:
    """All pairs nearer than `most` [m].

    Args:
        truth: labels.
        found: detections by descending score, equal ones in the order in which they match.
        most: distance [m].
    """
    num_labels = int(max(truth.labels.max(initial=0), found.labels.max(initial=0))) + 1
    groups = truth.samples * num_labels + truth.labels
    order = np.argsort(groups, kind='stable')
    own = found.samples * num_labels + found.labels
    begin = np.searchsorted(groups, own, 'left', sorter=order)
    counts = np.searchsorted(groups, own, 'right', sorter=order) - begin
    so_far = np.cumsum(counts)
    limits = np.arange(PAIRS_AT_ONCE, int(counts.sum()), PAIRS_AT_ONCE)
    stops = [*np.unique(np.searchsorted(so_far, limits)).tolist(), len(found)]
    parts = [Pairs(own[:0], own[:0], np.zeros(0))]
    for start, stop in zip([0, *stops[:-1]], stops, strict=True):
        few = counts[start:stop]
        of_found = np.repeat(np.arange(start, stop), few)
        within = np.arange(few.sum()) - np.repeat(np.cumsum(few) - few, few)
        of_truth = order[begin[of_found] + within]
        offsets = truth.translation[of_truth, :2] - found.translation[of_found, :2]
        distance = np.sqrt((offsets * offsets).sum(axis=1))
        parts.append(Pairs(of_found, of_truth, distance)[distance < most])
    pairs = Pairs(
        found=np.concatenate([part.found for part in parts]),
        truth=np.concatenate([part.truth for part in parts]),
        distance=np.concatenate([part.distance for part in parts]),
    )
    return pairs[np.lexsort((pairs.truth, pairs.distance, pairs.found))]


def match_greedily(pairs: Pairs, num_found: int, num_truth: int) -> IntArray:
    """The label (num_found,) that each detection takes, -1 for none.

    A detection takes its nearest free label once no better one may still take it: all those of
    which this holds are settled together, round by round.

    Args:
        pairs: as `near_pairs` gives them; all are near enough.
        num_found: detections.
        num_truth: labels.
    """
    taken_by = np.full(num_found, -1)
    best = np.empty(num_truth, np.int64)
    while len(pairs.found):
        best[pairs.truth[::-1]] = pairs.found[::-1]  # the last one that is written is the best
        nearest = np.flatnonzero(np.diff(pairs.found, prepend=-1))
        settled = nearest[best[pairs.truth[nearest]] == pairs.found[nearest]]
        taken_by[pairs.found[settled]] = pairs.truth[settled]
        free = np.ones(num_truth, np.bool_)
        free[pairs.truth[settled]] = False
        pairs = pairs[free[pairs.truth] & (taken_by[pairs.found] < 0)]
    return taken_by
