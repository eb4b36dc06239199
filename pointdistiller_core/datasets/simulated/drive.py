# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labelled sweeps: of independent scenes, and of a drive through one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import SimulationConfig
from pointdistiller_core.datasets.simulated.ground import Ground
from pointdistiller_core.datasets.simulated.meshes import Mesh
from pointdistiller_core.datasets.simulated.plain_street import build_plain_street
from pointdistiller_core.datasets.simulated.scene import EGO_PLACE, Actor, Scene
from pointdistiller_core.datasets.simulated.sensor import scan
from pointdistiller_core.geometry.transforms import invert_rigid, transform_points, wrap_angle

if TYPE_CHECKING:
    Array = NDArray[np.float64]

NANOSECONDS = 1_000_000_000
FIRST_STAMP_NS = NANOSECONDS  # 0 means "no time" to ROS
SCENE_STREAM, NOISE_STREAM = range(2)


@dataclass(frozen=True)
class SimulatedObject:
    """Exact label of a road user.

    Attributes:
        track_id: the same in every frame of a drive.
        name: KITTI's name of its class.
        box: x, y, z, dx, dy, dz [m], yaw [rad], LiDAR frame.
        num_points: returns from its surface.
        occlusion: part of its beams that something in front of it took.
    """

    track_id: int
    name: str
    box: tuple[float, float, float, float, float, float, float]
    num_points: int
    occlusion: float


@dataclass(frozen=True)
class SimulatedFrame:
    """One labelled sweep.

    Attributes:
        points: (N, 4) float32 x, y, z [m], intensity [0..1], LiDAR frame.
        stamp_ns: time of the sweep [ns].
        objects: all road users, those without a point too.
        world_from_lidar: (4, 4) pose of the sensor.
    """

    points: NDArray[np.float32]
    stamp_ns: int
    objects: tuple[SimulatedObject, ...]
    world_from_lidar: Array


def simulate_scene(config: SimulationConfig, *, seed: int, index: int) -> SimulatedFrame:
    """One sweep of a scene of its own; it depends on (config, seed, index) alone."""
    scene = build_plain_street(config.scene, np.random.default_rng((SCENE_STREAM, seed, index)))
    rng = np.random.default_rng((NOISE_STREAM, seed, index))
    yaw = float(rng.normal(0, 0.15))
    pose = _sensor_pose(scene.ground, (0.0, float(rng.uniform(-3, 0))), yaw, config.sensor.height)
    return _observe(scene, config, pose, time_s=0.0, rng=rng)


def simulate_drive(
    config: SimulationConfig, *, num_frames: int, seed: int
) -> Iterator[SimulatedFrame]:
    """Sweeps of a drive along a street, at the sensor's rate.

    Args:
        config: what is simulated.
        num_frames: sweeps.
        seed: the same seed gives the same drive.
    """
    period_s = 1 / config.sensor.rate
    rng = np.random.default_rng((SCENE_STREAM, seed))
    scene = build_plain_street(config.scene, rng, duration_s=period_s * num_frames)
    for index in range(num_frames):
        time_s = index * period_s
        place = (EGO_PLACE[0] + config.scene.ego_speed * time_s, EGO_PLACE[1])
        pose = _sensor_pose(scene.ground, place, 0.0, config.sensor.height)
        noise = np.random.default_rng((NOISE_STREAM, seed, index))
        yield _observe(scene, config, pose, time_s=time_s, rng=noise)


def _sensor_pose(ground: Ground, place: tuple[float, float], yaw: float, height: float) -> Array:
    pose = np.eye(4)
    cos, sin = np.cos(yaw), np.sin(yaw)
    pose[:2, :2] = [[cos, -sin], [sin, cos]]
    z = ground.height(np.array([place[0]]), np.array([place[1]]))[0]
    pose[:3, 3] = (*place, z + height)
    return pose


def _observe(
    scene: Scene,
    config: SimulationConfig,
    world_from_lidar: Array,
    *,
    time_s: float,
    rng: np.random.Generator,
) -> SimulatedFrame:
    lidar_from_world = invert_rigid(world_from_lidar).astype(np.float64)
    boxes = [_box(actor, scene.ground, lidar_from_world, time_s) for actor in scene.actors]
    meshes = [
        actor.mesh_at(time_s).placed((box[0], box[1], box[2] - box[5] / 2), box[6])
        for actor, box in zip(scene.actors, boxes, strict=True)
    ]
    returns = scan(_moved(scene.static, lidar_from_world), meshes, config.sensor, rng)
    num_points = np.bincount(returns.object_ids[returns.object_ids >= 0], minlength=len(boxes))
    objects = tuple(
        SimulatedObject(actor.track_id, actor.name, box, int(count), float(occlusion))
        for actor, box, count, occlusion in zip(
            scene.actors, boxes, num_points, returns.occlusions, strict=True
        )
    )
    stamp_ns = FIRST_STAMP_NS + round(time_s * NANOSECONDS)
    return SimulatedFrame(returns.points, stamp_ns, objects, world_from_lidar)


def _box(
    actor: Actor, ground: Ground, lidar_from_world: Array, time_s: float
) -> tuple[float, float, float, float, float, float, float]:
    x, y = actor.position_at(time_s)
    z = ground.height(np.array([x]), np.array([y]))[0] + actor.size[2] / 2
    center = transform_points(lidar_from_world, np.array([[x, y, z]]))[0]
    turn = float(np.arctan2(lidar_from_world[1, 0], lidar_from_world[0, 0]))
    length, width, height = actor.size
    yaw = float(wrap_angle(actor.yaw + turn))
    return float(center[0]), float(center[1]), float(center[2]), length, width, height, yaw


def _moved(mesh: Mesh, target_from_source: Array) -> Mesh:
    moved = transform_points(target_from_source, mesh.vertices)
    return replace(mesh, vertices=moved.astype(np.float32))
