# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`label` by recorded detections, and `labels`."""

from __future__ import annotations

from detection_drives import convert, vision, write_drive
import pytest

from pointdistiller_core.formats.folder import read_labels

AHEAD = (10.0, 6.5, -0.5, 4.0, 1.75, 1.5, 0.25)


@pytest.fixture
def bag(tmp_path):
    return write_drive(tmp_path / 'bag', [vision(n, AHEAD, score=0.8) for n in range(4)])


@pytest.fixture
def own(bag, tmp_path):
    return convert(bag, tmp_path / 'own', height='keep', poses='none').root


def test_detections_of_a_bag_label_a_dataset(run, bag, own):
    code, table, notes = run('label', own, '--detections', bag, '--class-map', 'car=Car')
    assert code == 0
    assert '4 frames labelled' in ' '.join(table.split())
    assert 'error' not in notes
    (label,) = read_labels(own, 'a_000003')
    assert (label.name, label.score) == ('Car', 0.8)


def test_a_conversion_says_that_it_does_not_take_boxes(run, bag, tmp_path):
    _, out, notes = run('bag', 'convert', bag, tmp_path / 'new', '--height', 'keep')
    assert '/objects holds boxes, which are not taken here' in ' '.join((out + notes).split())


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('label', 'own'), 'nobody to label: give --bundle or --detections'),
        (('label', 'own', '--detections', 'no'), 'no: no such bag'),
        (('label', 'kitti', '--detections', 'bag'), 'pointdistiller convert'),
        (('labels', 'export', 'kitti', 'out', '--to', 'sustech'), 'pointdistiller convert'),
        (('labels', 'export', 'bag', 'out', '--to', 'sustech'), 'pointdistiller bag convert'),
        (('label', 'empty', '--bundle', 'b'), 'dataset.yaml: no such file; `pointdistiller bag'),
        (('labels', 'split', 'own'), 'no frame has labels of people'),
    ],
)
def test_what_is_missing_is_said_with_its_remedy(run, bag, own, tmp_path, words, message):
    (tmp_path / 'kitti' / 'training').mkdir(parents=True)
    (tmp_path / 'empty').mkdir()
    names = {
        'empty': tmp_path / 'empty',
        'own': own,
        'bag': bag,
        'kitti': tmp_path / 'kitti',
        'out': tmp_path / 'out',
    }
    code, _, notes = run(*(names.get(word, word) for word in words))
    assert (code, message in notes) == (2, True), notes


def test_labels_go_out_come_back_and_are_split(run, bag, own, tmp_path):
    options = ['--set', 'trust.accept=0.9', '--class-map', 'car=Car']
    run('label', own, '--detections', f'{bag}:/objects', *options)
    code, out, notes = run('labels', 'export', own, tmp_path / 'kitti', '--to', 'kitti')
    assert (code, '4 boxes of 4 frames for kitti' in out) == (0, True)
    assert '4 boxes are unsure: their classes end with _unsure; rename them' in notes
    assert 'not held by kitti: 4 tracks' in notes
    assert '4 frames without a camera; one that looks along x is assumed' in notes
    code, out, notes = run('labels', 'import', own, tmp_path / 'kitti', '--from', 'kitti')
    assert (code, 'labels of 4 frames: 4 Car' in out) == (0, True)
    assert '4 boxes are unsure, as before, and are ignored' in notes
    words = ['labels', 'import', own, f'{bag}:/objects', '--from', 'bag', '--replace']
    code, out, notes = run(*words, '--class-map', 'car=Van')
    assert (code, 'labels of 4 frames: 4 Van' in out) == (0, True)
    assert 'class map: 4 car are Van' in notes
    run('labels', 'import', own, tmp_path / 'kitti', '--from', 'kitti', '--replace')
    code, table, notes = run('labels', 'split', own)
    assert (code, 'corrected_train' in table) == (0, True)
    assert 'no frame is for corrected_val' in notes
