# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors, one file per stage; `pointpillars.py` composes them and is the file to read first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pointdistiller_core.config import DetectorConfig
from pointdistiller_core.models.boxes.detection import BoxPredictions
from pointdistiller_core.models.pointpillars import PointPillars, count_weights
from pointdistiller_core.models.stages.anchor_head import HeadOutput

__all__ = [
    'DETECTORS',
    'BoxPredictions',
    'HeadOutput',
    'PointPillars',
    'build_detector',
    'count_weights',
]

DETECTORS: Mapping[str, Callable[..., PointPillars]] = {'pointpillars': PointPillars}


def build_detector(config: DetectorConfig) -> PointPillars:
    """The detector that `config.name` asks for, freshly initialized."""
    return DETECTORS[config.name](config)
