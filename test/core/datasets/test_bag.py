# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds and labelled boxes of a bag."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bag_files import write_storage
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from pointdistiller_core.config import BagConfig
from pointdistiller_core.datasets.bag import TRUTH_TOPIC, BagDataset
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.messages.boxes_cloud import to_box_columns
from pointdistiller_core.records import GroundTruth

CAR = [10, 0, -1, 4, 2, 1.5, 0.3]
SECOND = 10**9


def write_bag(
    path: Path,
    clouds: Sequence[int],
    labels: dict[int, Sequence[int]],
    *,
    topic: str = TRUTH_TOPIC,
    frame_id: str = 'lidar',
) -> Path:
    """Clouds at some seconds, with cars of some labels at some of these seconds."""
    with CloudBagWriter(path) as writer:
        for second in clouds:
            points = np.array([[0, 0, 0, 0], [1, 2, second, 0.5], [0, 0, 0, 0.1]], np.float32)
            writer.write('/points', second * SECOND, 'lidar', points)
        for second, numbers in labels.items():
            boxes = np.array([CAR] * len(numbers), np.float32).reshape(-1, 7)
            columns = to_box_columns(GroundTruth(boxes, np.array(numbers, np.int64)))
            writer.write(topic, second * SECOND, frame_id, *columns)
    return path


def open_bag(path: Path, class_names=('Car',), *, labelled=True, **options) -> BagDataset:
    return BagDataset(BagConfig(root=path, **options), class_names, labelled=labelled)


def test_clouds_are_without_rays_without_return(tmp_path):
    frames = open_bag(write_bag(tmp_path / 'bag', range(4), {}), labelled=False)
    assert len(frames) == 4
    for index in (1, 2, 2, 0, 3):  # in any order
        frame = frames[index]
        assert frame.points.tolist() == [[1, 2, index, 0.5]]
        assert (frame.frame_id, frame.stamp_ns) == (f'{index:06d}', index * SECOND)
        assert frame.ground_truth is None
    assert len(list(frames)) == 4  # it ends
    with pytest.raises(IndexError, match='cloud 4 of 4 in'):
        frames[4]


def test_it_says_once_what_is_wrong(tmp_path, caplog):
    times = [second * SECOND for second in range(1, 7)]
    path = write_storage(tmp_path / 'bag', StoragePlugin.MCAP, times, message_count=0)
    frames = open_bag(path, labelled=False)
    assert [frames[index].stamp_ns for index in (3, 1, 5)] == [times[3], times[1], times[5]]
    assert len(frames) == 6
    (record,) = caplog.records
    assert 'metadata.yaml has 0 messages in all; 6 were read' in record.message


def test_labels_are_those_of_the_same_stamp(tmp_path, caplog):
    labels = {1: [0], 2: [], 4: [1, 0, -1, 9], 7: [0]}
    path = write_bag(tmp_path / 'bag', [1, 2, 3, 4], labels)
    frames = open_bag(path, ('Car', 'Cyclist'))
    assert frames.frame_ids == ('000000', '000001', '000003')
    for index, expected in enumerate([[0], [], [1, 0, -1, -1]]):
        truth = frames[index].ground_truth
        assert truth.labels.tolist() == frames.labels(index).labels.tolist() == expected
        boxes = np.array([CAR] * len(expected), np.float32).reshape(-1, 7)
        np.testing.assert_array_equal(truth.boxes, boxes)
    notes = [record.getMessage() for record in caplog.records]
    assert (
        "are taken as the detector's: 0 Car, 1 Cyclist; label_names (--class) names others"
        in notes[0]
    )
    assert '1 of 4 clouds have no boxes of their stamp on /ground_truth/boxes' in notes[1]


def test_labels_may_index_other_names(tmp_path, caplog):
    path = write_bag(tmp_path / 'bag', [1], {1: [0, 1, 2]})
    frames = open_bag(path, ('Car',), topic='/points', label_names=('Van', 'Car', 'Tram'))
    assert frames.labels(0).labels.tolist() == [-1, 0, -1]
    assert not caplog.records


def test_classes_get_new_names(tmp_path):
    path = write_bag(tmp_path / 'bag', [1], {1: [0, 1, 2, -1]})
    names = {'label_names': ('Van', 'Tram'), 'class_map': {'Van': 'Car'}}
    frames = open_bag(path, ('Car',), topic='/points', **names)
    assert frames.labels(0).labels.tolist() == [0, -1, -1, -1]
    assert frames.label_names(0) == ['Van', 'Tram', '2']


def test_a_stamp_that_comes_twice_is_no_label(tmp_path):
    frames = open_bag(write_bag(tmp_path / 'bag', [1, 2, 2], {1: [0], 2: [0]}))
    assert frames.frame_ids == ('000000',)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'topic': '/teacher/boxes'}, r"no boxes on /ground_truth/boxes.*\['/teacher/boxes'\]"),
        ({'frame_id': 'map'}, "are in the frame 'map', the clouds in 'lidar'"),
        ({'labels': {9: [0]}}, 'no boxes on /ground_truth/boxes have the stamp of a cloud'),
    ],
)
def test_what_are_no_labels(tmp_path, options, message):
    labels = options.pop('labels', {1: [0]})
    path = write_bag(tmp_path / 'bag', [1], labels, **options)
    with pytest.raises(DatasetError, match=message):
        open_bag(path)
    assert len(open_bag(path, labelled=False, topic='/points')) == 1


def test_boxes_of_another_topic(tmp_path):
    path = write_bag(tmp_path / 'bag', [1], {1: [0]}, topic='/teacher/boxes')
    config = BagConfig(root=path, ground_truth='/teacher/boxes')
    assert BagDataset.is_labelled(config)
    assert not BagDataset.is_labelled(BagConfig(root=path))
    assert BagDataset(config, ('Car',)).labels(0).labels.tolist() == [0]


def test_boxes_that_are_none(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for topic in ('/points', TRUTH_TOPIC):
            writer.write(topic, SECOND, 'lidar', np.ones((1, 4), np.float32))
    with pytest.raises(DatasetError, match=r"/ground_truth/boxes at 1\.000 s: .*'dx'"):
        open_bag(tmp_path / 'bag', topic='/points')
