# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The metric that needs points and boxes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st
from kitti_folder import CALIBRATION, IMAGE_SIZE, points_in
import numpy as np
import pytest

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.evaluation.kitti.metric import evaluate_kitti
from pointdistiller_core.evaluation.lidar import (
    MIN_OVERLAPS,
    NUM_RECALLS,
    LidarMetric,
    OperatingPoint,
    precision_at_recalls,
)
from pointdistiller_core.formats.kitti import objects_from_boxes
from pointdistiller_core.records import IGNORE_LABEL, Detections, Frame, GroundTruth

CLASSES = ('Car', 'Pedestrian', 'Cyclist')
EVERYWHERE = {'BEV AP': 100.0, '3D AP': 100.0}


def car(x: float, y: float = 0.0, z: float = 0.0) -> list[float]:
    return [x, y, z, 4.0, 2.0, 1.5, 0.0]


def points_at(boxes: Sequence[Sequence[float]], counts: Sequence[int]) -> np.ndarray:
    """Points in the middle of boxes, so many in each."""
    centers = np.repeat(np.array(boxes, np.float32).reshape(-1, 7)[:, :3], counts, axis=0)
    return np.pad(centers, ((0, 0), (0, 1)))


def frame(
    *boxes: Sequence[float],
    labels: Sequence[int] | None = None,
    counts: Sequence[int] | None = None,
) -> Frame:
    """Labelled boxes, cars unless told otherwise, with one point each unless told otherwise."""
    truth = GroundTruth(
        np.array(boxes, np.float32).reshape(-1, 7),
        np.array(labels if labels is not None else [0] * len(boxes), np.int64),
    )
    return Frame(
        points_at(boxes, [1] * len(boxes) if counts is None else counts), 'a frame', truth
    )


def found(
    *boxes: Sequence[float], scores: Sequence[float], labels: Sequence[int] | None = None
) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 7),
        np.array(scores, np.float32),
        np.array(labels if labels is not None else [0] * len(boxes), np.int64),
    )


class Frames(list):
    """What the metric sees of a dataset."""

    class_names = CLASSES


def evaluate(frames, detections, metric=None):
    return (metric or LidarMetric()).evaluate(Frames(frames), range(len(frames)), detections)


def aps(scores, name='Car'):
    return tuple(scores.by_class[name].values())


def same_as_truth(labelled: Frame) -> Detections:
    truth = labelled.ground_truth
    return Detections(truth.boxes, np.linspace(1, 0.5, len(truth), dtype=np.float32), truth.labels)


def random_scene(rng: np.random.Generator) -> tuple[list[Frame], list[Detections]]:
    """Frames whose boxes hold 0 to 120 points, and detections near to them and elsewhere."""
    frames, detections = [], []
    for _ in range(6):
        boxes = np.array([car(x) for x in np.arange(10, 80, 9.0)])
        boxes[:, 1], boxes[:, 6] = rng.uniform(-3, 3, 8), rng.uniform(-3, 3, 8)
        counts = rng.choice([0, 3, 15, 60, 120], 8)
        labels = rng.integers(-1, 3, 8)
        frames.append(frame(*boxes, labels=labels, counts=counts))
        noisy = boxes + rng.normal(0, 0.12, boxes.shape)
        false = np.array([car(*rng.uniform((5, 8), (70, 30))) for _ in range(5)])
        detections.append(
            found(
                *noisy,
                *false,
                scores=rng.uniform(0, 1, 13),
                labels=np.append(labels.clip(min=0), rng.integers(0, 3, 5)),
            )
        )
    return frames, detections


def test_best_f1_of_each_class():
    frames = [frame(car(10), car(30), car(50), labels=[0, 0, 1])]
    boxes = car(10), car(20, 9), car(30), car(40, 9), car(60, 9)
    detections = [found(*boxes, scores=[0.9, 0.8, 0.7, 0.6, 0.5])]
    points = LidarMetric().best_thresholds(Frames(frames), [0], detections)
    assert points['Car'] == OperatingPoint(pytest.approx(0.7), 1.0, 2 / 3)
    assert points['Car'].f_score() == pytest.approx(0.8)
    precise = LidarMetric().best_thresholds(Frames(frames), [0], detections, beta=0.5)['Car']
    assert precise == OperatingPoint(pytest.approx(0.9), 0.5, 1.0)
    assert precise.f_score(0.5) == pytest.approx(1.25 * 0.5 / (0.25 + 0.5))
    assert points['Car'].f_score(0.5) == pytest.approx(5 / 7)  # less than that
    assert points['Pedestrian'] is None  # no hit
    assert points['Cyclist'] is None  # no label


def test_detections_of_one_score_have_one_threshold():
    frames = [frame(car(10), car(30))]
    detections = [found(car(10), car(20, 9), car(30, 9), scores=[0.5, 0.5, 0.5])]
    point = LidarMetric().best_thresholds(Frames(frames), [0], detections)['Car']
    assert point == OperatingPoint(0.5, 0.5, 1 / 3)


def test_a_perfect_detector_has_100_however_few_labels_there_are():
    frames = [frame(car(10), car(30), labels=[0, 1]), frame(), frame(car(50))]
    scores = evaluate(frames, [same_as_truth(each) for each in frames])
    assert scores.means == {'BEV mAP': 100.0, '3D mAP': 100.0}
    assert scores.by_class['Car'] == scores.by_class['Pedestrian'] == EVERYWHERE
    assert all(math.isnan(value) for value in scores.by_class['Cyclist'].values())
    assert scores.num_labels == {'Car': 2, 'Pedestrian': 1, 'Cyclist': 0}
    assert scores.details['by_distance']['Car']['40-60 m'] == {'num_labels': 1, **EVERYWHERE}
    assert scores.details['num_frames'] == 3


def test_without_detections_every_class_with_labels_has_0():
    scores = evaluate([frame(car(10)), frame(car(30))], [Detections.empty()] * 2)
    assert aps(scores) == (0.0, 0.0)
    assert scores.means == {'BEV mAP': 0.0, '3D mAP': 0.0}


@pytest.mark.parametrize('frames', [[], [frame()]])
def test_without_labels_there_are_no_scores(frames):
    false = [found(car(10), scores=[0.9]) for _ in frames]
    scores = evaluate(frames, false)
    assert all(math.isnan(value) for value in scores.means.values())
    assert scores.num_labels == dict.fromkeys(CLASSES, 0)
    plain = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert plain['means'] == {'BEV mAP': None, '3D mAP': None}
    assert plain['details']['precision']['Car']['BEV'] == [None] * NUM_RECALLS


def test_the_order_of_frames_and_boxes_means_nothing():
    rng = np.random.default_rng(1)
    frames, detections = random_scene(rng)
    expected = evaluate(frames, detections).to_dict()
    assert 20 < expected['means']['BEV mAP'] < 80
    assert min(expected['num_labels'].values()) > 3
    order = rng.permutation(len(frames))
    shuffled, shuffled_detections = [], []
    for index in order:
        truth = frames[index].ground_truth
        turned = truth[rng.permutation(len(truth))]
        shuffled.append(replace(frames[index], ground_truth=turned))
        shuffled_detections.append(detections[index][rng.permutation(len(detections[index]))])
    assert evaluate(shuffled, shuffled_detections).to_dict() == expected


def test_a_duplicate_is_a_false_alarm():
    detections = found(car(10), car(10.1), car(30), scores=[0.9, 0.8, 0.7])
    expected = 100 * (20 * 1 + 20 * 2 / 3) / 40
    assert aps(evaluate([frame(car(10), car(30))], [detections])) == pytest.approx([expected] * 2)


def test_detections_of_equal_score_come_together():
    truth = [frame(car(10), car(30))]
    for boxes in ((car(10), car(50), car(30)), (car(50), car(30), car(10))):
        scores = evaluate(truth, [found(*boxes, scores=[0.5] * 3)])
        assert aps(scores) == pytest.approx([200 / 3] * 2)


def test_each_overlap_has_its_threshold():
    raised = found(car(10, z=0.75), scores=[0.9])  # IoU 1 from above, 1 / 3 in 3D
    truth = [frame(car(10))]
    assert aps(evaluate(truth, [raised])) == (100.0, 0.0)
    assert aps(evaluate(truth, [raised], LidarMetric({'Car': (0.7, 0.3)}))) == (100.0, 100.0)
    moved = found(car(11), scores=[0.9])  # IoU 3 / 5 both ways
    assert aps(evaluate(truth, [moved], LidarMetric({'Car': (0.7, 0.5)}))) == (0.0, 100.0)
    assert MIN_OVERLAPS['Car'] == (0.7, 0.7)
    assert MIN_OVERLAPS['Pedestrian'] == MIN_OVERLAPS['Cyclist'] == (0.5, 0.5)


def test_another_class_is_no_hit_and_what_is_not_evaluated_is_left_out():
    truth = [frame(car(10), car(30), labels=[0, 1])]
    detections = [found(car(10), car(30), scores=[0.9, 0.8], labels=[1, 1])]
    scores = evaluate(truth, detections, LidarMetric({'Pedestrian': (0.5, 0.5)}))
    assert scores.by_class == {'Pedestrian': {'BEV AP': 50.0, '3D AP': 50.0}}
    assert scores.means == {'BEV mAP': 50.0, '3D mAP': 50.0}
    assert aps(evaluate(truth, detections)) == (0.0, 0.0)


def test_what_does_not_count_costs_neither_way_and_is_counted():
    truth = frame(
        car(10), car(30), car(50), car(70), labels=[0, IGNORE_LABEL, 0, 1], counts=[1, 1, 0, 1]
    )
    on_ignored = found(car(30), car(30.1), car(50), car(10), scores=[0.9, 0.8, 0.7, 0.6])
    scores = evaluate([truth], [on_ignored])
    assert aps(scores) == (100.0, 100.0)
    assert scores.num_labels == {'Car': 1, 'Pedestrian': 1, 'Cyclist': 0}
    assert scores.details['num_without_point'] == {'Car': 1, 'Pedestrian': 0, 'Cyclist': 0}
    assert scores.details['num_ignored'] == 1
    assert scores.details['num_excused']['Car'] == {'BEV': 3, '3D': 3}
    assert scores.details['num_found']['Car'] == {'BEV': 1, '3D': 1}
    assert scores.details['num_false']['Car'] == {'BEV': 0, '3D': 0}
    # Beside it, but not on it enough, is a false alarm; before the hit it halves the precision.
    beside = evaluate([truth], [found(car(32), car(10), scores=[0.9, 0.6])])
    assert aps(beside) == (50.0, 50.0)
    assert beside.details['num_false']['Car'] == {'BEV': 1, '3D': 1}


def test_bins_of_distance_and_points():
    boxes = [car(10), car(20), car(0, 50), car(-40, 50)]  # 20 m is of the second bin
    truth = frame(*boxes, counts=[4, 5, 99, 100])
    detections = found(*boxes, car(0, -45), scores=[0.9, 0.8, 0.7, 0.6, 0.95])
    scores = evaluate([truth], [detections])
    alone, half = {'num_labels': 1, **EVERYWHERE}, {'num_labels': 1, 'BEV AP': 50, '3D AP': 50}
    # The false alarm is 45 m away, without points.
    assert scores.details['by_distance']['Car'] == {
        '0-20 m': alone, '20-40 m': alone, '40-60 m': half, '60+ m': alone
    }  # fmt: skip
    assert scores.details['by_points']['Car'] == {
        '1-4': half, '5-19': alone, '20-99': alone, '100+': alone
    }  # fmt: skip
    # 1 / 2, 2 / 3, 3 / 4, 4 / 5 found without error: the best at any recall is the last.
    assert aps(scores) == pytest.approx((80.0, 80.0))


def test_a_hit_belongs_to_the_bin_of_its_label_and_an_alarm_to_its_own():
    truth = frame(car(19.9), counts=[4])
    hit_from_beyond = found(car(20.3), scores=[0.9])
    cells = evaluate([truth], [hit_from_beyond]).details['by_distance']['Car']
    assert cells['0-20 m'] == {'num_labels': 1, **EVERYWHERE}
    assert math.isnan(cells['20-40 m']['BEV AP'])
    crowded = replace(truth, points=points_at([car(19.9), car(10)], [4, 30]))
    alarm = found(car(10), car(19.9), scores=[0.9, 0.8])
    cells = evaluate([crowded, frame(car(30), counts=[50])], [alarm, Detections.empty()]).details
    assert cells['by_points']['Car']['1-4']['BEV AP'] == 100.0
    assert cells['by_points']['Car']['20-99']['BEV AP'] == 0.0
    assert cells['by_distance']['Car']['0-20 m']['BEV AP'] == 50.0


def test_more_boxes_than_are_tested_at_once():
    boxes = [car(5.0 * index, 5.0) for index in range(150)]
    truth = frame(*boxes, counts=[1] * 149 + [0])
    scores = evaluate([truth], [same_as_truth(truth)])
    assert scores.num_labels['Car'] == 149
    assert scores.details['num_without_point']['Car'] == 1


def test_frames_without_labels_and_wrong_numbers_are_refused():
    with pytest.raises(DatasetError, match='frame 7: no labels; only labelled frames'):
        evaluate([Frame(np.zeros((0, 4), np.float32), '7')], [Detections.empty()])
    with pytest.raises(ValueError, match='argument 2 is longer'):
        evaluate([], [Detections.empty()])
    with pytest.raises(ValueError, match='label 3 has no IoU threshold'):
        evaluate([frame()], [found(car(0), scores=[0.9], labels=[3])])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12),
    st.integers(1, 20),
)
def test_precision_at_recalls_is_what_it_says(detections, missed):
    scores = np.array([score for score, _ in detections], np.float32)
    hits = np.array([hit for _, hit in detections], np.bool_)
    num_labels = int(hits.sum()) + missed - 1 or 1
    expected = []
    for position in range(1, 41):
        best = 0.0
        for threshold in scores:
            kept = hits[scores >= threshold]
            if kept.sum() * 40 >= position * num_labels:
                best = max(best, kept.sum() / len(kept))
        expected.append(best)
    assert precision_at_recalls(scores, hits, num_labels).tolist() == expected


def as_kitti(boxes, labels, scores=None):
    """The same boxes as objects that are all easy: wholly visible and 100 pixels high."""
    objects = objects_from_boxes(
        *(boxes, [CLASSES[label] for label in labels], CALIBRATION, IMAGE_SIZE, scores)
    )
    size = len(objects)
    return replace(
        objects,
        boxes_2d=np.tile((100.0, 100.0, 200.0, 200.0), (size, 1)),
        truncated=np.zeros(size),
        occluded=np.zeros(size, np.int64),
    )


def in_camera_view(rng: np.random.Generator, noise: float) -> tuple[list[Frame], list[np.ndarray]]:
    """20 frames of 4 labels of each class, 80 in all, with their points, and boxes near to them.

    Points as datasets have them; the labels' boxes stand 8 m apart.
    """
    frames, near = [], []
    for index in range(20):
        boxes = np.array([car(8.0 * column, 8.0 * row) for row in range(3) for column in range(4)])
        boxes[:, 6] = rng.uniform(-3, 3, 12)
        points = points_in(boxes, 3, rng).reshape(-1, 4).astype(np.float32)
        truth = GroundTruth(boxes.astype(np.float32), np.arange(12) % 3)
        frames.append(Frame(points, str(index), truth))
        near.append(boxes + noise * rng.normal(0, 1, (12, 7)))
    return frames, near


def both_metrics(frames, detections, least):
    """(ours, KITTI's) AP|R40, by class and kind of overlap."""
    kitti = evaluate_kitti(
        [as_kitti(each.ground_truth.boxes, each.ground_truth.labels) for each in frames],
        [as_kitti(each.boxes, each.labels, each.scores) for each in detections],
        CLASSES,
        min_overlaps=dict.fromkeys(CLASSES, least),
    ).to_dict()
    scores = evaluate(frames, detections, LidarMetric(dict.fromkeys(CLASSES, (least, least))))
    pairs = []
    for name in CLASSES:
        for kind in ('BEV', '3D'):
            easy, *others = kitti[kind.lower()][name]['ap40']
            assert others == [easy, easy]
            pairs.append((scores.by_class[name][f'{kind} AP'], easy))
    return np.array(pairs)


def test_equals_kitti_where_camera_and_difficulty_play_no_role():
    """With 80 labels every second hit has a recall of n / 40: those that KITTI looks at.

    An alarm after each of them leaves no better precision in between.
    """
    frames, near = in_camera_view(np.random.default_rng(2), noise=0.02)
    detections = []
    for index, (labelled, boxes) in enumerate(zip(frames, near, strict=True)):
        labels = labelled.ground_truth.labels
        rank = index * 4 + np.arange(12) // 3 + 1  # of the hit within its class
        even = rank % 2 == 0
        alarms = np.add(boxes[even], (0, -60, 0, 0, 0, 0, 0))
        detections.append(
            found(
                *(*boxes, *alarms),
                scores=np.append(1 - rank / 100, 1 - (rank[even] + 0.5) / 100),
                labels=np.append(labels, labels[even]),
            )
        )
    ours, kitti = both_metrics(frames, detections, 0.5).T
    assert ours == pytest.approx(kitti, abs=1e-9)
    # After 2 n hits there are n - 1 alarms.
    n = np.arange(1, 41)
    assert ours == pytest.approx([100 * np.mean(2 * n / (3 * n - 1))] * 6)


def test_differs_from_kitti_by_less_than_one_recall_with_misses_and_alarms_anywhere():
    """KITTI counts the last hit even where it falls short of its recall: one value of the 40."""
    rng = np.random.default_rng(3)
    frames, near = in_camera_view(rng, noise=0.22)
    detections = [
        found(
            *boxes,
            *np.add(boxes[:4], (0, -60, 0, 0, 0, 0, 0)),
            scores=rng.uniform(0, 1, 16),
            labels=np.append(np.arange(12) % 3, [0, 1, 2, 0]),
        )
        for boxes in near
    ]
    ours, kitti = both_metrics(frames, detections, 0.5).T
    assert (ours > 10).all()
    assert (ours < 90).all()
    assert ours == pytest.approx(kitti, abs=2.5)
