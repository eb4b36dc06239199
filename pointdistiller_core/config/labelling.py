# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How detectors label frames."""

from __future__ import annotations

from pydantic import Field, model_validator

from pointdistiller_core.config.base import Config, Count, Positive, Probability
from pointdistiller_core.config.tracking import TrackingConfig


class ViewsConfig(Config):
    """The views of each frame, and how their detections are joined."""

    flips: bool = Field(True, description='also look at the mirror image, left and right changed')
    scales: tuple[Positive, ...] = Field((0.95, 1.0, 1.05), min_length=1)
    iou_threshold: Probability = Field(
        0.3, description='BEV IoU from which boxes of one class are one object'
    )


class TrustConfig(Config):
    """Which tracks of a class become labels, which are ignored, and which are dropped."""

    accept: Probability = Field(0.6, description='score of a track from which it is a label')
    ignore: Probability = Field(
        0.2, description='score from which it is at least ignored: neither object nor background'
    )
    min_detections: Count = Field(3, description='of a track that is a label; others are ignored')

    @model_validator(mode='after')
    def _check_order(self) -> TrustConfig:
        if self.ignore > self.accept:
            raise ValueError(f'ignore {self.ignore} is above accept {self.accept}')
        return self


class LabellingConfig(Config):
    """Views, tracks and trust; see `labelling`."""

    views: ViewsConfig = ViewsConfig()
    tracking: TrackingConfig = TrackingConfig(birth_score=0.3, max_gap_s=1.0)
    trust: TrustConfig = TrustConfig()
    trust_by_class: dict[str, TrustConfig] = Field(
        default_factory=dict, description='instead, for some classes'
    )
    tolerance_s: float = Field(
        0.05, ge=0.0, description='between recorded detections and their frame [s]'
    )
    best_detections: Count = Field(5, description='whose mean score is the score of a track')
    min_points: Count = Field(1, description='in a box that is a label')
    propagate: int = Field(
        40,
        ge=0,
        description='frames before and after its track in which a still object is looked for',
    )
    propagate_points: Count = Field(5, description='in the box of such a frame')
