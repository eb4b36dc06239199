# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What holds for the metrics of every name, on frames that have all that any of them needs."""

from __future__ import annotations

from dataclasses import replace
import json

from kitti_folder import points_in, write_frame, write_splits
import numpy as np
from nuscenes_folder import write_key_frame, write_scene
import pytest

from pointdistiller_core.datasets import FrameDataset, open_dataset
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.evaluation.metric import (
    METRICS,
    AlarmMetric,
    NuScenesMetric,
    Scores,
    find_metric,
)
from pointdistiller_core.records import IGNORE_LABEL, Detections, GroundTruth

CLASSES = ('Car', 'Pedestrian')
RENAMED = {'Car': 'car', 'Pedestrian': 'pedestrian'}  # in nuScenes
SIZES = {'Car': (4, 2, 1.5), 'Pedestrian': (0.8, 0.6, 1.8)}
INDICES = range(4)


def perfect(truth: GroundTruth) -> Detections:
    """What a perfect detector finds, in ascending order of its scores."""
    kept = truth[truth.labels != IGNORE_LABEL]
    scores = np.linspace(0.5, 0.9, len(kept), dtype=np.float32)
    return Detections(kept.boxes, scores, kept.labels)


@pytest.fixture(scope='module', params=list(METRICS))
def metric_name(request) -> str:
    return request.param


@pytest.fixture(scope='module')
def frames(tmp_path_factory, metric_name) -> FrameDataset:
    """Four frames of seven objects each, about 10 to 37 m ahead."""
    root, rng = tmp_path_factory.mktemp('data'), np.random.default_rng(0)
    sweeps = []
    names = ['Car', 'Pedestrian', 'Car', 'Car', 'Pedestrian', 'Car', 'Pedestrian']
    for index in INDICES:
        boxes = [
            [10 + 4.5 * place, rng.uniform(-3, 3), -1, *SIZES[name], rng.uniform(-3, 3)]
            for place, name in enumerate(names)
        ]
        points = points_in(boxes, 30, rng).reshape(-1, 4)
        if metric_name == 'nuscenes':
            sweeps.append(write_key_frame(root, index, points, boxes, names))
        else:
            write_frame(root, f'{index}', points, boxes, names)
    if metric_name == 'nuscenes':
        write_scene(root, sweeps)
    else:
        write_splits(root, {'train': [f'{index}' for index in INDICES]})
    return open_dataset(root, class_names=CLASSES)


@pytest.fixture
def truth(frames) -> list[Detections]:
    return [perfect(frames[index].ground_truth) for index in INDICES]


@pytest.fixture
def metric(metric_name):
    return METRICS[metric_name]()


def shifted(item: Detections, distance: float) -> Detections:
    boxes = item.boxes.copy()
    boxes[:, 1] += distance
    return replace(item, boxes=boxes)


def test_nobody_is_better_than_perfect(metric, frames, truth):
    best = metric.evaluate(frames, INDICES, truth)
    far = metric.evaluate(frames, INDICES, [shifted(item, 5.0) for item in truth])
    false = [shifted(item, 20.0) for item in truth]
    false = [
        Detections(*(np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS))
        for parts in zip(truth, false, strict=True)
    ]
    worse = metric.evaluate(frames, INDICES, false)
    for name, value in best.means.items():
        assert value > worse.means[name] > far.means[name] == 0
    assert best.num_labels == worse.num_labels == {'Car': 16, 'Pedestrian': 12}


COLUMNS = ('boxes', 'scores', 'labels')


def test_nothing_found_is_nothing(metric, frames):
    scores = metric.evaluate(frames, INDICES, [Detections.empty()] * len(INDICES))
    assert set(scores.means.values()) == {0.0}
    assert {value for columns in scores.by_class.values() for value in columns.values()} == {0.0}


def test_order_does_not_matter(metric, frames, truth):
    moved = [shifted(item, 0.1 * index) for index, item in enumerate(truth)]
    expected = metric.evaluate(frames, INDICES, moved).summary
    turned = [item[np.arange(len(item))[::-1]] for item in moved]
    assert metric.evaluate(frames, INDICES, turned).summary == expected
    order = [2, 0, 3, 1]
    assert metric.evaluate(frames, order, [moved[index] for index in order]).summary == expected


def test_some_frames_alone(metric, frames, truth):
    scores = metric.evaluate(frames, [2], [truth[2]])
    assert scores.num_labels == {'Car': 4, 'Pedestrian': 3}


def test_scores_are_those_of_the_classes(metric, frames, truth):
    scores = metric.evaluate(frames, INDICES, truth)
    assert tuple(scores.by_class) == CLASSES
    assert list(scores.row)[: len(scores.means)] == list(scores.means)
    assert len(scores.row) == len(scores.means) + len(CLASSES)
    assert metric.quantity
    json.dumps(scores.to_dict(), allow_nan=False)
    again = Scores.from_summary(json.loads(json.dumps(scores.summary, allow_nan=False)))
    assert again.row == scores.row


def test_results_are_written_among_themselves(metric, frames, truth, tmp_path):
    expected = [f'{index}' for index in INDICES]
    if isinstance(metric, NuScenesMetric):  # all in one file, with nuScenes' own classes
        renamed = tuple(RENAMED.values())
        frames = open_dataset(frames.root, class_names=renamed, class_map=RENAMED)
        expected = ['results_nusc']
    metric.check_results(tmp_path / 'results', frames, INDICES)
    metric.write_results(tmp_path / 'results', frames, INDICES, truth)
    names = sorted(file.stem for file in (tmp_path / 'results').iterdir())
    assert names == expected
    metric.check_results(tmp_path / 'results', frames, INDICES)
    with pytest.raises(DatasetError, match='holds result files of other frames'):
        metric.check_results(tmp_path / 'results', frames, [0])


def test_alarms_at_recalls(metric, frames, truth):
    assert isinstance(metric, AlarmMetric) == (not isinstance(metric, NuScenesMetric))
    if not isinstance(metric, AlarmMetric):
        return
    recalls = (0.25, 0.5, 1.0)
    both = [
        Detections(*(np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS))
        for parts in zip(truth, [shifted(item, 20.0) for item in truth], strict=True)
    ]
    for kind in ('bev', '3d'):
        alarms = metric.alarms(frames, INDICES, both, recalls=recalls, kind=kind, level='')
        assert {name: each.num_truth for name, each in alarms.items()} == {
            'Car': 16,
            'Pedestrian': 12,
        }
        for each in alarms.values():  # a false alarm for every hit, of the same score
            np.testing.assert_array_equal(each.counts, each.recall * each.num_truth)
            assert each.counts[-1] == each.num_truth
    with pytest.raises(ConfigError, match='impossible'):
        metric.alarms(frames, INDICES, both, recalls=recalls, kind='3d', level='impossible')


def test_there_is_no_other_metric():
    with pytest.raises(ConfigError, match=r"metric 'mota': unknown; choose from \['kitti'"):
        find_metric('mota')
