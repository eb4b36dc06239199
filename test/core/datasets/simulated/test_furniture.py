# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What stands on pavements: sizes that may be taken for people, and those that may not."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.datasets.simulated.furniture import FURNITURE
from pointdistiller_core.datasets.simulated.recipes import RECIPES

PERSON = (1.0, 2.3)  # [m] heights


def drawn(name: str) -> list[np.ndarray]:
    """Vertices of many pieces."""
    return [FURNITURE[name](np.random.default_rng(seed)).vertices for seed in range(30)]


@pytest.mark.parametrize('name', FURNITURE)
def test_it_stands_on_the_ground_and_is_the_same_for_the_same_seed(name):
    for first, second in zip(drawn(name), drawn(name), strict=True):
        assert np.array_equal(first, second)
        assert np.isfinite(first).all()
        assert -1.5 < first[:, 2].min() < 0.3  # some are sunk in
        assert np.ptp(first, axis=0).max() < 16


@pytest.mark.parametrize(('name', 'least', 'most'), [('post', *PERSON), ('shrub', 0.6, 3.0)])
def test_some_are_as_tall_as_people(name, least, most):
    for vertices in drawn(name):
        assert least - 0.05 <= vertices[:, 2].max() <= most
        assert np.ptp(vertices[:, :2], axis=0).max() < 1.6


def test_trunks_are_taller():
    assert all(vertices[:, 2].max() > PERSON[1] for vertices in drawn('trunk'))


def test_streets_have_what_there_is():
    assert {name for recipe in RECIPES.values() for name in recipe.furniture} == set(FURNITURE)
