# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pointdistiller_core.evaluation.comparison import session as online_comparison
from pointdistiller_core.evaluation.comparison.session import (
    CloudResult,
    ComparisonRules,
    OnlineComparison,
)
from pointdistiller_core.evaluation.matching import default_overlaps
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.records import Detections, GroundTruth

CLASSES = ('Car', 'Van')
SHIFT = np.array([0, 0, -0.3, 0, 0, 0, 0.1], np.float32)


class Rows:
    def __init__(self):
        self.tables = {'clouds': [], 'ground_truth': []}

    def write(self, table, row):
        self.tables[table].append(row)


def found(*places, total=10.0):
    """Cars at x = places, with the time that it took."""
    boxes = np.array([(x, 0, 0, 4, 2, 1.5, 0) for x in places], np.float32).reshape(-1, 7)
    scores = np.linspace(0.9, 0.5, len(places), dtype=np.float32)
    labels = np.zeros(len(places), np.int64)
    return Detections(boxes, scores, labels, latency_ms={'total': total})


def turned(*places):
    """The same, a bit lower and turned."""
    return replace(found(*places), boxes=found(*places).boxes + SHIFT)


def flat(values):
    """The numbers of nested dicts."""
    for value in values.values():
        yield from flat(value) if isinstance(value, dict) else [value]


def truth(*places):
    cars = found(*places)
    return GroundTruth(cars.boxes, cars.labels)


def result(stamp, teacher, student, num_points=3):
    return CloudResult(stamp, np.zeros((num_points, 4), np.float32), teacher, student)


def build(rows=None, **options):
    rules = ComparisonRules(CLASSES, default_overlaps(CLASSES), **options.pop('rules', {}))
    return OnlineComparison(rules, log=rows, **options)


def test_overlaps_are_those_of_the_metric():
    assert default_overlaps(('Pedestrian', 'Car', 'Bus')) == (0.5, 0.7, 0.5)


def test_numbers_of_clouds_and_their_sums():
    rows = Rows()
    comparison = build(rows)
    comparison.add(result(1, found(5, 15, total=40.0), found(5, 25, total=10.0)))
    comparison.add(result(2, found(5, total=60.0), found(5, total=20.0)))
    first, second = rows.tables['clouds']
    assert (first['cloud'], first['stamp_ns'], first['points']) == (1, 1, 3)
    assert (first['num_reference'], first['num_found'], first['num_matched']) == (2, 2, 1)
    assert (first['teacher_ms'], first['student_ms']) == (40.0, 10.0)
    assert (second['recall'], second['precision'], second['f1']) == (1, 1, 1)
    numbers = comparison.tallies['agreement'].numbers()
    assert (numbers.recall, numbers.precision) == (2 / 3, 2 / 3)
    assert comparison.latencies['student'].mean_ms == 15.0
    assert comparison.timeline.sums()[1].tolist() == [[2, 2, 1, 40, 10], [1, 1, 1, 60, 20]]
    assert comparison.counts == {'compared': 2, 'repeated': 0, 'with_truth': 0}


def test_a_cloud_that_comes_again_is_not_compared_again():
    rows = Rows()
    comparison = build(rows)
    for _ in range(2):
        agreement = comparison.add(result(7, found(5), found(5)))
        assert agreement.num_disagreements == 0
    assert comparison.counts == {'compared': 1, 'repeated': 1, 'with_truth': 0}
    assert len(rows.tables['clouds']) == comparison.tallies['agreement'].numbers().num_found == 1


def test_clouds_without_a_stamp_are_all_compared_but_have_no_truth():
    comparison = build()
    comparison.add_truth(0, truth(5))
    for _ in range(2):
        comparison.add(result(0, found(5), found(5)))
    assert comparison.counts == {'compared': 2, 'repeated': 0, 'with_truth': 0}
    assert comparison.num_truth_alone == 1


def test_old_stamps_are_forgotten(monkeypatch):
    monkeypatch.setattr(online_comparison, 'RECENT_CLOUDS', 2)
    comparison = build()
    for stamp in (1, 2, 3, 1):
        comparison.add(result(stamp, found(), found()))
    assert comparison.counts['repeated'] == 0


def test_labels_that_come_again_are_counted_apart():
    comparison = build(tolerance_ns=1)
    for _ in range(2):  # a bag that begins again
        comparison.add_truth(7, truth(5))
        comparison.add(result(7, found(5), found(5)))
    comparison.add(result(8, found(5), found(5)))  # whose labels are missing
    assert comparison.counts == {'compared': 2, 'repeated': 1, 'with_truth': 1}
    assert (comparison.num_truth_alone, comparison.num_repeated_truth) == (0, 1)


@pytest.mark.parametrize('truth_first', [True, False])
def test_both_beside_the_truth(truth_first):
    rows = Rows()
    comparison = build(rows, tolerance_ns=2)
    actions = [
        lambda: comparison.add_truth(9, truth(5, 15, 30)),
        lambda: comparison.add(result(8, found(5, 15), found(5, 60, 70))),
    ]
    for act in actions if truth_first else reversed(actions):
        act()
    teacher = comparison.tallies['teacher_truth'].numbers()
    student = comparison.tallies['student_truth'].numbers()
    assert (teacher.recall, teacher.precision) == (2 / 3, 1)
    assert (student.recall, student.precision) == (1 / 3, 1 / 3)
    (row,) = rows.tables['ground_truth']
    assert row['stamp_ns'] == 8
    assert (row['teacher_recall'], row['student_num_found']) == (2 / 3, 3)
    assert comparison.counts['with_truth'] == 1
    assert comparison.num_truth_alone == 0


def test_truth_that_no_cloud_has_is_counted():
    comparison = build(capacity=2)
    for stamp in (1, 2, 3):
        comparison.add_truth(stamp, truth(5))
    comparison.add(result(3, found(5), found(5)))
    assert comparison.num_truth_alone == 2
    assert comparison.counts['with_truth'] == 1


@pytest.mark.parametrize('tolerance_ns', [0, 4])
def test_a_bag_in_a_loop_repeats_its_truth(tolerance_ns):
    rows = Rows()
    comparison = build(rows, tolerance_ns=tolerance_ns)
    for _ in range(3):
        for stamp in (10, 20):
            comparison.add_truth(stamp, truth(5))
            comparison.add(result(stamp, found(5), found(5)))
        comparison.add_truth(30, truth(5))  # whose cloud is not in the bag
        comparison.add(result(40, found(5), found(5)))  # which nobody has labelled
    assert comparison.counts == {'compared': 3, 'repeated': 6, 'with_truth': 2}
    assert (comparison.num_truth, comparison.num_repeated_truth) == (9, 6)
    assert (comparison.num_truth_alone, comparison.num_without_truth) == (1, 1)
    assert [row['stamp_ns'] for row in rows.tables['ground_truth']] == [10, 20]


@pytest.mark.parametrize('truth_first', [True, False])
def test_truth_in_another_frame_is_not_compared(truth_first):
    comparison = build()
    cloud = replace(result(1, found(5), found(5)), frame_id='lidar')
    actions = [
        lambda: comparison.add_truth(1, truth(5), 'map'),
        lambda: comparison.add(cloud),
    ]
    for act in actions if truth_first else reversed(actions):
        act()
    assert (comparison.num_truth, comparison.num_truth_elsewhere) == (1, 1)
    assert comparison.frames_apart == ('lidar', 'map')
    assert comparison.num_truth_alone == comparison.counts['with_truth'] == 0
    assert comparison.tallies['teacher_truth'].numbers().num_reference == 0


@pytest.mark.parametrize('frames', [('', ''), ('lidar', ''), ('', 'map'), ('lidar', 'lidar')])
def test_truth_in_the_same_or_an_unknown_frame_is_compared(frames):
    comparison = build()
    comparison.add_truth(1, truth(5), frames[0])
    comparison.add(replace(result(1, found(5), found(5)), frame_id=frames[1]))
    assert (comparison.counts['with_truth'], comparison.num_truth_elsewhere) == (1, 0)


def test_repeated_truth_takes_no_neighbors_cloud():
    comparison = build(tolerance_ns=6)
    comparison.add_truth(10, truth(5))
    comparison.add(result(10, found(5), found(5)))
    comparison.add(result(15, found(5), found(5)))
    comparison.add_truth(10, truth(5))
    assert (comparison.counts['with_truth'], comparison.num_without_truth) == (1, 1)


def test_repeated_truth_serves_a_cloud_that_was_dropped_the_first_time():
    comparison = build(capacity=1)
    for stamp in (1, 2):  # the first one is given up
        comparison.add_truth(stamp, truth(5))
    comparison.add_truth(1, truth(5))
    comparison.add(result(1, found(5), found(5)))
    assert comparison.counts['with_truth'] == comparison.num_truth_alone == 1


def test_truth_out_of_both_ranges_counts_neither_way():
    ranges = ((0, -10, -3, 20, 10, 1), (0, -10, -3, 40, 10, 1))
    comparison = build(rules={'ranges': ranges})
    comparison.add_truth(1, truth(-5, 5, 30, 50))
    comparison.add(result(1, found(5), found(5, 30)))
    assert comparison.tallies['teacher_truth'].numbers().num_reference == 2
    assert comparison.tallies['student_truth'].numbers().recall == 1


def seen_from(mountings, *records):
    """The records as a sensor with a mounting sees them."""
    moved = [mountings[0].boxes_to_sensor(one.boxes) for one in records]
    return [
        replace(one, boxes=boxes, orientations=turns)
        if isinstance(one, Detections)
        else GroundTruth(boxes, one.labels)
        for one, (boxes, turns) in zip(records, moved, strict=True)
    ]


@pytest.mark.parametrize('roll', [0.0, 0.4, np.pi])
def test_a_sensor_somewhere_else_changes_no_number(roll):
    pose = {'height': 3.0, 'roll': roll, 'pitch': 0.35, 'yaw': 2.0}
    # As high above the ground as both were trained: the student's frame is a metre lower.
    mountings = tuple(Mounting.from_angles(height, **pose) for height in (1.7, 0.7))
    ranges = ((0, -10, -3, 20, 10, 1), (0, -10, -2, 40, 10, 2))
    numbers = []
    for mounted in (False, True):
        comparison = build(rules={'ranges': ranges, 'distances': (14.0,)})
        records = found(5, 15), turned(5.4, 15.7, 30), truth(-5, 5, 30, 50)
        if mounted:
            records = seen_from(mountings, *records)
        points = np.ones((1, 4), np.float32)
        one = CloudResult(1, points, *records[:2], mountings if mounted else (None, None))
        comparison.add_truth(1, records[2])
        comparison.add(one)
        tallies = comparison.tallies.values()
        numbers.append([value for tally in tallies for value in flat(tally.to_dict(CLASSES))])
    assert len(numbers[0]) > 100
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-4, abs=1e-5, nan_ok=True)
    assert comparison.tallies['student_truth'].numbers().num_reference == 2


def test_labels_are_in_range_through_the_mounting_of_each():
    """Seen from 3 m above the training sensor of one, and as high as that of the other."""
    high, low = (
        Mounting.from_angles(height, height=4.0, roll=0.0, pitch=0.0, yaw=0.0)
        for height in (1.0, 4.0)
    )
    for mountings, expected in (((high, high), 1), ((low, high), 1), ((low, low), 0)):
        comparison = build(rules={'ranges': ((0, -10, -2, 20, 10, 1),) * 2})
        (labels,) = seen_from((high,), truth(5))
        comparison.add_truth(1, labels)
        points = np.zeros((0, 4), np.float32)
        comparison.add(CloudResult(1, points, found(), found(), mountings))
        assert comparison.tallies['teacher_truth'].numbers().num_reference == expected


def test_the_worst_clouds_are_kept_with_their_points():
    comparison = build(num_worst=2)
    for stamp, extra in enumerate([1, 0, 3, 1, 2], start=1):
        comparison.add(result(stamp, found(), found(*range(5, 5 + 10 * extra, 10))))
    kept = [(one.stamp_ns, agreement.num_disagreements) for one, agreement in comparison.worst]
    assert kept == [(3, 3), (5, 2)]
    assert all(len(one.points) == 3 for one, _ in comparison.worst)


def test_arguments_stay_as_they_are():
    teacher, student, labels = found(5, 15), found(5), truth(5)
    before = [item.boxes.copy() for item in (teacher, student, labels)]
    comparison = build(rules={'ranges': ((0, 0, 0, 1, 1, 1),) * 2})
    comparison.add_truth(1, labels)
    comparison.add(result(1, teacher, student))
    for item, boxes in zip((teacher, student, labels), before, strict=True):
        np.testing.assert_array_equal(item.boxes, boxes)
    assert labels.labels.tolist() == [0]
