# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointPillars."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pointdistiller_core.config.anchor_detector import AnchorDetectorConfig
from pointdistiller_core.config.base import Channels, Config


class EncoderConfig(Config):
    """From the points of a voxel to its features."""

    channels: Channels = 64
    hidden: Channels | None = Field(
        None,
        description='channels of a layer before; each point then goes on with the maxima of its '
        'pillar (mmdetection3d for nuScenes)',
    )
    columns: tuple[str, ...] = Field(
        (), description='of the points that are read, e.g. without the intensity; empty: all'
    )
    center_axes: Literal['xy', 'xyz'] = Field(
        'xyz', description="of the points' offsets from the center of their cell"
    )


class PointPillarsConfig(AnchorDetectorConfig):
    """PointPillars (Lang et al., CVPR 2019); the defaults are as published for KITTI."""

    name: Literal['pointpillars'] = 'pointpillars'
    encoder: EncoderConfig = EncoderConfig()

    @model_validator(mode='after')
    def _check_pillars(self) -> PointPillarsConfig:
        if self.grid.shape[2] != 1:
            raise ValueError(f'pillars need one cell along z, the grid has {self.grid.shape[2]}')
        return self

    @model_validator(mode='after')
    def _check_columns(self) -> PointPillarsConfig:
        columns = self.encoder.columns
        if columns and (
            columns[:3] != self.point_features[:3]
            or [name for name in self.point_features if name in columns] != list(columns)
        ):
            raise ValueError(
                f'encoder.columns {list(columns)}: choose x, y, z and any further ones of '
                f'point_features {list(self.point_features)}, in this order'
            )
        return self

    @property
    def encoder_columns(self) -> tuple[int, ...]:
        """Columns of the points that the encoder reads."""
        names = self.encoder.columns or self.point_features
        return tuple(map(self.point_features.index, names))

    @property
    def encoder_inputs(self) -> int:
        """Numbers that the encoder reads of a point: columns, offsets from mean and center."""
        return len(self.encoder_columns) + 3 + len(self.encoder.center_axes)

    @property
    def encoder_channels(self) -> dict[str, tuple[int, ...]]:
        """By key, channels of the encoder, before `width`."""
        layers = {'encoder.hidden': self.encoder.hidden, 'encoder.channels': self.encoder.channels}
        return {name: (channels,) for name, channels in layers.items() if channels is not None}

    @property
    def encoder_facts(self) -> dict[str, tuple[int | str, ...]]:
        """By key, what the encoder reads, and whether it has two layers."""
        return {
            'encoder.columns': self.encoder.columns or self.point_features,
            'encoder.center_axes': tuple(self.encoder.center_axes),
            'layers of the encoder': (1 if self.encoder.hidden is None else 2,),
        }

    @property
    def map_channels(self) -> int:
        """Channels of the map that the backbone sees, before `width`."""
        return self.encoder.channels
