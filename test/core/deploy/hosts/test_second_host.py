# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""SECOND's sparse middle in NumPy is that of torch."""

from __future__ import annotations

from changed_config import changed
import numpy as np
import pytest
import torch

from pointdistiller_core.deploy.backends.canvas import Canvas
from pointdistiller_core.deploy.export.split import make_canvas, split_detector
from pointdistiller_core.deploy.hosts import HOSTS
from pointdistiller_core.deploy.importers.openpcdet import import_openpcdet
from pointdistiller_core.models import build_detector


def map_of(model, points):
    """The host's map, and the number of its cells that are not empty."""
    host = HOSTS['second'](model.config, split_detector(model).arrays)
    features, cells = host.encode(host.prepare(points))
    channels, rows, columns = host.map_shape
    canvas = Canvas((1, rows, columns, channels))
    canvas.fill(features, cells)
    return canvas.array, len(cells)


def test_a_real_sweep(shared_data):
    folder = shared_data / 'openpcdet'
    config, state = import_openpcdet(folder / 'second_narrow.pth', folder / 'second_narrow.yaml')
    model = build_detector(config).eval()
    model.load_state_dict(state)
    points = np.load(folder / 'frame_000008.npz')['points']
    found, num_cells = map_of(model, points)
    expected = make_canvas(model, points)
    assert num_cells == np.count_nonzero(expected.any(axis=3)) > 1000
    assert np.abs(found - expected).max() <= 1e-5 * expected.max()


@pytest.mark.parametrize(
    'changes',
    [
        {'layers': (0, 0, 0, 0)},  # lite
        {'layers': (0, 2, 1, 0)},
        {'channels': (4, 8), 'layers': (1, 0)},
    ],
)
def test_other_depths(tiny_second, tiny_dataset, changes):
    torch.manual_seed(0)
    model = build_detector(changed(tiny_second, middle=changes)).eval()
    points = tiny_dataset(1)[0].points
    found, num_cells = map_of(model, points)
    assert num_cells > 10
    np.testing.assert_allclose(found, make_canvas(model, points), atol=1e-5)


def test_voxels_that_no_convolution_reads(tiny_second):
    middle = {'channels': (4, 8), 'layers': (1, 0)}  # the last one reads 19 of 20 layers
    model = build_detector(changed(tiny_second, middle=middle)).eval()
    top = np.float32([[5, 0, 0.95, 0.5], [5, 0, 0.95, 0.1]])
    found, num_cells = map_of(model, top)
    assert num_cells == 0
    np.testing.assert_array_equal(found, make_canvas(model, top))
