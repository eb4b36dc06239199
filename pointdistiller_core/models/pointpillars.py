# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""PointPillars (Lang et al., CVPR 2019): pillars, a 2D backbone and an anchor head."""

from __future__ import annotations

from torch import Tensor

from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.models.anchor_detector import AnchorDetector
from pointdistiller_core.models.stages.pillar_encoder import PillarEncoder, scatter_to_bev
from pointdistiller_core.pointcloud.voxels import Voxels


class PointPillars(AnchorDetector):
    """The detector; its numbers agree with OpenPCDet's, so its checkpoints can be imported.

    A pillar is a voxel of a grid with one layer.
    """

    encoder: PillarEncoder

    def __init__(self, config: PointPillarsConfig) -> None:
        channels = config.scaled(config.encoder.channels)
        encoder = PillarEncoder(channels, config.grid)
        super().__init__(config, encoder, encoder_channels=channels, map_channels=channels)

    def encode(self, voxels: Voxels) -> Tensor:
        """(B, C, H, W) features of the pillars; empty cells are zero."""
        return scatter_to_bev(
            self.encoder(voxels),
            voxels.coords,
            batch_size=voxels.batch_size,
            bev_shape=self.config.grid.bev_shape,
        )
