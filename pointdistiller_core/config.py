# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Typed, validated configuration of everything; unknown keys are errors."""

from __future__ import annotations

from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
import yaml

from pointdistiller_core.errors import ConfigError
from pointdistiller_core.grid import Grid

ConfigT = TypeVar('ConfigT', bound='Config')
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """Base of all configuration: frozen, no unknown keys, no silent conversions of numbers."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)


# --- model -----------------------------------------------------------------------------------


class PillarConfig(Config):
    """Caps of the voxelization; what is cut is counted, never dropped silently."""

    max_points_per_pillar: int = Field(32, ge=1)
    max_pillars: int = Field(40000, ge=1, description='per frame, at inference')
    max_pillars_training: int = Field(16000, ge=1, description='per frame, while training')


class AnchorConfig(Config):
    """Anchors of one class: one box per yaw at every cell of the head's map."""

    size: tuple[Positive, Positive, Positive] = Field(description='dx, dy, dz [m]')
    bottom: float = Field(description='z of the lower face [m], LiDAR frame')
    yaws: tuple[float, ...] = (0.0, 1.57)  # 1.57, not pi/2: OpenPCDet's value, checkpoints need it
    matched_iou: Probability = Field(description='BEV IoU from which an anchor is positive')
    unmatched_iou: Probability = Field(description='BEV IoU below which an anchor is negative')


KITTI_ANCHORS = {
    'Car': AnchorConfig(size=(3.9, 1.6, 1.56), bottom=-1.78, matched_iou=0.6, unmatched_iou=0.45),
    'Pedestrian': AnchorConfig(
        size=(0.8, 0.6, 1.73), bottom=-0.6, matched_iou=0.5, unmatched_iou=0.35
    ),
    'Cyclist': AnchorConfig(
        size=(1.76, 0.6, 1.73), bottom=-0.6, matched_iou=0.5, unmatched_iou=0.35
    ),
}


class HeadConfig(Config):
    """Anchor head; the anchors' order is the order of the classes."""

    anchors: dict[str, AnchorConfig] = Field(default_factory=lambda: dict(KITTI_ANCHORS))
    direction_offset: float = 0.78539  # not pi/4: OpenPCDet's value, checkpoints need it


class LossConfig(Config):
    """Weights of the detection loss (SECOND, section 3.5; PointPillars, section 2.3)."""

    classification: float = 1.0
    box: float = 2.0
    direction: float = 0.2
    focal_alpha: Probability = 0.25
    focal_gamma: float = 2.0
    smooth_l1_beta: Positive = 1 / 9


class DetectionConfig(Config):
    """From raw head outputs to boxes."""

    score_threshold: Probability = 0.1
    nms_iou_threshold: Probability = 0.01
    max_candidates: int = Field(4096, ge=1, description='boxes that enter NMS, per frame')
    max_detections: int = Field(500, ge=1, description='boxes kept after NMS, per frame')
    class_wise_nms: bool = True


class ModelConfig(Config):
    """A detector. `width` scales every channel count; a student is its teacher, narrower."""

    name: Literal['pointpillars'] = 'pointpillars'
    width: float = Field(1.0, gt=0.0, description='channel multiplier')
    class_names: tuple[str, ...] = ('Car', 'Pedestrian', 'Cyclist')
    grid: Grid = Grid(
        point_cloud_range=(0.0, -39.68, -3.0, 69.12, 39.68, 1.0), voxel_size=(0.16, 0.16, 4.0)
    )
    pillars: PillarConfig = PillarConfig()
    encoder_channels: int = Field(64, ge=1)
    backbone_layers: tuple[int, ...] = (3, 5, 5)
    backbone_strides: tuple[Count, ...] = (2, 2, 2)
    backbone_channels: tuple[Count, ...] = (64, 128, 256)
    neck_strides: tuple[Count, ...] = (1, 2, 4)
    neck_channels: tuple[Count, ...] = (128, 128, 128)
    norm_momentum: float = Field(
        0.01,
        gt=0.0,
        le=1.0,
        description='of the running statistics of batch norm; a run of a few hundred steps needs '
        'a larger one, or they lag behind its weights',
    )
    head: HeadConfig = HeadConfig()
    loss: LossConfig = LossConfig()
    detection: DetectionConfig = DetectionConfig()

    @model_validator(mode='after')
    def _check_consistency(self) -> ModelConfig:
        if missing := [name for name in self.class_names if name not in self.head.anchors]:
            raise ValueError(
                f'head.anchors lacks classes {missing}; it has {sorted(self.head.anchors)}'
            )
        lengths = {
            len(self.backbone_layers),
            len(self.backbone_strides),
            len(self.backbone_channels),
            len(self.neck_strides),
            len(self.neck_channels),
        }
        if len(lengths) != 1:
            raise ValueError('backbone_* and neck_* must all have the same number of stages')
        for channels in (self.encoder_channels, *self.backbone_channels, *self.neck_channels):
            if abs(channels * self.width - round(channels * self.width)) > 1e-6:
                raise ValueError(f'width {self.width} does not divide {channels} channels evenly')
        return self

    @model_validator(mode='after')
    def _check_strides(self) -> ModelConfig:
        strides = list(accumulate(self.backbone_strides, mul))
        self.grid.strided_bev_shape(strides[-1])
        levels = {level / up for level, up in zip(strides, self.neck_strides, strict=True)}
        if len(levels) != 1 or not levels.pop().is_integer():
            raise ValueError(
                f"neck_strides {self.neck_strides} do not bring the backbone's strides {strides} "
                'to one resolution'
            )
        return self

    @property
    def head_stride(self) -> int:
        """Cells of the grid per cell of the head's map, along each axis."""
        return self.backbone_strides[0] // self.neck_strides[0]

    def scaled(self, channels: int) -> int:
        """Channels after the width factor."""
        return round(channels * self.width)


# --- data ------------------------------------------------------------------------------------


class DatasetConfig(Config):
    """Where frames come from. A simulated dataset is written in, and read from, KITTI's layout."""

    name: Literal['kitti'] = 'kitti'
    root: Path = Field(description='folder that holds training/ and ImageSets/')
    split: str = Field('train', description='a file of ImageSets/, without .txt')
    camera_view: bool = Field(True, description="drop points outside the camera's image")
    cache: Path | None = Field(
        None, description='folder for what is derived from the frames; None: .cache in the root'
    )
    cache_frames: bool = Field(
        False, description='keep every frame as it was read; 0.3 MB each with camera_view'
    )
    sensor_height: Positive = Field(1.73, description='above the ground [m]; kept in the bundle')


class SampledClassConfig(Config):
    """Objects of one class that are pasted into a frame."""

    count: int = Field(15, ge=0, description='of the class in a frame, its own ones included')
    min_points: int = Field(5, ge=1, description='inside the box of an object worth pasting')


class GroundTruthSamplingConfig(Config):
    """Objects of other frames pasted into a frame (SECOND); by default as for PointPillars."""

    classes: dict[str, SampledClassConfig] = Field(
        default_factory=lambda: dict.fromkeys(KITTI_ANCHORS, SampledClassConfig())
    )
    difficulties: tuple[Literal['easy', 'moderate', 'hard', 'none'], ...] = Field(
        ('easy', 'moderate', 'hard'), description="KITTI's, of the objects that are pasted"
    )


class ObjectNoiseConfig(Config):
    """Each object turned and shifted on its own (VoxelNet, SECOND); by default as for SECOND."""

    translation: tuple[float, float, float] = Field(
        (1.0, 1.0, 0.5), description='standard deviation along x, y, z [m]'
    )
    rotation: tuple[float, float] = Field((-0.78539816, 0.78539816), description='[rad]')
    num_tries: int = Field(100, ge=1, description='until the object collides with no other')


class AugmentationConfig(Config):
    """Augmentation of the published KITTI schedules, in this order.

    In a file, `ground_truth_sampling: {}` turns that step on as it was published.
    """

    ground_truth_sampling: GroundTruthSamplingConfig | None = None
    object_noise: ObjectNoiseConfig | None = None
    flip_probability: Probability = 0.5
    rotation: tuple[float, float] = Field((-0.78539816, 0.78539816), description='[rad]')
    scaling: tuple[Positive, Positive] = (0.95, 1.05)
    shuffle_points: bool = True


# --- simulation ------------------------------------------------------------------------------


class SensorConfig(Config):
    """A spinning LiDAR; the defaults are a Velodyne HDL-64E as KITTI mounts it."""

    beams: tuple[tuple[float, float, int], ...] = Field(
        ((2.0, -8.33, 32), (-8.83, -24.33, 32)),
        description='blocks of beams: elevation of the first, of the last [deg], number of beams',
    )
    num_columns: int = Field(1875, ge=1, description='firings per turn; 64 x 1875 = 120,000 rays')
    max_range: Positive = 80.0  # where KITTI's clouds end
    min_range: Positive = 1.0
    height: Positive = Field(1.73, description='above the ground [m]')
    range_noise: float = Field(0.02, ge=0.0, description='standard deviation [m]')
    dropout: Probability = Field(
        0.02, description='returns lost at random, beside weak and distant ones'
    )
    rate: Positive = Field(10.0, description='turns per second [Hz]')


class SceneConfig(Config):
    """What stands around the sensor: inclusive numbers of things per scene."""

    extent: Positive = Field(60.0, description='half length of the populated street [m]')
    ego_speed: float = Field(7.0, ge=0.0, description='of the sensor in a drive [m/s]')
    cars: tuple[int, int] = (6, 14)
    pedestrians: tuple[int, int] = (4, 12)
    cyclists: tuple[int, int] = (3, 8)
    trucks: tuple[int, int] = (0, 3)
    poles: tuple[int, int] = (6, 20)
    bushes: tuple[int, int] = (4, 14)
    walls: tuple[int, int] = (2, 6)
    fences: tuple[int, int] = (1, 4)


class CameraConfig(Config):
    """The camera that KITTI's labels refer to: at the LiDAR, looking ahead, wider than KITTI's.

    With KITTI's focal length the heights in the image, and so the difficulties, are KITTI's.
    """

    focal_length: Positive = Field(721.5, description='[pixels]')
    image_size: tuple[int, int] = Field((2500, 375), description='width, height [pixels]')


class SimulationConfig(Config):
    """A simulated dataset: frames of independent scenes, or one drive through one scene."""

    sensor: SensorConfig = SensorConfig()
    camera: CameraConfig = CameraConfig()
    scene: SceneConfig = SceneConfig()


# --- training --------------------------------------------------------------------------------


class TrainingConfig(Config):
    """AdamW with the one-cycle policy, as the published KITTI schedules."""

    epochs: int = Field(160, ge=1)
    batch_size: int = Field(6, ge=1, description='frames of one pass; processes share them')
    accumulate: int = Field(1, ge=1, description='batches whose gradients make one step')
    learning_rate: Positive = Field(0.01, description='peak of the cycle')
    weight_decay: float = Field(0.01, ge=0.0)
    betas: tuple[float, float] = (0.95, 0.99)
    peak_beta1: Probability = Field(0.85, description='beta1 while the learning rate peaks')
    warmup_fraction: Probability = Field(0.4, description='part of the run before the peak')
    initial_factor: Positive = Field(10.0, description='peak over first learning rate')
    final_factor: Positive = Field(1e4, description='first over last learning rate')
    gradient_clip: Positive = 35.0
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None, description='of a moving average of the weights, which then is the result'
    )
    precision: Literal['32-true', 'bf16-mixed', '16-mixed'] = '32-true'
    num_workers: int = Field(2, ge=0)
    checkpoint_every: int = Field(1, ge=1, description='epochs')
    seed: int = Field(0, ge=0)
    deterministic: bool = Field(
        False, description='only operations that give the same bits again; needed on GPUs alone'
    )


class LocalGraphConfig(Config):
    """PointDistiller: local graph distillation with reweighting (section 3 of the paper)."""

    name: Literal['local_graph'] = 'local_graph'
    weight: float = Field(2.0, ge=0.0)
    num_samples: int = Field(6000, ge=1, description='pillars per frame, by importance (N)')
    num_neighbors: int = Field(128, ge=1, description='nodes of a local graph (K)')
    importance: Literal['num_points', 'channel_max', 'abs_mean'] = 'num_points'
    edge: Literal['concat', 'difference'] = 'concat'
    adapter_channels: int = Field(32, ge=1)
    teacher_adapter: Literal['trained', 'frozen', 'none'] = Field(
        'frozen', description='trained: both adapters may meet at a constant and teach nothing'
    )
    pool: Literal['none', 'max', 'mean'] = Field('none', description='over the edges of a graph')
    norm: Literal['mean_square', 'per_graph', 'global'] = 'mean_square'
    reweight: bool = Field(True, description='graphs of important pillars count more')
    temperature: Positive = Field(10.0, description='of the reweighting, in units of importance')
    per_frame: bool = Field(True, description='sample and search neighbors inside one frame')


DISTILLATION_PRESETS = {
    'default': LocalGraphConfig(),
    'paper': LocalGraphConfig(
        teacher_adapter='trained', pool='max', norm='per_graph', weight=1.0, temperature=0.01
    ),
    'authors_code': LocalGraphConfig(teacher_adapter='trained', temperature=0.01, per_frame=False),
}


class DistillationConfig(Config):
    """Terms that are added to the student's detection loss; in a file also a preset's name."""

    terms: tuple[LocalGraphConfig, ...] = (DISTILLATION_PRESETS['default'],)

    @model_validator(mode='before')
    @classmethod
    def _expand_preset(cls, values: Any) -> Any:
        if not isinstance(values, str):
            return values
        if values not in DISTILLATION_PRESETS:
            raise ValueError(
                f'no preset of this name; choose from {sorted(DISTILLATION_PRESETS)} '
                'or write out the terms'
            )
        return {'terms': (DISTILLATION_PRESETS[values],)}

    @model_validator(mode='after')
    def _check_names(self) -> DistillationConfig:
        names = [term.name for term in self.terms]
        if len(names) != len(set(names)):
            raise ValueError(f'terms {names}: each may appear once')
        return self


class ExperimentConfig(Config):
    """One training run; with `distillation` and a teacher, a distillation run."""

    model: ModelConfig = ModelConfig()
    dataset: DatasetConfig
    validation: DatasetConfig | None = None
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
    distillation: DistillationConfig | None = None

    @model_validator(mode='after')
    def _check_sampled_classes(self) -> ExperimentConfig:
        sampling, known = self.augmentation.ground_truth_sampling, self.model.class_names
        if sampling and (unknown := [name for name in sampling.classes if name not in known]):
            raise ValueError(
                f'augmentation.ground_truth_sampling.classes: {unknown} are no classes of the '
                f'model; it has {list(known)}'
            )
        return self


# --- reading and writing ---------------------------------------------------------------------


def parse_config(cls: type[ConfigT], values: Any, *, where: str) -> ConfigT:
    """Validate plain values (as YAML or JSON give them) against a configuration class.

    Raises:
        ConfigError: lists every problem with its key and value, and the keys that exist.
    """
    try:
        return cls.model_validate(values if values is not None else {})
    except ValidationError as error:
        problems = '\n'.join(f'  {_describe(problem, cls)}' for problem in error.errors())
        raise ConfigError(f'{where}:\n{problems}') from error


def load_config(cls: type[ConfigT], path: Path, overrides: tuple[str, ...] = ()) -> ConfigT:
    """Read a YAML file and apply `key.sub=value` overrides (values are YAML, too).

    Raises:
        ConfigError: no such file, not YAML, or the problems that `parse_config` lists.
    """
    return parse_config(cls, apply_overrides(_read_yaml(path), overrides), where=str(path))


def load_experiment(path: Path, overrides: tuple[str, ...] = ()) -> ExperimentConfig:
    """Read an experiment, whose `model` may also be the name of a shipped model or a YAML file.

    Relative paths of datasets stay relative to the working folder, as on the command line.

    Raises:
        ConfigError: as `load_config`; an unknown model name lists the shipped ones.
    """
    values = _read_yaml(path)
    if isinstance(model := values.get('model'), str):
        values = {**values, 'model': _read_yaml(_find_model(model, path.parent))}
    return parse_config(ExperimentConfig, apply_overrides(values, overrides), where=str(path))


def shipped_configs(kind: Literal['models', 'experiments', 'nodes']) -> list[Path]:
    """The YAML files that come with the package, by name."""
    # Beside the package in a checkout; in share/ of the prefix when pip or colcon installed it.
    for folder in Path(__file__).parents:
        for root in (folder, folder / 'share' / 'pointdistiller_ros'):
            if found := sorted((root / 'config' / kind).glob('*.yaml')):
                return found
    return []


def _find_model(name: str, folder: Path) -> Path:
    shipped = {path.stem: path for path in shipped_configs('models')}
    for candidate in (folder / name, Path(name)):
        if candidate.suffix == '.yaml' and candidate.is_file():
            return candidate
    if name in shipped:
        return shipped[name]
    raise ConfigError(
        f'model: no file and no shipped model {name!r}; choose from {sorted(shipped)}'
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding='utf-8')) or {}
    except FileNotFoundError as error:
        raise ConfigError(f'{path}: no such configuration file') from error
    except yaml.YAMLError as error:
        raise ConfigError(f'{path}: not valid YAML: {error}') from error
    if not isinstance(values, dict):
        raise ConfigError(f'{path}: expected keys and values, found a {type(values).__name__}')
    return values


def apply_overrides(values: dict[str, Any], overrides: tuple[str, ...]) -> dict[str, Any]:
    """A copy of `values` in which each `key.sub=value` is set.

    Raises:
        ConfigError: an override that is not of that form.
    """
    merged = dict(values)
    for override in overrides:
        path, separator, text = override.partition('=')
        if not separator or not path:
            raise ConfigError(f'{override!r}: write an override as key.sub=value')
        *parents, last = path.split('.')
        node = merged
        for name in parents:
            child = node.get(name)
            node[name] = dict(child) if isinstance(child, dict) else {}
            node = node[name]
        try:
            node[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f'{override!r}: the value is not valid YAML') from error
    return merged


def dump_config(config: Config) -> str:
    """The whole configuration as YAML, defaults included."""
    return yaml.safe_dump(
        config.model_dump(mode='json'), sort_keys=False, default_flow_style=None, width=99
    )


def _describe(problem: Any, cls: type[BaseModel]) -> str:
    path = '.'.join(str(part) for part in problem['loc'])
    if problem['type'] != 'extra_forbidden':
        value = '' if problem['type'] == 'missing' else f' (got {problem["input"]!r:.80})'
        return f'{path or "(all)"}: {problem["msg"]}{value}'
    known = sorted(_fields_at(cls, problem['loc'][:-1]))
    return f'{path}: unknown key; expected some of {known}'


def _fields_at(cls: type[BaseModel], location: tuple[str | int, ...]) -> set[str]:
    """Names of the fields of the (possibly nested) model at an error's location."""
    models = [cls]
    for part in location:
        models = [
            nested
            for model in models
            if isinstance(part, str) and part in model.model_fields
            for nested in _models_in(model.model_fields[part].annotation)
        ] or models
    return {name for model in models for name in model.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, '__args__', ()) for model in _models_in(part)]
