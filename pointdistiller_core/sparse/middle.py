# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""SECOND's middle: voxels of decreasing resolution in 3D (Yan et al., Sensors 2018, section 3.1).

As in OpenPCDet's `VoxelBackBone8x`: submanifold convolutions keep the occupied cells, strided ones
halve the resolution, and a last one halves the height.
"""

from __future__ import annotations

from typing import NamedTuple

from pointdistiller_core.config import SecondConfig
from pointdistiller_core.sparse.sites import Triple

HALF, NEAR = (2, 2, 2), (1, 1, 1)
NO_PADDING_UP = (0, 1, 1)  # of the last stage: 11 layers become 5, and then 2


class Convolution(NamedTuple):
    """A sparse convolution, which batch norm and ReLU follow; see `SparseConv3d`."""

    in_channels: int
    out_channels: int
    kernel: Triple = (3, 3, 3)
    stride: Triple | None = None
    padding: Triple = (0, 0, 0)


def middle_stages(config: SecondConfig) -> tuple[tuple[Convolution, ...], ...]:
    """The convolutions of each stage; the last stage is the one along the height.

    The first stage keeps the resolution and has submanifold convolutions alone, maybe none.
    """
    middle, inputs, stages = config.middle, len(config.point_features), []
    for number, (channels, layers) in enumerate(zip(middle.channels, middle.layers, strict=True)):
        outputs, stage = config.scaled(channels), []
        if number:
            padding = NO_PADDING_UP if number == len(middle.channels) - 1 else NEAR
            stage.append(Convolution(inputs, outputs, stride=HALF, padding=padding))
            inputs = outputs
        for _ in range(layers):
            stage.append(Convolution(inputs, outputs))
            inputs = outputs
        stages.append(tuple(stage))
    flat = Convolution(inputs, config.scaled(middle.out_channels), (3, 1, 1), (2, 1, 1))
    return (*stages, (flat,))
