# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Matching of all samples at once, against one detection after another."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.evaluation.nuscenes import matching
from pointdistiller_core.evaluation.nuscenes.matching import match_greedily, near_pairs
from pointdistiller_core.formats.nuscenes.submission import GlobalBoxes


def boxes_at(places, samples, labels) -> GlobalBoxes:
    places = np.asarray(places, np.float64).reshape(-1, 2)
    count = len(places)
    return GlobalBoxes(
        samples=np.asarray(samples),
        translation=np.pad(places, ((0, 0), (0, 1))),
        size=np.ones((count, 3)),
        rotation=np.tile([1.0, 0, 0, 0], (count, 1)),
        velocity=np.zeros((count, 2)),
        labels=np.asarray(labels),
        attributes=np.full(count, -1),
        scores=np.linspace(1, 0.1, count),
        num_points=np.ones(count, np.int64),
    )


def one_after_another(truth: GlobalBoxes, found: GlobalBoxes, threshold: float) -> list[int]:
    taken, matches = set(), []
    for place in range(len(found)):
        same = (truth.samples == found.samples[place]) & (truth.labels == found.labels[place])
        free = [row for row in np.flatnonzero(same).tolist() if row not in taken]
        offsets = truth.translation[free, :2] - found.translation[place, :2]
        distances = np.hypot(*offsets.T)
        nearest = int(np.argmin(distances)) if free else -1
        hit = bool(free) and distances[nearest] < threshold
        matches.append(free[nearest] if hit else -1)
        taken |= {matches[-1]}
    return matches


@pytest.mark.parametrize('at_once', [7, 2**21])
@pytest.mark.parametrize('seed', range(5))
def test_as_one_detection_after_another(monkeypatch, seed, at_once):
    monkeypatch.setattr(matching, 'PAIRS_AT_ONCE', at_once)
    rng = np.random.default_rng(seed)
    truth, found = (
        boxes_at(rng.uniform(0, 9, (n, 2)).round(1), rng.integers(0, 4, n), rng.integers(0, 2, n))
        for n in (60, 150)
    )
    pairs = near_pairs(truth, found, 4.0)
    for threshold in (0.5, 1.0, 2.0, 4.0):
        matched = match_greedily(pairs[pairs.distance < threshold], len(found), len(truth))
        assert matched.tolist() == one_after_another(truth, found, threshold)


def test_the_second_nearest_where_the_nearest_is_taken():
    truth = boxes_at([[0, 0], [1, 0]], [0, 0], [0, 0])
    found = boxes_at([[0.4, 0], [0.1, 0], [0.3, 0]], [0, 0, 0], [0, 0, 0])
    pairs = near_pairs(truth, found, 2.0)
    assert match_greedily(pairs, 3, 2).tolist() == [0, 1, -1]
    near = pairs[pairs.distance < 0.5]
    assert match_greedily(near, 3, 2).tolist() == [0, -1, -1]


def test_of_equal_distances_the_first_label():
    truth = boxes_at([[1, 0], [-1, 0]], [0, 0], [0, 0])
    found = boxes_at([[0, 0]], [0], [0])
    assert match_greedily(near_pairs(truth, found, 2.0), 1, 2).tolist() == [0]


@pytest.mark.parametrize(('num_truth', 'num_found'), [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(num_truth, num_found):
    truth, found = (
        boxes_at(np.zeros((n, 2)), np.zeros(n, np.int64), np.zeros(n, np.int64))
        for n in (num_truth, num_found)
    )
    matched = match_greedily(near_pairs(truth, found, 2.0), num_found, num_truth)
    assert matched.tolist() == [-1] * num_found
