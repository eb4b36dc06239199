# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Teacher and student on every cloud, by detectors that are simple functions."""

from __future__ import annotations

import csv
from dataclasses import replace
import json

import numpy as np
import pytest

from pointdistiller_core.config import FolderConfig, PointPillarsConfig
from pointdistiller_core.deploy.bundle_format import BundleInfo
from pointdistiller_core.errors import CloudError, ConfigError, DatasetError
from pointdistiller_core.evaluation.comparison.report import Check
from pointdistiller_core.formats.folder import (
    FolderInfo,
    FrameRow,
    Label,
    SensorInfo,
    write_labels,
)
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.pipelines.comparison import (
    BagSelection,
    ComparisonConfig,
    DatasetSelection,
    compare,
)
from pointdistiller_core.records import Detections

SIZE = (4.0, 1.6, 1.5, 0.0)
CONFIG = ComparisonConfig('teacher', 'student')


class Stub:
    """Finds a car at each point whose intensity is at least a limit."""

    class_names, backend = ('Car',), 'stub'

    def __init__(self, limit, height=1.73, *, levelled=False):
        self.limit, self.mountings = limit, []
        model = PointPillarsConfig(levelled=levelled)
        self.info = BundleInfo(model=model, sensor_height=height)

    def __call__(self, points, *, mounting=None):
        self.mountings.append(mounting)
        if np.isnan(points).any():
            raise CloudError('a point is not finite')
        found = points[points[:, 3] >= self.limit]
        boxes = np.concatenate([found[:, :3], np.tile(SIZE, (len(found), 1))], axis=1)
        labels = np.zeros(len(found), np.int64)
        scores = found[:, 3].astype(np.float32)
        boxes = boxes.astype(np.float32)
        return Detections(boxes, scores, labels, None, {'boxes_refused': 1}, {'total': 5.0})


def load(bundle, **_):
    return Stub({'teacher': 0.4, 'student': 0.6}[bundle])


def points_of(*intensities):
    """(N, 4) points far from one another; the same intensity is the same place."""
    rows = [(10 + 60 * value - 20, 0, -1, value) for value in intensities]
    return np.array(rows, np.float32).reshape(-1, 4)


def car_at(intensity):
    return Label('Car', (*points_of(intensity)[0, :3].tolist(), *SIZE))


FRAMES = [(0.5, 0.7), (0.7,), (0.5,), (0.3, 0.9)]  # intensities of the points


@pytest.fixture
def folder(tmp_path):
    """Two drives with the same times; two of the four frames are labelled."""
    with FolderWriter(tmp_path / 'data', FolderInfo(class_names=('Car',))) as writer:
        for index, values in enumerate(FRAMES):
            drive = 'ab'[index // 2]
            row = FrameRow(f'{drive}_{index % 2:06d}', drive, 10**8 * (1 + index % 2))
            labels = {0: [car_at(0.5), car_at(0.7)], 3: []}.get(index)
            writer.add(row, points_of(*values), labels)
    return FolderConfig(root=tmp_path / 'data', split='all')


def write_bag(path, frames=FRAMES):
    with CloudBagWriter(path) as writer:
        for index, values in enumerate(frames):
            writer.write('/points', (index + 1) * 10**8, 'lidar', points_of(*values))
    return path


def rows_of(path):
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def test_every_frame_of_a_dataset_and_the_labels_that_there_are(folder, tmp_path):
    done = []
    summary = compare(
        CONFIG,
        DatasetSelection(folder),
        output=tmp_path / 'report',
        load=load,
        on_cloud=lambda *counts: done.append(counts),
    )
    # The teacher sees 0.5, 0.7; 0.7; 0.5; 0.9, and the student all but those of 0.5.
    assert (summary['agreement']['recall'], summary['agreement']['precision']) == (3 / 5, 1)
    assert summary['clouds']['compared'] == summary['clouds']['received'] == 4
    truth = summary['ground_truth']
    assert (truth['teacher']['recall'], truth['student']['recall']) == (1.0, 0.5)
    assert truth['student']['precision'] == 1 / 2  # nothing is labelled in the last frame
    assert (truth['clouds_without_labels'], truth['labels_without_cloud']) == (2, 0)
    assert summary['source']['labels_by'] == {'the dataset': 2}
    assert summary['complete'] is True
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    rows = rows_of(tmp_path / 'report' / 'clouds.csv')
    names = ['a_000000', 'a_000001', 'b_000000', 'b_000001']
    assert [row['frame'] for row in rows] == names
    labelled = rows_of(tmp_path / 'report' / 'ground_truth.csv')
    assert [row['frame'] for row in labelled] == [names[0], names[3]]
    page = (tmp_path / 'report' / 'comparison.html').read_text(encoding='utf-8')
    assert 'frame a_000000: 1 disagreements' in page


def test_the_same_numbers_each_time(folder):
    first, second = (compare(CONFIG, DatasetSelection(folder), load=load) for _ in range(2))
    assert {**first, 'started': ''} == {**second, 'started': ''}


def test_stride(folder, tmp_path):
    frames = compare(CONFIG, DatasetSelection(folder, stride=3), load=load)
    assert frames['clouds']['compared'] == frames['clouds']['with_truth'] == 2
    bag = BagSelection(write_bag(tmp_path / 'bag'), stride=3)
    done = []
    clouds = compare(CONFIG, bag, load=load, on_cloud=lambda *counts: done.append(counts))
    assert clouds['agreement'] == frames['agreement']
    assert done == [(1, 2), (2, 2)]


def test_a_window_of_a_bag(tmp_path):
    bag = BagSelection(write_bag(tmp_path / 'bag'), start_s=0.1, duration_s=0.15)
    assert compare(CONFIG, bag, load=load)['clouds']['compared'] == 2


def test_dataset_and_bag_of_the_same_clouds_agree(folder, tmp_path):
    frames = compare(CONFIG, DatasetSelection(folder), load=load)
    clouds = compare(CONFIG, BagSelection(write_bag(tmp_path / 'bag')), load=load)
    assert frames['agreement'] == clouds['agreement']


def test_a_cloud_that_cannot_be_used_is_named_and_counted(tmp_path):
    bag = write_bag(tmp_path / 'bag', [(0.7,), (np.nan,), (0.7,)])
    said = []
    summary = compare(CONFIG, BagSelection(bag), load=load, warn=said.append)
    assert (summary['clouds']['compared'], summary['clouds']['failed']) == (2, 1)
    assert said == ['cloud 2 (stamp 0.200 s) is not compared: a point is not finite']


def test_a_bag_that_was_cut_off_is_compared_as_far_as_it_goes(tmp_path, caplog):
    bag = write_bag(tmp_path / 'bag')
    (file,) = bag.glob('*.mcap')
    cut = tmp_path / 'cut.mcap'
    cut.write_bytes(file.read_bytes()[: -file.stat().st_size // 4])
    compare(CONFIG, BagSelection(cut), output=tmp_path / 'report', load=load)
    assert caplog.text.count('was cut off') == 1
    written = json.loads((tmp_path / 'report' / 'comparison.json').read_text(encoding='utf-8'))
    assert (written['complete'], written['clouds']['compared']) == (True, len(FRAMES))
    assert 'was cut off' in written['source']['damage']
    assert (tmp_path / 'report' / 'comparison.html').exists()


def test_sensor_at_another_height(tmp_path):
    stubs = {'teacher': Stub(0.4), 'student': Stub(0.6, height=2.5)}
    bag = BagSelection(write_bag(tmp_path / 'bag'), height=2.5)
    compare(CONFIG, bag, load=lambda bundle, **_: stubs[bundle])
    assert stubs['student'].mountings == [None] * 5
    assert stubs['teacher'].mountings[0].training_from_sensor[2, 3] == pytest.approx(2.5 - 1.73)


def test_detectors_of_levelled_clouds_find_the_ground_themselves(tmp_path):
    stubs = {'teacher': Stub(0.4), 'student': Stub(0.6, levelled=True)}
    info = FolderInfo(class_names=('Car',), sensor=SensorInfo(height=2.2))
    with FolderWriter(tmp_path / 'data', info) as writer:
        writer.add(FrameRow('a', 'a', 0), points_of(0.5, 0.7), [car_at(0.5)])
    folder = FolderConfig(root=tmp_path / 'data', split='all')
    compare(CONFIG, DatasetSelection(folder), load=lambda bundle, **_: stubs[bundle])
    assert stubs['teacher'].mountings[-1].training_from_sensor[2, 3] == pytest.approx(2.2 - 1.73)
    # A mounting of that height without a tilt would keep it from levelling a tilted sensor's.
    assert set(stubs['student'].mountings) == {None}


def test_labels_by_a_teacher_are_no_truth(folder):
    write_labels(folder.root, 'a_000001', [car_at(0.7)], source='runs/teacher')
    said = []
    summary = compare(CONFIG, DatasetSelection(folder), load=load, warn=said.append)
    assert summary['source']['labels_by'] == {'the dataset': 2, 'runs/teacher': 1}
    assert said == ['the labels of 1 frames are by runs/teacher, not by people']


def test_wrong_intensity_is_in_the_report(tmp_path):
    with CloudBagWriter(tmp_path / 'bag') as writer:
        for index in range(3):
            points = np.tile(points_of(0.5), (50, 1))
            points[:, 3] = np.linspace(0, 255, 50)
            writer.write('/points', (index + 1) * 10**8, 'lidar', points)
    summary = compare(CONFIG, BagSelection(tmp_path / 'bag'), load=load)
    assert 'the teacher was trained on 0 to 1' in summary['intensity']['problem']
    assert '--intensity-scale auto or 0.00392157' in summary['intensity']['problem']


@pytest.mark.parametrize(
    ('changes', 'error', 'named'),
    [
        ({'bag': 'absent'}, DatasetError, 'absent'),
        ({'topic': '/none'}, DatasetError, r"topic '/none': the bag has no such topic; .*/points"),
        ({'ground_truth': '/none'}, DatasetError, "topic '/none'"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, changes, error, named):
    bag = BagSelection(write_bag(tmp_path / 'bag'))
    if 'bag' in changes:
        changes = {'bag': tmp_path / changes['bag']}
    with pytest.raises(error, match=named):
        compare(CONFIG, replace(bag, **changes), output=tmp_path / 'report', load=load)
    assert not (tmp_path / 'report').exists()


def test_a_check_of_no_number_is_refused_before_the_run(folder):
    checks = [Check.parse('ground_truth.teacher.recall>=0.5'), Check.parse('recal>=0.5')]
    with pytest.raises(ConfigError, match="no number 'recal'"):
        compare(CONFIG, DatasetSelection(folder), checks=checks, load=load, on_cloud=pytest.fail)
