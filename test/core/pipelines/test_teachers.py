# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles and detections of other programs as teachers."""

from __future__ import annotations

from detection_drives import convert, vision, write_drive
import numpy as np
import pytest

from pointdistiller_core.config import FolderConfig, LabellingConfig, PointPillarsConfig
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.deploy.bundle_format import BundleInfo
from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.formats.folder import (
    FolderInfo,
    FrameRow,
    SensorInfo,
    read_label_source,
    read_labels,
)
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.pipelines.label import label_dataset
from pointdistiller_core.pipelines.teachers import labelled_classes, load_teachers, split_topic
from pointdistiller_core.records import Detections

CONFIG = LabellingConfig(min_points=1)


def test_detections_of_a_bag_become_labels(tmp_path):
    bag = write_drive(tmp_path / 'bag', [vision(n, AHEAD, score=0.8) for n in range(4)])
    dataset, notes = convert(bag, tmp_path / 'own', height='keep', poses='none'), []
    renamed = {'car': 'Car', 'Vann': 'Car', 'CAR': 'Car'}
    text = f'{bag}:/objects'
    teachers = load_teachers(
        dataset, CONFIG, detections=[text], class_map=renamed, on_note=notes.append
    )
    assert labelled_classes(teachers) == ('Car',)
    assert notes == ['class map: nothing is called Vann; the classes are car']
    frames = FolderDataset(FolderConfig(root=dataset.root, split='all'), ('Car',), labelled=False)
    counts = label_dataset(frames, teachers, CONFIG)
    assert counts.tracks['Car'] == {'labels': 1, 'ignored': 0, 'dropped': 0}
    for name in frames.frame_ids:
        (label,) = read_labels(dataset.root, name)
        np.testing.assert_allclose(label.box, AHEAD, atol=1e-4)
        assert (label.name, label.score) == ('Car', 0.8)
        assert read_label_source(dataset.root, name) == text


AHEAD = (10.0, 6.5, -0.5, 4.0, 1.75, 1.5, 0.25)


def test_classes_that_are_not_asked_for_are_named(tmp_path):
    messages = [vision(0), vision(1)]
    messages[1][1].detections[0].results[0].hypothesis.class_id = 'bird'
    bag, notes = write_drive(tmp_path / 'bag', messages), []
    dataset = convert(bag, tmp_path / 'own', height='keep')
    options = {'class_map': {'car': 'Car'}, 'on_note': notes.append}
    for chosen in ('car', 'Car'):
        teachers = load_teachers(dataset, CONFIG, detections=[f'{bag}={chosen}'], **options)
        assert labelled_classes(teachers) == ('Car',)
        assert notes[-1] == f'{bag}: /objects: not asked for: 1 bird'
    with pytest.raises(ConfigError, match=r"\['cat'\] are not among its classes"):
        load_teachers(dataset, CONFIG, detections=[f'{bag}=cat'])
    with pytest.raises(ConfigError, match='give --bundle or --detections'):
        load_teachers(dataset, CONFIG)


def test_other_detections_change_the_fingerprint(tmp_path):
    bag = write_drive(tmp_path / 'bag', [vision(0)])
    dataset = convert(bag, tmp_path / 'own', height='keep')
    first = load_teachers(dataset, CONFIG, detections=[str(bag)])
    assert load_teachers(dataset, CONFIG, detections=[str(bag)]).fingerprint == first.fingerprint
    renamed = load_teachers(dataset, CONFIG, detections=[str(bag)], class_map={'car': 'Car'})
    assert renamed.fingerprint != first.fingerprint


def test_a_topic_follows_a_bag():
    assert [str(part) for part in split_topic('a:b/bag:/x/y')] == ['a:b/bag', '/x/y']
    assert [str(part) for part in split_topic('a/bag')] == ['a/bag', '']


class Eye:
    """A backend that finds nothing, and keeps what it sees."""

    name = 'eye'

    def __call__(self, points, _watch, **_):
        self.seen = points
        return Detections(
            np.zeros((0, 7), np.float32), np.zeros(0, np.float32), np.zeros(0, int)
        ), None


@pytest.mark.parametrize(('levelled', 'slope'), [(True, 0.0), (False, np.tan(0.08))])
def test_a_teacher_of_levelled_clouds_levels_those_of_any_height(
    tmp_path, monkeypatch, levelled, slope
):
    """A sensor that is higher than that of the training, and looks down by 0.08 rad."""
    mounting = Mounting.from_angles(1.73, height=2.2, roll=0.0, pitch=0.08, yaw=0.0)
    road = np.random.default_rng(0).uniform(-20, 20, (4000, 4)).astype(np.float32)
    road[:, 2:] = -1.73, 0.5
    road[:, :3] = mounting.points_to_sensor(road[:, :3])
    with FolderWriter(tmp_path / 'own', FolderInfo(sensor=SensorInfo(height=2.2))) as writer:
        writer.add(FrameRow('a', 'a', 0), road, None)
    config = FolderConfig(root=tmp_path / 'own', split='all')
    dataset, eye, notes = FolderDataset(config, ('Car',), labelled=False), Eye(), []
    info = BundleInfo(model=PointPillarsConfig(levelled=levelled), sensor_height=1.73)
    monkeypatch.setattr(Detector, 'load', lambda *_, **__: Detector(eye, info))
    teachers = load_teachers(dataset, CONFIG, bundles=['teacher'], on_note=notes.append)
    teachers.teachers[0].detect(dataset[0].points)
    found = np.polyfit(eye.seen[:, 0], eye.seen[:, 2], 1)
    np.testing.assert_allclose(found, [slope, -1.73], atol=0.01)
    assert bool(notes) != levelled
