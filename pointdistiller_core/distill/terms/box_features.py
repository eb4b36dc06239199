# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Imitation of features inside labelled boxes.

Wang et al. (FGFI, CVPR 2019) imitate only near objects, LiDAR Distillation (Wei et al., ECCV 2022)
only inside regions of interest. Here the regions are the labelled boxes, seen from above.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pointdistiller_core.config import BoxFeaturesConfig
from pointdistiller_core.distill.term import Lesson
from pointdistiller_core.distill.terms.adapters import build_adapter
from pointdistiller_core.distill.terms.feature_term import (
    FeatureTerm,
    Pair,
    mean_square,
    safe_norm,
)
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.models.layer import Rows
from pointdistiller_core.records import IGNORE_LABEL, Batch


class BoxFeaturesTerm(FeatureTerm):
    """Distance of linearly adapted student features, over the rows inside boxes."""

    config: BoxFeaturesConfig

    def __init__(
        self, config: BoxFeaturesConfig, *, teacher: Mapping[str, int], student: Mapping[str, int]
    ) -> None:
        super().__init__(config, teacher=teacher, student=student)
        self.adapters = nn.ModuleList(
            build_adapter(*channels, 'linear') for channels in self.channels
        )

    def compare(self, level: int, pair: Pair, lesson: Lesson) -> Tensor:
        """Mean over the rows in boxes; 0 without any."""
        inside = rows_in_boxes(pair.rows, lesson.batch, margin=self.config.margin)
        student, teacher = self.adapters[level](pair.student[inside]), pair.teacher[inside]
        if self.config.norm == 'mean_square':
            return mean_square(student, teacher)
        return safe_norm(student - teacher, dim=1).sum() / max(len(student), 1)


def rows_in_boxes(rows: Rows, batch: Batch, *, margin: float) -> Tensor:
    """(N,) whether a row lies, seen from above, in a box of its frame that is not ignored.

    Args:
        rows: of the frames.
        batch: with their boxes.
        margin: added to each side of a box [m].
    """
    flat = torch.cat([rows.positions[:, :2], torch.zeros_like(rows.positions[:, :1])], dim=1)
    inside = [
        points_in_boxes(points, flatten_boxes(boxes[labels != IGNORE_LABEL], margin)).any(dim=1)
        for points, boxes, labels in zip(rows.split(flat), batch.boxes, batch.labels, strict=True)
    ]
    return torch.cat(inside)


def flatten_boxes(boxes: Tensor, margin: float) -> Tensor:
    """Boxes (G, 7) around z = 0, larger by the margin [m] on each of their four sides."""
    x, y, _, dx, dy, dz, yaw = boxes.T
    larger = (dx + 2 * margin, dy + 2 * margin)
    return torch.stack([x, y, torch.zeros_like(x), *larger, dz, yaw], dim=1)
