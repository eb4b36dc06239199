# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pointdistiller_core.config import AttentionNonlocalConfig
from pointdistiller_core.distill.terms.attention_nonlocal import (
    AttentionNonlocalLevel,
    NonLocalBlock,
    channel_mask,
    max_pool,
    row_mask,
)
from pointdistiller_core.distill.terms.feature_term import pair_features


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def pair(make_lesson):
    return pair_features(make_lesson(300, 200), 'backbone.1')


def test_masks_have_mean_one():
    rows = torch.randn(30, 4)
    mask = row_mask(rows, (10, 0, 20), temperature=0.5)
    torch.testing.assert_close(mask[:10].mean(), torch.tensor(1.0))
    torch.testing.assert_close(mask[10:].mean(), torch.tensor(1.0))
    mask = channel_mask(torch.rand(3, 4), temperature=0.5)
    torch.testing.assert_close(mask.mean(dim=1), torch.ones(3))


def test_a_low_temperature_chooses():
    rows = torch.tensor([[1.0], [-3.0], [2.0]])
    expected = torch.tensor([0.0, 3.0, 0.0])
    torch.testing.assert_close(row_mask(rows, (3,), temperature=0.01), expected)


def test_distances_are_those_of_maps(pair):
    """The definition on (B, C, H, W), with 1x1 convolutions."""
    level = AttentionNonlocalLevel(AttentionNonlocalConfig(temperature=0.3), 8, 16)
    teacher, student = pair.rows.to_map(pair.teacher), pair.rows.to_map(pair.student)
    adapter, channels = level.feature_adapter[0], level.channel_adapter[0]
    adapted = F.conv2d(student, adapter.weight[:, :, None, None], adapter.bias)
    masks = [
        256 * (maps.abs().mean(1).flatten(1) / 0.3).softmax(1).view(-1, 1, 16, 16)
        for maps in (teacher, student)
    ]
    gates = [
        16 * (maps.abs().mean((2, 3)) / 0.3).softmax(1)[:, :, None, None]
        for maps in (teacher, adapted)
    ]
    weight = sum(masks) / 2 * sum(gates) / 2
    space = level.spatial_adapter(student.mean(1, keepdim=True))
    expected = {
        'feature': ((teacher - adapted).square() * weight).sum().sqrt(),
        'channel': torch.dist(teacher.mean((2, 3)), channels(student.mean((2, 3)))),
        'spatial': torch.dist(teacher.mean(1, keepdim=True), space),
    }
    actual = level(pair)
    assert set(actual) == {*expected, 'nonlocal'}
    for name, distance in expected.items():
        torch.testing.assert_close(actual[name], distance, rtol=1e-4, atol=1e-5)


def test_masks_have_no_gradient(pair):
    level = AttentionNonlocalLevel(AttentionNonlocalConfig(), 8, 16)
    assert not level._mask(pair, level.feature_adapter(pair.student)).requires_grad


@pytest.mark.parametrize(('tap', 'stride'), [('backbone.1', 1), ('backbone.1', 3), ('voxels', 3)])
def test_non_local_block_is_that_of_built_affinities(make_lesson, tap, stride):
    pair = pair_features(make_lesson(300, 200), tap)
    block = NonLocalBlock(pair.teacher.shape[1], inner=3, stride=stride)
    parts = []
    for frame in range(2):
        rows = pair.teacher[pair.rows.frames == frame]
        keys, values = block.key(rows), block.value(rows)
        if pair.rows.is_map:
            keys, values = (
                F.max_pool2d(part.T.view(1, 3, 16, 16), stride).flatten(2)[0].T
                for part in (keys, values)
            )
        affinity = block.query(rows) @ keys.T / len(keys)
        parts.append(rows + block.output(affinity @ values))
    torch.testing.assert_close(
        block(pair.rows, pair.teacher), torch.cat(parts), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize('stride', [1, 2, 3, 99])
def test_pooling_is_that_of_torch(stride):
    maps = torch.randn(2, 7, 5, 3)
    window = (min(stride, 7), min(stride, 5))
    expected = F.max_pool2d(maps.permute(0, 3, 1, 2), window).permute(0, 2, 3, 1)
    torch.testing.assert_close(max_pool(maps, stride), expected)


def test_the_space_of_pillars_is_the_map(make_lesson):
    """The mean over channels is smoothed with the pillars around, not those next in memory."""
    pair = pair_features(make_lesson(300, 200), 'voxels')
    level = AttentionNonlocalLevel(AttentionNonlocalConfig(), 4, 8)
    maps = level.spatial_adapter(pair.rows.to_map(pair.student.mean(1, keepdim=True)))
    rows = torch.stack([maps[frame, :, y, x] for frame, y, x in pair.rows.cells.tolist()])
    expected = torch.dist(pair.teacher.mean(1, keepdim=True), rows)
    torch.testing.assert_close(level(pair)['spatial'], expected)
