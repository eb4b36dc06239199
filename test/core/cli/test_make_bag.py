# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`pointdistiller make-bag`."""

from __future__ import annotations

import sys

from kitti_folder import write_frame, write_splits
import pytest

from pointdistiller_core.cli import main
from pointdistiller_core.messages.bags import bag_topics, read_clouds

BOX = [10, 0, 0, 4, 2, 1.5, 0.3]


@pytest.fixture
def make_bag(monkeypatch, tmp_path, capsys):
    """`make_bag(...)` -> exit code, stderr; frames 000003 and 000007, the latter in val."""
    for name in ('000003', '000007'):
        write_frame(tmp_path / 'data', name, [[10, 0, 0, int(name) / 10]], [BOX], ['Car'])
    write_splits(tmp_path / 'data', {'val': ['000007']})

    def call(*arguments: str) -> tuple[int, str]:
        words = ['pointdistiller', 'make-bag', str(tmp_path / 'data'), str(tmp_path / 'bag')]
        monkeypatch.setattr(sys, 'argv', [*words, *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


def test_all_frames(make_bag, tmp_path):
    code, log = make_bag()
    assert code == 0
    assert '2 clouds at 10 Hz' in log
    assert bag_topics(tmp_path / 'bag').keys() == {'/points'}


@pytest.mark.parametrize(
    ('arguments', 'count'),
    [(['--split', 'val'], 1), (['--frame', '000003'], 1), (['--max-frames', '1'], 1)],
)
def test_some_frames(make_bag, tmp_path, arguments, count):
    assert make_bag(*arguments)[0] == 0
    assert len(list(read_clouds(tmp_path / 'bag'))) == count


def test_ground_truth(make_bag, tmp_path):
    code, log = make_bag('--ground-truth', '--camera-view')
    assert code == 0
    assert '/ground_truth/boxes: boxes with the labels Car, Pedestrian, Cyclist' in log
    assert bag_topics(tmp_path / 'bag').keys() == {'/points', '/ground_truth/boxes'}


def test_a_folder_that_is_missing(run, tmp_path):
    code, _, said = run('make-bag', tmp_path / 'absent', tmp_path / 'bag')
    assert (code, said) == (2, f'error: {tmp_path / "absent"}: no such folder')


def test_frames_and_a_split(make_bag):
    code, log = make_bag('--split', 'val', '--frame', '000003')
    assert code == 2
    assert 'give one of both' in log
