# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The anchors in NumPy are those of the network."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.deploy.backends.anchor_decoder import AnchorDecoder
from pointdistiller_core.deploy.export.split import split_detector
from pointdistiller_core.models import build_detector


@pytest.mark.parametrize('config', ['tiny_model', 'tiny_pyramid'])
def test_anchors_are_those_of_the_head(request, config):
    model = build_detector(request.getfixturevalue(config)).eval()
    decoder = AnchorDecoder(model.config, split_detector(model).arrays)
    parts = np.split(model.head.anchors.numpy(), np.cumsum(model.head.sizes)[:-1])
    assert len(parts) == len(decoder.grids)
    for grid, expected in zip(decoder.grids, parts, strict=True):
        some = np.random.default_rng(0).permutation(len(expected))[:100]
        np.testing.assert_array_equal(grid.anchors_at(some), expected[some])
