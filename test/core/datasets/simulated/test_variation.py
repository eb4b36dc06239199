# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What differs from frame to frame is drawn from its ranges, and done."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pointdistiller_core.config import SceneConfig, SensorConfig, SimulationConfig
from pointdistiller_core.config.simulation import VariationConfig
from pointdistiller_core.datasets.simulated import simulate_dataset, simulate_scene
from pointdistiller_core.datasets.simulated.rays import beam_elevations
from pointdistiller_core.datasets.simulated.variation import CURVES, draw_conditions
from pointdistiller_core.geometry.boxes import points_in_boxes

SENSOR = SensorConfig(num_columns=400, range_noise=0.01)
VARIED = VariationConfig(
    pitch=(-2, -1),
    roll=(0.5, 1),
    height=(0.2, 0.4),
    beam_steps=(2,),
    beam_noise=(0.01, 0.02),
    columns=(0.5, 0.6),
    range_noise=(2, 3),
    dropout=(0.1, 0.2),
    intensity={'constant': 1},
    speed=(5, 6),
    turn_rate=(3, 4),
)


def drawn(config: VariationConfig, seed: int = 0):
    return draw_conditions(SENSOR, config, np.random.default_rng(seed))


def test_without_ranges_the_sensor_is_as_configured():
    conditions = drawn(VariationConfig())
    assert conditions.sensor == SENSOR
    assert (conditions.roll, conditions.pitch) == (0, 0)
    assert conditions.elevation_offsets is None
    assert conditions.motion is None
    points = np.ones((2, 4), np.float32)
    assert conditions.reported(points) is points


def test_everything_is_drawn_from_its_range():
    for seed in range(5):
        conditions = drawn(VARIED, seed)
        values = conditions.to_dict()
        for name in ('pitch', 'roll', 'speed', 'turn_rate'):
            low, high = getattr(VARIED, name)
            assert low <= values[name] <= high
        assert 1.93 <= conditions.sensor.height <= 2.13
        assert 200 <= conditions.sensor.num_columns <= 240
        assert 0.02 <= conditions.sensor.range_noise <= 0.03
        assert 0.12 <= conditions.sensor.dropout <= 0.22
        kept = beam_elevations(conditions.sensor)
        np.testing.assert_allclose(kept, beam_elevations(SENSOR)[::2])
        assert values['beams'] == len(conditions.elevation_offsets) == 32
        assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize('name', CURVES)
def test_curves_stay_between_0_and_1(name):
    values = np.linspace(0, 1, 11, dtype=np.float32)
    for number in (0.0, 0.5, 1.0):
        changed = CURVES[name](values, number)
        assert changed.shape == values.shape
        assert 0 <= changed.min() <= changed.max() <= 1
    assert CURVES['constant'](values, 0.25).tolist() == [0.25] * 11
    assert CURVES['clipped'](values, 0.0)[[1, 5]] == pytest.approx([0.2, 1.0])


@pytest.mark.parametrize(
    'variation',
    [
        VariationConfig(pitch=(3, 3), roll=(-2, -2)),
        VariationConfig(speed=(15, 15)),
        VariationConfig(speed=(10, 10), turn_rate=(15, 15)),
    ],
)
def test_labels_stay_on_the_points(variation):
    config = SimulationConfig(
        sensor=SENSOR,
        variation=variation,
        scene=SceneConfig(extent=40, pedestrians=(0, 0), cyclists=(0, 0)),
    )
    counts, inside = 0, 0
    for index in range(3):
        frame = simulate_scene(config, seed=0, index=index)
        for item in frame.objects:
            if np.hypot(*item.box[:2]) > 6:  # nearer, a box is seen during a long time
                grown = np.array([item.box]) + np.array([0, 0, 0, 0.2, 0.2, 0.1, 0])
                counts += item.num_points
                inside += min(points_in_boxes(frame.points, grown).sum(), item.num_points)
    assert counts > 500
    assert inside > 0.97 * counts


def test_a_tilted_sensor_sees_a_tilted_road():
    level, tilted = (
        simulate_scene(
            SimulationConfig(sensor=SENSOR, variation=VariationConfig(pitch=(pitch, pitch))),
            seed=0,
            index=0,
        ).points
        for pitch in (0, 2)
    )

    def rise(points) -> float:
        way = points[(np.abs(points[:, 1]) < 2) & (np.abs(points[:, 0]) < 20)]
        ahead, behind = (way[way[:, 0] * sign > 5, 2].mean() for sign in (1, -1))
        return ahead - behind

    assert rise(tilted) - rise(level) > 0.3  # about 20 m apart: 0.7 m


def test_what_was_drawn_is_written(tmp_path):
    config = SimulationConfig(sensor=SENSOR, variation=VARIED)
    simulate_dataset(tmp_path / 'data', config, splits={'train': 1}, seed=3, num_workers=1)
    text = (tmp_path / 'data' / 'training' / 'conditions' / '000000.json').read_text('utf-8')
    assert json.loads(text) == simulate_scene(config, seed=3, index=0).conditions
    assert json.loads(text)['scene'] == 'plain'


def test_a_preset_is_drawn_by_its_weight():
    variation = VariationConfig(sensors={'VLP-16': 1, 'OS1-128': 3})
    conditions = [drawn(variation, seed) for seed in range(200)]
    drawn_names = [item.to_dict()['sensor'] for item in conditions]
    assert 30 < drawn_names.count('VLP-16') < 70
    for item in conditions:
        assert item.to_dict()['beams'] == {'VLP-16': 16, 'OS1-128': 128}[item.preset]
        assert item.sensor.height == SENSOR.height


def test_a_sensor_mounted_higher_reports_clouds_as_if_it_were_not():
    def frames(variation):
        config = SimulationConfig(sensor=SENSOR, variation=variation)
        return simulate_scene(config, seed=0, index=0)

    reference, high = frames(VariationConfig()), frames(VariationConfig(mounting=(2.5, 2.5)))
    assert high.conditions['height'] == 2.5
    roads = [
        np.median(frame.points[np.hypot(*frame.points[:, :2].T) < 9, 2])
        for frame in (reference, high)
    ]
    assert roads[1] == pytest.approx(roads[0], abs=0.1)
    for before, after in zip(reference.objects, high.objects, strict=True):
        np.testing.assert_allclose(after.box, before.box, atol=0.01)
    np.testing.assert_allclose(high.world_from_lidar, reference.world_from_lidar, atol=1e-6)
    item = max(high.objects, key=lambda item: item.num_points)
    grown = np.array([item.box]) + np.array([0, 0, 0, 0.2, 0.2, 0.1, 0])
    assert points_in_boxes(high.points, grown).sum() > 0.97 * item.num_points


def test_presets_that_are_none_and_steps_that_leave_no_beam_are_refused():
    with pytest.raises(ValueError, match="no preset 'VLP'"):
        VariationConfig(sensors={'VLP': 1})
    with pytest.raises(ValueError, match='32 of 16 beams leaves none'):
        SimulationConfig(variation=VariationConfig(sensors={'VLP-16': 1}, beam_steps=(32,)))
    with pytest.raises(ValueError, match='below the ground'):
        SimulationConfig(variation=VariationConfig(mounting=(0.5, 1), height=(-0.6, 0)))
