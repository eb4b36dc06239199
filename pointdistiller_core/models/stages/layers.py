# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Building blocks that the stages share."""

from __future__ import annotations

from torch import nn

from pointdistiller_core.models.stages.batch_norm import NORM_EPS, NORM_MOMENTUM, BatchNorm2d


def norm_relu(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """A convolution without bias, batch norm and ReLU."""
    norm = BatchNorm2d(conv.out_channels, eps=NORM_EPS, momentum=NORM_MOMENTUM)
    return nn.Sequential(conv, norm, nn.ReLU(inplace=True))
