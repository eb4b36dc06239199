# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Settings for converting recordings into datasets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pointdistiller_core.config.base import Config, Coordinate, Positive, Probability

Seconds = Annotated[float, Field(ge=0.0)]


class ConversionConfig(Config):
    """What to take from bags, and how to bring it to the convention of training clouds."""

    topics: tuple[str, ...] = Field(
        (), description='of the clouds; several sensors are merged; none: the only one'
    )
    start_s: Seconds = Field(0.0, description='of the bag to skip [s]')
    duration_s: Positive | None = Field(None, description='from there to read [s]; None: all')
    stamps: Literal['header', 'recorded'] = Field(
        'header', description='time of a cloud: its own, or when it was recorded'
    )
    stride: int = Field(1, ge=1, description='keep every so many-th cloud')
    min_period_s: Positive | None = Field(None, description='between two frames [s]')
    min_distance: Positive | None = Field(None, description='of motion between two frames [m]')
    min_turn: Positive | None = Field(
        None, description='that counts as motion, too [rad]; with min_distance'
    )
    tolerance_s: Seconds = Field(0.05, description='between the clouds of several sensors [s]')
    keep_incomplete: bool = Field(
        False, description='keep frames in which a cloud of one of several sensors is missing'
    )
    frame: str = Field('', description="of the dataset's points; empty: that of the first topic")
    poses: Literal['auto', 'tf', 'odometry', 'icp', 'none'] = Field(
        'auto', description='auto: the first of tf, odometry, icp that there is'
    )
    fixed_frame: str = Field('', description='of TF, that stays; empty: odom, map or world')
    odometry_topic: str = Field('', description='nav_msgs/Odometry; empty: the first one')
    height: Literal['auto', 'keep'] | Positive = Field(
        'auto',
        description='of the sensor above the ground [m]; auto: by TF, or fitted; keep: as it is',
    )
    ground_frame: str = Field(
        '',
        description='of TF, with the ground at z = 0; empty: base_footprint, where there is one',
    )
    sensor_height: Positive = Field(
        1.73, description="of the dataset's sensor above the ground [m]"
    )
    intensity_scale: Literal['auto'] | Positive = Field(
        'auto', description='factor on the intensity; auto: judged by the first clouds'
    )
    without_intensity: bool = Field(
        False, description='take clouds that have no intensity; it is 0 then'
    )
    ego_box: (
        tuple[Coordinate, Coordinate, Coordinate, Coordinate, Coordinate, Coordinate] | None
    ) = Field(None, description='low x, y, z, high x, y, z [m] of what is no scene: the vehicle')

    @model_validator(mode='after')
    def _check(self) -> ConversionConfig:
        if self.min_turn is not None and self.min_distance is None:
            raise ValueError('min_turn needs min_distance')
        if self.ego_box and any(
            low >= high for low, high in zip(self.ego_box[:3], self.ego_box[3:], strict=True)
        ):
            raise ValueError(f'ego_box {list(self.ego_box)}: low x, y, z must be below the high')
        if len(set(self.topics)) < len(self.topics):
            raise ValueError(f'topics {list(self.topics)} has one twice')
        return self


class SplitConfig(Config):
    """Which frames are for validation: whole drives, or the end of each drive."""

    val_drives: tuple[str, ...] = Field((), description='for validation, as a whole')
    val_part: Probability = Field(
        0.2, description='of the time of each drive, its end; without val_drives'
    )
    gap_s: Seconds = Field(
        2.0, description='between training and validation [s]; at most 5 % of the drive'
    )
