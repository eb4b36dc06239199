# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From a small simulated recording to a student: walked, killed, repeated, changed."""

from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
from time import monotonic, sleep

from changed_config import changed
import pytest
import torch
import yaml

from pointdistiller_core.cli import road as module
from pointdistiller_core.cli.from_bag import print_summary
from pointdistiller_core.config import (
    DetectionConfig,
    FromBagConfig,
    SensorConfig,
    SimulationConfig,
    dump_config,
    parse_config,
    shipped_configs,
)
from pointdistiller_core.datasets.simulated import write_drive_bag
from pointdistiller_core.deploy.bundle import BundleInfo, read_info, save_bundle
from pointdistiller_core.formats.folder import Label, labels_path, read_labels, write_labels
from pointdistiller_core.models import build_detector
from pointdistiller_core.pipelines.stages import StageResult, run_stages

STAGES = ('dataset', 'labels', 'teacher', 'student', 'export', 'compare', 'page')
FRAMES = 12


@pytest.fixture(scope='module')
def recording(tmp_path_factory) -> Path:
    """A drive whose boxes are on a topic, as if another stack had left them there."""
    drive = tmp_path_factory.mktemp('drive') / 'drive'
    config = SimulationConfig(sensor=SensorConfig(num_columns=200))
    write_drive_bag(drive, config, num_frames=FRAMES, seed=2)
    (drive / 'truth.json').unlink()
    return drive


@pytest.fixture(scope='module')
def settings(recording, tiny_model, tmp_path_factory) -> dict:
    """A configuration of tiny networks and short trainings, without its output folder."""
    torch.manual_seed(0)
    bundle = tmp_path_factory.mktemp('given') / 'teacher'
    detection = DetectionConfig(score_threshold=0.0, max_detections=20)
    model = changed(tiny_model, detection=detection)
    save_bundle(bundle, build_detector(model), BundleInfo(model=model))
    training = {'epochs': 1, 'batch_size': 4, 'num_workers': 0}
    return {
        'bags': [str(recording)],
        'dataset': {'poses': 'none', 'splits': {'val_part': 0.3, 'gap_s': 0.1}},
        'labels': {'detections': [f'{recording}:/ground_truth/boxes']},
        'teacher': {'bundle': str(bundle), 'training': training},
        'student': {'training': training},
        'export': {'to': ['openvino']},
        'page': {'pictures': 1},
    }


@pytest.fixture(scope='module')
def walked(settings, tmp_path_factory) -> Path:
    """The folder of a road that was killed in its training, and then walked to its end."""
    folder = tmp_path_factory.mktemp('road')
    config = folder / 'own.yaml'
    config.write_text(yaml.safe_dump({**settings, 'output': str(folder / 'own')}))
    process = start(config)
    wait_for(folder / 'own' / 'teacher' / 'run.json', process)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    record = json.loads((folder / 'own' / 'stages' / 'teacher.json').read_text())
    assert not record['complete']
    process = start(config)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    (folder / 'said').write_text(said)
    return folder


def start(config: Path) -> subprocess.Popen:
    command = [sys.executable, '-m', 'pointdistiller_core', 'from-bag', str(config)]
    package = str(Path(module.__file__).parents[2])
    return subprocess.Popen(
        command,
        env={**os.environ, 'PYTHONPATH': package, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(file: Path, process: subprocess.Popen) -> None:
    end = monotonic() + 200
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert monotonic() < end
        sleep(0.05)


@pytest.fixture
def again(run, walked, tmp_path):
    """`again('KEY=VALUE', ...)`: a copy of the road repeated; its exit code and what it says."""
    folder = tmp_path / 'own'
    shutil.copytree(walked / 'own', folder)

    def call(*overrides: str) -> tuple[int, str]:
        options = [word for override in overrides for word in ('--set', override)]
        code, _, said = run('from-bag', walked / 'own.yaml', '--output', folder, *options)
        return code, said

    call.folder = folder
    return call


def states(said: str) -> dict[str, str]:
    """What was said of each stage: in brackets behind its title."""
    parts = said.split(' of 7: ')[1:]
    return {part.split(':')[0]: part.split('(', 1)[1].split(')')[0] for part in parts}


def test_a_killed_road_goes_on_to_its_end(walked):
    said = ' '.join((walked / 'said').read_text().split())
    assert states(said) == {
        'dataset': 'is current',
        'labels': 'is current',
        'teacher': 'was interrupted, and goes on',
        **dict.fromkeys(STAGES[3:], 'not done yet'),
    }
    own = walked / 'own'
    records = {path.stem: json.loads(path.read_text()) for path in own.glob('stages/*.json')}
    assert set(records) == set(STAGES)
    assert all(record['complete'] for record in records.values())
    assert records['dataset']['facts']['frames'] == {'train': 8, 'val': 4}
    assert records['labels']['facts']['frames'] == {'labelled': FRAMES}
    teacher, student = read_info(own / 'teacher' / 'bundle'), read_info(own / 'student' / 'bundle')
    assert student.model.width == teacher.model.width / 2
    assert student.training['teacher_sha256'] == teacher.sha256['model.safetensors']
    assert student.training['frames'] == 8
    assert 'the student finds nothing on the held-out frames' in said  # after a single epoch


def test_its_page_tells_of_every_stage_and_shows_what_was_learned(walked):
    page = (walked / 'own' / 'index.html').read_text()
    for number, name in enumerate(STAGES[:-1], start=1):
        assert f'<h2>{number}. {name}: ' in page
    assert page.count('data:image/svg+xml') == 2  # losses of teacher and student
    assert page.count('data:image/png') == 1
    assert 'src="http' not in page
    assert 'beside labels of a teacher' in page


def test_a_student_that_finds_nothing_is_no_success(settings, tmp_path, capsys):
    values = {**settings, 'output': str(tmp_path)}
    config = parse_config(FromBagConfig, values, where='test')
    for boxes, said, other in (
        (0, 'student.training.epochs=2', 'run it: '),
        (3, 'run it: ', 'warning'),
    ):
        compared = StageResult('compare', '', 'a', 1.0, {'summary': '', 'student_boxes': boxes})
        print_summary(config, [compared])
        told = capsys.readouterr().err
        assert said in told
        assert other not in told


def test_a_road_at_its_end_is_current(again):
    code, said = again()
    assert code == 0
    assert states(said) == dict.fromkeys(STAGES, 'is current')


def test_a_changed_setting_repeats_what_depends_on_it(again):
    before = (again.folder / 'teacher' / 'bundle' / 'model.safetensors').read_bytes()
    code, said = again(
        *('student.training.learning_rate=0.002', 'teacher.training.num_workers=1'),
        *('export.to=[]', 'page.pictures=0'),
    )
    assert code == 0
    assert states(said) == {
        **dict.fromkeys(STAGES[:3], 'is current'),
        'student': 'changed: student.training.learning_rate: 0.001 -> 0.002',
        'export': "changed: export.to: ['openvino'] -> []",
        'compare': 'export gave other results',
        'page': 'changed: page.pictures: 1 -> 0',
    }
    assert (again.folder / 'teacher' / 'bundle' / 'model.safetensors').read_bytes() == before


def test_corrected_labels_are_learned_from_and_never_removed(again):
    name = next(iter(sorted((again.folder / 'dataset' / 'labels').iterdir()))).stem
    box = (10.0, 0.0, -1.0, 4.0, 1.8, 1.5, 0.0)
    write_labels(again.folder / 'dataset', name, [Label('Car', box)])
    code, said = again('teacher.train=false', 'export.to=[]', 'page.pictures=0')
    assert code == 0
    assert 'labels of people: 0 files' in said
    assert states(said)['teacher'].startswith('changed: teacher.train: True -> False')
    assert 'labels: 0 boxes' not in said
    (label,) = read_labels(again.folder / 'dataset', name)
    assert label.box == box
    code, said = again('dataset.stride=2')
    assert code == 2
    assert 'dataset.stride' in said
    assert 'people have labelled frames in it' in said
    assert labels_path(again.folder / 'dataset', name).exists()


def test_further_recordings_are_added_and_other_settings_begin_anew(settings, recording, tmp_path):
    second = shutil.copytree(recording, tmp_path / 'second')

    def convert(bags, **dataset):
        values = {**settings, 'bags': bags, 'output': str(tmp_path / 'own')}
        values['dataset'] = {**settings['dataset'], **dataset}
        road = module.Road(parse_config(FromBagConfig, values, where='test'))
        (result,) = run_stages(road.output, road.stages()[:1])
        files = {path: path.stat().st_mtime_ns for path in (road.dataset / 'points').iterdir()}
        return result.reason, files

    _, first = convert([str(recording)])
    reason, both = convert([str(recording), str(second)])
    assert reason.startswith('changed: bags.second: - -> ')
    assert (len(first), len(both)) == (FRAMES, 2 * FRAMES)
    assert {path: both[path] for path in first} == first
    reason, fewer = convert([str(recording), str(second)], stride=2)
    assert reason == 'changed: dataset.stride: 1 -> 2'
    assert len(fewer) == FRAMES
    assert not set(fewer.values()) & set(both.values())


def test_labels_that_teach_nothing_are_told(again):
    code, said = again('labels.trust={accept: 1.0, ignore: 1.0, min_detections: 99}')
    assert code == 2
    assert 'the teachers are sure of nothing' in said


@pytest.mark.parametrize(
    ('override', 'message'),
    [
        ('teacher.bundle=nowhere', 'nowhere: no such folder'),
        ('bags=[nowhere]', 'bags: no such file or folder: nowhere'),
        ('dataset.splits={val_part: 0}', 'nothing is held out to compare on'),
        ('student.distillation={terms: [{name: fitnets, taps: [tail]}]}', r"no ['tail']"),
        ('student.widht=1', 'command line: student.widht: unknown key; expected some of'),
    ],
)
def test_mistakes_are_told_before_the_first_stage(run, walked, tmp_path, override, message):
    options = ('--output', tmp_path / 'new', '--set', override)
    code, _, said = run('from-bag', walked / 'own.yaml', *options)
    assert code == 2
    assert message in said
    assert not (tmp_path / 'new' / 'stages').exists()


def test_the_shipped_configuration_lacks_only_what_is_ones_own(run):
    (path,) = shipped_configs('from_bag')
    values = yaml.safe_load(path.read_text())
    given = {'bags': ['x'], 'output': 'y'}
    values['teacher']['bundle'] = 'z'
    config = parse_config(FromBagConfig, {**values, **given}, where='shipped')
    bare = parse_config(FromBagConfig, {**given, 'teacher': {'bundle': 'z'}}, where='bare')
    assert config == changed(bare, dataset={'min_distance': 0.5})
    assert parse_config(FromBagConfig, yaml.safe_load(dump_config(config)), where='x') == config
    code, _, said = run('from-bag')
    assert code == 2
    for key in ('bags', 'output', 'teacher.bundle'):
        assert f'{key}: Field required' in said
