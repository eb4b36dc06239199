# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Terms that compare outputs: scores, boxes and labels instead of features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pointdistiller_core.config.base import Probability, TermConfig


class LogitsConfig(TermConfig):
    """Scores and boxes, anchor by anchor (SparseKD, NeurIPS 2022)."""

    name: Literal['logits'] = 'logits'
    weight: float = Field(10.0, ge=0.0)
    mask: Literal['confidence', 'rank', 'all'] = Field(
        'confidence', description='anchors whose scores are taught'
    )
    score_threshold: Probability = Field(
        0.3, description='best score from which the teacher is confident of an anchor'
    )
    num_anchors: int = Field(1000, ge=1, description='per frame, by best score, for mask: rank')
    loss: Literal['mse', 'bce'] = Field('mse', description='of the scores')
    box_weight: float = Field(0.2, ge=0.0, description='of the boxes of confident anchors')
    direction_weight: float = Field(0.02, ge=0.0, description='of the headings of the same')
    velocity_weight: float = Field(
        0.02, ge=0.0, description='of the velocities of the same, if both networks give them'
    )


class ConsistencyConfig(TermConfig):
    """Confident boxes of both networks that overlap (SE-SSD, CVPR 2021)."""

    name: Literal['consistency'] = 'consistency'
    score_threshold: Probability = Field(0.3, description='of the boxes of both networks')
    matched_iou: Probability = Field(0.7, description='BEV IoU above which boxes are one')


class LabelsConfig(TermConfig):
    """The teacher's detections as further ground truth (SparseKD)."""

    name: Literal['labels'] = 'labels'
    weight: float = Field(1.0, ge=1.0, le=1.0, description='fixed: there is no loss')
    score_threshold: Probability = Field(0.6, description='of the detections that become labels')
    class_score_thresholds: dict[str, Probability] = Field(
        default_factory=dict, description='instead, for some classes'
    )
    max_overlap: Probability = Field(
        0.1, description='largest BEV IoU with a labelled box of the class, or an ignored one'
    )
