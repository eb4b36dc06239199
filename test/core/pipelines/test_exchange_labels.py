# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Dataset folders to annotation tools and back, as files."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.config import FolderConfig
from pointdistiller_core.datasets.class_tally import ClassTally
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.datasets.pcd import read_pcd
from pointdistiller_core.errors import DatasetError, WriteError
from pointdistiller_core.formats.folder import (
    FolderInfo,
    FrameRow,
    Label,
    read_info,
    read_label_source,
    read_labels,
    write_labels,
)
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.formats.kitti import Calibration, format_calibration
from pointdistiller_core.formats.label_tools import (
    AHEAD,
    LABEL_TOOLS,
    Camera,
    format_tool_labels,
)
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.messages.boxes_cloud import TRUTH_TOPIC, to_box_columns
from pointdistiller_core.pipelines.exchange_labels import (
    export_labels,
    import_labels,
    import_recorded,
)
from pointdistiller_core.records import Detections

POINTS = np.float32([[1, 2, 3, 0.5], [-4, 5, 6, 0.25]])
BEHIND = Label('Car', (-10.5, 3.0, -0.5, 4.0, 1.75, 1.5, 3.0))  # no camera sees it


def write_dataset(root, labels=(BEHIND,)):
    with FolderWriter(root, FolderInfo(class_names=('Car',))) as writer:
        writer.add(FrameRow('a_000000', 'a', 1), POINTS, list(labels))
        writer.add(FrameRow('a_000001', 'a', 2), POINTS, None)
    return root


def frames_of(root) -> FolderDataset:
    return FolderDataset(FolderConfig(root=root, split='all'), (), labelled=False)


@pytest.mark.parametrize('tool', LABEL_TOOLS)
def test_labels_and_points_go_to_a_tool_and_come_back(tmp_path, tool):
    root = write_dataset(tmp_path / 'own')
    counts = export_labels(frames_of(root), tmp_path / 'out', tool)
    assert (counts.frames, counts.without_labels, counts.boxes) == (1, 1, {'Car': 1})
    folder = tmp_path / 'out' / LABEL_TOOLS[tool].points_folder
    if tool == 'kitti':
        points = np.fromfile(folder / 'a_000001.bin', '<f4').reshape(-1, 4)
    else:
        columns, note = read_pcd((folder / 'a_000001.pcd').read_bytes(), 'x')
        points = np.stack(list(columns.values()), 1)
        assert not note
    np.testing.assert_array_equal(points, POINTS)
    other = write_dataset(tmp_path / 'other', ())
    taken = import_labels(other, tmp_path / 'out', tool)
    assert (taken.frames, taken.boxes) == (1, {'Car': 1})
    (label,) = read_labels(other, 'a_000000')
    np.testing.assert_allclose(label.box, BEHIND.box, atol=1e-6 if tool != 'kitti' else 2e-4)


def test_labels_of_people_are_replaced_only_when_asked(tmp_path):
    root = write_dataset(tmp_path / 'own')
    export_labels(frames_of(root), tmp_path / 'out', 'sustech', points=False)
    assert not (tmp_path / 'out' / 'lidar').exists()
    with pytest.raises(WriteError, match='a_000000 first; --replace replaces them'):
        import_labels(root, tmp_path / 'out', 'sustech')
    write_labels(root, 'a_000000', [], source='runs/teacher')
    assert import_labels(root, tmp_path / 'out' / 'label', 'sustech').frames == 1
    assert import_labels(root, tmp_path / 'out', 'sustech', replace=True).frames == 1


def test_new_classes_and_strange_files_are_told(tmp_path):
    root = write_dataset(tmp_path / 'own', [Label('Tram', BEHIND.box)])
    export_labels(frames_of(root), tmp_path / 'out', 'xtreme1')
    result = tmp_path / 'out' / 'result'
    (result / 'b_000007.json').write_text('{"objects": []}')
    other = write_dataset(tmp_path / 'other', ())
    counts = import_labels(other, tmp_path / 'out', 'xtreme1')
    assert counts.unknown == ['b_000007']
    assert read_info(other).class_names == ('Car', 'Tram')
    (result / 'a_000001.json').write_text('{')
    with pytest.raises(DatasetError, match=r'a_000001\.json: no label file of xtreme1'):
        import_labels(other, tmp_path / 'out', 'xtreme1', replace=True)
    with pytest.raises(DatasetError, match='no label files'):
        import_labels(other, tmp_path, 'sustech')


@pytest.mark.parametrize('tool', LABEL_TOOLS)
def test_unsure_boxes_have_a_class_of_their_own_in_a_tool(tmp_path, tool):
    unsure = Label('Car', (20.0, 1.0, -0.5, 4.0, 1.75, 1.5, 0.0), 0.4, 3, ignore=True)
    root = write_dataset(tmp_path / 'own', [BEHIND, unsure])
    counts = export_labels(frames_of(root), tmp_path / 'out', tool, points=False)
    assert (counts.boxes, counts.unsure) == ({'Car': 1, 'Car_unsure': 1}, 1)
    taken = import_labels(root, tmp_path / 'out', tool, replace=True)
    assert (taken.boxes, taken.unsure) == ({'Car': 2}, 1)
    assert [label.ignore for label in read_labels(root, 'a_000000')] == [False, True]
    kind = LABEL_TOOLS[tool]
    file = tmp_path / 'out' / kind.folder / f'a_000000{kind.suffix}'
    confirmed = file.read_text().replace('Car_unsure', 'Car')  # as a person does in the tool
    file.write_text(confirmed)
    import_labels(root, tmp_path / 'out', tool, replace=True)
    assert [label.ignore for label in read_labels(root, 'a_000000')] == [False, False]
    write_labels(root, 'a_000000', [BEHIND, unsure])
    left = export_labels(frames_of(root), tmp_path / 'out', tool, points=False, unsure=False)
    assert (left.boxes, left.unsure, left.left_out) == ({'Car': 1}, 0, 1)


def test_a_calibration_beside_labels_of_kitti_is_used(tmp_path):
    root = write_dataset(tmp_path / 'own', ())
    out = tmp_path / 'kitti'
    moved = AHEAD.calibration.camera_from_lidar.copy()
    moved[:3, 3] = (0.0, -0.08, -0.27)
    camera = Camera(Calibration(moved, AHEAD.calibration.image_from_camera), (1242, 375))
    for folder, text in (
        ('label_2', format_tool_labels('kitti', [BEHIND], 'x', camera)),
        ('calib', format_calibration(camera.calibration)),
    ):
        (out / folder).mkdir(parents=True)
        (out / folder / 'a_000000.txt').write_text(text)
    counts = import_labels(root, out, 'kitti')
    np.testing.assert_allclose(read_labels(root, 'a_000000')[0].box, BEHIND.box, atol=2e-4)
    assert not +counts.lost
    (out / 'calib' / 'a_000000.txt').unlink()
    without = import_labels(root, out, 'kitti', replace=True)
    assert sum(without.lost.values()) == 1
    assert read_labels(root, 'a_000000')[0].box[0] == pytest.approx(BEHIND.box[0] - 0.27, abs=1e-3)


def test_classes_get_new_names(tmp_path):
    unsure = Label('Van', BEHIND.box, ignore=True)
    root = write_dataset(tmp_path / 'own', [Label('Van', BEHIND.box), unsure])
    export_labels(frames_of(root), tmp_path / 'out', 'sustech', points=False)
    tally = ClassTally({'Van': 'Car', 'Tramm': 'Tram', 'truck': 'Truck'})
    counts = import_labels(root, tmp_path / 'out', 'sustech', replace=True, tally=tally)
    assert counts.boxes == {'Car': 2}
    assert tally.notes() == [
        'class map: 2 Van are Car',
        'class map: nothing is called Tramm; the classes are Van, Van_unsure',
    ]


def test_boxes_of_a_bag_are_taken_as_they_are(tmp_path):
    boxes = np.array([BEHIND.box, BEHIND.box], np.float32)
    found = Detections(
        boxes,
        np.float32([0.5, 0.25]),
        np.array([0, 1]),
        velocities=np.float32([[1, 2], [np.nan, np.nan]]),
        tracks=np.array([4, -1]),
    )
    for topic in ('/boxes', TRUTH_TOPIC):
        root = write_dataset(tmp_path / f'own{len(topic)}', ())
        with CloudBagWriter(tmp_path / f'bag{len(topic)}') as writer:
            writer.name_classes(topic, ('Car', 'Van'))
            writer.write(topic, 1, 'lidar', *to_box_columns(found))
        tally = ClassTally({'Van': 'Bus'})
        counts = import_recorded(frames_of(root), tmp_path / f'bag{len(topic)}', tally=tally)
        assert counts.boxes == {'Car': 1, 'Bus': 1}
        car, bus = read_labels(root, 'a_000000')
        truth = topic == TRUTH_TOPIC
        assert (car.score, bus.score) == ((None, None) if truth else (0.5, 0.25))
        assert (car.track, car.velocity) == ('4', (1, 2))
        assert (bus.track, bus.velocity) == (None, None)
        np.testing.assert_allclose(car.box, BEHIND.box, atol=1e-6)
        source = read_label_source(root, 'a_000000')
        assert source == (None if truth else f'{tmp_path}/bag6:/boxes')
