# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Settings at their limits work, or are one clear error."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.config import SimulationConfig, apply_overrides, parse_config
from pointdistiller_core.datasets.simulated import simulate_drive, simulate_scene
from pointdistiller_core.errors import ConfigError


def config_of(*changes):
    changes = ('sensor.num_columns=60', *changes)
    return parse_config(SimulationConfig, apply_overrides({}, changes), where='--set')


@pytest.mark.parametrize(
    'changes',
    [
        ['scene.extent=34', 'scene.cars=[60,60]'],
        ['scene.extent=34', 'scene.trucks=[30,30]', 'scene.walls=[80,80]'],
        ['scene.ego_speed=60'],
        ['sensor.height=0.01'],
        ['sensor.beams=[[90,90,1]]', 'surfaces.blooming=[5,5]'],
        ['sensor.max_range=1.5'],
        ['variation.columns=[0.001,0.001]'],
        ['variation.speed=[200,200]', 'variation.turn_rate=[3000,3000]'],
        ['scene.kinds={courtyard: 1}', 'scene.extent=2'],
        ['scene.kinds={car_park: 1}', 'scene.extent=5', 'scene.streets.parked=[1,1]'],
        ['scene.kinds={junction: 1}', 'scene.streets.background=[1,2]'],
        ['scene.kinds={city: 1}', 'scene.streets.trucks={chance: 1, count: [80,80]}'],
    ],
    ids=' '.join,
)
def test_scenes_and_drives_at_the_limits(changes):
    config = config_of(*changes)
    frames = [
        simulate_scene(config, seed=3, index=0),
        *simulate_drive(config, num_frames=2, seed=3),
    ]
    for frame in frames:
        assert np.isfinite(frame.points).all()
        assert np.isfinite([item.box for item in frame.objects]).all()


@pytest.mark.parametrize(
    ('changes', 'named'),
    [
        (['scene.extent=32'], r'extent 32: a plain street is at least 34 m long'),
        (['scene.kinds={}'], r'scene\.kinds'),
        (['variation.beam_steps=[65]'], r'beam_steps: 65 of 64 beams leaves none'),
        (['variation.height=[-2,-2]'], r'height: -2 puts a sensor at 1\.73 m below the ground'),
        (['surfaces.blooming=[0.5,0.2]'], r'lower end is above the upper one'),
        (['surfaces.blooming=[0,6]'], r'less than or equal to 5'),
    ],
)
def test_what_cannot_work_is_one_clear_error(changes, named):
    with pytest.raises(ConfigError, match=named):
        config_of(*changes)
