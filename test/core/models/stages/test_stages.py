# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Backbone, neck and head: shapes, strides and the order of anchors."""

from __future__ import annotations

import torch
from torch import nn

from pointdistiller_core.models.stages.anchor_head import AnchorHead
from pointdistiller_core.models.stages.bev_backbone import BevBackbone, StackNeck


def test_levels_and_their_stack():
    backbone = BevBackbone(4, layers=(1, 2), strides=(1, 2), channels=(6, 8))
    neck = StackNeck((6, 8), strides=(1, 2), channels=(3, 5))
    levels = backbone(torch.zeros(2, 4, 8, 12))
    assert [level.shape for level in levels] == [(2, 6, 8, 12), (2, 8, 4, 6)]
    (found,) = neck(levels)
    assert found.shape == (2, 8, 8, 12)
    assert [len(stage) for stage in backbone.stages] == [2, 3]  # the strided one comes on top


def test_norms_are_the_published_ones():
    norms = [
        module
        for module in BevBackbone(4, layers=(1,), strides=(2,), channels=(6,)).modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_head_numbers_anchors_row_by_row_cell_by_cell():
    anchors = torch.arange(2 * 3 * 2 * 7.0).view(2, 3, 2, 7)
    head = AnchorHead(1, num_classes=3, anchors=[anchors])
    head.conv.bias.data = torch.arange(24.0)
    nn.init.constant_(head.conv.weight, 100.0)
    cells = torch.arange(6.0).view(1, 1, 2, 3)
    output = head([cells])
    assert output.class_logits.shape == (1, 12, 3)
    assert output.class_logits[0, 5].tolist() == [203, 204, 205]  # cell 2, its second anchor
    assert output.box_residuals[0, 2].tolist() == [106 + i for i in range(7)]  # cell 1, first
    assert output.direction_logits[0, 11].tolist() == [522, 523]
    assert torch.equal(output.anchors, anchors.view(12, 7))


def test_anchors_of_several_maps_follow_one_another_and_may_have_velocities():
    anchors = [torch.rand(2, 3, 2, 7), torch.rand(1, 1, 2, 7)]
    head = AnchorHead(4, num_classes=3, anchors=anchors, velocities=True)
    maps = [torch.rand(5, 4, 2, 3), torch.rand(5, 4, 1, 1)]
    output = head(maps)
    assert torch.equal(output.anchors, torch.cat([of_map.view(-1, 7) for of_map in anchors]))
    assert output.velocities.shape == (5, 14, 2)
    single = AnchorHead(4, num_classes=3, anchors=anchors[1:], velocities=True)
    single.load_state_dict(head.state_dict())
    for name in ('class_logits', 'box_residuals', 'direction_logits', 'velocities'):
        expected = getattr(single(maps[1:]), name)
        torch.testing.assert_close(getattr(output, name)[:, 12:], expected)


def test_head_begins_with_rare_objects_and_small_residuals():
    head = AnchorHead(64, num_classes=2, anchors=[torch.zeros(1, 1, 3, 7)])
    output = head([torch.zeros(1, 64, 1, 1)])
    torch.testing.assert_close(output.class_logits.sigmoid(), torch.full((1, 3, 2), 0.01))
    weight = head.conv.weight.detach()
    assert weight[6 : 6 + 21].std() < 0.002
    assert weight[:6].std() > 0.01


def test_anchors_move_with_the_head_but_are_not_stored():
    head = AnchorHead(4, num_classes=1, anchors=[torch.zeros(1, 1, 1, 7)])
    assert list(head.state_dict()) == ['conv.weight', 'conv.bias']
    assert head.to('meta').anchors.is_meta
