# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The command line: help with examples, JSON on request, one clear error with exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner
import yaml

from pointdistiller_core import __version__, cli
from pointdistiller_core.cli import configuration
from pointdistiller_core.cli.app import app
from pointdistiller_core.config import DetectorConfig, parse_config, shipped_configs
from pointdistiller_core.deploy.bundle import BundleInfo, save_bundle
from pointdistiller_core.deploy.bundle_format import DEFAULT_BUNDLE, shipped_bundles
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.models import build_detector

VERBS = [command.name for command in app.registered_commands]
TINY = {
    'width': 0.25,
    'grid': {'point_cloud_range': [0, -5.12, -3, 10.24, 5.12, 1], 'voxel_size': [0.32, 0.32, 4]},
}


def run(*words: str):
    return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    config = parse_config(DetectorConfig, TINY, where='test')
    folder = tmp_path_factory.mktemp('cli') / 'bundle'
    save_bundle(folder, build_detector(config), BundleInfo(model=config))
    return folder


@pytest.mark.parametrize('verb', VERBS)
def test_help_has_an_example(verb):
    result = run(verb, '--help')
    assert result.exit_code == 0
    assert f'pointdistiller {verb}' in ' '.join(result.output.split())


def test_version():
    result = run('--version')
    assert (result.exit_code, result.stdout) == (0, f'{__version__}\n')


def test_models_json_on_stdout_is_json_alone():
    result = run('models', '--json', '-')
    sizes = {row['name']: row for row in json.loads(result.stdout)}
    assert sizes['pointpillars']['parameters'] == pytest.approx(4.83e6, rel=0.02)
    assert sizes['pointpillars']['multiply_adds'] == pytest.approx(34.2e9, rel=0.02)
    assert sizes['pointpillars_4x']['multiply_adds'] == pytest.approx(8.9e9, rel=0.02)
    assert sizes['pointpillars_16x']['parameters'] == pytest.approx(0.31e6, rel=0.02)


def test_bundles_are_listed_and_described():
    result = run('bundles', '--json', '-')
    rows = {row['name']: row for row in json.loads(result.stdout)}
    assert rows[DEFAULT_BUNDLE]['range'] == [-40.96, 61.44, -30.72, 30.72]
    assert rows[DEFAULT_BUNDLE]['parameters'] == pytest.approx(1.22e6, rel=0.01)
    assert 'torch' in rows[DEFAULT_BUNDLE]['backends']
    card = run('bundles', DEFAULT_BUNDLE).stdout
    file = shipped_bundles()[DEFAULT_BUNDLE] / 'README.md'
    assert card == file.read_text(encoding='utf-8')
    with pytest.raises(CheckpointError, match="no bundle 'other' is shipped; choose from"):
        run('bundles', 'other')


def test_models_counts_what_a_cloud_costs(monkeypatch, tmp_path):
    small = [path for path in shipped_configs('models') if path.stem.endswith('small_16x')]
    monkeypatch.setattr(configuration, 'shipped_configs', lambda _: small)
    places = np.random.default_rng(0).uniform((0, -20, -2, 0), (40, 20, 0, 1), (50_000, 4))
    places.astype(np.float32).tofile(tmp_path / 'cloud.bin')
    result = run('models', '--sweep', tmp_path / 'cloud.bin', '--json', '-')
    rows = json.loads(result.stdout)
    clouds = {row['name']: row['cloud'] for row in rows if 'cloud' in row}
    assert {row['name'] for row in rows} - clouds.keys() == {'pointrcnn_small_16x'}
    second = clouds['second_small_16x']
    assert second['voxels'] == 40_000  # the cap
    assert f'{second["voxels_dropped"]} of {40_000 + second["voxels_dropped"]} voxels' in (
        result.stderr
    )
    assert second['multiply_adds'] > 10 * clouds['pointpillars_small_16x']['multiply_adds'] > 0


def test_dump_config_is_complete_and_takes_overrides():
    result = run('dump-config', 'model', '--set', 'width=0.5')
    assert yaml.safe_load(result.stdout)['width'] == 0.5
    assert yaml.safe_load(result.stdout)['head']['anchors'].keys() == {
        'Car',
        'Pedestrian',
        'Cyclist',
    }
    assert 'cars' in yaml.safe_load(run('dump-config', 'simulation').stdout)['scene']


def test_dump_config_names_an_unknown_key():
    with pytest.raises(ConfigError, match='widht: unknown key'):
        run('dump-config', 'model', '--set', 'widht=0.5')


def test_detect_takes_the_bundle_as_run_detect_does(bundle, tmp_path):
    clouds = [tmp_path / 'a.bin', tmp_path / 'b.bin']
    for cloud in clouds:
        np.ones((10, 4), np.float32).tofile(cloud)
    for words in ((bundle, *clouds), ('--bundle', bundle, *clouds), (*clouds, '--bundle', bundle)):
        result = run('detect', *words, '--json', '-')
        assert [row['cloud'] for row in json.loads(result.stdout)] == [*map(str, clouds)]
    assert len(json.loads(run('detect', '--bundle', bundle, clouds[0], '--json', '-').stdout)) == 1
    assert run('detect', bundle).exit_code == 2
    assert 'no point cloud after the bundle' in ' '.join(run('detect', bundle).output.split())


def test_detect_writes_json_and_pictures(bundle, tmp_path):
    cloud = tmp_path / '000001.bin'
    points = np.random.default_rng(0).uniform([0, -5, -2, 0], [10, 5, 0, 1], (500, 4))
    points.astype(np.float32).tofile(cloud)
    result = run('detect', bundle, cloud, '--json', '-', '--pictures', tmp_path / 'pictures')
    (found,) = json.loads(result.stdout)
    assert found['counts']['points'] == 500
    assert len(found['boxes']) == len(found['scores']) == len(found['classes'])
    assert (tmp_path / 'pictures' / '000001.png').stat().st_size > 1000


def test_detect_names_clouds_without_ground(tmp_path):
    cloud = tmp_path / 'sky.bin'
    np.full((200, 4), [5.0, 0.0, 3.0, 0.5], np.float32).tofile(cloud)
    words = ' '.join(run('detect', 'lidar_16x', cloud, '--backend', 'torch').output.split())
    assert 'no ground found in 1 of 1 clouds, which are taken as they are: sky.bin' in words


def test_an_error_is_one_line_with_exit_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['pointdistiller', 'detect', str(tmp_path), 'cloud.bin'])
    with pytest.raises(SystemExit) as exit_code:
        cli.main()
    assert exit_code.value.code == 2
    message = capsys.readouterr().err
    assert 'neither a bundle' in message
    assert 'Traceback' not in message


def test_distill_from_nothing_writes_nothing(tmp_path, monkeypatch, capsys):
    experiment = tmp_path / 'experiment.yaml'
    experiment.write_text(f'model: pointpillars_4x\ndataset: {{root: {tmp_path}}}\n')
    words = ['distill', experiment, '--teacher', tmp_path / 'none', '-o', tmp_path / 'run']
    monkeypatch.setattr(sys, 'argv', ['pointdistiller', *map(str, words)])
    with pytest.raises(SystemExit) as exit_code:
        cli.main()
    assert exit_code.value.code == 2
    assert not (tmp_path / 'run').exists()
    assert f"error: {tmp_path}: is not a folder in KITTI's layout" in capsys.readouterr().err


def test_help_is_quick_because_torch_waits():
    code = 'import sys; from pointdistiller_core.cli import app; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
