# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`pointdistiller check-dataset`."""

from __future__ import annotations

import json
from pathlib import Path
import sys

from kitti_folder import write_frame, write_splits
from matplotlib.image import imread
import pytest

from pointdistiller_core.cli import main
from pointdistiller_core.pipelines.convert_dataset import kitti_to_folder

BOX = [10, 0, 0, 4, 2, 1.5, 0.3]


@pytest.fixture
def check(monkeypatch, capsys):
    """`check(root, ...)` -> exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, 'argv', ['pointdistiller', 'check-dataset', *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return call


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two frames; the box of the second one is empty."""
    root = tmp_path / 'data'
    for name, x in (('000003', 10), ('000007', 30)):
        write_frame(root, name, [[x, 0, 0, 0.5]], [BOX], ['Car'])
    write_splits(root, {'train': ['000003', '000007']})
    return root


def test_a_sound_dataset(check, root):
    code, out, _ = check(root)
    assert code == 0
    assert f'{root}: 2 train frames' in out.replace('\n', '')
    row = next(line for line in out.splitlines() if 'Car' in line)
    columns = [column.strip() for column in row.strip('│').split('│')]
    assert columns == ['Car', '2', '2', '0', '0', '0', '1', '0.5', '10.0', '4.00 2.00 1.50']
    assert 'note: 000007: 1 of 1 boxes have no points: Car at 10.0 m\n' in out


def test_a_broken_dataset(check, root):
    for name in ('calib/000003.txt', 'velodyne/000007.bin'):
        (root / 'training' / name).unlink()
    code, out, _ = check(root)
    assert code == 1
    for name in ('calib/000003.txt', 'velodyne/000007.bin'):
        path = root / 'training' / name
        assert f'broken: {path.stem}: {path}: no such file\n' in out


def test_json_is_alone_on_stdout(check, root):
    code, out, err = check(root, '--json', '-')
    assert code == 0
    values = json.loads(out)
    assert values['classes']['Car']['objects'] == 2
    assert '2 train frames' in err
    assert 'note: 000007' in err


def test_files(check, root, tmp_path):
    picture, report = tmp_path / 'new' / 'picture.png', tmp_path / 'new' / 'report.json'
    code, _, _ = check(root, '--picture', picture, '--json', report)
    assert code == 0
    assert imread(picture).ndim == 3
    assert json.loads(report.read_text(encoding='utf-8'))['broken'] == 0


def test_classes_of_ones_own(check, root):
    path = root / 'training' / 'label_2' / '000003.txt'
    path.write_text(path.read_text(encoding='utf-8').replace('Car', 'Tank'), encoding='utf-8')
    assert check(root)[0] == 1
    assert check(root, '--class', 'Tank')[0] == 0


def test_without_difficulties_none_are_shown(check, root, tmp_path):
    columns = {'easy', 'moderate', 'hard', 'none', '[m]'}
    assert columns <= set(check(root)[1].replace('│', ' ').replace('┃', ' ').split())
    kitti_to_folder(root, tmp_path / 'open')
    picture = tmp_path / 'picture.png'
    code, out, _ = check(tmp_path / 'open', '--picture', picture)
    assert code == 0
    assert not {'easy', 'moderate', 'hard', 'none'} & set(out.split())
    assert picture.is_file()


def test_many_findings_are_cut_short(check, root):
    names = [f'{index:06d}' for index in range(40)]
    write_splits(root, {'train': names})
    code, out, _ = check(root, '--split', 'train')
    assert code == 1
    assert out.count('no such file') == 30
    assert 'broken: 84 more; --json FILE has all' in out


def test_what_is_no_dataset(check, tmp_path):
    code, _, error = check(tmp_path)
    assert code == 2
    assert f'{tmp_path}: no dataset: none of these: ' in ' '.join(error.split())


def test_without_any_frame(check, tmp_path):
    (tmp_path / 'ImageSets').mkdir()
    code, out, _ = check(tmp_path)
    assert code == 1
    assert f'broken: train.txt: {tmp_path}/ImageSets/train.txt: no such split' in out


def test_drives_in_the_format_of_nuscenes(monkeypatch, capsys, check, tmp_path):
    """They are simulated, and checked, on the command line."""
    settings = ['sensor.beams=[[2, -24, 8]]', 'sensor.num_columns=90', 'sensor.rate=2']
    options = [part for text in settings for part in ('--set', text)]
    command = ['simulate', tmp_path, '--format', 'nuscenes', '--train', 1, '--val', 0, *options]
    monkeypatch.setattr(sys, 'argv', ['pointdistiller', *map(str, command), '--workers', '1'])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert '1 train frames, seed 0' in capsys.readouterr().err
    code, out, _ = check(tmp_path)
    assert code == 0
    assert '1 train, 1 simulated_train frames' in ' '.join(out.split())
    assert 'car' in out
