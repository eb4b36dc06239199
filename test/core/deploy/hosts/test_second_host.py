# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""SECOND's sparse middle in NumPy, or compiled by Numba, is that of torch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product

from changed_config import changed
import numpy as np
import pytest
import torch

from pointdistiller_core.config import DetectorConfig, find_config, load_config
from pointdistiller_core.deploy.backends.canvas import Canvas
from pointdistiller_core.deploy.export.split import make_canvas, split_detector
from pointdistiller_core.deploy.hosts import HOSTS, second_host
from pointdistiller_core.deploy.importers.openpcdet import import_openpcdet
from pointdistiller_core.models import build_detector
from pointdistiller_core.sparse.array_engines import NUMPY, best_array_engine


@pytest.fixture(autouse=True, params=['numpy', 'numba'])
def engine(request, monkeypatch):
    if request.param == 'numpy':
        monkeypatch.setattr(second_host, 'best_array_engine', lambda: NUMPY)
    else:
        pytest.importorskip('numba')
        assert best_array_engine().name == 'numba'


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


def test_bits_do_not_depend_on_threads(shared_data):
    config = load_config(DetectorConfig, find_config('models', 'second_16x'))
    torch.manual_seed(0)
    arrays = split_detector(build_detector(config).eval()).arrays
    points = np.load(shared_data / 'openpcdet' / 'frame_000008.npz')['points']
    maps = []
    for num_threads in (1, 2, 3):
        host = HOSTS['second'](config, arrays, num_threads)
        maps += [host.encode(host.prepare(points)) for _ in range(2)]
    for features, cells in maps:
        np.testing.assert_array_equal(features, maps[0][0])
        np.testing.assert_array_equal(cells, maps[0][1])
    assert np.count_nonzero(maps[0][0]) > 10_000


def test_threads_that_share_a_host_get_their_own_maps(shared_data):
    config = load_config(DetectorConfig, find_config('models', 'second_16x'))
    torch.manual_seed(0)
    arrays = split_detector(build_detector(config).eval()).arrays
    points = np.load(shared_data / 'openpcdet' / 'frame_000008.npz')['points']
    host = HOSTS['second'](config, arrays, num_threads=2)
    clouds = [host.prepare(points[number::4]) for number in range(4)]
    expected = [host.encode(cloud)[0] for cloud in clouds]
    with ThreadPoolExecutor(4) as pool:
        for number, (features, _) in enumerate(pool.map(host.encode, clouds * 5)):
            np.testing.assert_array_equal(features, expected[number % 4])


CELL = np.float32([0.05, 0.05, 0.1])


@pytest.mark.parametrize(
    'voxels',
    [
        [(0, 0, 0)],
        [(700, 800, 20)],
        list(product((0, 1407), (0, 1599), (0, 39))),  # every corner of the grid
    ],
)
def test_few_voxels_at_the_borders(voxels):
    config = load_config(DetectorConfig, find_config('models', 'second_16x'))
    torch.manual_seed(0)
    model = build_detector(config).eval()
    low = np.float32(config.point_cloud_range[:3])
    places = (np.float32(voxels) + 0.5) * CELL + low
    points = np.hstack([places, np.full((len(places), 1), 0.5, np.float32)])
    found, _ = map_of(model, points)
    expected = make_canvas(model, points)
    assert expected.any()
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())


def test_very_many_voxels_and_their_cap():
    config = load_config(DetectorConfig, find_config('models', 'second_16x'))
    config = changed(config, voxels={'max_voxels': 150_000})
    arrays = split_detector(build_detector(config).eval()).arrays
    rng = np.random.default_rng(0)
    cells = np.unique(rng.integers(0, (1408, 1600, 40), (260_000, 3)), axis=0)[:200_000]
    points = (cells + 0.5) * CELL + np.float32(config.point_cloud_range[:3])
    points = np.hstack([points, np.zeros((len(points), 1))]).astype(np.float32)
    host = HOSTS['second'](config, arrays, 2)
    prepared = host.prepare(rng.permutation(points))
    assert prepared.cuts['voxels'] == (150_000, 50_000)
    assert prepared.cuts['points'] == (150_000, 50_000)
    features, cells = host.encode(prepared)
    assert len(features) == len(cells) == len(set(cells.tolist())) > 20_000
    assert np.isfinite(features).all()


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
