# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Typed, validated configuration; unknown keys are errors."""

from __future__ import annotations

from pointdistiller_core.config.base import (
    MAX_MAP_VALUES,
    Config,
    Length,
    Positive,
    TermConfig,
)
from pointdistiller_core.config.conversion import (
    ConversionConfig,
    SplitConfig,
)
from pointdistiller_core.config.data import (
    AugmentationConfig,
    DatasetConfig,
    FolderConfig,
    GroundTruthSamplingConfig,
    ObjectNoiseConfig,
    SampledClassConfig,
)
from pointdistiller_core.config.distillation import (
    DISTILLATION_PRESETS,
    LOCAL_GRAPH_PRESETS,
    AnyTermConfig,
    DistillationConfig,
    LocalGraphConfig,
)
from pointdistiller_core.config.experiment import (
    ExperimentConfig,
)
from pointdistiller_core.config.feature_terms import (
    AttentionConfig,
    AttentionNonlocalConfig,
    BoxFeaturesConfig,
    ContrastiveConfig,
    FeatureTermConfig,
    FitNetsConfig,
    OverhaulConfig,
    SimilarityConfig,
)
from pointdistiller_core.config.files import (
    apply_overrides,
    dump_config,
    find_config,
    load_config,
    load_experiment,
    parse_config,
    read_model,
    shipped_configs,
)
from pointdistiller_core.config.labelling import (
    LabellingConfig,
    TrustConfig,
    ViewsConfig,
)
from pointdistiller_core.config.model import (
    KITTI_ANCHORS,
    AnchorConfig,
    DetectionConfig,
    HeadConfig,
    LossConfig,
    ModelConfig,
    PillarConfig,
)
from pointdistiller_core.config.output_terms import (
    ConsistencyConfig,
    LabelsConfig,
    LogitsConfig,
)
from pointdistiller_core.config.simulation import (
    CameraConfig,
    SceneConfig,
    SensorConfig,
    SimulationConfig,
)
from pointdistiller_core.config.study import (
    ArmConfig,
    SimulatedDataConfig,
    StudyConfig,
    StudySizeConfig,
)
from pointdistiller_core.config.tracking import (
    TrackingConfig,
)
from pointdistiller_core.config.training import (
    TrainingConfig,
)
from pointdistiller_core.config.yaml_text import (
    parse_yaml,
)

__all__ = [
    'DISTILLATION_PRESETS',
    'KITTI_ANCHORS',
    'LOCAL_GRAPH_PRESETS',
    'MAX_MAP_VALUES',
    'AnchorConfig',
    'AnyTermConfig',
    'ArmConfig',
    'AttentionConfig',
    'AttentionNonlocalConfig',
    'AugmentationConfig',
    'BoxFeaturesConfig',
    'CameraConfig',
    'Config',
    'ConsistencyConfig',
    'ContrastiveConfig',
    'ConversionConfig',
    'DatasetConfig',
    'DetectionConfig',
    'DistillationConfig',
    'ExperimentConfig',
    'FeatureTermConfig',
    'FitNetsConfig',
    'FolderConfig',
    'GroundTruthSamplingConfig',
    'HeadConfig',
    'LabellingConfig',
    'LabelsConfig',
    'Length',
    'LocalGraphConfig',
    'LogitsConfig',
    'LossConfig',
    'ModelConfig',
    'ObjectNoiseConfig',
    'OverhaulConfig',
    'PillarConfig',
    'Positive',
    'SampledClassConfig',
    'SceneConfig',
    'SensorConfig',
    'SimilarityConfig',
    'SimulatedDataConfig',
    'SimulationConfig',
    'SplitConfig',
    'StudyConfig',
    'StudySizeConfig',
    'TermConfig',
    'TrackingConfig',
    'TrainingConfig',
    'TrustConfig',
    'ViewsConfig',
    'apply_overrides',
    'dump_config',
    'find_config',
    'load_config',
    'load_experiment',
    'parse_config',
    'parse_yaml',
    'read_model',
    'shipped_configs',
]
