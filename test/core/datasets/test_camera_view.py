# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What the crop to the camera's view leaves is known before a training."""

from __future__ import annotations

import json
from pathlib import Path

from kitti_folder import write_frame, write_splits
import numpy as np
import pytest

from pointdistiller_core.config import KittiConfig
from pointdistiller_core.datasets.camera_view import ViewSurvey, check_camera_view, survey_view
from pointdistiller_core.datasets.kitti import KittiDataset
from pointdistiller_core.errors import DatasetError

AHEAD, BEHIND = [10, 0, 0, 4, 2, 1.5, 0], [-10, 0, 0, 4, 2, 1.5, 0]
POINTS = [[10, 0, 0, 0.5], [10, 9, 0, 0.5]]


def make(root: Path, *frames: list[list[float]], labelled: bool = True, **options) -> KittiDataset:
    """Frames of cars; each has a point ahead and one to the left."""
    names = [f'{index}' for index in range(len(frames))]
    for name, boxes in zip(names, frames, strict=True):
        write_frame(root, name, POINTS, boxes, ['Car'] * len(boxes))
    write_splits(root, {'train': names})
    return KittiDataset(KittiConfig(root=root, **options), ['Car'], labelled=labelled)


def test_a_survey_by_hand():
    seen = [np.array(flags, np.bool_) for flags in ([True, False], [], [False, False])]
    survey = survey_view(seen)
    assert survey == ViewSurvey(3, num_labels=4, num_seen=1, bare_frames=2, lost_frames=1)
    assert survey.notes == [
        "labels out of the camera's view, which do not count: 3 of 4",
        'frames without labels: 2 of 3, 1 of them by the crop to the view',
    ]
    assert survey_view(seen[:1]).notes == [survey.notes[0].replace('3 of 4', '1 of 2')]
    assert survey_view(seen[1:2]).notes == ['frames without labels: 1 of 1']
    assert [survey_view(part).loses_all for part in (seen, seen[1:], seen[1:2], [])] == [
        *(False, True, False, False)
    ]


def test_what_is_lost_is_told(tmp_path, caplog):
    frames = make(tmp_path, [AHEAD, BEHIND], [], [BEHIND])
    check_camera_view(frames, where='here', warn=False)
    assert caplog.messages == []
    check_camera_view(frames, where='here')
    assert caplog.messages == [
        "here: labels out of the camera's view, which do not count: 2 of 3",
        'here: frames without labels: 2 of 3, 1 of them by the crop to the view',
    ]


def test_a_split_that_loses_all_labels_is_refused(tmp_path, caplog):
    with pytest.raises(
        DatasetError, match=r'^here: the camera sees none of 2 labels \(image of 1242'
    ):
        check_camera_view(make(tmp_path, [BEHIND], [], [BEHIND]), where='here')
    check_camera_view(make(tmp_path, [BEHIND], [AHEAD], camera_view=False), where='here')
    assert caplog.messages == []


@pytest.mark.parametrize('labelled', [True, False])
def test_a_frame_that_loses_all_points_is_refused(tmp_path, labelled):
    frames = make(tmp_path, *[[AHEAD]] * 3, labelled=labelled)
    np.float32([[-10, 0, 0, 0.5]]).tofile(tmp_path / 'training' / 'velodyne' / '2.bin')
    with pytest.raises(DatasetError, match=r'2\.bin: none of its 1 points is in the image'):
        check_camera_view(frames, where='here')


def test_sizes_of_the_images_count(tmp_path):
    make(tmp_path, [AHEAD])
    (tmp_path / 'image_sizes.json').write_text(json.dumps({'0': [100, 375]}), encoding='utf-8')
    frames = KittiDataset(KittiConfig(root=tmp_path), ['Car'])
    np.float32([[10, 9, 0, 0.5]]).tofile(tmp_path / 'training' / 'velodyne' / '0.bin')
    with pytest.raises(DatasetError, match=r'the camera sees none of 1 labels \(image of 100'):
        check_camera_view(frames, where='here')
