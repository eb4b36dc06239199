# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Small datasets in nuScenes' format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pointdistiller_core.config import (
    AugmentationConfig,
    ExperimentConfig,
    NuScenesConfig,
    PointPillarsConfig,
    TrainingConfig,
)
from pointdistiller_core.formats.nuscenes.rotations import (
    matrix_of,
    quaternion_of,
    quaternion_product,
    quaternions_about_z,
)
from pointdistiller_core.formats.nuscenes.writer import (
    MOUNT,
    WrittenLabel,
    WrittenScene,
    WrittenSweep,
    cloud_file,
    write_cloud,
    write_tables,
)
from pointdistiller_core.records import Frame

FIRST_US = 1_500_000_000_000_000
KEY_FRAMES_EVERY_US = 500_000
SENSOR_FROM_LIDAR = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x ahead to x right


def vehicle_pose(number: int) -> tuple[float, ...]:
    """Pose of the vehicle in a key frame: it goes round a bend, up a slope."""
    turn = quaternions_about_z(np.array([0.3 + 0.1 * number]))[0]
    tilt = np.array([np.cos(0.01), 0, np.sin(0.01), 0])
    return (1000.0 + 3 * number, 500.0 + number, 0.2 * number, *quaternion_product(turn, tilt))


def global_from_lidar(pose: Sequence[float], mount: Sequence[float] = MOUNT) -> np.ndarray:
    """(4, 4) from a frame with x ahead, y left at the LiDAR."""
    matrix = matrix_of(np.array(pose)) @ matrix_of(np.array(mount))
    matrix[:3, :3] = matrix[:3, :3] @ SENSOR_FROM_LIDAR
    return matrix


def label_of(
    box: Sequence[float], name: str, track: int, lidar_pose: np.ndarray, points: np.ndarray
) -> WrittenLabel:
    """An annotation of a box (7,) in the frame of the LiDAR."""
    x, y, z, dx, dy, dz, yaw = map(float, box)
    center = lidar_pose @ [x, y, z, 1.0]
    rotation = quaternion_product(
        quaternion_of(lidar_pose[:3, :3]), quaternions_about_z(np.array([yaw]))[0]
    )
    pose = (*center[:3].tolist(), *rotation.tolist())
    return WrittenLabel(track, name, pose, (dy, dx, dz), len(points))


def write_key_frame(
    root: Path,
    number: int,
    points: np.ndarray,
    boxes: Sequence[Sequence[float]],
    names: Sequence[str],
    *,
    scene: str = 'scene-0001',
) -> WrittenSweep:
    """A key frame of points (N, 4) and boxes in the frame of the LiDAR, x ahead."""
    time_us = FIRST_US + number * KEY_FRAMES_EVERY_US
    file = cloud_file(scene, time_us, key_frame=True)
    native = np.zeros((len(points), 5), np.float32)
    native[:, :3] = points[:, :3] @ SENSOR_FROM_LIDAR.T.astype(np.float32)
    native[:, 3] = points[:, 3] * 255
    write_cloud(root, file, native)
    pose = vehicle_pose(number)
    lidar_pose = global_from_lidar(pose)
    labels = [
        label_of(box, name, track, lidar_pose, points)
        for track, (box, name) in enumerate(zip(boxes, names, strict=True))
    ]
    return WrittenSweep(time_us, file, pose, tuple(labels))


def write_scene(root: Path, sweeps: Sequence[WrittenSweep], split: str = 'train') -> None:
    """The tables of one scene."""
    write_tables(root, [WrittenScene('scene-0001', tuple(sweeps))], {split: ['scene-0001']})


def write_experiment(
    root: Path, frames: Sequence[Frame], model: PointPillarsConfig, *, epochs: int
) -> ExperimentConfig:
    """Key frames of cars as the split `mine`, and a training on each merged with the one before.

    Args:
        root: of the tables.
        frames: whose labels are cars.
        model: with velocities.
        epochs: of the training.
    """
    sweeps = []
    for number, frame in enumerate(frames):
        boxes = frame.ground_truth.boxes
        names = ['vehicle.car'] * len(boxes)
        sweeps.append(write_key_frame(root, number, frame.points, boxes, names))
    write_scene(root, sweeps, split='mine')
    merging = {
        'class_names': ('car',),
        'point_features': ('x', 'y', 'z', 'intensity', 'age'),
        'sweeps': 2,
        'norm_momentum': 0.1,
    }
    dataset = NuScenesConfig(root=root, split='mine')
    still = AugmentationConfig(flip_probability=0, rotation=(0, 0), scaling=(1, 1))
    training = TrainingConfig(epochs=epochs, batch_size=2, learning_rate=0.01, num_workers=0)
    return ExperimentConfig(
        model=model.model_copy(update=merging),
        dataset=dataset,
        validation=dataset,
        augmentation=still,
        training=training,
    )
