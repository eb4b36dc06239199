# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Matching for all frames and thresholds at once, against the rules written out label by label."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pointdistiller_core.evaluation.kitti.matching import (
    Candidates,
    Curve,
    Pairs,
    Truth,
    alarms_at,
    measure,
    recall_thresholds,
)


def match_one_frame(overlap, wanted, counted, scores, threshold):
    """(label, detection) of each match; `threshold` None is the pass that finds thresholds.

    `overlap` is 0 where a pair is no candidate.
    """
    taken, matches = set(), []
    for label in range(len(wanted)):
        usable = [
            detection
            for detection in range(len(scores))
            if overlap[label, detection] > 0
            and detection not in taken
            and (threshold is None or scores[detection] >= threshold)
        ]
        if not usable:
            continue
        if threshold is None:
            best = max(usable, key=lambda detection: scores[detection])
        elif valid := [detection for detection in usable if counted[detection]]:
            best = max(valid, key=lambda detection: overlap[label, detection])
        else:
            best = usable[0]
        taken.add(best)
        matches.append((label, best))
    return matches


def measure_plainly(frames):
    """Thresholds, recall, precision and similarity of frames of random columns."""
    num_truth = sum(int(frame['wanted'].sum()) for frame in frames)
    hit_scores = [
        frame['scores'][detection]
        for frame in frames
        for label, detection in match_one_frame(
            frame['overlap'], frame['wanted'], frame['counted'], frame['scores'], None
        )
        if frame['wanted'][label] and frame['counted'][detection]
    ]
    thresholds = recall_thresholds(sorted(hit_scores, reverse=True), num_truth)
    rows = []
    for threshold in thresholds:
        hits = misses = alarms = similarity = 0
        for frame in frames:
            wanted, counted, scores = frame['wanted'], frame['counted'], frame['scores']
            matches = match_one_frame(frame['overlap'], wanted, counted, scores, threshold)
            misses += int(wanted.sum()) - sum(bool(wanted[label]) for label, _ in matches)
            for label, detection in matches:
                if wanted[label] and counted[detection]:
                    hits += 1
                    angle = frame['truth_alpha'][label] - frame['alpha'][detection]
                    similarity += (1 + math.cos(angle)) / 2
            free = set(range(len(scores))) - {detection for _, detection in matches}
            alarms += sum(
                bool(counted[detection] and not frame['excused'][detection])
                for detection in free
                if scores[detection] >= threshold
            )
        rows.append((hits / (hits + misses), hits / (hits + alarms), similarity / (hits + alarms)))
    return thresholds, np.array(rows).reshape(-1, 3).T


def random_frame(rng, density):
    labels, detections = rng.integers(0, 7), rng.integers(0, 9)
    overlap = rng.random((labels, detections)).round(1)  # rounded, so that some are equal
    return {
        'overlap': np.where(rng.random(overlap.shape) < density, overlap, 0),
        'wanted': rng.random(labels) < 0.7,
        'counted': rng.random(detections) < 0.7,
        'excused': rng.random(detections) < 0.1,
        'scores': rng.normal(size=detections).round(1),
        'truth_alpha': rng.random(labels),
        'alpha': rng.random(detections),
    }


def in_one_table(frames):
    label = detection = 0
    truths, found, overlaps = [], [], []
    for frame in frames:
        i, j = np.nonzero(frame['overlap'])
        truths.append(i + label)
        found.append(j + detection)
        overlaps.append(frame['overlap'][i, j])
        label, detection = label + len(frame['wanted']), detection + len(frame['scores'])
    shuffled = np.random.default_rng(0).permutation(sum(map(len, truths)))
    pairs = Pairs(*(np.concatenate(column) for column in (truths, found, overlaps)))[shuffled]
    column = {
        key: np.concatenate([frame[key] for frame in frames])
        for key in frames[0]
        if key != 'overlap'
    }
    turns = np.concatenate([np.arange(len(frame['wanted'])) for frame in frames])
    return (
        pairs,
        Truth(turns, column['wanted'], column['truth_alpha']),
        Candidates(column['counted'], column['excused'], column['scores'], column['alpha']),
    )


@pytest.mark.parametrize('density', [0.0, 0.2, 0.6])
@pytest.mark.parametrize('num_frames', [1, 40])
@pytest.mark.parametrize('seed', range(5))
def test_agrees_with_the_rules_written_out(num_frames, density, seed):
    rng = np.random.default_rng(seed)
    frames = [random_frame(rng, density) for _ in range(num_frames)]
    precision, similarity = measure(*in_one_table(frames))
    thresholds, (recall, expected_precision, expected_similarity) = measure_plainly(frames)
    np.testing.assert_array_equal(precision.scores, thresholds)
    np.testing.assert_allclose(precision.recall, recall)
    np.testing.assert_allclose(precision.values, expected_precision)
    np.testing.assert_allclose(similarity.values, expected_similarity)


def test_thresholds_by_hand():
    assert recall_thresholds([], 5) == []
    assert recall_thresholds([0.9, 0.5, -2.0], 3) == [0.9, 0.5, -2.0]
    # 0.1 is the next recall to reach and 0.091 the last: taken, though 0.092 would be nearer.
    scores = [-float(index) for index in range(91)]
    assert recall_thresholds(scores, 1000) == [0.0, -24.0, -49.0, -74.0, -90.0]
    # Steps of 1/80: after the first one every second score is the nearest to a multiple of 1/40.
    scores = [float(-index) for index in range(80)]
    thresholds = recall_thresholds(scores, 80)
    assert thresholds[:4] == [0.0, -1.0, -3.0, -5.0]
    assert thresholds[-1] == -79.0
    assert len(thresholds) == 41


@pytest.mark.parametrize('count', [41, 100, 977, 5000])
def test_there_are_never_more_than_41_thresholds(count):
    thresholds = recall_thresholds([-float(index) for index in range(count)], count)
    assert thresholds[0] == 0
    assert thresholds[-1] == 1 - count
    assert len(thresholds) == 41


def test_points_take_the_best_of_what_follows():
    curve = Curve(np.zeros(4), np.zeros(4), np.array([1.0, 0.2, 0.5, 0.3]))
    assert curve.points[:5].tolist() == [1.0, 0.5, 0.5, 0.3, 0.0]
    assert len(curve.points) == 41


def alarms_of(hits: list[float], alarms: list[float], *, missed: int = 0, recalls=(0.1, 0.5, 1.0)):
    """Labels of one frame each, found with the scores `hits`, and alarms anywhere."""
    num_hits, num_alarms = len(hits), len(alarms)
    rows = np.arange(num_hits)
    truth = Truth(
        turns=np.zeros(num_hits + missed, np.int64),
        counts=np.ones(num_hits + missed, bool),
        alpha=np.zeros(num_hits + missed),
    )
    candidates = Candidates(
        counts=np.ones(num_hits + num_alarms, bool),
        excused=np.zeros(num_hits + num_alarms, bool),
        scores=np.array(hits + alarms, dtype=float),
        alpha=np.zeros(num_hits + num_alarms),
    )
    return alarms_at(Pairs(rows, rows, np.ones(num_hits)), truth, candidates, recalls)


def test_alarms_at_recalls_by_hand():
    result = alarms_of([0.9, 0.7, 0.5, 0.3], [0.95, 0.7, 0.4, 0.1])
    assert result.num_truth == 4
    assert result.scores.tolist() == [0.9, 0.7, 0.3]  # the first, second and fourth hit
    assert result.recall.tolist() == [0.25, 0.5, 1.0]
    assert result.counts.tolist() == [1, 2, 3]


def test_recalls_that_are_not_reached_are_left_out():
    result = alarms_of([0.9, 0.7], [0.8], missed=2)
    assert result.recall.tolist() == [0.25, 0.5]
    assert result.counts.tolist() == [0, 1]


def test_a_recall_that_is_no_binary_fraction_takes_no_label_more():
    result = alarms_of([1 - index / 100 for index in range(30)], [], recalls=(0.1, 0.7))
    assert result.recall.tolist() == [pytest.approx(0.1), pytest.approx(0.7)]


@pytest.mark.parametrize(('hits', 'missed'), [([], 0), ([], 3)])
def test_no_alarms_without_labels_or_hits(hits, missed):
    result = alarms_of(hits, [0.5], missed=missed)
    assert (len(result.scores), len(result.counts), result.num_truth) == (0, 0, missed)
