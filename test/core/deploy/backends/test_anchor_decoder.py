# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The anchors in NumPy are those of the network."""

from __future__ import annotations

import numpy as np

from pointdistiller_core.deploy.backends.anchor_decoder import AnchorDecoder
from pointdistiller_core.deploy.export.split import split_detector
from pointdistiller_core.models import build_detector


def test_anchors_are_those_of_the_head(tiny_model):
    model = build_detector(tiny_model).eval()
    expected = model.head.anchors.numpy()
    some = np.random.default_rng(0).permutation(len(expected))[:100]
    decoder = AnchorDecoder(model.config, split_detector(model).arrays)
    np.testing.assert_array_equal(decoder.anchors_at(some), expected[some])
