# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The KITTI metric: its rules on small cases, and the official program's numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
import tarfile

import numpy as np
import pytest

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.evaluation.kitti.metric import (
    count_false_positives,
    evaluate_kitti,
    highest_ap11,
    highest_ap40,
    read_results_folder,
)
from pointdistiller_core.formats.kitti import KittiObjects

BOX = (100.0, 100.0, 200.0, 150.0)  # 50 pixels high: counts at every difficulty
FAR = (600.0, 100.0, 700.0, 150.0)


def thing(name='Car', box=BOX, *, score=None, alpha=0.0, x=0.0, occluded=0, truncated=0.0, **size):
    """One row; in 3D a car of 4 x 1.6 x 1.5 m, 20 m ahead."""
    return {
        'names': name,
        'truncated': truncated,
        'occluded': occluded,
        'alpha': alpha,
        'boxes_2d': box,
        'dimensions': (size.get('h', 1.5), size.get('w', 1.6), size.get('l', 4.0)),
        'locations': (x, size.get('y', 1.5), size.get('z', 20.0)),
        'rotation_y': size.get('ry', 0.0),
        'scores': score,
    }


def frame(*things) -> KittiObjects:
    if not things:
        return frame(thing(score=0.0))[np.zeros(1, bool)]
    columns = {key: np.array([row[key] for row in things]) for key in things[0]}
    if things[0]['scores'] is None:
        del columns['scores']
    return KittiObjects(**columns)


def found(name='Car', box=BOX, *, score=0.5, **values):
    return thing(name, box, score=score, **values)


def curve(truth, detections, *, metric='bbox', name='Car', level='moderate', **options):
    return evaluate_kitti(truth, detections, **options).curves[metric][name][level]


def test_few_labels_score_low_however_good_the_detector():
    """Values are stored by the number of their threshold: ten labels give ten thresholds."""
    truth = [frame(thing()) for _ in range(10)]
    detections = [frame(found(score=index / 10)) for index in range(10)]
    result = evaluate_kitti(truth, detections).to_dict()
    for metric in ('bbox', 'bev', '3d', 'aos'):
        assert result[metric] == {
            'Car': {
                'ap11': [pytest.approx(300 / 11)] * 3,  # of points 0, 4, ..., 40, three are there
                'ap40': [pytest.approx(22.5)] * 3,  # of points 1 to 40, nine
            }
        }


@pytest.mark.parametrize('count', [1, 2, 10, 40, 41, 42, 100])
def test_the_highest_value_is_a_perfect_detectors(count):
    truth = [frame(thing())] * count
    detections = [frame(found(score=0.9 - 0.001 * index)) for index in range(count)]
    result = evaluate_kitti(truth, detections, ['Car'], metrics=['3d'])
    assert result.num_labels == {'Car': {'easy': count, 'moderate': count, 'hard': count}}
    assert result.curves['3d']['Car']['hard'].ap40 == pytest.approx(highest_ap40(count))
    assert result.curves['3d']['Car']['hard'].ap11 == pytest.approx(highest_ap11(count))


def test_a_perfect_detector_of_many_labels():
    truth = [frame(thing()) for _ in range(41)]
    detections = [
        frame(found(score=-float(index))) for index in range(41)
    ]  # any number is a score
    result = evaluate_kitti(truth, detections, metrics=['3d']).to_dict()
    assert result == {'3d': {'Car': {'ap11': [100.0] * 3, 'ap40': [100.0] * 3}}}


@pytest.mark.parametrize(('right', 'precision'), [(170.0, []), (171.0, [1.0])])
def test_the_overlap_must_exceed_the_minimum(right, precision):
    detection = frame(found(box=(100.0, 100.0, right, 150.0)))
    assert curve([frame(thing())], [detection]).values.tolist() == precision


def test_other_minimum_overlaps():
    detection = frame(found(box=(100.0, 100.0, 160.0, 150.0)))
    loose = curve([frame(thing())], [detection], min_overlaps={'Car': 0.5}, class_names=['Car'])
    assert loose.values.tolist() == [1.0]


def test_two_detections_of_one_label():
    detections = frame(found(score=0.5), found(score=0.9))
    result = curve([frame(thing())], [detections])
    assert result.scores.tolist() == [0.9]  # the first pass takes the higher score
    assert result.values.tolist() == [1.0]
    result = curve(
        [frame(thing(), thing(box=FAR))],
        [frame(found(score=0.9), found(score=0.8), found(box=FAR))],
    )
    assert result.values.tolist() == [1.0, pytest.approx(2 / 3)]


def test_labels_choose_in_the_order_of_the_file():
    wide, same = (100.0, 100.0, 160.0, 150.0), (100.0, 100.0, 140.0, 150.0)
    truth = frame(thing('Pedestrian', wide), thing('Pedestrian', same, alpha=math.pi))
    detections = frame(found('Pedestrian', same))
    result = evaluate_kitti([truth], [detections]).curves
    assert result['bbox']['Pedestrian']['easy'].recall.tolist() == [0.5]
    # It went to the first label, whose alpha it has, though it overlaps the second one more.
    assert result['aos']['Pedestrian']['easy'].values.tolist() == [1.0]


@pytest.mark.parametrize(
    ('values', 'levels'),
    [
        ({}, ['easy', 'moderate', 'hard']),
        ({'occluded': 1}, ['moderate', 'hard']),
        ({'occluded': 2}, ['hard']),
        ({'occluded': 3}, []),
        ({'truncated': 0.15}, ['easy', 'moderate', 'hard']),
        ({'truncated': 0.3}, ['moderate', 'hard']),
        ({'truncated': 0.5}, ['hard']),
        ({'truncated': 0.51}, []),
        ({'box': (0.0, 0.0, 90.0, 40.0)}, ['moderate', 'hard']),
        ({'box': (0.0, 0.0, 90.0, 25.0)}, []),
    ],
)
def test_difficulties(values, levels):
    """A label that is too hard is matched and ignored: neither hit nor miss, nor an alarm."""
    box = values.get('box', BOX)
    truth = [frame(thing(**values)), frame(thing(box=FAR))]
    detections = [frame(found(box=box, score=0.9)), frame(found(box=FAR))]
    curves = evaluate_kitti(truth, detections).curves['bbox']['Car']
    for level in ('easy', 'moderate', 'hard'):
        assert len(curves[level].scores) == (2 if level in levels else 1)
        assert curves[level].values[-1] == 1
        assert curves[level].recall[-1] == 1


def test_low_detections_of_any_class_absorb_labels():
    truth = [frame(thing(box=(0.0, 0.0, 90.0, 41.0))), frame(thing())]
    low = found('Tram', (0.0, 0.0, 90.0, 39.9))
    result = evaluate_kitti(truth, [frame(low), frame(found())]).curves['bbox']['Car']
    assert result['easy'].recall.tolist() == [1.0]
    assert result['moderate'].recall.tolist() == [0.5]  # high enough, and no car


@pytest.mark.parametrize(('height', 'hits'), [(39.9, 0), (40.0, 1)])
def test_detections_are_low_below_a_whole_number_of_pixels(height, hits):
    truth, detection = frame(thing(box=(0, 0, 90, 41))), frame(found(box=(0, 0, 90, height)))
    assert len(curve([truth], [detection], level='easy').scores) == hits


def test_a_detection_that_counts_replaces_a_low_one():
    truth = frame(thing(box=(0.0, 0.0, 100.0, 45.0)))
    low = found(box=(0.0, 0.0, 100.0, 39.9), score=0.1)
    narrow = found(box=(0.0, 0.0, 80.0, 45.0), score=0.9)
    for detections in ([low, narrow], [narrow, low]):
        result = curve([truth], [frame(*detections)], level='easy')
        assert result.recall.tolist() == [1.0]
        assert result.values.tolist() == [1.0]


def test_a_low_detection_of_higher_score_takes_the_threshold():
    truth = frame(thing(box=(0.0, 0.0, 100.0, 45.0)))
    low = found(box=(0.0, 0.0, 100.0, 39.9), score=0.9)
    detections = frame(low, found(box=(0.0, 0.0, 80.0, 45.0), score=0.1))
    assert len(curve([truth], [detections], level='easy').scores) == 0


@pytest.mark.parametrize(
    ('name', 'neighbor', 'precision'),
    [('Car', 'Van', 1.0), ('Pedestrian', 'Person_sitting', 1.0), ('Cyclist', 'Pedestrian', 0.5)],
)
def test_neighbors_are_matched_and_ignored(name, neighbor, precision):
    truth = frame(thing(neighbor), thing(name, FAR))
    detections = frame(found(name, score=0.9), found(name, FAR))
    result = curve([truth], [detections], name=name)
    assert result.recall.tolist() == [1.0]
    assert result.values.tolist() == [precision]


def test_detections_of_a_neighbor_are_of_another_class():
    detections = frame(found('Van'), found(box=FAR))
    assert len(curve([frame(thing())], [detections]).scores) == 0


def test_names_are_the_same_in_upper_and_lower_case():
    assert curve([frame(thing('CAR'))], [frame(found('car'))]).values.tolist() == [1.0]


def test_dont_care_areas_excuse_in_the_image_only():
    area = thing('DontCare', (600.0, 0.0, 680.0, 400.0), x=-1000.0, h=-1.0, w=-1.0, l=-1.0)
    truth, detections = frame(thing(), area), frame(found(), found(box=FAR, score=0.9, x=9.0))
    assert curve([truth], [detections]).values.tolist() == [1.0]  # covers 0.8 of the detection
    assert curve([truth], [detections], metric='bev').values.tolist() == [0.5]
    assert curve([truth], [detections], metric='3d').values.tolist() == [0.5]
    strict = curve([truth], [detections], min_overlaps={'Car': 0.8}, class_names=['Car'])
    assert strict.values.tolist() == [0.5]  # the class's threshold, strictly


def test_orientation_similarity_goes_by_alpha():
    truth, detections = frame(thing(alpha=0.3)), frame(found(alpha=0.3 + math.pi / 2, ry=0.1))
    assert curve([truth], [detections], metric='aos').values.tolist() == [pytest.approx(0.5)]
    result = evaluate_kitti([truth] * 2, [detections, frame(found('Tram', alpha=-10.0))])
    assert result.curves['aos'] == {}
    assert 'Car' in result.curves['bbox']


def test_boxes_stand_on_their_location():
    upper_half = frame(found(y=0.75, h=0.75))
    loose = {'min_overlaps': {'Car': 0.49}, 'class_names': ['Car']}
    result = curve([frame(thing())], [upper_half], metric='3d', **loose)
    assert result.values.tolist() == [1.0]


def test_boxes_turn_clockwise_seen_from_above():
    """A metre further along its length of 4 m: the overlap is 3 / 5."""
    label = frame(thing(ry=0.5))
    along = frame(found(ry=0.5, x=math.cos(0.5), z=20 - math.sin(0.5)))
    for least, values in [(0.59, [1.0]), (0.61, [])]:
        options = {'min_overlaps': {'Car': least}, 'class_names': ['Car']}
        for metric in ('bev', '3d'):
            assert curve([label], [along], metric=metric, **options).values.tolist() == values


def test_classes_that_are_never_detected_are_left_out():
    truth = frame(thing(), thing('Pedestrian'))
    result = evaluate_kitti([truth], [frame(found(box=(-5.0, 100.0, 200.0, 150.0)))])
    assert result.to_dict().keys() == {'bbox', 'bev', '3d', 'aos'}
    assert result.curves['bbox'] == {}  # one of the boxes must begin inside the image
    assert list(result.curves['3d']) == ['Car']
    flat = frame(found(x=-1000.0), found(w=0.0))
    assert list(evaluate_kitti([truth], [flat]).curves['bev']) == []
    bodiless = frame(found(y=-1000.0), found(h=-1.0))
    result = evaluate_kitti([truth], [bodiless])
    assert list(result.curves['bev']) == ['Car']
    assert result.curves['3d'] == {}


def test_no_labels_and_no_detections():
    detections = [frame(found())]
    assert evaluate_kitti([frame()], detections).to_dict()['bbox']['Car']['ap40'] == [0.0] * 3
    assert evaluate_kitti([frame(thing())], [frame()]).to_dict()['bbox'] == {}
    assert evaluate_kitti([frame()], [frame()], metrics=['bev']).to_dict() == {'bev': {}}


def test_frames_without_detections_count_their_misses():
    truth = [frame(thing())] * 4
    assert curve(truth, [frame(found()), *[frame()] * 3]).recall.tolist() == [0.25]


def test_arguments_are_checked():
    truth, detections = [frame(thing())], [frame(found())]
    with pytest.raises(ValueError, match='1 frames of labels but 2 of detections'):
        evaluate_kitti(truth, detections * 2)
    with pytest.raises(ValueError, match='detections of frame 0 have no scores'):
        evaluate_kitti(truth, truth)
    with pytest.raises(ValueError, match=r"lacks classes \['Tram'\].*'Car', 'Cyclist'"):
        evaluate_kitti(truth, detections, ['Tram'])
    with pytest.raises(ValueError, match=r"unknown metrics \['2d'\]; choose from \['bbox'"):
        evaluate_kitti(truth, detections, metrics=['2d'])


def write(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / f'{name}.txt').write_text(text, encoding='utf-8')
    return folder


LABEL = 'Car 0 0 0 1 2 3 4 1 1 1 0 0 9 0\n'


def test_read_results_folder(tmp_path):
    labels = write(tmp_path / 'labels', a=LABEL, b=LABEL * 2, c=LABEL)
    results = write(tmp_path / 'results', b='', a=LABEL.replace('\n', ' 0.5\n'))
    truth, detections = read_results_folder(labels, results)
    assert [len(objects) for objects in truth] == [1, 2]
    assert [len(objects) for objects in detections] == [1, 0]
    (tmp_path / 'split').write_text('b\n', encoding='utf-8')
    truth, detections = read_results_folder(labels, results, tmp_path / 'split')
    assert [len(objects) for objects in truth] == [2]


def test_read_results_folder_reports_what_is_missing(tmp_path):
    labels = write(tmp_path / 'labels', a=LABEL)
    with pytest.raises(DatasetError, match='no result files'):
        read_results_folder(labels, write(tmp_path / 'empty'))
    with pytest.raises(DatasetError, match=r'a\.txt: no scores; a result line has 16 fields'):
        read_results_folder(labels, labels)
    other = write(tmp_path / 'other', b='')
    with pytest.raises(DatasetError, match=r'labels.b\.txt: no such file'):
        read_results_folder(labels, other)
    (tmp_path / 'split').write_text('a', encoding='utf-8')
    with pytest.raises(DatasetError, match=r'other.a\.txt: no such file'):
        read_results_folder(labels, other, tmp_path / 'split')
    with pytest.raises(DatasetError, match='nowhere: no such file'):
        read_results_folder(labels, other, tmp_path / 'nowhere')
    (tmp_path / 'split').write_text(' \n', encoding='utf-8')
    with pytest.raises(DatasetError, match='split: lists no frames'):
        read_results_folder(labels, other, tmp_path / 'split')
    for folders in [(tmp_path / 'nowhere', other), (labels, tmp_path / 'nowhere')]:
        with pytest.raises(DatasetError, match='nowhere: no such folder'):
            read_results_folder(*folders)


def test_equals_the_official_program(shared_data, tmp_path):
    folder = shared_data / 'kitti_eval'
    ids = (folder / 'val.txt').read_text(encoding='utf-8').split()[:200]
    split = tmp_path / 'split.txt'
    split.write_text('\n'.join(ids), encoding='utf-8')
    for name in ('label_2', 'perturbed_seed1'):
        wanted = {f'{name}/{frame_id}.txt' for frame_id in ids}
        with tarfile.open(folder / f'{name}.tar.xz') as archive:
            for member in archive:
                if member.name in wanted:
                    path = tmp_path / member.name
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(archive.extractfile(member).read())
    truth, detections = read_results_folder(
        tmp_path / 'label_2', tmp_path / 'perturbed_seed1', split
    )
    result = evaluate_kitti(truth, detections).to_dict()
    expected = json.loads((folder / 'perturbed_expected.json').read_text(encoding='utf-8'))
    assert result == {
        metric: {
            name: {key: pytest.approx(values, abs=1e-3) for key, values in precisions.items()}
            for name, precisions in classes.items()
        }
        for metric, classes in expected['seed1_first200'].items()
    }


def alarms(truth, *detections, **options):
    """False positives in 3D where the only car is found."""
    options = {'class_names': ['Car'], 'recalls': [1.0], **options}
    result = count_false_positives([frame(*truth)], [frame(*detections)], **options)['Car']
    return result.counts.tolist()


HIT = found(score=0.5)
ALARM = found(box=FAR, x=30.0, score=0.9)


def test_false_positives_are_those_above_the_score_of_the_last_hit():
    low = found(box=FAR, x=60.0, score=0.4)
    assert alarms([thing()], HIT) == [0]
    assert alarms([thing()], HIT, ALARM, low) == [1]
    assert alarms([thing()], found(score=0.3), ALARM, low) == [2]
    assert alarms([thing()], ALARM) == []


@pytest.mark.parametrize('name', ['Van', 'DontCare'])
def test_what_is_labelled_as_something_else_or_nothing_is_no_false_positive(name):
    size = {} if name == 'Van' else {'h': -1, 'w': -1, 'l': -1, 'z': -1000}
    assert alarms([thing(), thing(name, FAR, x=30.0, **size)], HIT, ALARM) == [0]


def test_false_positives_of_other_classes_and_too_low_ones_do_not_count():
    low = found(box=(600.0, 100.0, 700.0, 110.0), x=30.0, score=0.9)
    assert alarms([thing()], HIT, found('Cyclist', FAR, x=30.0, score=0.9), low) == [0]


def test_a_shifted_box_is_found_from_above_and_not_in_3d():
    sunk = found(y=2.3, score=0.5)
    assert alarms([thing()], sunk) == []
    assert alarms([thing()], sunk, metric='bev') == [0]


def test_labels_that_are_too_hard_do_not_count():
    truth = [thing(), thing(box=FAR, x=30.0, occluded=2)]
    assert alarms(truth, HIT, ALARM) == [0]
    assert alarms(truth, HIT, ALARM, difficulty='hard', recalls=[0.5, 1.0]) == [0, 0]
