# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointPillars."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from pointdistiller_core.config.anchor_detector import AnchorDetectorConfig
from pointdistiller_core.config.base import Channels, Config


class EncoderConfig(Config):
    """From the points of a voxel to its features."""

    channels: Channels = 64


class PointPillarsConfig(AnchorDetectorConfig):
    """PointPillars (Lang et al., CVPR 2019); the defaults are as published for KITTI."""

    name: Literal['pointpillars'] = 'pointpillars'
    encoder: EncoderConfig = EncoderConfig()

    @model_validator(mode='after')
    def _check_pillars(self) -> PointPillarsConfig:
        if self.grid.shape[2] != 1:
            raise ValueError(f'pillars need one cell along z, the grid has {self.grid.shape[2]}')
        return self

    @property
    def encoder_channels(self) -> dict[str, tuple[int, ...]]:
        """By key, channels of the encoder, before `width`."""
        return {'encoder.channels': (self.encoder.channels,)}

    @property
    def map_channels(self) -> int:
        """Channels of the map that the backbone sees, before `width`."""
        return self.encoder.channels
