# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
import json
import re

import pytest
from recording_bags import write_recording
from typer.testing import CliRunner

from pointdistiller_core.cli.app import app
from pointdistiller_core.cli.bags import tell_progress
from pointdistiller_core.config import (
    ConversionConfig,
    SensorConfig,
    SimulationConfig,
    SplitConfig,
)
from pointdistiller_core.datasets.simulated import write_drive_bag
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.formats.folder import FrameTable, read_info
from pointdistiller_core.pipelines.bag_conversion import convert_bags


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if isinstance(result.exception, ConfigError | DatasetError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def bag(tmp_path):
    return write_recording(tmp_path / 'bag', tf=True)


def test_info_names_topics_and_what_would_become_of_them(bag, tmp_path):
    json_file = tmp_path / 'info.json'
    output = run('bag', 'info', bag, '--full', '--json', json_file)
    assert "300 points in 'lidar': x:float32 y:float32 z:float32 intensity:float32" in output
    facts = json.loads(json_file.read_text())
    assert facts['topics']['/points']['count'] == 10
    assert facts['topics']['/points']['longest_gap_s'] == pytest.approx(0.1)
    choices = facts['clouds']['/points']['choices']
    assert choices['poses']['source'] == 'tf'
    assert choices['height']['height'] == pytest.approx(1.73, abs=0.02)


def test_info_of_a_damaged_bag_says_so(bag):
    (file,) = bag.glob('*.mcap')
    file.write_bytes(file.read_bytes()[:-300])
    output = run('bag', 'info', bag)
    assert 'was cut off' in output
    # Without an index every chunk is looked into, so that the messages are counted.
    assert re.search(r'/points .* 10 ', output)


def test_labels_of_a_simulated_drive_are_not_those_of_people(tmp_path, make_bundle):
    bag, data, teacher = tmp_path / 'drive', tmp_path / 'data', make_bundle('teacher')
    config = SimulationConfig(sensor=SensorConfig(num_columns=100))
    write_drive_bag(bag, config, num_frames=3, seed=2)
    said = 'labels: exact, from the simulation (truth.json)'
    assert said in run('bag', 'info', bag)
    assert said in run('bag', 'convert', bag, data, '--min-distance', 0.01)
    output = ' '.join(run('label', data, '--bundle', teacher).split())
    assert re.search(r'0 frames labelled, \d+ with labels of the simulation kept', output)
    (bag / 'truth.json').unlink()
    assert said not in run('bag', 'convert', bag, data, '--drive', 'bare', '--poses', 'none')
    output = ' '.join(run('label', data, '--bundle', teacher).split())
    assert 'with labels of people or the simulation kept' in output


def test_convert_says_what_it_chose_and_left_out(bag, tmp_path):
    options = ('--min-distance', 1.5, '--intensity-scale', '1/2', '--height', 1.9)
    json_file = tmp_path / 'drives.json'
    output = run('bag', 'convert', bag, tmp_path / 'data', *options, '--json', json_file)
    for part in (
        'intensity of /points: as asked for',
        'points are moved by +0.170 m',
        "TF moves 'lidar' in 'odom'",
        'left out by min_distance: 5',
        'splits: ',
    ):
        assert part in output
    counts = json.loads(json_file.read_text())['bag']['counts']
    assert (counts['clouds'], counts['frames'], counts['too_near']) == (10, 5, 5)
    again = run('bag', 'convert', bag, tmp_path / 'data', *options)
    assert 'was converted before; nothing is new' in again


def test_every_frame_is_told_of(bag, tmp_path):
    told = []
    tell = tell_progress(lambda *values: told.append(values), 'bag')
    splits = SplitConfig(gap_s=0.1)
    convert_bags(
        {'bag': bag}, tmp_path / 'data', ConversionConfig(), splits, on_progress=lambda _: tell
    )
    assert told[-1] == (1, 1, 'bag: 10 frames')
    output = run('bag', 'convert', bag, tmp_path / 'other', '--val-gap', 0.1)
    assert 'train 7 frames, val 2 frames, 1 in none, as the gap between them' in output


def test_several_bags_and_options_become_settings(bag, tmp_path):
    other = write_recording(tmp_path / 'other', tf=True)
    box = '--ego-box=-2,-1,-2,2,1,1'
    options = ('--topic', '/points', '--stride', 2, '--poses', 'none', '--val-drive', 'other')
    run('bag', 'convert', bag, other, tmp_path / 'data', box, *options)
    drives = read_info(tmp_path / 'data').drives
    assert list(drives) == ['bag', 'other']
    assert drives['bag'].settings['ego_box'] == [-2, -1, -2, 2, 1, 1]
    assert (tmp_path / 'data' / 'splits' / 'val.txt').read_text().startswith('other_000000')


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        (('--height', 'tall'), 'expected auto, keep, or metres'),
        (('--ego-box', '1,2,3'), 'expected six numbers'),
        (('--ego-box', '1,1,1,0,0,0'), 'must be below'),
        (('--min-turn', 10), 'min_turn needs min_distance'),
        (('--poses', 'gps'), 'poses'),
        (('--drive', 'x y'), 'is no name'),
    ],
)
def test_wrong_options_are_named(bag, tmp_path, options, problem):
    with pytest.raises((ConfigError, DatasetError), match=problem):
        run('bag', 'convert', bag, tmp_path / 'data', *options)
    assert not (tmp_path / 'data' / 'frames.csv').exists() or not list(
        FrameTable(tmp_path / 'data' / 'frames.csv')
    )


def test_a_dataset_alone_is_no_conversion(tmp_path):
    with pytest.raises(ConfigError, match='give one bag or several'):
        run('bag', 'convert', tmp_path / 'data')


def test_folders_are_joined_and_converted(bag, tmp_path):
    for name in ('one', 'two'):
        run('bag', 'convert', bag, tmp_path / name, '--poses', 'none')
    output = run('bag', 'merge', tmp_path / 'one', tmp_path / 'two', tmp_path / 'all')
    assert 'begin with two_' in output
    assert 'no frames' not in run('check-dataset', tmp_path / 'all')
    output = run('convert', tmp_path / 'all', tmp_path / 'kitti')
    assert '20 frames with a time' in output
    with pytest.raises(ConfigError, match='is of the layout folder'):
        run('convert', tmp_path / 'all', tmp_path / 'x', '--to', 'folder')
