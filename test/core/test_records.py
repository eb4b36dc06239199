# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Records check their shapes and select rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pointdistiller_core.records import Batch, Detections, Frame, GroundTruth


def detections(count: int) -> Detections:
    return Detections(
        boxes=np.arange(count * 7, dtype=np.float32).reshape(count, 7),
        scores=np.linspace(1, 0.5, count, dtype=np.float32),
        labels=np.arange(count),
        counts={'points': 5},
    )


def test_selection_keeps_rows_together():
    kept = detections(4)[np.array([True, False, False, True])]
    assert kept.labels.tolist() == [0, 3]
    assert kept.boxes[1, 0] == 21
    assert kept.counts == {'points': 5}


def test_orientations_belong_to_boxes():
    quaternions = np.eye(4, dtype=np.float32)[:2]
    both = Detections(np.zeros((2, 7)), np.ones(2), np.zeros(2, int), orientations=quaternions)
    np.testing.assert_array_equal(both[np.array([1])].orientations, quaternions[1:])
    with pytest.raises(ValueError, match=r'1 boxes but orientations of shape \(2, 4\)'):
        Detections(np.zeros((1, 7)), np.ones(1), np.zeros(1, int), orientations=quaternions)


def test_empty_records():
    assert len(Detections.empty()) == len(GroundTruth.empty()) == 0


def test_columns_must_match_boxes():
    with pytest.raises(ValueError, match='2 boxes but labels of shape'):
        GroundTruth(np.zeros((2, 7), np.float32), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r'boxes must be \(N, 7\), not \(2, 8\)'):
        GroundTruth(np.zeros((2, 8), np.float32), np.zeros(2, np.int64))


def test_frame_needs_four_point_features():
    with pytest.raises(
        ValueError, match=r'points must be \(N, 4\) x, y, z, intensity, not \(3, 5\)'
    ):
        Frame(np.zeros((3, 5), np.float32))


def test_optional_columns_follow_the_boxes():
    velocities, levels = np.float32([[1, 0], [np.nan, np.nan]]), np.array([2, -1])
    truth = GroundTruth(np.zeros((2, 7), np.float32), np.arange(2), velocities, levels)
    assert truth[np.array([0])].velocities.tolist() == [[1, 0]]
    assert truth[1:].levels.tolist() == [-1]
    joined = GroundTruth.joined([truth[1:], truth])
    assert joined.levels.tolist() == [-1, 2, -1]
    bare = dataclasses.replace(truth, velocities=None, levels=None)
    assert GroundTruth.joined([bare, bare]).velocities is None
    mixed = GroundTruth.joined([bare, truth])
    assert mixed.levels.tolist() == [-1, -1, 2, -1]
    assert np.isnan(mixed.velocities).all(axis=1).tolist() == [True, True, False, True]
    with pytest.raises(ValueError, match=r'2 boxes but velocities of shape \(2, 3\)'):
        dataclasses.replace(truth, velocities=np.zeros((2, 3), np.float32))


def test_a_frame_names_its_columns():
    columns = ('x', 'y', 'z', 'intensity', 'age')
    assert Frame(np.zeros((3, 5), np.float32), point_features=columns).points.shape == (3, 5)
    with pytest.raises(ValueError, match=r'points must be \(N, 5\) x, y, z, intensity, age'):
        Frame(np.zeros((3, 4), np.float32), point_features=columns)


def test_a_batch_moves_velocities_if_there_are_any():
    one = torch.zeros(2, 7), torch.zeros(2, dtype=torch.int64)
    batch = Batch((torch.zeros(3, 4),), (one[0],), (one[1],), ('a',), (torch.ones(2, 2),))
    assert batch.to('cpu').velocities[0].tolist() == [[1, 1], [1, 1]]
    assert dataclasses.replace(batch, velocities=None).to('cpu').velocities is None


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        detections(1).labels = np.zeros(1)


def test_batch_moves_all_tensors():
    batch = Batch((torch.zeros(2, 4),), (torch.zeros(1, 7),), (torch.zeros(1),), ('a',))
    moved = batch.to('meta')
    assert len(moved) == 1
    assert {moved.points[0].device.type, moved.boxes[0].device.type} == {'meta'}
    assert moved.frame_ids == ('a',)
