# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From raw head outputs to boxes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.geometry.detection import detect_frame
from pointdistiller_core.models.stages.anchor_head import HeadOutput


@dataclass(frozen=True)
class BoxPredictions:
    """Boxes of one frame, by descending score.

    Attributes:
        boxes: (N, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad], LiDAR frame.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64 index into the class names.
        num_refused: candidates that no object can be; see `detect_frame`.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    num_refused: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, keep: Tensor) -> BoxPredictions:
        return replace(
            self, boxes=self.boxes[keep], scores=self.scores[keep], labels=self.labels[keep]
        )


def detect_boxes(
    output: HeadOutput,
    config: DetectionConfig,
    *,
    direction_offset: float,
    limits: NDArray[np.float32] | None = None,
) -> list[BoxPredictions]:
    """Threshold, decode and suppress the boxes of each frame; see `detect_frame`.

    Args:
        output: of B frames.
        config: thresholds and caps.
        direction_offset: where the first direction bin begins [rad].
        limits: (K, 2, 6) of the boxes of each class, see `box_limits`.
    """
    device = output.anchors.device
    bounds = None if limits is None else torch.from_numpy(limits).to(device)
    found = []
    for frame in range(len(output.class_logits)):
        parts = detect_frame(
            output.class_logits[frame].float(),
            output.box_residuals[frame].float(),
            output.direction_logits[frame].float(),
            lambda best: output.anchors[best],
            config,
            direction_offset=direction_offset,
            limits=bounds,
        )
        found.append(BoxPredictions(*parts))
    return found
