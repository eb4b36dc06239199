# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The teacher's detections as further ground truth (SparseKD, NeurIPS 2022: label KD)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from pointdistiller_core.config import LabelsConfig
from pointdistiller_core.distill.term import Lesson, Term, View, device_type
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.models import AnyDetector, BoxPredictions
from pointdistiller_core.records import IGNORE_LABEL, Batch


def new_labels(
    found: BoxPredictions,
    boxes: Tensor,
    labels: Tensor,
    *,
    score_thresholds: Tensor,
    max_overlap: float,
) -> BoxPredictions:
    """The detections of one frame to be added to its labels.

    Those that overlap a labelled box of their class are left out: the label is right. So are
    those that overlap a box labelled `IGNORE_LABEL`: somebody looked, and did not want it.

    Args:
        found: N detections.
        boxes: (G, 7) labelled boxes.
        labels: (G,) int64 their labels.
        score_thresholds: (K,) least score of each class.
        max_overlap: largest BEV IoU with a labelled box.
    """
    sure = found[found.scores >= score_thresholds[found.labels]]
    known = (labels == sure.labels[:, None]) | (labels == IGNORE_LABEL)
    overlaps = rotated_iou_bev(sure.boxes, boxes) > max_overlap
    return sure[~(known & overlaps).any(dim=1)]


class LabelsTerm(Term):
    """Appends boxes of the teacher to the ground truth of the student's detection loss."""

    needs_teacher_output = True

    def __init__(self, config: LabelsConfig, **_channels: Mapping[str, int]) -> None:
        super().__init__()
        self.config = config

    def check(self, teacher: AnyDetector, student: AnyDetector) -> None:
        """Thresholds must be of known classes, and reachable."""
        config, names = self.config, student.config.class_names
        where = 'distillation.terms.labels'
        if unknown := [name for name in config.class_score_thresholds if name not in names]:
            raise ConfigError(
                f'{where}.class_score_thresholds: {unknown} are no classes of the models; '
                f'they have {list(names)}'
            )
        detection = teacher.config.detection
        least = detection.score_thresholds or (detection.score_threshold,) * len(names)
        of_teacher = dict(zip(names, least, strict=True))
        if low := {n: t for n, t in self._thresholds(names).items() if t < of_teacher[n]}:
            raise ConfigError(
                f'{where}: score thresholds {low} are below those of the teacher, '
                f'{of_teacher}, which detects nothing there; raise them'
            )

    def forward(self, lesson: Lesson) -> None:
        """No loss; the term only changes labels."""

    @torch.no_grad()
    def relabel(self, batch: Batch, teacher: View) -> Batch:
        """The batch with the teacher's boxes appended to its own; every frame is labelled then."""
        thresholds = list(self._thresholds(teacher.model.config.class_names).values())
        with torch.autocast(device_type(batch), enabled=False):
            added = [
                new_labels(
                    found,
                    boxes,
                    labels,
                    score_thresholds=found.scores.new_tensor(thresholds),
                    max_overlap=self.config.max_overlap,
                )
                for found, boxes, labels in zip(
                    teacher.model.detect(teacher.output), batch.boxes, batch.labels, strict=True
                )
            ]
        return replace(append_labels(batch, added), unlabelled=frozenset())

    def _thresholds(self, class_names: tuple[str, ...]) -> dict[str, float]:
        config = self.config
        return {
            name: config.class_score_thresholds.get(name, config.score_threshold)
            for name in class_names
        }


def append_labels(batch: Batch, added: list[BoxPredictions]) -> Batch:
    """The batch with further boxes appended in each frame."""
    return replace(
        batch,
        boxes=tuple(
            torch.cat([boxes, new.boxes]) for boxes, new in zip(batch.boxes, added, strict=True)
        ),
        labels=tuple(
            torch.cat([labels, new.labels])
            for labels, new in zip(batch.labels, added, strict=True)
        ),
        velocities=None if batch.velocities is None else _append_velocities(batch, added),
    )


def _append_velocities(batch: Batch, added: list[BoxPredictions]) -> tuple[Tensor, ...]:
    """(G, 2) of each frame, with those of the further boxes: NaN where the teacher gives none."""
    assert batch.velocities is not None
    unknown = (
        own.new_full((len(new), 2), torch.nan) for own, new in zip(batch.boxes, added, strict=True)
    )
    return tuple(
        torch.cat([own, none if new.velocities is None else new.velocities])
        for own, new, none in zip(batch.velocities, added, unknown, strict=True)
    )
