# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from changed_config import changed
import pytest
import torch
from torch import Tensor

from pointdistiller_core.distill.feature_similarity import (
    compare_features,
    draw_rows,
    linear_cka,
    probe_r2,
    shared_layers,
    shorten_outliers,
    untrained_twin,
)
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.models import PointPillars


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# --- outliers


def test_a_few_huge_rows_decide_nothing():
    first = torch.randn(400, 6)
    second = first @ torch.randn(6, 4)
    huge = torch.arange(0, 400, 50)
    first[huge] = 300 * torch.randn(len(huge), 6)
    plain = linear_cka(first, second), probe_r2(second, first)
    robust = [shorten_outliers(features) for features in (first, second)]
    assert linear_cka(*robust) > 0.5 > plain[0]
    assert probe_r2(robust[1], robust[0]) > 0.5 > plain[1]


def test_shortening_keeps_directions_and_most_rows():
    features = torch.randn(200, 3).double() + 7
    features[3] = 1e6
    short = shorten_outliers(features)
    assert (short == features).all(dim=1).sum() == 190
    assert torch.cosine_similarity(short[3] - 7, torch.ones(3).double(), dim=0) > 0.99
    assert (short - 7).norm(dim=1).max() < 5


def test_shortening_follows_rotation_and_scale():
    features = torch.randn(100, 5).double() ** 3
    rotation = torch.linalg.qr(torch.randn(5, 5).double()).Q
    expected = 9 * shorten_outliers(features) @ rotation + 2
    torch.testing.assert_close(shorten_outliers(9 * features @ rotation + 2), expected)


def test_constant_rows_stay_constant():
    assert (shorten_outliers(torch.full((20, 3), 4.0)) == 4).all()


# --- CKA


def cka_by_kernels(first: Tensor, second: Tensor) -> Tensor:
    """From n x n kernels, as the estimator is published."""

    def hsic(k: Tensor, m: Tensor) -> Tensor:
        n = len(k)
        k, m = k - k.diag().diag(), m - m.diag().diag()
        ones = torch.ones(n, dtype=k.dtype)
        total = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return ((k @ m).trace() + total - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3))

    k, m = first.double() @ first.double().T, second.double() @ second.double().T
    return hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt()


def test_cka_is_that_of_the_kernels():
    first = torch.randn(40, 7) + 3
    second = first @ torch.randn(7, 5) + torch.randn(40, 5)
    assert linear_cka(first, second) == pytest.approx(cka_by_kernels(first, second).item())
    assert 0.2 < linear_cka(first, second) < 0.99


def test_cka_knows_neither_rotation_nor_scale_nor_shift():
    first = torch.randn(60, 6)
    rotation = torch.linalg.qr(torch.randn(6, 6)).Q
    assert linear_cka(first, 1e-4 * first @ rotation + 5) == pytest.approx(1.0, abs=1e-3)


def test_cka_of_unrelated_features_is_about_0_also_where_they_are_wide():
    values = [linear_cka(torch.randn(50, 100), torch.randn(50, 100)) for _ in range(10)]
    assert abs(sum(values)) / 10 < 0.05


def test_cka_of_constant_features_is_0():
    assert linear_cka(torch.randn(20, 3), torch.full((20, 4), 2.0)) == 0.0


# --- probe


def test_a_linear_map_is_found_on_rows_that_were_not_fitted():
    source = torch.randn(200, 6) * torch.logspace(-3, 3, 6) + 10
    assert probe_r2(source, source @ torch.randn(6, 4) - 7) > 0.99


def test_noise_predicts_nothing():
    assert abs(probe_r2(torch.randn(4000, 4), torch.randn(4000, 3))) < 0.01


def test_what_is_learned_by_heart_counts_as_wrong():
    """As many channels as rows fit the first half of the noise exactly."""
    assert probe_r2(torch.randn(40, 20), torch.randn(40, 3)) < 0


def test_constant_features_predict_nothing():
    target = torch.randn(4000, 3)
    assert probe_r2(torch.full((4000, 2), 0.1), target) == pytest.approx(0, abs=0.01)
    assert probe_r2(target, torch.ones(4000, 2)) == 0.0


# --- networks


@pytest.fixture
def teacher(tiny_model) -> PointPillars:
    return PointPillars(tiny_model).eval()


@pytest.fixture
def student(tiny_model) -> PointPillars:
    return PointPillars(tiny_model.model_copy(update={'width': 0.5})).eval()


def test_a_network_is_like_itself_and_less_like_another(teacher, student, make_batch):
    clouds = make_batch(200, 200, 200).points
    result = compare_features(teacher, {'same': teacher, 'other': student}, clouds)
    assert list(result) == ['voxels', 'backbone.0', 'backbone.1', 'neck']
    for of_tap in result.values():
        assert of_tap['same'].cka == pytest.approx(1.0)
        assert of_tap['same'].probe_r2 > 0.98
        assert of_tap['other'].cka < 0.98


def test_the_same_seed_draws_the_same_rows(teacher, student, make_batch):
    clouds = make_batch(200, 200).points

    def compare(seed: int) -> object:
        return compare_features(
            teacher, {'student': student}, clouds, rows_per_frame=20, seed=seed
        )

    assert compare(0) == compare(0) != compare(1)


def test_rows_are_cells_with_points_and_the_same_of_every_network(teacher, make_batch):
    (cloud,) = make_batch(60).points
    generator = torch.Generator().manual_seed(0)
    sampled = draw_rows(
        [teacher, teacher], cloud, ['voxels', 'neck'], num_rows=1000, generator=generator
    )
    pillars = teacher.prepare([cloud])
    assert len(sampled['voxels'][0]) == len(pillars)
    assert len(sampled['neck'][0]) == len(pillars)  # of the same resolution here
    for first, second in sampled.values():
        assert torch.equal(first, second)


def test_maps_of_another_resolution_are_left_out(tiny_model):
    coarse = changed(tiny_model, backbone={'strides': (2, 1)}, neck={'strides': (1, 1)})
    assert shared_layers([PointPillars(tiny_model), PointPillars(coarse)]) == [
        'voxels',
        'backbone.1',
    ]


def test_too_few_rows_are_named(teacher, student, make_batch):
    with pytest.raises(DatasetError, match='voxels: the frames hold 3 rows with points'):
        compare_features(teacher, {'student': student}, make_batch(3).points)
    with pytest.raises(DatasetError, match='hold 0'):
        compare_features(teacher, {'student': student}, [])


def test_an_untrained_twin_has_other_weights_and_leaves_the_generator_alone(student):
    before = torch.random.get_rng_state()
    twin, again = untrained_twin(student, seed=1), untrained_twin(student, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [network.neck.state_dict() for network in (student, twin, again)]
    name = next(iter(weights[0]))
    assert torch.equal(weights[1][name], weights[2][name])
    assert not torch.equal(weights[0][name], weights[1][name])
    assert not twin.training
