# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-adds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pointdistiller_core.config import DetectorConfig, load_config, shipped_configs
from pointdistiller_core.evaluation.efficiency import (
    count_detector_multiply_adds,
    count_encoder_multiply_adds,
    count_multiply_adds,
    count_parameters,
)
from pointdistiller_core.models import build_detector
from pointdistiller_core.sparse.middle import middle_stages
from pointdistiller_core.sparse.sites import Sites

IMAGE = torch.zeros(2, 4, 5, 6)


@pytest.mark.parametrize(
    ('layer', 'expected'),
    [
        (nn.Conv2d(4, 8, 3, padding=1), 2 * 8 * (5 * 6) * (4 * 9)),
        (nn.Conv2d(4, 8, 3, stride=2), 2 * 8 * (2 * 2) * (4 * 9)),
        (nn.Conv2d(4, 8, 3, padding=1, groups=2), 2 * 8 * (5 * 6) * (2 * 9)),
        (nn.ConvTranspose2d(4, 3, 2, stride=2), 2 * 4 * (5 * 6) * (3 * 4)),
        (nn.ConvTranspose2d(4, 6, 2, groups=2), 2 * 4 * (5 * 6) * (3 * 4)),
        (nn.Linear(6, 7), (2 * 4 * 5) * 6 * 7),
        (nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), 0),
        (nn.Sequential(nn.Linear(6, 7), nn.Linear(7, 1)), (2 * 4 * 5) * (6 * 7 + 7)),
    ],
)
def test_multiply_adds_by_hand(layer, expected):
    assert count_multiply_adds(layer, IMAGE) == expected


def test_a_layer_counts_as_often_as_it_runs():
    layer = nn.Linear(6, 6)
    assert count_multiply_adds(nn.Sequential(layer, layer), IMAGE) == 2 * 40 * 36


def test_the_module_is_left_as_it_was():
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    module[1].eval()  # a frozen part of a training network
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    count_multiply_adds(module, IMAGE + 1)
    assert (module.training, module[0].training, module[1].training) == (True, True, False)
    assert not any(part._forward_hooks for part in module.modules())
    assert all(torch.equal(before[name], now) for name, now in module.state_dict().items())


def test_a_module_that_fails_leaves_nothing_behind():
    layer = nn.Linear(5, 5)
    with pytest.raises(RuntimeError):
        count_multiply_adds(layer, IMAGE)
    assert layer.training
    assert count_multiply_adds(layer, torch.zeros(3, 5)) == 3 * 5 * 5


def test_parameters_by_hand():
    assert count_parameters(nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))) == 288 + 8 + 16
    layer = nn.Linear(3, 3)
    assert count_parameters(nn.ModuleList([layer, layer])) == 12


@pytest.mark.parametrize(
    ('name', 'parameters', 'multiply_adds'),
    [
        ('pointpillars', 4_834_888, 34_173_812_736),
        ('pointpillars_4x', 1_217_352, 8_913_715_200),
        ('pointpillars_16x', 308_680, 2_413_559_808),
        ('pointpillars_nuscenes', 6_147_112, 56_488_960_000),
        ('pointpillars_nuscenes_2x', 3_115_506, 28_942_455_000),
        ('pointpillars_nuscenes_4x', 1_549_928, 14_686_720_000),
        ('pointpillars_small', 4_834_888, 2_613_051_392),
        ('pointpillars_small_4x', 1_217_352, 681_574_400),
        ('pointpillars_small_16x', 308_680, 184_549_376),
        ('pointrcnn', 4_038_819, 22_930_825_216),
        ('pointrcnn_16x', 258_471, 1_473_488_896),
    ],
)
def test_sizes_of_the_shipped_models(name, parameters, multiply_adds):
    (path,) = (path for path in shipped_configs('models') if path.stem == name)
    detector = build_detector(load_config(DetectorConfig, path))
    assert count_parameters(detector) == parameters
    assert count_detector_multiply_adds(detector) == multiply_adds


def test_work_on_points_comes_on_top(tiny_model):
    detector = build_detector(tiny_model)
    points = torch.tensor([[1.0, 0, 0, 0], [1.1, 0, 0, 0], [9.0, 0, 0, 0]])
    on_points = 3 * 10 * tiny_model.encoder.channels
    assert count_multiply_adds(detector, detector.prepare([points])) == (
        count_detector_multiply_adds(detector) + on_points
    )


def test_work_of_pointrcnn_is_that_of_all_its_points_and_proposals(tiny_pointrcnn):
    detector = build_detector(tiny_pointrcnn)
    sample, most = tiny_pointrcnn.sample, tiny_pointrcnn.proposals.max_proposals
    low, high = torch.tensor(sample.point_cloud_range).view(2, 3)
    cloud = torch.rand(2 * sample.num_points, 4, generator=torch.Generator().manual_seed(0))
    cloud[:, :3] = cloud[:, :3] * (high - low) + low
    prepared = detector.prepare([cloud])
    with torch.no_grad():
        output = detector.eval()(prepared)
    assert len(output.logits) == most  # or the count below is of fewer
    assert count_multiply_adds(detector, prepared) == count_detector_multiply_adds(detector)


def test_sparse_work_is_that_of_the_cells_that_meet(tiny_second, tiny_dataset):
    detector = build_detector(tiny_second).eval()
    prepared = detector.prepare([torch.from_numpy(tiny_dataset(1)[0].points)])
    sites, _ = Sites.build(prepared.coords.numpy(), tiny_second.sparse_shape, 1)
    expected = 0
    for conv in (conv for stage in middle_stages(tiny_second) for conv in stage):
        if conv.stride is None:
            rulebook = sites.submanifold
        else:
            sites, rulebook = sites.strided(conv.kernel, conv.stride, conv.padding)
        expected += rulebook.num_pairs * conv.in_channels * conv.out_channels
    assert count_encoder_multiply_adds(detector, prepared) == expected > 1000
