# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labels of a dataset folder by detectors that are simple functions."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.config import FolderConfig, LabellingConfig, ViewsConfig
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.formats.folder import (
    FolderInfo,
    FrameRow,
    Label,
    labels_path,
    read_info,
    read_label_source,
    read_labels,
)
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.geometry.poses import Pose
from pointdistiller_core.labelling.views import Teacher
from pointdistiller_core.pipelines.label import Teachers, label_dataset
from pointdistiller_core.records import Detections

NUM_FRAMES = 8
ONCE = LabellingConfig(views=ViewsConfig(flips=False, scales=(1.0,)))


class Stub:
    """Finds a car wherever a point of intensity 1 is, and counts its calls."""

    def __init__(self, score=0.9):
        self.score, self.calls = score, 0

    def __call__(self, points):
        self.calls += 1
        centers = points[points[:, 3] == 1, :3]
        boxes = np.concatenate([centers, np.tile([4, 2, 1.5, 0], (len(centers), 1))], axis=1)
        scores = np.full(len(centers), self.score, np.float32)
        return Detections(boxes.astype(np.float32), scores, np.zeros(len(centers), np.int64))


def teachers(detect, fingerprint='a') -> Teachers:
    return Teachers([Teacher(detect, ('Car',), ('Car',))], fingerprint, 'runs/teacher')


def write_drive(root, *, stamps=True, poses=True, by_people=()):
    """A car that stands at (20, 2) of the world, and a sensor that drives 1 m a frame."""
    with FolderWriter(root, FolderInfo(class_names=('Car',) if by_people else ())) as writer:
        for index in range(NUM_FRAMES):
            pose = Pose.from_values((index, 0, 0, 0, 0, 0, 1)) if poses else None
            stamp = 10**8 * index if stamps else None
            row = FrameRow(f'a_{index:06d}', 'a' if stamps else '', stamp, pose=pose)
            points = np.float32([[20 - index, 2, 0, 1], [5, 5, 0, 0.5]])
            writer.add(row, points, [by_people[index]] if index in by_people else None)
    return root


def open_drive(root) -> FolderDataset:
    return FolderDataset(FolderConfig(root=root, split='all'), ('Car',), labelled=False)


def test_a_still_object_gets_one_track_and_no_velocity(tmp_path):
    root = write_drive(tmp_path / 'a')
    counts = label_dataset(open_drive(root), teachers(Stub()), ONCE)
    assert counts.frames == {'labelled': NUM_FRAMES}
    assert counts.tracks['Car'] == {'labels': 1, 'ignored': 0, 'dropped': 0}
    assert counts.labels['Car'] == {'labels': NUM_FRAMES, 'ignored': 0}
    assert read_info(root).class_names == ('Car',)
    for index in range(NUM_FRAMES):
        (label,) = read_labels(root, f'a_{index:06d}')
        np.testing.assert_allclose(label.box, (20 - index, 2, 0, 4, 2, 1.5, 0), atol=1e-5)
        assert (label.name, label.track, label.velocity) == ('Car', 0, (0, 0))
        assert label.score == pytest.approx(0.9)
        assert read_label_source(root, f'a_{index:06d}') == 'runs/teacher'
    dataset = FolderDataset(FolderConfig(root=root, split='all'), ('Car',))
    assert dataset[0].ground_truth.labels.tolist() == [0]


def test_labels_of_people_stay_and_measure_the_others(tmp_path):
    right = Label('Car', (20 - 3, 2.1, 0, 4, 2, 1.5, 0))
    elsewhere = Label('Car', (5, 5, 0, 1, 1, 1, 0))  # on the other point
    root = write_drive(tmp_path / 'a', by_people={3: right, 5: elsewhere})
    before = labels_path(root, 'a_000003').read_bytes()
    counts = label_dataset(open_drive(root), teachers(Stub()), ONCE)
    assert counts.frames == {'labelled': NUM_FRAMES - 2, 'kept': 2}
    assert (counts.found['Car'], counts.wrong['Car'], counts.missed['Car']) == (1, 1, 1)
    assert labels_path(root, 'a_000003').read_bytes() == before


def test_what_no_teacher_can_see_is_not_missed(tmp_path):
    behind = Label('Car', (5, 5, 0, 1, 1, 1, 0))
    root = write_drive(tmp_path / 'a', by_people={5: behind})
    ahead = (6.0, -10.0, -3.0, 40.0, 10.0, 3.0)
    teacher = Teacher(Stub(), ('Car',), ('Car',), ahead)
    counts = label_dataset(open_drive(root), Teachers([teacher], 'a', 'runs/teacher'), ONCE)
    assert (counts.found['Car'], counts.missed['Car'], counts.unseen['Car']) == (0, 0, 1)


def test_other_settings_detect_nothing_again_and_replace_labels(tmp_path):
    root, stub = write_drive(tmp_path / 'a'), Stub(score=0.5)
    counts = label_dataset(open_drive(root), teachers(stub), ONCE)
    assert counts.labels['Car'] == {'labels': 0, 'ignored': NUM_FRAMES}
    assert stub.calls == NUM_FRAMES
    trust = ONCE.trust.model_copy(update={'accept': 0.4})
    again = label_dataset(
        open_drive(root), teachers(stub), ONCE.model_copy(update={'trust': trust})
    )
    assert again.labels['Car'] == {'labels': NUM_FRAMES, 'ignored': 0}
    assert stub.calls == NUM_FRAMES
    label_dataset(open_drive(root), teachers(stub, 'b'), ONCE)
    assert stub.calls == 2 * NUM_FRAMES


def test_a_damaged_detection_is_made_again(tmp_path, caplog):
    root, stub = write_drive(tmp_path / 'a'), Stub()
    label_dataset(open_drive(root), teachers(stub), ONCE)
    next((root / '.cache' / 'detections').iterdir()).write_bytes(b'x')
    label_dataset(open_drive(root), teachers(stub), ONCE)
    assert stub.calls == NUM_FRAMES + 1
    assert 'damaged' in caplog.text


def test_frames_without_times_are_labelled_one_by_one(tmp_path):
    root = write_drive(tmp_path / 'a', stamps=False, poses=False)
    counts = label_dataset(open_drive(root), teachers(Stub()), ONCE)
    assert counts.labels['Car'] == {'labels': NUM_FRAMES, 'ignored': 0}
    assert counts.tracks['Car']['labels'] == NUM_FRAMES
    assert 'each frame is labelled on its own' in counts.notes[0]


def test_without_poses_nothing_stands_still(tmp_path):
    root = write_drive(tmp_path / 'a', poses=False)
    counts = label_dataset(open_drive(root), teachers(Stub()), ONCE)
    assert 'tracked as the sensor sees them' in counts.notes[0]
    assert counts.tracks['Car'] == {'labels': 1, 'ignored': 0, 'dropped': 0}
    (label,) = read_labels(root, 'a_000004')
    assert label.velocity[0] == pytest.approx(-10, abs=1.5)
