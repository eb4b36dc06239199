# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""SECOND (Yan et al., Sensors 2018): voxels, sparse 3D and dense 2D backbones, an anchor head."""

from __future__ import annotations

from torch import Tensor

from pointdistiller_core.config import SecondConfig
from pointdistiller_core.models.anchor_detector import AnchorDetector
from pointdistiller_core.models.layer import Layer, sparse_layer
from pointdistiller_core.models.stages.sparse_backbone import SparseBackbone, mean_features
from pointdistiller_core.pointcloud.voxels import Voxels
from pointdistiller_core.sparse.convolution import SparseTensor
from pointdistiller_core.sparse.middle import middle_stages


class Second(AnchorDetector):
    """The detector; its numbers agree with OpenPCDet's, so its checkpoints can be imported."""

    encoder: SparseBackbone
    config: SecondConfig

    def __init__(self, config: SecondConfig) -> None:
        encoder = SparseBackbone(middle_stages(config))
        map_channels = config.scaled(config.middle.out_channels) * config.map_layers
        super().__init__(config, encoder, map_channels=map_channels)

    def encode(self, voxels: Voxels) -> Tensor:
        """(B, C, H, W) features of the coarsest cells, with the layers as further channels."""
        means = mean_features(voxels.points, voxels.num_points)
        tensor = SparseTensor.build(
            means, voxels.coords, self.config.sparse_shape, voxels.batch_size
        )
        result: SparseTensor = self.encoder(tensor)
        return result.to_map()

    def encoder_layers(self) -> dict[str, Layer]:
        """`middle.0`, ...: the stages of the sparse backbone, and its last convolution."""
        stages = [*self.encoder.stages, self.encoder.output]
        channels = [*self.config.middle.channels, self.config.middle.out_channels]
        return {
            f'middle.{number}': sparse_layer(
                stage,
                self.config.grid,
                channels=self.config.scaled(channels[number]),
                strides=(2**number, 2 ** min(number, len(stages) - 2)),
                max_voxels=self.config.voxels.max_voxels_training,
            )
            for number, stage in enumerate(stages)
            if len(list(stage.parameters()))
        }
