# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A detector small enough to train in a test, and frames that it can learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pointdistiller_core.config import (
    AnchorConfig,
    BackboneConfig,
    DetectionConfig,
    EncoderConfig,
    FpnNeckConfig,
    HeadConfig,
    PointPillarsConfig,
    SecondConfig,
    SparseBackboneConfig,
    StackNeckConfig,
    VoxelConfig,
)
from pointdistiller_core.formats.kitti import (
    Calibration,
    KittiAnnotations,
    KittiObjects,
    objects_from_boxes,
)
from pointdistiller_core.grid import Grid
from pointdistiller_core.records import Frame, GroundTruth

CAR = (3.9, 1.6, 1.56)
CALIBRATION = Calibration(
    camera_from_lidar=np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]),
    image_from_camera=np.array([[400.0, 0, 400, 0], [0, 400, 200, 0], [0, 0, 1, 0]]),
)


@pytest.fixture(scope='session')
def tiny_model() -> PointPillarsConfig:
    """PointPillars for cars on 32 x 32 cells of 0.8 m, about 8,000 parameters."""
    return PointPillarsConfig(
        class_names=('Car',),
        grid=Grid(point_cloud_range=(0, -12.8, -3, 25.6, 12.8, 1), voxel_size=(0.8, 0.8, 4)),
        voxels=VoxelConfig(max_points=8, max_voxels=1024, max_voxels_training=1024),
        encoder=EncoderConfig(channels=8),
        backbone=BackboneConfig(layers=(1, 1), strides=(1, 2), channels=(8, 16)),
        neck=StackNeckConfig(strides=(1, 2), channels=(8, 8)),
    )


@pytest.fixture(scope='session')
def tiny_second() -> SecondConfig:
    """SECOND for cars on 16 x 16 cells of 1.6 m behind the sparse backbone."""
    return SecondConfig(
        class_names=('Car',),
        grid=Grid(point_cloud_range=(0, -12.8, -3, 25.6, 12.8, 1), voxel_size=(0.2, 0.2, 0.1)),
        voxels=VoxelConfig(max_points=5, max_voxels=4096, max_voxels_training=4096),
        middle=SparseBackboneConfig(channels=(4, 8, 8, 8), layers=(1, 1, 1, 1), out_channels=8),
        backbone=BackboneConfig(layers=(1, 1), strides=(1, 2), channels=(8, 16)),
        neck=StackNeckConfig(strides=(1, 2), channels=(8, 8)),
    )


@pytest.fixture(scope='session')
def tiny_pyramid() -> PointPillarsConfig:
    """PointPillars as for nuScenes: two layers of the encoder, a pyramid, velocities."""
    shapes = {'long': (3.9, 1.6, 1.5), 'square': (1.5, 1.5, 1.5)}
    anchors = {
        name: AnchorConfig(size=size, bottom=-1.8, matched_iou=0.6, unmatched_iou=0.3)
        for name, size in shapes.items()
    }
    return PointPillarsConfig(
        class_names=('Car',),
        grid=Grid(point_cloud_range=(0, -12.8, -3, 25.6, 12.8, 1), voxel_size=(0.8, 0.8, 4)),
        voxels=VoxelConfig(max_points=8, max_voxels=1024, max_voxels_training=1024),
        encoder=EncoderConfig(channels=8, hidden=6, columns=('x', 'y', 'z'), center_axes='xy'),
        backbone=BackboneConfig(layers=(1, 1), strides=(1, 2), channels=(8, 16)),
        neck=FpnNeckConfig(channels=8),
        head=HeadConfig(
            anchors=anchors,
            assignment='shared',
            scales=(1.0, 1.5),
            centers='cells',
            velocities=True,
            direction_offset=-0.7854,
        ),
        detection=DetectionConfig(labels_per_box='all', max_candidates=100),
    )


@pytest.fixture
def small_configs(tiny_model, tiny_pyramid, tiny_second, tiny_pointrcnn, toy):
    """By family and variant, a configuration for cars that is small enough for a test."""
    return {
        'pointpillars': tiny_model,
        'pointpillars-pyramid': tiny_pyramid,
        'second': tiny_second,
        'pointrcnn': tiny_pointrcnn,
        'toy': toy,
    }


class TinyDataset:
    """Frames in memory: two cars each on flat ground, the same from the same seed."""

    class_names = ('Car',)
    metric = 'kitti'

    def __init__(self, num_frames: int, seed: int = 0) -> None:
        self.frames = [_make_frame(seed, index) for index in range(num_frames)]
        self.frame_ids = tuple(frame.frame_id for frame in self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.frames[index]

    def labels(self, index: int) -> GroundTruth:
        return self.frames[index].ground_truth

    def annotations(self, index: int) -> KittiAnnotations:
        return KittiAnnotations(self.objects(index), CALIBRATION, self.image_size(index))

    def objects(self, index: int) -> KittiObjects:
        truth = self.frames[index].ground_truth
        names: Sequence[str] = ['Car'] * len(truth)
        return objects_from_boxes(truth.boxes, names, CALIBRATION, self.image_size(index))

    def calibration(self, index: int) -> Calibration:  # noqa: ARG002
        return CALIBRATION

    def image_size(self, index: int) -> tuple[int, int]:  # noqa: ARG002
        return 800, 400


@pytest.fixture(scope='session')
def tiny_dataset() -> type[TinyDataset]:
    """`tiny_dataset(num_frames, seed=0)`."""
    return TinyDataset


def _make_frame(seed: int, index: int) -> Frame:
    rng = np.random.default_rng((seed, index))
    centers = [(8.0, rng.uniform(-3, 3), -1.0), (18.0, rng.uniform(-5, 5), -1.0)]
    boxes = np.array([(*center, *CAR, rng.uniform(-3, 3)) for center in centers], np.float32)
    local = rng.uniform(-0.5, 0.5, (2, 150, 3)) * CAR
    cos, sin = np.cos(boxes[:, None, 6]), np.sin(boxes[:, None, 6])
    x, y, z = np.moveaxis(local, -1, 0)
    cars = np.stack([x * cos - y * sin, x * sin + y * cos, z], axis=-1) + boxes[:, None, :3]
    ground = np.stack([rng.uniform(0, 25, 200), rng.uniform(-12, 12, 200), np.full(200, -1.8)], 1)
    xyz = np.concatenate([cars.reshape(-1, 3), ground])
    points = np.concatenate([xyz, rng.uniform(0, 1, (len(xyz), 1))], axis=1).astype(np.float32)
    return Frame(points, f'{index:06d}', GroundTruth(boxes, np.zeros(2, np.int64)))
