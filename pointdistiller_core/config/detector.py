# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Base of the configurations of detectors."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from pointdistiller_core.config.base import (
    MAX_CLASSES,
    Choice,
    Config,
    Positive,
    Probability,
)
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.grid import Range

PILLARS = 'pillars'  # the layer of voxels, by its older name
POINT_FEATURES = ('x', 'y', 'z', 'intensity')
AGE = 'age'  # [s] of a point's sweep, where sweeps are merged
MAX_SWEEPS = 64

Size = tuple[Positive, Positive, Positive]


class DetectionConfig(Config):
    """From raw head outputs to boxes."""

    score_threshold: Probability = 0.1
    score_thresholds: tuple[Probability, ...] = Field(
        (), description='of each class, instead of score_threshold for all'
    )
    nms_iou_threshold: Probability = 0.01
    voting_iou: Probability | None = Field(
        None,
        description='overlap from above from which a candidate of the same class moves the box '
        'that suppresses it: a box becomes the mean of its voters, weighted by their scores '
        '(Gidaris and Komodakis, ICCV 2015); null: boxes stay as they are',
    )
    max_candidates: int = Field(
        4096, ge=1, le=2**14, description='anchors that go on, per frame and map of the head'
    )
    max_detections: int = Field(500, ge=1, le=2**14, description='boxes kept after NMS, per frame')
    class_wise_nms: bool = True
    labels_per_box: Literal['best', 'all'] = Field(
        'best',
        description='best: a box is of its best class; all: of every class that passes the '
        'threshold, so it may be found several times (mmdetection3d)',
    )
    size_bounds: tuple[tuple[Size, Size], ...] = Field(
        (),
        description='least and largest dx, dy, dz [m] of a box of each class; other boxes, and '
        'those further out of the range than an anchor reaches, are refused. A training learns '
        'them from its labels; without any, no box is refused',
    )

    @model_validator(mode='after')
    def _check_bounds(self) -> DetectionConfig:
        for least, largest in self.size_bounds:
            if any(low > high for low, high in zip(least, largest, strict=True)):
                raise ValueError(f'size_bounds {least}, {largest}: give the least size first')
        return self


class DetectorConfig(Choice):
    """A detector. `width` scales every channel count; a student is a narrower teacher."""

    name: str
    width: float = Field(1.0, gt=0.0, le=64.0, description='channel multiplier')
    class_names: tuple[str, ...] = Field(min_length=1, max_length=MAX_CLASSES)
    point_features: tuple[str, ...] = Field(POINT_FEATURES, description='columns of a cloud')
    sweeps: int = Field(
        1,
        ge=1,
        le=MAX_SWEEPS,
        description='that are merged into one cloud: the newest, and those before it where the '
        'sensor was then',
    )
    max_sweep_age_s: Positive = Field(1.0, description='older sweeps are not merged [s]')
    levelled: bool = Field(
        False,
        description='each cloud is moved so that the ground found in it lies level, as far below '
        'the origin as it did below the training sensor: while training, and by a detector that '
        'is not told how its sensor is mounted',
    )
    detection: DetectionConfig = DetectionConfig()

    @model_validator(mode='after')
    def _check_classes(self) -> DetectorConfig:
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError(f'class_names {list(self.class_names)} has a name twice')
        self.check_detection(self.detection)
        return self

    @model_validator(mode='after')
    def _check_input(self) -> DetectorConfig:
        known = (POINT_FEATURES, (*POINT_FEATURES, AGE))
        if self.point_features not in known:
            raise ValueError(
                f'point_features {list(self.point_features)}: detectors read '
                f'{" or ".join(str(list(features)) for features in known)}'
            )
        return self

    def check_detection(self, detection: DetectionConfig) -> None:
        """Check that thresholds and bounds of classes fit the classes.

        Raises:
            ValueError: their numbers differ.
        """
        if len(detection.score_thresholds) not in {0, len(self.class_names)}:
            raise ValueError(
                f'{len(detection.score_thresholds)} score_thresholds for {len(self.class_names)} '
                f'classes: give one for each of {list(self.class_names)}, or none'
            )
        if len(detection.size_bounds) not in {0, len(self.class_names)}:
            raise ValueError(
                f'{len(detection.size_bounds)} size_bounds for {len(self.class_names)} classes: '
                f'give those of each of {list(self.class_names)}, or none'
            )

    @property
    def merges_sweeps(self) -> bool:
        """Whether its clouds are of several sweeps, or say how old their points are."""
        return self.sweeps > 1 or AGE in self.point_features

    def check_one_sweep(self, name: str) -> None:
        """Check that clouds of one sweep are what it was made for.

        Raises:
            ConfigError: they are not.
        """
        if self.merges_sweeps:
            raise ConfigError(
                f'{name} expects {self.sweeps} merged sweeps (model.sweeps, point_features), '
                'which are not merged here; detector_node, training and evaluate merge them'
            )

    @property
    def point_cloud_range(self) -> Range:
        """x_min, y_min, z_min, x_max, y_max, z_max [m] of the detector's range, LiDAR frame."""
        raise NotImplementedError

    @property
    def taught_layer(self) -> str:
        """The layer whose local graphs are compared where a term names no taps."""
        return PILLARS

    @property
    def taught_by(self) -> dict[str, str]:
        """Settings of a term on local graphs where it names none: the paper's for its features."""
        return {}

    @property
    def own_importance(self) -> str:
        """What a running detector measures its places by; the paper's for its features."""
        return self.taught_by.get('importance', 'num_points')

    @property
    def input_size(self) -> str:
        """What the size of its network depends on, for display."""
        raise NotImplementedError

    def usual_size(self, name: str) -> tuple[float, float, float] | None:  # noqa: ARG002
        """dx, dy, dz [m] of a usual object of a class, if the detector knows it."""
        return None

    def scaled(self, channels: int) -> int:
        """Channels after the width factor: rounded down, at least 1."""
        return max(1, math.floor(channels * self.width + 1e-6))
