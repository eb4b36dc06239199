# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression of rotated boxes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pointdistiller_core.geometry import nms
from pointdistiller_core.geometry.iou import aligned_iou_bev, rotated_iou_bev
from pointdistiller_core.geometry.nms import class_wise_nms, rotated_nms


def row(*centers: float) -> Tensor:
    """Unit squares in a row; those of centers d < 1 apart have an IoU of (1 - d) / (1 + d)."""
    return torch.tensor([[center, 0.0, 0, 1, 1, 1, 0] for center in centers])


def clustered_boxes(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    objects = torch.rand(40, 7, generator=generator)
    objects[:, :2] *= 70
    objects[:, 3:6] = objects[:, 3:6] * 3 + 1
    objects[:, 6] *= 6
    chosen = torch.randint(40, (count,), generator=generator)
    return objects[chosen] + 0.1 * torch.randn(count, 7, generator=generator)


def plain_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> list[int]:
    overlaps = rotated_iou_bev(boxes, boxes)
    kept: list[int] = []
    for index in scores.argsort(descending=True, stable=True).tolist():
        if all(overlaps[other, index] <= iou_threshold for other in kept):
            kept.append(index)
    return kept


def test_the_suppressed_do_not_suppress():
    boxes, scores = row(0.0, 0.5, 1.0), torch.tensor([0.9, 0.8, 0.7])
    assert rotated_nms(boxes, scores, 0.3).tolist() == [0, 2]


def test_descending_score_and_first_of_equals():
    boxes, scores = row(0.0, 5.0, 5.1, 9.0), torch.tensor([0.1, 0.7, 0.7, 0.9])
    assert rotated_nms(boxes, scores, 0.3).tolist() == [3, 1, 0]


def test_an_iou_equal_to_the_threshold_is_kept():
    boxes, scores = row(0.0, 0.5), torch.tensor([0.9, 0.8])
    overlap = rotated_iou_bev(boxes, boxes)[0, 1].item()
    assert overlap == pytest.approx(1 / 3)
    assert rotated_nms(boxes, scores, overlap).tolist() == [0, 1]
    assert rotated_nms(boxes, scores, overlap - 1e-6).tolist() == [0]


def test_touching_boxes_survive_a_threshold_of_zero():
    assert rotated_nms(row(0.0, 1.0), torch.tensor([0.9, 0.8]), 0.0).tolist() == [0, 1]


@pytest.mark.parametrize('iou_threshold', [0.01, 0.5])
@pytest.mark.parametrize('block', [1, 7, 1024])
def test_agrees_with_the_definition(monkeypatch, iou_threshold: float, block: int):
    monkeypatch.setattr(nms, 'BLOCK', block)
    boxes = clustered_boxes(300)
    scores = torch.linspace(0, 1, 300)[torch.randperm(300)]
    expected = plain_nms(boxes, scores, iou_threshold)
    assert rotated_nms(boxes, scores, iou_threshold).tolist() == expected


@pytest.mark.parametrize('most', [1, 5, 300])
def test_a_block_that_is_dropped_as_a_whole_ends_nothing(monkeypatch, most: int):
    monkeypatch.setattr(nms, 'BLOCK', 7)
    same, boxes = row(0.0).expand(100, 7), clustered_boxes(100) + torch.tensor([99.0] + 6 * [0.0])
    boxes, scores = torch.cat([same, boxes]), torch.linspace(1, 0, 200)
    expected = plain_nms(boxes, scores, 0.5)[:most]
    assert rotated_nms(boxes, scores, 0.5, most=most).tolist() == expected


def test_empty_and_one():
    none = torch.zeros(0, dtype=torch.int64)
    assert rotated_nms(torch.zeros(0, 7), torch.zeros(0), 0.1).tolist() == []
    assert class_wise_nms(torch.zeros(0, 7), torch.zeros(0), none, 0.1).tolist() == []
    assert rotated_nms(row(0.0), torch.tensor([0.5]), 0.1).tolist() == [0]
    assert rotated_nms(torch.zeros(0, 7), torch.zeros(0), 0.1).dtype == torch.int64


def test_classes_do_not_suppress_one_another():
    boxes, scores = row(0.0, 0.1, 0.2, 0.3), torch.tensor([0.6, 0.9, 0.8, 0.7])
    labels = torch.tensor([1, 0, 1, 0])
    assert class_wise_nms(boxes, scores, labels, 0.3).tolist() == [1, 2]


@pytest.mark.parametrize('block', [1, 7, 1024])
def test_classes_one_by_one_give_the_same(monkeypatch, block: int):
    monkeypatch.setattr(nms, 'BLOCK', block)
    boxes, labels = clustered_boxes(300), torch.arange(300) % 3
    scores = torch.linspace(0, 1, 100).repeat(3)[torch.randperm(300)]
    expected = [
        members[rotated_nms(boxes[members], scores[members], 0.2)]
        for label in range(3)
        for members in [(labels == label).nonzero()[:, 0]]
    ]
    found = class_wise_nms(boxes, scores, labels, 0.2)
    assert sorted(found.tolist()) == sorted(torch.cat(expected).tolist())
    order = sorted(found.tolist(), key=lambda index: (-scores[index], index))
    assert found.tolist() == order


def test_equal_scores_of_different_classes_keep_their_order():
    scores, labels = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([2, 0, 1])
    assert class_wise_nms(row(0.0, 0.1, 0.2), scores, labels, 0.3).tolist() == [0, 1, 2]


def test_arguments_are_left_alone():
    boxes, scores, labels = clustered_boxes(50), torch.rand(50), torch.randint(3, (50,))
    before = boxes.clone(), scores.clone(), labels.clone()
    class_wise_nms(boxes, scores, labels, 0.1)
    assert all(map(torch.equal, (boxes, scores, labels), before))


def test_of_many_candidates_few_pairs_are_measured(monkeypatch):
    pairs = []

    def measure(boxes, others):
        pairs.append(len(boxes))
        return aligned_iou_bev(boxes, others)

    monkeypatch.setattr(nms, 'aligned_iou_bev', measure)
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(4096, generator=generator)
    labels = torch.randint(3, (4096,), generator=generator)
    class_wise_nms(clustered_boxes(4096), scores, labels, 0.01)
    assert sum(pairs) < 10_000  # of eight million
    assert len(pairs) < 10  # in few calls


@pytest.mark.cuda
def test_cuda_agrees(gpu):
    boxes, scores, labels = clustered_boxes(1000), torch.rand(1000), torch.randint(3, (1000,))
    on_gpu = class_wise_nms(boxes.to(gpu), scores.to(gpu), labels.to(gpu), 0.1)
    assert on_gpu.tolist() == class_wise_nms(boxes, scores, labels, 0.1).tolist()
