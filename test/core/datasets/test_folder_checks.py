# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pointdistiller_core.datasets.folder_checks import check_folder
from pointdistiller_core.formats.folder import (
    DriveInfo,
    FolderInfo,
    FrameRange,
    FrameRow,
    Label,
    write_split,
)
from pointdistiller_core.formats.folder_writer import FolderWriter

CAR = Label('Car', (10.0, 2.0, 0.0, 4.0, 2.0, 2.0, 0.0))


@pytest.fixture
def root(tmp_path):
    points = np.random.default_rng(0).uniform([8, 1, -1, 0], [12, 3, 1, 0.9], (50, 4))
    drives = {'a': DriveInfo()}
    with FolderWriter(tmp_path, FolderInfo(class_names=('Car',), drives=drives)) as writer:
        for number in range(20):
            row = FrameRow(f'a_{number:06d}', 'a', 10**9 * (number + 1))
            writer.add(row, (points + number * 1e-3).astype(np.float32), [CAR])
        splits = {'train': ('a_000000', 'a_000014'), 'val': ('a_000016', 'a_000019')}
        writer.set_ranges((), {name: [FrameRange(*ends)] for name, ends in splits.items()})
    return tmp_path


def found(root, **options):
    findings = check_folder(root, **options).findings
    return [(item.where, item.what, item.broken) for item in findings]


def test_a_sound_dataset_has_nothing_wrong(root):
    heard = []
    report = check_folder(root, on_frame=lambda *done: heard.append(done))
    assert report.findings == ()
    assert (report.splits, heard[-1]) == ({'train': 15, 'val': 4}, (20, 20))
    facts = report.to_dict()['classes']['Car']
    assert (facts['objects'], facts['empty']) == (20, 0)


def test_a_split_alone_is_checked(root):
    (root / 'points' / 'a_000000.bin').unlink()
    assert check_folder(root, split='val').findings == ()
    assert check_folder(root, split='train').num_broken == 1


def test_damaged_files_are_named(root):
    (root / 'points' / 'a_000001.bin').write_bytes(b'123')
    (root / 'labels' / 'a_000002.json').write_text('{')
    flat = '{"objects": [{"class": "Cat", "box": [1, 2, 3, 0, 1, 1, 0]}]}'
    (root / 'labels' / 'a_000003.json').write_text(flat)
    (root / 'labels' / 'a_000004.json').unlink()
    text = ' '.join(f'{where} {what} {broken}' for where, what, broken in found(root))
    for part in (
        'a_000001.bin: 3 bytes',
        'a_000002.json: is not',
        "a_000003 classes ['Cat'] are not in",
        'all must be positive True',
        'labels 1 of 20 frames have none False',
    ):
        assert part in text


def test_an_interrupted_conversion_and_frames_listed_twice_are_broken(root):
    with FolderWriter(root, FolderInfo(class_names=('Car',))) as writer:
        writer.update_drive('a', DriveInfo(complete=False))
        writer.add(FrameRow('a_000000', 'a', 10**9), np.ones((9, 4), np.float32), [CAR])
    problems = found(root)
    assert ('a', 'its conversion was interrupted; the same command goes on', True) in problems
    assert ('frames.csv', 'lists frame a_000000 2 times', True) in problems
    assert ('a', '1 of its frames are not later than the one before', False) in problems


def test_shuffled_splits_and_shared_frames_are_told(root):
    names = [f'a_{number:06d}' for number in range(20)]
    write_split(root, 'train', [FrameRange(name, name) for name in names[::2]])
    write_split(root, 'val', [FrameRange(name, name) for name in [*names[1::2], names[0]]])
    text = ' '.join(what for _, what, _ in found(root))
    assert 'is in train and in val' in text
    assert 'changes 18 times between train and val' in text


def test_what_is_no_dataset_is_one_finding(tmp_path):
    ((where, what, broken),) = found(tmp_path)
    assert (where, broken) == ('dataset.yaml', True)
    assert 'no such file' in what
