# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What is said about intensities, and what becomes of them."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.errors import ConfigError
from pointdistiller_core.geometry.intensity import (
    JUDGED_CLOUDS,
    IntensityJudge,
    clip_intensity,
    measure_intensity,
    parse_scale,
    scale_intensity,
)

UNIT = (0.0, 1.0)


def cloud(scale=1.0, *, seed=0, num_points=2000):
    """Places and intensities as a sensor has them: most are dull, a few are bright."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(1, 30, (num_points, 3))
    intensity = np.minimum(rng.exponential(0.25, num_points), 1)[:, None] * scale
    return np.concatenate([places, intensity], axis=1).astype(np.float32)


def judged(*clouds, limits=UNIT, scale=1.0, **options):
    judge = IntensityJudge(limits, **options)
    for points in clouds:
        judge.add(points, scale=scale)
    return judge


@pytest.mark.parametrize(
    ('full', 'limits', 'scale'),
    [
        (255, UNIT, 1 / 255),
        (65535, UNIT, 1 / 65535),
        (255 / 65535, UNIT, 65535 / 255),
        (1, (0.0, 255.0), 255),
        (2000, UNIT, 1 / 2000),
        (0.3, (0.0, 255.0), 255),  # a dull scene is on the same scale
    ],
)
def test_likely_scale(full, limits, scale):
    points = cloud(full)
    assert 'likely scale' in judged(points, limits=limits).finding
    judge = judged(points, limits=limits, auto=True)
    assert judge.scale == pytest.approx(scale, rel=0.02)
    assert 'scaled by' in judge.finding


def test_the_whole_sentence():
    judge = judged(cloud(255), remedy='(--intensity-scale auto or {:.6g})'.format)
    assert judge.finding == (
        'intensity reaches 255, the bundle was trained on 0 to 1: likely scale 1/255 '
        '(--intensity-scale auto or 0.00392157)'
    )
    assert judge.scale is None  # without `auto`, nothing is decided


@pytest.mark.parametrize(
    ('full', 'limits'),
    [(1, UNIT), (0.3, UNIT), (1.05, UNIT), (255, (0.0, 255.0)), (60, (0.0, 255.0))],
)
def test_nothing_to_say(full, limits):
    judge = judged(cloud(full), limits=limits, auto=True)
    assert (judge.finding, judge.scale) == ('', None)


@pytest.mark.parametrize('outlier', [255, 5000, 1e30, -1e30, np.inf, np.nan])
def test_one_outlier_says_nothing(outlier):
    points = cloud()
    points[7, 3] = outlier
    assert judged(points).finding == ''


@pytest.mark.parametrize('value', [0, 0.5, 7])
def test_constant_intensity_is_said(value):
    points = cloud()
    points[:, 3] = value
    points = np.concatenate([points, np.zeros((500, 4), np.float32)])  # rays without a return
    judge = judged(points, auto=True)
    assert f'intensity is {value:g} throughout' in judge.finding
    assert judge.scale is None
    assert judged(points, limits=(value, value)).finding == ''  # as in the training


def test_what_no_scale_mends():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, (4000, 4), dtype=np.uint32).view(np.float32)
    for points, about in ((bits, 'goes from'), (cloud(1.6), 'reaches 1.6')):
        judge = judged(points, auto=True)
        assert about in judge.finding
        assert 'no scale is likely' in judge.finding
        assert judge.scale is None


@pytest.mark.parametrize('given', [1 / 65535, 0.1])
def test_scale_is_that_of_the_raw_numbers(given):
    """What a reader multiplied by already does not matter to what is recommended."""
    points = scale_intensity(cloud(255), given)
    judge = judged(points, scale=given, auto=True)
    assert judge.scale == pytest.approx(1 / 255)


def test_decides_on_the_first_clouds_and_stays():
    judge = judged(*[cloud(255)] * (JUDGED_CLOUDS - 1), auto=True)
    assert not judge.decided
    judge.add(scale_intensity(cloud(1), judge.scale), scale=judge.scale)  # one that is different
    assert judge.decided
    scale = judge.scale
    assert scale == pytest.approx(1 / 255)
    for _ in range(20):
        assert judge.add(cloud(1)) == ''
    assert judge.scale == scale


def test_said_once_and_again_where_it_is_something_else():
    judge = IntensityJudge(UNIT)
    dark = cloud()
    dark[:, 3] = 0
    assert 'throughout' in judge.add(dark)
    assert judge.add(dark) == ''
    news = [judge.add(cloud(255, seed=seed)) for seed in range(5)]
    assert [bool(text) for text in news].count(True) == 1
    assert '1/255' in judge.finding


@pytest.mark.parametrize('num_points', [0, 1, 9])
def test_few_points_tell_nothing(num_points):
    judge = judged(cloud(255, num_points=num_points))
    assert judge.finding == ''
    assert not judge.decided


def test_every_ring_of_a_sensor_is_sampled():
    points = np.zeros((128 * 1024, 4), np.float32)
    points[:, 0], points[:, 3] = 1, np.tile(np.arange(128) / 127, 1024)  # a ring after the other
    assert measure_intensity([points]) == (0, 1)
    points[:, 3] = np.tile(np.arange(128) == 77, 1024)
    assert judged(points).finding == ''


def test_clip():
    points = cloud()
    assert clip_intensity(points, UNIT) is points
    points[3:6, 3] = [255, -1e30, 1e30]
    before = points.copy()
    clipped = clip_intensity(points, UNIT)
    np.testing.assert_array_equal(points, before)
    assert clipped[3:6, 3].tolist() == [1, 0, 1]
    np.testing.assert_array_equal(
        np.delete(clipped, [3, 4, 5], 0), np.delete(points, [3, 4, 5], 0)
    )
    assert clip_intensity(points[:0], UNIT).shape == (0, 4)


@pytest.mark.parametrize('full', [1, 255, 65535])
def test_measured_range_is_the_full_scale(full):
    assert measure_intensity([cloud(full, seed=seed) for seed in range(3)]) == (0, full)


def test_measured_range_by_hand():
    values = np.linspace(0.2, 0.6, 1000)
    points = np.stack([np.ones(1000)] * 3 + [values], axis=1).astype(np.float32)
    points[0, 3], points[5, 3] = 1e30, -1e30
    points[10, 3] = 0.9  # bright, and no mistake
    assert measure_intensity([points]) == pytest.approx((values[1], 0.9))
    assert measure_intensity([]) == UNIT
    points[:, 3] = 0
    assert measure_intensity([points]) == (0, 0)


def test_scale_of_text():
    assert parse_scale('auto') is None
    assert parse_scale('1/255') == 1 / 255
    assert parse_scale('0.5') == 0.5
    for text in ('', 'x', '0', '-1', 'nan', 'inf', '1/0', '1/x'):
        with pytest.raises(ConfigError, match='expected auto, or a positive factor'):
            parse_scale(text)


def test_scale_leaves_its_argument_alone(recwarn):
    points = cloud()
    before = points.copy()
    assert scale_intensity(points, 1) is points
    np.testing.assert_array_equal(scale_intensity(points, 2)[:, 3], 2 * points[:, 3])
    assert np.isinf(scale_intensity(cloud(1e30), 1e30)[:, 3]).any()
    np.testing.assert_array_equal(points, before)
    assert not recwarn.list
