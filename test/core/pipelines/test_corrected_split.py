# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Splits of corrected frames."""

from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.config import FolderConfig, SplitConfig
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.formats.folder import (
    FolderInfo,
    FrameRange,
    FrameRow,
    split_names,
    write_labels,
)
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.pipelines.corrected_split import split_corrected

SECOND = 10**9
POINTS = np.zeros((1, 4), np.float32)


def write_drives(root, drives, *, times=True):
    """Drives of ten frames, one a second; the given places are of people, others of a teacher."""
    with FolderWriter(root, FolderInfo(class_names=('Car',))) as writer:
        for drive in drives:
            for number in range(10):
                stamp = (number + 1) * SECOND if times else None
                writer.add(FrameRow(f'{drive}_{number}', drive, stamp), POINTS)
    for drive, corrected in drives.items():
        for number in range(10):
            source = None if number in corrected else 'runs/teacher'
            write_labels(root, f'{drive}_{number}', [], source)
    return root


def frames_of(root, split):
    frames = FolderDataset(FolderConfig(root=root, split=split), (), labelled=False)
    return list(frames.frame_ids)


def test_the_end_of_each_drive_is_for_validation(tmp_path):
    root = write_drives(tmp_path, {'a': [0, 1, 3, 4, 5, 8, 9], 'b': [2, 7]})
    found = split_corrected(root, SplitConfig(val_part=0.3, gap_s=0.1))
    assert found.names == ('corrected', 'corrected_train', 'corrected_val')
    assert frames_of(root, 'corrected_train') == ['a_0', 'a_1', 'a_3', 'a_4', 'a_5', 'b_2', 'b_7']
    assert frames_of(root, 'corrected_val') == ['a_8', 'a_9']
    assert len(frames_of(root, 'corrected')) == 9
    assert found.notes == []


def test_frames_too_near_are_in_neither(tmp_path):
    root = write_drives(tmp_path, {'a': range(10)})
    (drive,) = split_corrected(root, SplitConfig(val_part=0.5, gap_s=2.0)).drives
    assert [part.tolist() for part in (drive.train, drive.between, drive.val)] == [
        *([0, 1, 2, 3, 4], [], [5, 6, 7, 8, 9])  # at most 5 % of 9 s
    ]
    with FolderWriter(root, FolderInfo(class_names=('Car',))) as writer:
        writer.set_ranges(['a_0'], {'train': [FrameRange('a_0', 'a_4')]})
    (note,) = split_corrected(root, SplitConfig(val_part=0.5, gap_s=2.0)).notes
    assert note.startswith('1 frames of the split train are within 2 s of a frame of corrected_v')


def test_whole_drives_are_for_validation(tmp_path):
    root = write_drives(tmp_path, {'a': [0, 1], 'b': [4]})
    first = split_corrected(root, SplitConfig(val_part=0.3))
    assert split_names(root) == ['corrected', 'corrected_train']
    assert 'no frame is for corrected_val; drives with fewer than 5' in first.notes[0]
    split_corrected(root, SplitConfig(val_drives=('b',)), name='mine')
    assert frames_of(root, 'mine_train') == ['a_0', 'a_1']
    assert frames_of(root, 'mine_val') == ['b_4']
    with pytest.raises(ConfigError, match=r"\['c'\]: the drives with corrected frames are"):
        split_corrected(root, SplitConfig(val_drives=('c',)))


def test_without_times_the_order_counts_and_without_people_nothing_does(tmp_path):
    root = write_drives(tmp_path / 'a', {'a': range(10)}, times=False)
    found = split_corrected(root, SplitConfig(val_part=0.2, gap_s=0.0))
    assert frames_of(root, 'corrected_val') == ['a_8', 'a_9']
    assert found.notes == ["drive 'a': without times, frames are split in the order of frames.csv"]
    with pytest.raises(DatasetError, match='no frame has labels of people'):
        split_corrected(write_drives(tmp_path / 'b', {'a': []}), SplitConfig())
