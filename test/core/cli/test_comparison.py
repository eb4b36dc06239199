# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`pointdistiller compare-at-recall` and `compare-features`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
import json

from matplotlib.image import imread
import numpy as np
import pytest

from pointdistiller_core.cli import comparison
from pointdistiller_core.cli.comparison import choose_frames, name_bundles, shown
from pointdistiller_core.config import KittiConfig, PointPillarsConfig
from pointdistiller_core.datasets import KittiDataset
from pointdistiller_core.deploy.bundle_format import BundleInfo
from pointdistiller_core.evaluation.equal_recall import EqualRecall
from pointdistiller_core.evaluation.pictures import scenes as pictures
from pointdistiller_core.pipelines.make_bag import write_kitti_bag
from pointdistiller_core.records import Cut, Detections

FALSE_BOX = np.array([[13, 0, -1, 3.9, 1.6, 1.56, 0]], np.float32)


class KnownDetector:
    """Knows its answers; asked again, it is a little less sure, as rounding can make it."""

    class_names = ('Car',)

    info = BundleInfo(model=PointPillarsConfig())

    def __init__(self, answers: Mapping[bytes, Detections]) -> None:
        self._answers = answers  # by the points
        self._times_asked: Counter[bytes] = Counter()

    def __call__(self, points: np.ndarray, **_: object) -> Detections:
        cloud = points.tobytes()
        known = self._answers[cloud]
        scores = known.scores - np.float32(1e-6 * self._times_asked[cloud])
        self._times_asked[cloud] += 1
        return replace(known, scores=scores)


@pytest.fixture
def known_detectors(monkeypatch, dataset) -> None:
    """Both find all cars; `rash` makes one up in the first frame, and in both at a low score."""
    frames = KittiDataset(KittiConfig(root=dataset, split='val'), ('Car',))
    answers: dict[str, dict[bytes, Detections]] = {'sure': {}, 'rash': {}}
    for index, frame in enumerate(frames):
        cars, cloud = frame.ground_truth.boxes, frame.points.tobytes()
        answers['sure'][cloud] = detections(cars, [0.9, 0.8])
        made_up = [*cars, *FALSE_BOX, *FALSE_BOX]
        answers['rash'][cloud] = detections(made_up, [0.7, 0.6, (0.65, 0.3)[index], 0.2])
    detectors = {name: KnownDetector(of) for name, of in answers.items()}
    monkeypatch.setattr(comparison, 'load_detectors', lambda *_: detectors)


def test_says_why_there_is_nothing_to_compare(capsys):
    comparison.print_false_positives({'Car': []}, ['a', 'b'], 'nothing', json_file=None)
    assert 'Car: nothing to compare; not every detector finds 10% of' in capsys.readouterr().err


def detections(boxes: object, scores: list[float]) -> Detections:
    labels = np.zeros(len(scores), np.int64)
    cuts = {'points': Cut(47, 3), 'voxels': Cut(20, 1)}
    return Detections(np.array(boxes), np.array(scores, np.float32), labels, cuts=cuts)


@pytest.mark.usefixtures('known_detectors')
def test_false_positives_of_known_detections(run, dataset):
    code, output, notes = run(
        'compare-at-recall', 'sure', 'rash', '--dataset', dataset, '--json', '-'
    )
    assert code == 0
    classes = json.loads(output)['classes']
    # Four cars: one is found at 0.7, a second too, and two more at 0.6, behind the false 0.65.
    expected = [0.0] * 5 + [0.5] * 5
    for rows in classes.values():
        assert [row['recall'] for row in rows] == pytest.approx(np.arange(0.1, 1.05, 0.1))
        assert [row['false_positives'] for row in rows] == [
            {'sure': 0.0, 'rash': number} for number in expected
        ]
    thresholds = classes['Car'][-1]['score_thresholds']
    assert thresholds == pytest.approx({'sure': 0.8, 'rash': 0.6})
    cut = 'as in training: 6 of 100 points, 2 of 42 voxels in range left out'
    assert f'rash: of crowded places only some points are used, {cut}' in notes


@pytest.mark.usefixtures('known_detectors')
def test_pictures_hold_the_box_that_sets_the_recall(run, dataset, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        pictures,
        'draw_found',
        lambda path, _frame, found, _overlaps, *, title: drawn.update({path.name: (found, title)}),
    )
    options = ['--dataset', dataset, '--picture', tmp_path]
    assert run('compare-at-recall', 'sure', 'rash', *options)[0] == 0
    found, title = drawn['000000_comparison.png']
    assert found['sure'].scores == pytest.approx([0.9, 0.8])
    assert found['rash'].scores == pytest.approx([0.7, 0.6, 0.65])
    assert '100%' in title
    assert found.keys() == drawn['000001_comparison.png'][0].keys()
    assert drawn['000001_comparison.png'][0]['rash'].scores == pytest.approx([0.7, 0.6])


def test_false_positives_and_pictures(run, make_bundle, dataset, tmp_path):
    bundles = [make_bundle('first', seed=1), make_bundle('second', seed=2, width=0.5)]
    options = ['--json', tmp_path / 'fp.json', '--picture', tmp_path / 'pictures']
    code, table, notes = run('compare-at-recall', *bundles, '--dataset', dataset, *options)
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


@pytest.mark.usefixtures('known_detectors')
def test_false_positives_on_a_bag(run, dataset, tmp_path):
    write_kitti_bag(dataset, tmp_path / 'bag', ground_truth=('Car',), camera_view=True)
    options = ['--dataset', tmp_path / 'bag', '--picture', tmp_path / 'pictures', '--json', '-']
    code, output, notes = run('compare-at-recall', 'sure', 'rash', *options)
    assert code == 0
    written = json.loads(output)
    assert (written['difficulty'], written['num_frames']) == ('', 2)
    assert 'labels that count: 4 of Car' in notes
    rows = written['classes']['Car']
    assert [row['false_positives']['rash'] for row in rows] == [0.0] * 5 + [0.5] * 5
    thresholds = rows[-1]['score_thresholds']
    assert thresholds == pytest.approx({'sure': 0.8, 'rash': 0.6})
    assert len(list((tmp_path / 'pictures').iterdir())) == 4
    code, _, error = run('compare-at-recall', 'sure', 'rash', *options, '--difficulty', 'easy')
    assert code == 2
    assert '--difficulty easy: no such level in this dataset; it has none' in error


def test_overlap_and_difficulty_are_a_choice(run, make_bundle, dataset):
    bundles = [make_bundle(name, seed=3) for name in ('first', 'second')]
    options = ['--metric', 'bev', '--difficulty', 'hard', '--json', '-']
    code, output, table = run('compare-at-recall', *bundles, '--dataset', dataset, *options)
    assert code == 0
    written = json.loads(output)
    assert (written['metric'], written['difficulty']) == ('bev', 'hard')
    assert 'bev, hard' in table


def test_no_name_is_cut_short_in_a_wide_table(capsys):
    names = [letter * 20 for letter in 'ABCDEFGHI']
    comparison.print_false_positives({'Car': []}, names, '', json_file=None)
    table = capsys.readouterr().out
    assert all(table.count(name[0]) >= 20 for name in names)


def test_what_cannot_be_compared(run, make_bundle, dataset, tmp_path):
    one, other = make_bundle('one'), make_bundle('other', class_names=('Cyclist',))
    for bundles, message in (
        ([one, one], 'give each bundle once; got'),
        ([one, other], "one has ('Car',), other has ('Cyclist',)"),
    ):
        code, output, error = run('compare-at-recall', *bundles, '--dataset', dataset)
        assert (code, output) == (2, '')
        assert message in error
    pair = ['compare-at-recall', one, make_bundle('two'), '--dataset', dataset, '--frame', '7']
    assert '--frame 7: give --picture DIR, too' in run(*pair)[2]
    code, _, error = run(*pair, '--picture', tmp_path / 'pictures')
    assert code == 2
    assert '--frame 7: not in the split; its 2 frames are 000000 to 000001' in error


def test_frames_to_draw(dataset):
    frames = KittiDataset(KittiConfig(root=dataset, split='val'), ('Car',))
    assert choose_frames(frames, ['000001']) == [1]
    label = dataset / 'training' / 'label_2' / '000001.txt'
    label.write_text(label.read_text(encoding='utf-8') * 2, encoding='utf-8')
    assert choose_frames(frames, []) == [1, 0]


def test_bundles_have_short_names_where_these_tell_them_apart(tmp_path):
    assert name_bundles([tmp_path / 'a', tmp_path / 'b']) == ['a', 'b']
    twice = [tmp_path / run / 'bundle' for run in ('a', 'b')]
    assert name_bundles(twice) == [str(path) for path in twice]


@pytest.mark.parametrize(
    ('num_common', 'expected'),
    [
        (2, [True, True, False, True, True, False]),  # each at its second row
        (1, [True, False, False, True, False, False]),
        (0, [True, True, True, True, True, False]),  # each at its own last row
    ],
)
def test_pictures_show_what_counts_at_the_last_common_recall(num_common, expected):
    scores = np.array([0.9, 0.6, 0.4, 0.9, 0.4, 0.2], np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1])
    found = Detections(np.zeros((6, 7), np.float32), scores, labels)
    rows = {'Car': at_recalls(0.8, 0.5, 0.3), 'Cyclist': at_recalls(0.6, 0.4), 'Van': []}
    rows['all'] = at_recalls(0, 0)[:num_common]
    keep = shown(found, 'student', ('Car', 'Cyclist', 'Van'), rows)
    assert keep.tolist() == expected


def test_pictures_cut_a_class_without_recalls_at_a_score():
    scores = np.array([0.9, 0.31, 0.29], np.float32)
    found = Detections(np.zeros((3, 7), np.float32), scores, np.array([0, 1, 1]))
    rows = {'Car': at_recalls(0.8), 'Van': [], 'all': at_recalls(0)}
    assert shown(found, 'student', ('Car', 'Van'), rows).tolist() == [True, True, False]


def at_recalls(*thresholds: float) -> list[EqualRecall]:
    """A row of the detector `student` for each threshold."""
    return [
        EqualRecall(tenth / 10, {}, {'student': threshold})
        for tenth, threshold in enumerate(thresholds, 1)
    ]


def test_features_of_a_student(run, make_bundle, dataset, tmp_path):
    teacher, student = make_bundle('teacher', seed=1), make_bundle('student', seed=2, width=0.5)
    arguments = ['compare-features', teacher, student, '--dataset', dataset]
    code, table, _ = run(*arguments, '--json', tmp_path / 'features.json')
    assert code == 0
    assert '(val, 2 frames)' in ' '.join(table.split())
    assert 'backbone.1' in table
    written = json.loads((tmp_path / 'features.json').read_text(encoding='utf-8'))
    assert list(written) == ['voxels', 'backbone.0', 'backbone.1', 'neck']
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


def test_features_of_other_pillars_are_refused(run, make_bundle, dataset):
    other = make_bundle('other', voxels={'max_points': 20})
    teacher = make_bundle('teacher')
    code, output, error = run('compare-features', teacher, other, '--dataset', dataset)
    assert (code, output) == (2, '')
    assert 'teacher and student must agree' in error
