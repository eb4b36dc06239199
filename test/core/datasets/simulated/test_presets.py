# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sensors by name, and simulations that ship."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.config import (
    SimulationConfig,
    dump_config,
    load_config,
    parse_config,
    parse_yaml,
    shipped_configs,
)
from pointdistiller_core.config.sensor_presets import SENSOR_PRESETS
from pointdistiller_core.datasets.simulated import simulate_scene
from pointdistiller_core.datasets.simulated.rays import beam_elevations
from pointdistiller_core.errors import ConfigError

BEAMS = {
    'VLP-16': (16, -15, 15),
    'VLP-32C': (32, -25, 15),
    'HDL-32E': (32, -30.67, 10.67),
    'HDL-64E': (64, -24.33, 2),
    'OS1-64': (64, -22.5, 22.5),
    'OS1-128': (128, -22.5, 22.5),
    'Pandar64': (64, -24.9, 14.88),
}


def parse(**values) -> SimulationConfig:
    return parse_config(SimulationConfig, values, where='here')


@pytest.mark.parametrize('name', BEAMS)
def test_beams_of_presets(name):
    elevations = np.degrees(beam_elevations(parse(sensor=name).sensor))
    assert len(elevations) == BEAMS[name][0]
    assert (elevations.min(), elevations.max()) == pytest.approx(BEAMS[name][1:])
    assert len(np.unique(elevations.round(3))) == len(elevations)


@pytest.mark.parametrize('name', SENSOR_PRESETS)
def test_every_preset_sees_a_street(name):
    config = parse(
        sensor={'preset': name, 'num_columns': 200}, scene={'kinds': {'residential': 1}}
    )
    frame = simulate_scene(config, seed=0, index=0)
    assert len(frame.points) > 40
    assert np.isfinite(frame.points).all()


def test_a_preset_can_be_changed_and_is_written_out():
    config = parse(sensor={'preset': 'VLP-16', 'height': 1.2})
    assert config.sensor.height == 1.2
    assert config.sensor.max_range == 100
    assert parse(**parse_yaml(dump_config(config))) == config
    assert parse().sensor == parse(sensor={}).sensor


@pytest.mark.parametrize('path', shipped_configs('simulations'), ids=lambda path: path.stem)
def test_shipped_simulations(path):
    config = load_config(SimulationConfig, path, ('sensor.num_columns=200',))
    frames = [simulate_scene(config, seed=0, index=index) for index in range(2)]
    assert all(len(frame.points) > 3000 for frame in frames)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'scene': {'extent': 32}}, 'extent 32: a plain street is at least 34 m long either way'),
        ({'scene': {'cars': [5, 3]}}, r'scene\.cars: .*the lower end is above the upper one'),
        ({'scene': {'cars': [-2, 3]}}, r'scene\.cars\.0: .*greater than or equal to 0'),
        ({'scene': {'kinds': {}}}, r'scene\.kinds: .*at least 1 item'),
        ({'sensor': 'VLP16'}, "no preset 'VLP16'; choose from VLP-16, VLP-32C"),
        ({'sensor': {'beams': []}}, r'sensor\.beams: .*at least 1 item'),
        ({'sensor': {'min_range': 90}}, 'min_range 90 is not below max_range 80'),
        ({'sensor': {'pattern': 'rosette'}}, 'a rosette has one block of beams, not 2'),
        ({'variation': {'beam_steps': [1, 65]}}, 'beam_steps: 65 of 64 beams leaves none'),
        ({'sensor': {'beams': [[95, 0, 3]]}}, r'beams\.0\.0: .*less than or equal to 90'),
        ({'variation': {'pitch': [-30, 0]}}, r'pitch\.0: .*greater than or equal to -20'),
        ({'camera': {'image_size': [0, 375]}}, r'image_size\.0: .*greater than or equal to 1'),
        ({'variation': {'height': [-2, 0]}}, 'puts a sensor at 1.73 m below the ground'),
    ],
)
def test_settings_that_cannot_work_are_one_clear_error(values, message):
    with pytest.raises(ConfigError, match=message):
        parse(**values)


def test_short_plain_streets_work_down_to_the_least():
    config = parse(scene={'extent': 34}, sensor={'num_columns': 50})
    assert len(simulate_scene(config, seed=0, index=0).objects) > 3
