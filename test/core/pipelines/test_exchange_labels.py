# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Dataset folders to annotation tools and back, as files."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.config import FolderConfig
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.datasets.pcd import read_pcd
from pointdistiller_core.errors import DatasetError, WriteError
from pointdistiller_core.formats.folder import (
    FolderInfo,
    FrameRow,
    Label,
    read_info,
    read_labels,
    write_labels,
)
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.formats.label_tools import LABEL_TOOLS
from pointdistiller_core.pipelines.exchange_labels import export_labels, import_labels

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
    columns, note = read_pcd((folder / 'a_000001.pcd').read_bytes(), 'x')
    np.testing.assert_array_equal(np.stack(list(columns.values()), 1), POINTS)
    assert not note
    other = write_dataset(tmp_path / 'other', ())
    taken = import_labels(other, tmp_path / 'out', tool)
    assert (taken.frames, taken.boxes) == (1, {'Car': 1})
    (label,) = read_labels(other, 'a_000000')
    np.testing.assert_allclose(label.box, BEHIND.box, atol=1e-6)


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
