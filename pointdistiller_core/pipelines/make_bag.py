# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A bag of the sweeps, and the labels, of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pointdistiller_core.config import FolderConfig, KittiConfig
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.datasets.kitti import KittiDataset
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.files import new_folder
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.messages.boxes_cloud import TRUTH_TOPIC, to_box_columns
from pointdistiller_core.messages.storage import NANOSECONDS
from pointdistiller_core.messages.transforms import TF_TYPE, format_transform

KITTI_TOPIC, KITTI_FRAME_ID = '/points', 'velodyne'
TF_TOPIC, FIXED_FRAME_ID = '/tf', 'odom'


def kitti_sweeps(root: Path) -> list[str]:
    """Names of all sweeps of a KITTI object folder.

    Raises:
        DatasetError: there is none, or no such folder.
    """
    if not root.is_dir():
        raise DatasetError(f'{root}: no such folder')
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
        max_frames: take at most this many, from the first.
        ground_truth: names of classes; the labelled boxes then go to `/ground_truth/boxes` as
            `messages.boxes_cloud` has them. Their label indexes these names, and is -1 for other
            classes. The bag says these names, too.
        camera_view: drop points that the camera does not see, because nothing is labelled there.
        intensity_scale: factor on the intensity of the files.

    Returns:
        Number of clouds written.

    Raises:
        DatasetError: a frame is missing or broken.
        WriteError: `out` exists, or cannot be written; nothing is left behind.
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
        if ground_truth:
            writer.name_classes(TRUTH_TOPIC, ground_truth)
        for index in range(len(dataset)):
            stamp_ns = NANOSECONDS + round(index * NANOSECONDS / rate)  # 0 means "no time" to ROS
            frame = dataset[index]
            if frame.ground_truth is not None:
                columns = to_box_columns(frame.ground_truth)
                writer.write(TRUTH_TOPIC, stamp_ns, KITTI_FRAME_ID, *columns)
            writer.write(KITTI_TOPIC, stamp_ns, KITTI_FRAME_ID, frame.points)
    return len(dataset)


def write_folder_bag(
    config: FolderConfig,
    out: Path,
    rate: float = 10.0,
    *,
    frames: Sequence[str] | None = None,
    drive: str = '',
    max_frames: int | None = None,
    ground_truth: Sequence[str] = (),
) -> int:
    """Turn a drive of an open dataset folder into a bag.

    Clouds are on `/points`, in the frame that the dataset names, at the times of their frames;
    those without a time follow at `rate`. Poses are in `/tf`, in the frame `odom`.

    Args:
        config: dataset, split and classes.
        out: bag folder to create.
        rate: clouds per second of frames without a time [Hz].
        frames: names, in this order; None is all of the split.
        drive: only its frames; empty where there is but one.
        max_frames: take no more than the first so many of them.
        ground_truth: names of classes; as in `write_kitti_bag`.

    Returns:
        Number of clouds written.

    Raises:
        ConfigError: the frames are of several drives, whose times may overlap.
        DatasetError: a frame is missing, broken or not labelled.
        WriteError: `out` exists, or cannot be written; then there is none.
    """
    dataset = FolderDataset(config, ground_truth, labelled=bool(ground_truth))
    chosen = _choose_frames(dataset, frames, drive)[:max_frames]
    frame_id = dataset.info.sensor.frame
    with new_folder(out) as aside, CloudBagWriter(aside) as writer:
        if ground_truth:
            writer.name_classes(TRUTH_TOPIC, ground_truth)
        for number, index in enumerate(chosen):
            frame, row = dataset[index], dataset.row(index)
            stamp_ns = frame.stamp_ns or NANOSECONDS + round(number * NANOSECONDS / rate)
            if row.pose is not None:
                moved = format_transform(FIXED_FRAME_ID, frame_id, stamp_ns, row.pose)
                writer.write_serialized(TF_TOPIC, TF_TYPE, stamp_ns, moved)
            if frame.ground_truth is not None:
                columns = to_box_columns(frame.ground_truth)
                writer.write(TRUTH_TOPIC, stamp_ns, frame_id, *columns)
            writer.write(KITTI_TOPIC, stamp_ns, frame_id, frame.points)
    return len(chosen)


def _choose_frames(dataset: FolderDataset, frames: Sequence[str] | None, drive: str) -> list[int]:
    """Places of frames in a dataset."""
    places = {name: place for place, name in enumerate(dataset.frame_ids)}
    if frames is not None:
        if missing := [name for name in frames if name not in places]:
            raise DatasetError(f'{dataset.root}: no frame {missing[0]!r} in the split')
        return [places[name] for name in frames]
    rows = [(dataset.row(place).drive, place) for place in range(len(dataset))]
    drives = sorted({name for name, _ in rows})
    if drive and drive not in drives:
        raise ConfigError(f'{dataset.root}: no drive {drive!r} in the split; it has {drives}')
    if not drive and len(drives) > 1:
        raise ConfigError(
            f'{dataset.root}: the frames are of {len(drives)} drives, whose times may overlap; '
            f'choose one with --drive: {", ".join(drives)}'
        )
    return [place for name, place in rows if name == (drive or name)]
