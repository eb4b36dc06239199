# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A canvas holds one cloud and nothing of the cloud before."""

from __future__ import annotations

import numpy as np

from pointdistiller_core.deploy.backends.canvas import Canvas


def test_canvas_forgets_the_cloud_before():
    rng = np.random.default_rng(0)
    full, some = rng.permutation(20), np.array([3, 7])
    canvas, fresh = Canvas((1, 4, 5, 3)), Canvas((1, 4, 5, 3))
    canvas.fill(rng.random((20, 3), np.float32), full)
    features = rng.random((2, 3), np.float32)
    for each in (canvas, fresh):
        each.fill(features, some)
    np.testing.assert_array_equal(canvas.array, fresh.array)
    np.testing.assert_array_equal(canvas.array.reshape(20, 3)[some], features)
    canvas.fill(np.zeros((0, 3), np.float32), full[:0])
    assert not canvas.array.any()


def test_canvas_of_eight_bits():
    canvas = Canvas((1, 1, 4, 2), np.array([0.5, 0.001], np.float32))
    features = np.array([[1.2, 0.0016], [1e9, np.inf], [0, 0.2]], np.float32)
    canvas.fill(features, np.array([2, 0, 1]))
    assert canvas.array.dtype == np.uint8
    expected = [[255, 255], [0, 200], [2, 2], [0, 0]]
    np.testing.assert_array_equal(canvas.array[0, 0], expected)


def test_levels_of_more_cells_than_are_rounded_at_once():
    canvas, rng = (
        Canvas((1, 30, 40, 100), np.full(100, 0.01, np.float32)),
        np.random.default_rng(0),
    )
    features, cells = rng.random((1000, 100), np.float32) * 3, rng.permutation(1200)[:1000]
    canvas.fill(features, cells)
    expected = np.minimum(np.rint(features * (np.float32(1) / np.float32(0.01))), 255)
    np.testing.assert_array_equal(canvas.array.reshape(1200, 100)[cells], expected)
    assert np.count_nonzero(canvas.array.any(axis=3)) == 1000
