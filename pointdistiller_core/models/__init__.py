# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors, one file per stage; `pointpillars.py` composes one and is the file to read first.

`detector_model.py` says what every family offers, `stages/` holds what they are made of.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from pointdistiller_core.config import DetectorConfig
from pointdistiller_core.models.anchor_detector import AnchorDetector
from pointdistiller_core.models.detector_model import BoxPredictions, DetectorModel, Prepared
from pointdistiller_core.models.pointpillars import PointPillars
from pointdistiller_core.models.pointrcnn import PointRcnn, PointRcnnOutput
from pointdistiller_core.models.second import Second
from pointdistiller_core.models.stages.anchor_head import AnchorOutput

__all__ = [
    'DETECTORS',
    'AnchorDetector',
    'AnchorOutput',
    'AnyDetector',
    'BoxPredictions',
    'DetectorModel',
    'PointPillars',
    'PointRcnn',
    'PointRcnnOutput',
    'Prepared',
    'Second',
    'build_detector',
    'sketch_detector',
]

AnyDetector: TypeAlias = DetectorModel[Any, Any]

DETECTORS: dict[str, type[AnyDetector]] = {
    'pointpillars': PointPillars,
    'second': Second,
    'pointrcnn': PointRcnn,
}


def build_detector(config: DetectorConfig) -> AnyDetector:
    """The detector that `config.name` asks for, freshly initialized."""
    return DETECTORS[config.name](config)


def sketch_detector(config: DetectorConfig) -> AnyDetector:
    """The same without memory, on torch's `meta` device: only its shapes and layers."""
    with torch.device('meta'):
        return build_detector(config)
