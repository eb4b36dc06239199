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
    """The detector; its numbers agree with OpenPCDet's, so its checkpoints can be imported.

    A pillar is a voxel of a grid with one layer.
    """

    encoder: PillarEncoder
    config: PointPillarsConfig

    def __init__(self, config: PointPillarsConfig) -> None:
        channels = config.scaled(config.encoder.channels)
        encoder = PillarEncoder(channels, config.grid, len(config.point_features))
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
