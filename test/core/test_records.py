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
    with pytest.raises(ValueError, match=r'1 boxes but orientations \(2, 4\)'):
        Detections(np.zeros((1, 7)), np.ones(1), np.zeros(1, int), orientations=quaternions)


def test_empty_records():
    assert len(Detections.empty()) == len(GroundTruth.empty()) == 0


def test_columns_must_match_boxes():
    with pytest.raises(ValueError, match='2 boxes but labels of shape'):
        GroundTruth(np.zeros((2, 7), np.float32), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r'boxes must be \(N, 7\), not \(2, 8\)'):
        GroundTruth(np.zeros((2, 8), np.float32), np.zeros(2, np.int64))


def test_frame_needs_four_point_features():
    with pytest.raises(ValueError, match=r'points must be \(N, 4\), not \(3, 5\)'):
        Frame(np.zeros((3, 5), np.float32))


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        detections(1).labels = np.zeros(1)


def test_batch_moves_all_tensors():
    batch = Batch((torch.zeros(2, 4),), (torch.zeros(1, 7),), (torch.zeros(1),), ('a',))
    moved = batch.to('meta')
    assert len(moved) == 1
    assert {moved.points[0].device.type, moved.boxes[0].device.type} == {'meta'}
    assert moved.frame_ids == ('a',)
