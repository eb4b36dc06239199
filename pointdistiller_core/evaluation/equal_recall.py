# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""False positives of several detectors at equal recall.

Average precision mixes what a detector finds with what it makes up. At equal recall only the
second is left: the number of false alarms per frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pointdistiller_core.evaluation.scores import Alarms

RECALLS = tuple(tenth / 10 for tenth in range(1, 11))
ALL_CLASSES = 'all'


@dataclass(frozen=True)
class EqualRecall:
    """Several detectors at one recall.

    Attributes:
        recall: recall that all of them reach, one of `RECALLS`.
        false_positives: by detector, per frame.
        score_thresholds: by detector, the highest score that reaches the recall; none for all
            classes together, which have one threshold each.
    """

    recall: float
    false_positives: Mapping[str, float]
    score_thresholds: Mapping[str, float]


def compare_at_equal_recall(
    alarms: Mapping[str, Mapping[str, Alarms]], num_frames: int
) -> dict[str, list[EqualRecall]]:
    """False positives at the recalls that all detectors reach, for each class and for all.

    All classes together are the sum over the classes with labels, each at that recall.

    Args:
        alarms: by detector and class, at `RECALLS`, of the same frames.
        num_frames: number of these frames.

    Returns:
        Class, and last `ALL_CLASSES`, -> recalls, ascending.
    """
    first = next(iter(alarms.values()))
    rows = {
        class_name: _rows({name: of[class_name] for name, of in alarms.items()}, num_frames)
        for class_name in first
    }
    labelled = [rows[class_name] for class_name in first if first[class_name].num_truth]
    return {**rows, ALL_CLASSES: [_sum(row) for row in zip(*labelled, strict=False)]}


def _rows(alarms: Mapping[str, Alarms], num_frames: int) -> list[EqualRecall]:
    """The recalls that all detectors, also the worst, reach."""
    reached = min(len(of.scores) for of in alarms.values())
    return [
        EqualRecall(
            recall,
            {name: float(of.counts[index]) / num_frames for name, of in alarms.items()},
            {name: float(of.scores[index]) for name, of in alarms.items()},
        )
        for index, recall in enumerate(RECALLS[:reached])
    ]


def _sum(rows: Sequence[EqualRecall]) -> EqualRecall:
    totals = {
        name: sum(row.false_positives[name] for row in rows) for name in rows[0].false_positives
    }
    return EqualRecall(rows[0].recall, totals, {})
