# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Typed, validated configuration; unknown keys are errors."""

from __future__ import annotations

from pointdistiller_core.config.anchor_detector import (
    KITTI_ANCHORS,
    AnchorConfig,
    AnchorDetectorConfig,
    BackboneConfig,
    FpnNeckConfig,
    HeadConfig,
    LossConfig,
    NeckConfig,
    StackNeckConfig,
    VoxelConfig,
)
from pointdistiller_core.config.base import (
    MAX_MAP_VALUES,
    Config,
    Length,
    Positive,
    TermConfig,
)
from pointdistiller_core.config.class_maps import (
    CLASS_MAPS,
    ClassMap,
    parse_class_map,
)
from pointdistiller_core.config.conversion import (
    ConversionConfig,
    SplitConfig,
)
from pointdistiller_core.config.data import (
    AugmentationConfig,
    BagConfig,
    DatasetConfig,
    FolderConfig,
    GroundTruthSamplingConfig,
    KittiConfig,
    NuScenesConfig,
    ObjectNoiseConfig,
    SampledClassConfig,
    has_splits,
)
from pointdistiller_core.config.detector import (
    AGE,
    MAX_SWEEPS,
    PILLARS,
    POINT_FEATURES,
    DetectionConfig,
    DetectorConfig,
    Size,
)
from pointdistiller_core.config.distillation import (
    DISTILLATION_PRESETS,
    LOCAL_GRAPH_PRESETS,
    AnyTermConfig,
    DistillationConfig,
    LocalGraphConfig,
    distillation_presets,
)
from pointdistiller_core.config.experiment import (
    ExperimentConfig,
)
from pointdistiller_core.config.families import (
    DATASET_CONFIGS,
    MODEL_CONFIGS,
)
from pointdistiller_core.config.feature_terms import (
    AttentionConfig,
    AttentionNonlocalConfig,
    BoxFeaturesConfig,
    ContrastiveConfig,
    FeatureTermConfig,
    FitNetsConfig,
    GraphContrastConfig,
    OverhaulConfig,
    SimilarityConfig,
)
from pointdistiller_core.config.files import (
    apply_overrides,
    dump_config,
    find_config,
    load_config,
    load_experiment,
    load_stored_experiment,
    parse_config,
    read_model,
    read_yaml,
)
from pointdistiller_core.config.from_bag import (
    FromBagConfig,
)
from pointdistiller_core.config.labelling import (
    LabellingConfig,
    TrustConfig,
    ViewsConfig,
)
from pointdistiller_core.config.moved import (
    move_keys,
)
from pointdistiller_core.config.output_terms import (
    ConsistencyConfig,
    LabelsConfig,
    LogitsConfig,
)
from pointdistiller_core.config.pointpillars import (
    EncoderConfig,
    PointPillarsConfig,
)
from pointdistiller_core.config.pointrcnn import (
    KITTI_MEAN_SIZES,
    PointBackboneConfig,
    PointHeadConfig,
    PointRcnnConfig,
    PointRcnnLossConfig,
    ProposalConfig,
    ProposalTargetConfig,
    RefinementConfig,
    SampleConfig,
)
from pointdistiller_core.config.second import (
    SecondConfig,
    SparseBackboneConfig,
)
from pointdistiller_core.config.shipped import shipped_configs
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
    OneCycleConfig,
    ScheduleConfig,
    StepConfig,
    TrainingConfig,
)
from pointdistiller_core.config.yaml_text import (
    parse_yaml,
)

__all__ = [
    'AGE',
    'CLASS_MAPS',
    'DATASET_CONFIGS',
    'DISTILLATION_PRESETS',
    'KITTI_ANCHORS',
    'KITTI_MEAN_SIZES',
    'LOCAL_GRAPH_PRESETS',
    'MAX_MAP_VALUES',
    'MAX_SWEEPS',
    'MODEL_CONFIGS',
    'PILLARS',
    'POINT_FEATURES',
    'AnchorConfig',
    'AnchorDetectorConfig',
    'AnyTermConfig',
    'ArmConfig',
    'AttentionConfig',
    'AttentionNonlocalConfig',
    'AugmentationConfig',
    'BackboneConfig',
    'BagConfig',
    'BoxFeaturesConfig',
    'CameraConfig',
    'ClassMap',
    'Config',
    'ConsistencyConfig',
    'ContrastiveConfig',
    'ConversionConfig',
    'DatasetConfig',
    'DetectionConfig',
    'DetectorConfig',
    'DistillationConfig',
    'EncoderConfig',
    'ExperimentConfig',
    'FeatureTermConfig',
    'FitNetsConfig',
    'FolderConfig',
    'FpnNeckConfig',
    'FromBagConfig',
    'GraphContrastConfig',
    'GroundTruthSamplingConfig',
    'HeadConfig',
    'KittiConfig',
    'LabellingConfig',
    'LabelsConfig',
    'Length',
    'LocalGraphConfig',
    'LogitsConfig',
    'LossConfig',
    'NeckConfig',
    'NuScenesConfig',
    'ObjectNoiseConfig',
    'OneCycleConfig',
    'OverhaulConfig',
    'PointBackboneConfig',
    'PointHeadConfig',
    'PointPillarsConfig',
    'PointRcnnConfig',
    'PointRcnnLossConfig',
    'Positive',
    'ProposalConfig',
    'ProposalTargetConfig',
    'RefinementConfig',
    'SampleConfig',
    'SampledClassConfig',
    'SceneConfig',
    'ScheduleConfig',
    'SecondConfig',
    'SensorConfig',
    'SimilarityConfig',
    'SimulatedDataConfig',
    'SimulationConfig',
    'Size',
    'SparseBackboneConfig',
    'SplitConfig',
    'StackNeckConfig',
    'StepConfig',
    'StudyConfig',
    'StudySizeConfig',
    'TermConfig',
    'TrackingConfig',
    'TrainingConfig',
    'TrustConfig',
    'ViewsConfig',
    'VoxelConfig',
    'apply_overrides',
    'distillation_presets',
    'dump_config',
    'find_config',
    'has_splits',
    'load_config',
    'load_experiment',
    'load_stored_experiment',
    'move_keys',
    'parse_class_map',
    'parse_config',
    'parse_yaml',
    'read_model',
    'read_yaml',
    'shipped_configs',
]
