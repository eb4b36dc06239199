# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
import tracemalloc

import numpy as np
import pytest

from pointdistiller_core.config import FolderConfig
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.folder import (
    ROW_FIELDS,
    DriveInfo,
    FolderInfo,
    FrameRange,
    FrameRow,
    Label,
    write_info,
    write_labels,
)
from pointdistiller_core.formats.folder_writer import FolderWriter

BOX = (1.0, 2.0, 0.0, 4.0, 2.0, 1.5, 0.5)
POINTS = np.array([[1, 2, 3, 0.5], [4, 5, 6, 0.25]], np.float32)


def write_dataset(root, labels=(), *, points=POINTS, columns=('x', 'y', 'z', 'intensity')):
    names = tuple(sorted({label.name for label in labels or ()}))
    with FolderWriter(root, FolderInfo(class_names=names, columns=columns)) as writer:
        for number in range(3):
            row = FrameRow(f'a_{number:06d}', 'a', 10**9 * (number + 1))
            writer.add(row, points, labels)
        writer.set_ranges(['a_000001'], {'train': [FrameRange('a_000001', 'a_000002')]})
    return root


def test_frames_come_with_labels_and_times(tmp_path):
    labels = [Label('Van', BOX), Label('Tree', BOX), Label('Car', BOX, ignore=True)]
    config = FolderConfig(root=write_dataset(tmp_path, labels), class_map={'Van': 'Car'})
    dataset = FolderDataset(config, ['Pedestrian', 'Car'])
    assert len(dataset) == 2
    assert list(dataset.frame_ids) == ['a_000001', 'a_000002']
    frame = dataset[1]
    assert (frame.frame_id, frame.stamp_ns) == ('a_000002', 3 * 10**9)
    np.testing.assert_array_equal(frame.points, POINTS)
    np.testing.assert_array_equal(frame.ground_truth.boxes, np.array([BOX] * 3, np.float32))
    assert frame.ground_truth.labels.tolist() == [1, -1, -1]


def test_velocities_come_along_where_a_label_has_one(tmp_path):
    root = write_dataset(tmp_path, [Label('Car', BOX, velocity=(3.0, -1.0)), Label('Car', BOX)])
    truth = FolderDataset(FolderConfig(root=root), ['Car'])[0].ground_truth
    np.testing.assert_array_equal(truth.velocities, np.float32([[3, -1], [np.nan, np.nan]]))
    root = write_dataset(tmp_path / 'still', [Label('Car', BOX)])
    assert FolderDataset(FolderConfig(root=root), ['Car'])[0].ground_truth.velocities is None


def test_columns_are_found_by_their_names(tmp_path):
    columns = ('x', 'y', 'z', 'ring', 'intensity')
    points = np.insert(POINTS, 3, 7, axis=1)
    write_dataset(tmp_path, points=points, columns=columns)
    dataset = FolderDataset(FolderConfig(root=tmp_path, split='all', intensity_scale=2), ())
    assert len(dataset) == 3
    np.testing.assert_array_equal(dataset[0].points, POINTS * [1, 1, 1, 2])


def test_a_missing_column_is_named(tmp_path):
    write_dataset(tmp_path, points=POINTS[:, :3], columns=('x', 'y', 'z'))
    with pytest.raises(DatasetError, match=r"lack the columns \['intensity'\]"):
        FolderDataset(FolderConfig(root=tmp_path), ())


def test_unlabelled_frames_are_refused_where_labels_are_asked_for(tmp_path):
    write_dataset(tmp_path, None)
    config = FolderConfig(root=tmp_path)
    assert FolderDataset(config, (), labelled=False)[0].ground_truth is None
    with pytest.raises(DatasetError, match='not labelled'):
        FolderDataset(config, ())[0]


def test_a_partly_labelled_split_is_divided(tmp_path):
    root = write_dataset(tmp_path, None)
    config = FolderConfig(root=root)
    write_labels(root, 'a_000000', [Label('Car', BOX)])  # in no split
    write_labels(root, 'a_000002', [Label('Car', BOX)])
    labelled, bare = FolderDataset(config, ['Car']).divide_by_labels()
    assert (list(labelled.frame_ids), list(bare.frame_ids)) == (['a_000002'], ['a_000001'])
    assert labelled[0].ground_truth.labels.tolist() == [0]
    assert bare[0].ground_truth is None
    assert bare[0].stamp_ns == 2 * 10**9
    assert labelled.fingerprint(0) != bare.fingerprint(0)
    write_labels(root, 'a_000001', [])  # looked at, and nothing is there
    labelled, bare = FolderDataset(config, ['Car']).divide_by_labels()
    assert (len(labelled), len(bare)) == (2, 0)


def test_unknown_classes_and_flat_boxes_are_named(tmp_path):
    write_dataset(tmp_path, [Label('Car', (*BOX[:3], 0.0, *BOX[4:]))])
    write_info(tmp_path, FolderInfo(class_names=('Dog',)))
    with pytest.raises(DatasetError, match=r"classes \['Car'\] are not in.*must be positive"):
        FolderDataset(FolderConfig(root=tmp_path), ())[0]


def test_points_that_are_not_finite_are_dropped(tmp_path, caplog):
    points = POINTS.copy()
    points[0, 0] = np.nan
    write_dataset(tmp_path, points=points)
    frame = FolderDataset(FolderConfig(root=tmp_path), ())[0]
    np.testing.assert_array_equal(frame.points, POINTS[1:])
    assert 'not finite' in caplog.text


def test_an_interrupted_conversion_is_told(tmp_path, caplog):
    write_dataset(tmp_path)
    write_info(tmp_path, FolderInfo(drives={'a': DriveInfo(complete=False)}))
    FolderDataset(FolderConfig(root=tmp_path), ())
    assert 'the conversion of a was interrupted' in caplog.text


def test_a_fingerprint_changes_with_what_a_frame_is_made_of(tmp_path):
    write_dataset(tmp_path, [Label('Car', BOX)])
    config = FolderConfig(root=tmp_path)
    first = FolderDataset(config, ['Car']).fingerprint(0)
    assert FolderDataset(config, ['Car']).fingerprint(0) == first
    assert FolderDataset(config, ['Van']).fingerprint(0) != first
    mapped = FolderConfig(root=tmp_path, class_map={'Van': 'Car'})
    assert FolderDataset(mapped, ['Car']).fingerprint(0) != first
    (tmp_path / 'labels' / 'a_000001.json').write_text('{"objects": []}')
    assert FolderDataset(config, ['Car']).fingerprint(0) != first


def test_a_hundred_thousand_frames_take_little_memory(tmp_path):
    write_info(tmp_path, FolderInfo())
    pose = ','.join(['123.4567890123'] * 3 + ['0.0', '0.0', '0.0', '1.0'])
    lines = [f'a_{number:06d},a,{10**18 + number},30000,{pose},\n' for number in range(100_000)]
    (tmp_path / 'frames.csv').write_text(','.join(ROW_FIELDS) + '\n' + ''.join(lines))
    tracemalloc.start()
    try:
        dataset = FolderDataset(FolderConfig(root=tmp_path, split='all'), ())
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(dataset), dataset.row(79_999).name) == (100_000, 'a_079999')
    assert held < 3e6
    assert peak < 20e6
