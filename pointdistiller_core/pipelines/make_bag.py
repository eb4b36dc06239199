# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A bag of the sweeps, and the labels, of a KITTI folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pointdistiller_core.config import KittiConfig
from pointdistiller_core.datasets.kitti import KittiDataset
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.files import new_folder
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.messages.boxes_cloud import to_box_columns
from pointdistiller_core.messages.storage import NANOSECONDS

KITTI_TOPIC, TRUTH_TOPIC, KITTI_FRAME_ID = '/points', '/ground_truth/boxes', 'velodyne'


def kitti_sweeps(root: Path) -> list[str]:
    """Names of all sweeps of a KITTI object folder.

    Raises:
        DatasetError: there is none.
    """
    folder = root / 'training' / 'velodyne'
    if names := sorted(path.stem for path in folder.glob('*.bin')):
        return names
    raise DatasetError(f'{folder} holds no .bin file')


def write_kitti_bag(
    dataset_root: Path,
    out: Path,
    rate: float = 10.0,
    frames: Sequence[str] | None = None,
    *,
    max_frames: int | None = None,
    ground_truth: Sequence[str] = (),
    camera_view: bool = False,
    intensity_scale: float = 1.0,
) -> int:
    """Turn the sweeps of a KITTI object folder into a bag: topic `/points`, frame `velodyne`.

    KITTI's object frames have no times: the first is stamped 1 s, then they follow at `rate`.

    Args:
        dataset_root: folder that holds `training/velodyne`.
        out: bag folder to create.
        rate: clouds per second [Hz].
        frames: names such as `000008`, in this order; None is all.
        max_frames: take no more than the first so many of them.
        ground_truth: names of classes; the labelled boxes then go to `/ground_truth/boxes` as
            `messages.boxes_cloud` has them. Their label indexes these names and is -1 for what is
            labelled as anything else.
        camera_view: drop points that the camera does not see, where nothing is labelled.
        intensity_scale: factor on the intensity of the files.

    Returns:
        Number of clouds written.

    Raises:
        DatasetError: a frame is missing or broken.
        WriteError: `out` exists, or cannot be written; then there is none.
    """
    names = kitti_sweeps(dataset_root) if frames is None else frames
    if not names:
        raise DatasetError(f'{out}: there are no frames to write')
    config = KittiConfig(
        root=dataset_root, camera_view=camera_view, intensity_scale=intensity_scale
    )
    labelled, chosen = bool(ground_truth), names[:max_frames]
    dataset = KittiDataset(config, ground_truth, labelled=labelled, frame_ids=chosen)
    with new_folder(out) as aside, CloudBagWriter(aside) as writer:
        for index in range(len(dataset)):
            stamp_ns = NANOSECONDS + round(index * NANOSECONDS / rate)  # 0 means "no time" to ROS
            frame = dataset[index]
            if frame.ground_truth is not None:
                columns = to_box_columns(frame.ground_truth)
                writer.write(TRUTH_TOPIC, stamp_ns, KITTI_FRAME_ID, *columns)
            writer.write(KITTI_TOPIC, stamp_ns, KITTI_FRAME_ID, frame.points)
    return len(dataset)
