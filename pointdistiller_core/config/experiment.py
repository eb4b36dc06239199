# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""One training run."""

from __future__ import annotations

from pydantic import SerializeAsAny, model_validator

from pointdistiller_core.config.base import Config
from pointdistiller_core.config.data import AugmentationConfig, DatasetConfig
from pointdistiller_core.config.detector import DetectorConfig
from pointdistiller_core.config.distillation import DistillationConfig
from pointdistiller_core.config.pointpillars import PointPillarsConfig
from pointdistiller_core.config.training import TrainingConfig


class ExperimentConfig(Config):
    """One training run; with `distillation` and a teacher, a distillation run."""

    model: SerializeAsAny[DetectorConfig] = PointPillarsConfig()
    dataset: SerializeAsAny[DatasetConfig]
    validation: SerializeAsAny[DatasetConfig] | None = None
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
    distillation: DistillationConfig | None = None

    @model_validator(mode='after')
    def _check_sampled_classes(self) -> ExperimentConfig:
        sampling, known = self.augmentation.ground_truth_sampling, self.model.class_names
        if sampling is None:
            return self
        if self.model.levelled:
            raise ValueError(
                'augmentation.ground_truth_sampling pastes objects where they stood in frames '
                'that were not levelled: leave it out, or set model.levelled=false'
            )
        classes = sampling.of_classes(known)
        if unknown := [name for name in classes if name not in known]:
            raise ValueError(
                f'augmentation.ground_truth_sampling.classes: {unknown} are no classes of the '
                f'model; it has {list(known)}'
            )
        # The file written beside a run names them.
        settled = sampling.model_copy(update={'classes': classes})
        changes = {'ground_truth_sampling': settled}
        vars(self)['augmentation'] = self.augmentation.model_copy(update=changes)
        return self

    @model_validator(mode='after')
    def _name_taps(self) -> ExperimentConfig:
        """The file written beside a run names the layers that are compared."""
        if self.distillation is not None:
            vars(self)['distillation'] = self.distillation.settled_for(self.model)
        return self
