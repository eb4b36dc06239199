# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointPillars (Lang et al., CVPR 2019): pillars, a 2D backbone and an anchor head."""

from __future__ import annotations

from torch import Tensor

from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.models.anchor_detector import AnchorDetector
from pointdistiller_core.models.layer import Layer, voxel_layer
from pointdistiller_core.models.stages.pillar_encoder import PillarEncoder, scatter_to_bev
from pointdistiller_core.pointcloud.voxels import Voxels

VOXELS = 'voxels'


class PointPillars(AnchorDetector):
    """The detector; its numbers agree with those of OpenPCDet and mmdetection3d.

    So their checkpoints can be imported. A pillar is a voxel of a grid with one layer.
    """

    encoder: PillarEncoder
    config: PointPillarsConfig

    def __init__(self, config: PointPillarsConfig) -> None:
        channels = config.scaled(config.encoder.channels)
        hidden = config.encoder.hidden
        encoder = PillarEncoder(
            channels,
            config.grid,
            config.encoder_columns,
            hidden=None if hidden is None else config.scaled(hidden),
            center_axes=len(config.encoder.center_axes),
        )
        super().__init__(config, encoder, map_channels=channels)

    def encode(self, voxels: Voxels) -> Tensor:
        """(B, C, H, W) features of the pillars; empty cells are zero."""
        return scatter_to_bev(
            self.encoder(voxels),
            voxels.coords,
            batch_size=voxels.batch_size,
            bev_shape=self.config.grid.bev_shape,
        )

    def encoder_layers(self) -> dict[str, Layer]:
        """`voxels`: the pillars."""
        layer = voxel_layer(
            self.encoder,
            self.config.grid,
            channels=self.config.scaled(self.config.encoder.channels),
            max_voxels=self.config.voxels.max_voxels_training,
            norm=self.encoder.norm,
        )
        return {VOXELS: layer}
