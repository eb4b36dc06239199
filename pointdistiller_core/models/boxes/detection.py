# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From raw head outputs to boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import torch

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.geometry.box_coding import decode_boxes
from pointdistiller_core.geometry.detection import RawOutputs, best_anchors, detect_frame
from pointdistiller_core.models.detector_model import BoxPredictions
from pointdistiller_core.models.stages.anchor_head import AnchorOutput


def detect_boxes(
    output: AnchorOutput,
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
        speeds = output.velocities
        raw = RawOutputs(
            output.class_logits[frame].float(),
            output.box_residuals[frame].float(),
            output.direction_logits[frame].float(),
            None if speeds is None else speeds[frame].float(),
            output.sizes,
        )
        parts = detect_frame(
            raw,
            lambda best: output.anchors[best],
            config,
            direction_offset=direction_offset,
            limits=bounds,
        )
        found.append(BoxPredictions(*parts))
    return found


def decode_candidates(output: AnchorOutput, config: DetectionConfig) -> list[BoxPredictions]:
    """The best boxes of each frame before suppression, with gradients; all are finite.

    Their yaws may be half a turn off, because the direction bins are not used.
    """
    found = []
    for frame, all_logits in enumerate(output.class_logits):
        logits = all_logits.float()
        scores, best = best_anchors(logits, config, output.sizes)
        boxes = decode_boxes(output.box_residuals[frame, best].float(), output.anchors[best])
        speeds = None if output.velocities is None else output.velocities[frame, best].float()
        candidates = BoxPredictions(boxes, scores, logits[best].argmax(dim=1), velocities=speeds)
        found.append(candidates[boxes.isfinite().all(dim=1)])
    return found
