# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors and datasets by their `name`; the first is taken if none is given.

Entries may be added at any time: a name is looked up when a configuration is read.
"""

from __future__ import annotations

from pointdistiller_core.config.data import (
    BagConfig,
    DatasetConfig,
    FolderConfig,
    KittiConfig,
    NuScenesConfig,
)
from pointdistiller_core.config.detector import DetectorConfig
from pointdistiller_core.config.pointpillars import PointPillarsConfig
from pointdistiller_core.config.pointrcnn import PointRcnnConfig
from pointdistiller_core.config.second import SecondConfig

MODEL_CONFIGS: dict[str, type[DetectorConfig]] = {
    'pointpillars': PointPillarsConfig,
    'second': SecondConfig,
    'pointrcnn': PointRcnnConfig,
}
DATASET_CONFIGS: dict[str, type[DatasetConfig]] = {
    'kitti': KittiConfig,
    'folder': FolderConfig,
    'bag': BagConfig,
    'nuscenes': NuScenesConfig,
}

DetectorConfig.choices = MODEL_CONFIGS
DatasetConfig.choices = DATASET_CONFIGS
