# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`pointdistiller compare` and `compare-features`."""

from __future__ import annotations

import json

from matplotlib.image import imread
import numpy as np
import pytest

from pointdistiller_core.cli.comparison import choose_frames, name_bundles, shown
from pointdistiller_core.config import DatasetConfig
from pointdistiller_core.datasets import KittiDataset
from pointdistiller_core.evaluation.equal_recall import EqualRecall
from pointdistiller_core.records import Detections


def test_false_positives_and_pictures(run, make_bundle, dataset, tmp_path):
    bundles = [make_bundle('first', seed=1), make_bundle('second', seed=2, width=0.5)]
    options = ['--json', tmp_path / 'fp.json', '--picture', tmp_path / 'pictures']
    code, table, notes = run('compare', *bundles, '--dataset', dataset, *options)
    assert code == 0
    assert '3d, moderate' in ' '.join(table.split())
    assert 'first' in table
    assert 'second' in table
    written = json.loads((tmp_path / 'fp.json').read_text(encoding='utf-8'))
    assert written['num_frames'] == 2
    assert list(written['classes']) == ['Car', 'all']
    assert '000001_comparison.png' in notes
    names = sorted(path.name for path in (tmp_path / 'pictures').iterdir())
    kinds = ('comparison', 'importance')
    assert names == [f'00000{index}_{kind}.png' for index in (0, 1) for kind in kinds]
    assert imread(tmp_path / 'pictures' / names[0]).shape[1] == 1600


def test_overlap_and_difficulty_are_a_choice(run, make_bundle, dataset):
    bundles = [make_bundle(name, seed=3) for name in ('first', 'second')]
    options = ['--metric', 'bev', '--difficulty', 'hard', '--json', '-']
    code, output, table = run('compare', *bundles, '--dataset', dataset, *options)
    assert code == 0
    written = json.loads(output)
    assert (written['metric'], written['difficulty']) == ('bev', 'hard')
    assert 'bev, hard' in table


def test_what_cannot_be_compared(run, make_bundle, dataset, tmp_path):
    one, other = make_bundle('one'), make_bundle('other', class_names=('Cyclist',))
    for bundles, message in (
        ([one, one], 'give each bundle once; got'),
        ([one, other], "one has ('Car',), other has ('Cyclist',)"),
    ):
        code, output, error = run('compare', *bundles, '--dataset', dataset)
        assert (code, output) == (2, '')
        assert message in error
    pair = ['compare', one, make_bundle('two'), '--dataset', dataset, '--frame', '7']
    assert '--frame 7: give --picture DIR, too' in run(*pair)[2]
    code, _, error = run(*pair, '--picture', tmp_path / 'pictures')
    assert code == 2
    assert '--frame 7: not in the split; its 2 frames are 000000 to 000001' in error


def test_frames_to_draw(dataset):
    frames = KittiDataset(DatasetConfig(root=dataset, split='val'), ('Car',))
    assert choose_frames(frames, ['000001']) == [1]
    label = dataset / 'training' / 'label_2' / '000001.txt'
    label.write_text(label.read_text(encoding='utf-8') * 2, encoding='utf-8')
    assert choose_frames(frames, []) == [1, 0]


def test_bundles_have_short_names_where_these_tell_them_apart(tmp_path):
    assert name_bundles([tmp_path / 'a', tmp_path / 'b']) == ['a', 'b']
    twice = [tmp_path / run / 'bundle' for run in ('a', 'b')]
    assert name_bundles(twice) == [str(path) for path in twice]


def test_pictures_show_what_counts_at_the_last_recall():
    scores = np.array([0.9, 0.6, 0.4, 0.2], np.float32)
    detections = Detections(np.zeros((4, 7), np.float32), scores, np.array([0, 0, 1, 1]))
    rows = {
        'Car': [EqualRecall(r, {}, {'student': t}) for r, t in ((0.1, 0.95), (0.2, 0.7))],
        'Cyclist': [],
    }
    keep = shown(detections, 'student', ('Car', 'Cyclist'), rows)
    assert keep.tolist() == [True, False, True, False]


def test_features_of_a_student(run, make_bundle, dataset, tmp_path):
    teacher, student = make_bundle('teacher', seed=1), make_bundle('student', seed=2, width=0.5)
    arguments = ['compare-features', teacher, student, '--dataset', dataset]
    code, table, _ = run(*arguments, '--json', tmp_path / 'features.json')
    assert code == 0
    assert '(val, 2 frames)' in ' '.join(table.split())
    assert 'backbone.1' in table
    written = json.loads((tmp_path / 'features.json').read_text(encoding='utf-8'))
    assert list(written) == ['pillars', 'backbone.0', 'backbone.1', 'neck']
    for of_tap in written.values():
        assert list(of_tap) == ['student', 'untrained']
        assert of_tap['student'] != of_tap['untrained']
        assert all(-1 < of_tap[name]['cka'] <= 1.001 for name in of_tap)
    code, table, _ = run(*arguments, '--max-frames', 1)
    assert '(val, 1 frames)' in ' '.join(table.split())


def test_a_teacher_is_like_itself(run, make_bundle, dataset):
    teacher = make_bundle('teacher', seed=1)
    code, output, table = run(
        'compare-features', teacher, teacher, '--dataset', dataset, '--json', '-'
    )
    assert code == 0
    assert 'probe R2, untrained' in table
    for of_tap in json.loads(output).values():
        assert of_tap['student']['cka'] == pytest.approx(1.0)


def test_features_of_other_pillars_are_refused(run, make_bundle, dataset, tiny_model):
    pillars = tiny_model.pillars.model_copy(update={'max_points_per_pillar': 20})
    other = make_bundle('other', pillars=pillars)
    teacher = make_bundle('teacher')
    code, output, error = run('compare-features', teacher, other, '--dataset', dataset)
    assert (code, output) == (2, '')
    assert 'teacher and student must agree' in error
