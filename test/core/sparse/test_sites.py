# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Which cells meet, against sets and dense grids."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from pointdistiller_core.sparse import sites as module
from pointdistiller_core.sparse.sites import MAX_LAYERS, Sites

SHAPE = (6, 7, 5)


def random_cells(seed: int, *, count: int = 60, batch_size: int = 2, shape=SHAPE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grid = np.array(list(product(range(batch_size), *map(range, shape))))
    return rng.permutation(grid)[:count]


def corners(shape=SHAPE) -> np.ndarray:
    return np.array([(0, *cell) for cell in product(*((0, size - 1) for size in shape))])


CASES = {
    'random': (random_cells(0), 2),
    'dense': (random_cells(1, count=6 * 7 * 5, batch_size=1), 1),
    'one': (np.array([[1, 3, 2, 4]]), 3),
    'corners': (corners(), 1),
    'none': (np.zeros((0, 4), np.int64), 2),
}


def assert_ascending(pairs):
    for rows in pairs:
        assert (np.diff(rows) > 0).all()


@pytest.mark.parametrize('name', CASES)
def test_sites_are_the_cells_in_order(name):
    cells, batch_size = CASES[name]
    sites, ranks = Sites.build(cells, SHAPE, batch_size)
    assert len(sites) == len(cells)
    np.testing.assert_array_equal(sites.coords[ranks], cells)
    by_column = [(b, y, x, z) for b, z, y, x in sites.coords.tolist()]
    assert by_column == sorted(by_column)


@pytest.mark.parametrize('name', CASES)
def test_neighbors_of_a_submanifold_convolution(name):
    cells, batch_size = CASES[name]
    sites, _ = Sites.build(cells, SHAPE, batch_size)
    places = {tuple(cell): row for row, cell in enumerate(sites.coords.tolist())}
    for pairs, step in zip(sites.submanifold.pairs, product((-1, 0, 1), repeat=3), strict=True):
        expected = {
            (places[there], row)
            for cell, row in places.items()
            if (there := (cell[0], *(c + s for c, s in zip(cell[1:], step, strict=True))))
            in places
        }
        found = list(zip(pairs.inputs.tolist(), pairs.outputs.tolist(), strict=True))
        assert len(found) == len(expected)
        assert set(found) == expected
        assert_ascending(pairs)


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize(
    ('kernel', 'stride', 'padding'),
    [
        ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
        ((3, 3, 3), (2, 2, 2), (0, 1, 1)),
        ((3, 1, 1), (2, 1, 1), (0, 0, 0)),
        ((2, 3, 1), (1, 3, 2), (1, 0, 0)),
    ],
)
def test_cells_of_a_strided_convolution(name, kernel, stride, padding):
    cells, batch_size = CASES[name]
    sites, _ = Sites.build(cells, SHAPE, batch_size)
    found, rulebook = sites.strided(kernel, stride, padding)
    assert rulebook.num_outputs == len(found)
    expected = set()
    for row, (frame, *cell) in enumerate(sites.coords.tolist()):
        for number, offset in enumerate(product(*map(range, kernel))):
            shifted = [c + p - k for c, p, k in zip(cell, padding, offset, strict=True)]
            if all(s % step == 0 for s, step in zip(shifted, stride, strict=True)):
                target = [s // step for s, step in zip(shifted, stride, strict=True)]
                if all(0 <= t < size for t, size in zip(target, found.shape, strict=True)):
                    expected.add((number, row, (frame, *target)))
    coords = [tuple(cell) for cell in found.coords.tolist()]
    pairs = {
        (number, row, coords[out])
        for number, each in enumerate(rulebook.pairs)
        for row, out in zip(each.inputs.tolist(), each.outputs.tolist(), strict=True)
    }
    assert pairs == expected
    assert rulebook.num_pairs == len(expected)
    for each in rulebook.pairs:
        assert_ascending(each)
    assert set(coords) == {target for _, _, target in expected}
    assert Sites.build(found.coords, found.shape, batch_size)[1].tolist() == list(
        range(len(found))
    )


def test_bits_are_counted_alike_without_numpy_2():
    values = np.random.default_rng(0).integers(0, 1 << 63, 1000).astype(np.uint64)
    expected = [int(value).bit_count() for value in values]
    assert module._popcount_by_table(values).tolist() == expected
    assert module.popcount(values).tolist() == expected


def test_too_many_layers_are_refused():
    top = np.array([[0, MAX_LAYERS - 1, 0, 0]])
    assert len(Sites.build(top, (MAX_LAYERS, 2, 2), 1)[0].submanifold.pairs) == 27
    with pytest.raises(ValueError, match='63 layers; sparse convolution knows up to 62'):
        Sites.build(top, (MAX_LAYERS + 1, 2, 2), 1)
