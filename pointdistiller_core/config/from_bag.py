# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From recordings to a student that is ready to run: a section for each stage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pointdistiller_core.config.base import Config, Count, Positive
from pointdistiller_core.config.class_maps import ClassMap
from pointdistiller_core.config.conversion import ConversionConfig, SplitConfig
from pointdistiller_core.config.data import AugmentationConfig
from pointdistiller_core.config.distillation import DISTILLATION_PRESETS, DistillationConfig
from pointdistiller_core.config.labelling import LabellingConfig
from pointdistiller_core.config.training import TrainingConfig


class RecordedConfig(ConversionConfig):
    """Stage `dataset`: recordings become a dataset folder."""

    sensor_height: Positive | None = Field(  # type: ignore[assignment]  # settled by the teacher
        None, description="of the dataset's sensor above the ground [m]; None: the teacher's"
    )
    splits: SplitConfig = SplitConfig()
    strict: bool = Field(False, description='refuse a bag with a problem instead of skipping it')


class TeachersConfig(LabellingConfig):
    """Stage `labels`: teachers label what people have not."""

    bundles: tuple[str, ...] = Field(
        (), description='BUNDLE[=CLASS,...], as for `label`; none: the teacher, unless there are '
        'detections'
    )  # fmt: skip
    detections: tuple[str, ...] = Field(
        (), description='BAG[:TOPIC][=CLASS,...], boxes that another detector left in a bag'
    )
    class_map: ClassMap = Field(
        default_factory=dict, description="new names of the teachers' classes"
    )
    label_names: tuple[str, ...] = Field(
        (), description='classes that numbers index, of recorded boxes without names'
    )


class FineTuningConfig(TrainingConfig):
    """A short training from trained weights."""

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(4, ge=1, description='frames of one pass')
    learning_rate: Positive = Field(0.0003, description='the largest of the schedule')


class StudentTrainingConfig(TrainingConfig):
    """A training from weights cut out of the teacher."""

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(4, ge=1, description='frames of one pass')
    learning_rate: Positive = Field(0.001, description='the largest of the schedule')


class TeacherStageConfig(Config):
    """Stage `teacher`: the given bundle goes on learning, from the labels."""

    bundle: Path = Field(description='bundle or run of a trained detector')
    train: bool = Field(True, description='false: take the bundle as it is')
    training: FineTuningConfig = FineTuningConfig()
    augmentation: AugmentationConfig = AugmentationConfig()


class StudentStageConfig(Config):
    """Stage `student`: cut out of the teacher, and distilled."""

    width: float = Field(
        0.5, gt=0.0, le=1.0, description="channels, as a part of the teacher's; 0.5: 4x smaller"
    )
    training: StudentTrainingConfig = StudentTrainingConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    distillation: DistillationConfig = DistillationConfig(**DISTILLATION_PRESETS['default'])


class ExportStageConfig(Config):
    """Stage `export`: the student for other backends than torch."""

    to: tuple[Literal['openvino-int8', 'openvino', 'onnx'], ...] = Field(
        ('openvino-int8',), description='backends; one that disagrees with torch is left out'
    )
    clouds: Count = Field(100, description='of the training split, that int8 is calibrated with')


class CompareStageConfig(Config):
    """Stage `compare`: the student beside its teacher on the held-out split."""

    stride: Count = Field(1, description='compare every so many-th cloud')
    min_iou: float = Field(
        0.0, ge=0.0, le=1.0, description='from above, of boxes that agree; 0: as in KITTI'
    )


class PageStageConfig(Config):
    """Stage `page`: what happened, and pictures of what was learned."""

    pictures: int = Field(4, ge=0, description='sweeps of the held-out split that are drawn')


class FromBagConfig(Config):
    """From recordings to a student; only bags, an output folder and a teacher must be given."""

    bags: tuple[Path, ...] = Field(min_length=1, description='recordings; each is a drive')
    output: Path = Field(description='folder for everything')
    device: str = Field('auto', description='auto, cpu or cuda')
    dataset: RecordedConfig = RecordedConfig()
    labels: TeachersConfig = TeachersConfig()
    teacher: TeacherStageConfig
    student: StudentStageConfig = StudentStageConfig()
    export: ExportStageConfig = ExportStageConfig()
    compare: CompareStageConfig = CompareStageConfig()
    page: PageStageConfig = PageStageConfig()

    @model_validator(mode='after')
    def _check_held_out(self) -> FromBagConfig:
        splits = self.dataset.splits
        if not splits.val_part and not splits.val_drives:
            raise ValueError(
                'dataset.splits: nothing is held out to compare on; give val_part or val_drives'
            )
        return self
