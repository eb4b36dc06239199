# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labelled sweeps of independent scenes, and of a drive through one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import SimulationConfig
from pointdistiller_core.datasets.simulated.ground import Ground
from pointdistiller_core.datasets.simulated.labels import Box, shrink_box
from pointdistiller_core.datasets.simulated.meshes import Mesh
from pointdistiller_core.datasets.simulated.rays import Motion, within_reach
from pointdistiller_core.datasets.simulated.scene import EGO_PLACE, Actor, Scene
from pointdistiller_core.datasets.simulated.sensor import Effects, Returns, scan
from pointdistiller_core.datasets.simulated.streets import build_scene
from pointdistiller_core.datasets.simulated.variation import Conditions, draw_conditions
from pointdistiller_core.geometry.transforms import (
    invert_rigid,
    rotation_from_angles,
    transform_points,
    wrap_angle,
)

if TYPE_CHECKING:
    Array = NDArray[np.float64]

NANOSECONDS = 1_000_000_000
FIRST_STAMP_NS = NANOSECONDS  # 0 means "no time" to ROS
SCENE_STREAM, NOISE_STREAM, VARIATION_STREAM = range(3)
LACQUERED = {'Car', 'Van', 'Truck', 'Misc'}


@dataclass(frozen=True)
class SimulatedObject:
    """Exact label of a road user.

    Attributes:
        track_id: the same in every frame of a drive.
        name: KITTI's name of its class.
        box: x, y, z, dx, dy, dz [m], yaw [rad], LiDAR frame.
        num_points: returns from its surface.
        occlusion: part of its beams blocked by something in front of it.
        label_box: the labelled box, if it differs.
    """

    track_id: int
    name: str
    box: Box
    num_points: int
    occlusion: float
    label_box: Box | None = None

    def lifted(self, lift: float) -> SimulatedObject:
        """The object with its boxes moved up [m]."""
        if not lift:
            return self
        label_box = self.label_box and _lifted(self.label_box, lift)
        return replace(self, box=_lifted(self.box, lift), label_box=label_box)

    def to_dict(self) -> dict[str, Any]:
        """All of it for JSON; `label_box` where there is one."""
        values = asdict(self)
        if self.label_box is None:
            del values['label_box']
        return values


@dataclass(frozen=True)
class SimulatedFrame:
    """One labelled sweep.

    Attributes:
        points: (N, 4) float32 x, y, z [m], intensity [0..1], LiDAR frame.
        stamp_ns: time of the sweep [ns].
        objects: all road users, also those without a point.
        world_from_lidar: (4, 4) pose of the sensor.
        conditions: kind of the scene and what was drawn for the sensor, for JSON.
    """

    points: NDArray[np.float32]
    stamp_ns: int
    objects: tuple[SimulatedObject, ...]
    world_from_lidar: Array
    conditions: Mapping[str, float | str]


def simulate_scene(config: SimulationConfig, *, seed: int, index: int) -> SimulatedFrame:
    """One sweep of a scene of its own; it depends only on (config, seed, index)."""
    scene = build_scene(config.scene, np.random.default_rng((SCENE_STREAM, seed, index)))
    conditions = draw_conditions(
        config.sensor, config.variation, np.random.default_rng((VARIATION_STREAM, seed, index))
    )
    rng = np.random.default_rng((NOISE_STREAM, seed, index))
    yaw = float(rng.normal(0, 0.15))
    place = (0.0, float(rng.uniform(*scene.ego_lane)))
    pose = _sensor_pose(scene.ground, place, yaw, conditions)
    return _Observer(config, scene, conditions).observe(pose, time_s=0.0, rng=rng)


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
    scene = build_scene(config.scene, rng, duration_s=period_s * num_frames)
    conditions = draw_conditions(
        config.sensor, config.variation, np.random.default_rng((VARIATION_STREAM, seed))
    )
    observer = _Observer(config, scene, conditions)
    for index in range(num_frames):
        time_s = index * period_s
        place = (EGO_PLACE[0] + config.scene.ego_speed * time_s, EGO_PLACE[1])
        pose = _sensor_pose(scene.ground, place, 0.0, conditions)
        noise = np.random.default_rng((NOISE_STREAM, seed, index))
        yield observer.observe(pose, time_s=time_s, rng=noise)


def _sensor_pose(
    ground: Ground, place: tuple[float, float], yaw: float, conditions: Conditions
) -> Array:
    pose = np.eye(4)
    cos, sin = np.cos(yaw), np.sin(yaw)
    pose[:2, :2] = [[cos, -sin], [sin, cos]]
    if conditions.roll or conditions.pitch:
        pose[:3, :3] = pose[:3, :3] @ rotation_from_angles(conditions.roll, conditions.pitch, 0.0)
    z = ground.height(np.array([place[0]]), np.array([place[1]]))[0]
    pose[:3, 3] = (*place, z + conditions.sensor.height)
    return pose


@dataclass(frozen=True)
class _Observer:
    """Looks at a scene."""

    config: SimulationConfig
    scene: Scene
    conditions: Conditions

    def observe(
        self, world_from_lidar: Array, *, time_s: float, rng: np.random.Generator
    ) -> SimulatedFrame:
        """One sweep from a pose (4, 4) at a time."""
        lidar_from_world = invert_rigid(world_from_lidar).astype(np.float64)
        actors = self.scene.actors
        boxes = [_box(actor, self.scene.ground, lidar_from_world, time_s) for actor in actors]
        # Upright as the sensor sees it: exact, whereas a tilted box would have no yaw.
        meshes = [
            actor.mesh_at(time_s).placed((box[0], box[1], box[2] - box[5] / 2), box[6])
            for actor, box in zip(actors, boxes, strict=True)
        ]
        static = _moved(self.scene.static, lidar_from_world)
        if self.scene.kind != 'plain':
            static = within_reach(static, self.conditions.sensor)
        returns = scan(static, meshes, self.conditions.sensor, rng, self._effects())
        labels = (self._label(index, boxes[index], returns) for index in range(len(actors)))
        lift = self.conditions.lift
        if lift:
            world_from_lidar = world_from_lidar.copy()
            world_from_lidar[:3, 3] -= lift * world_from_lidar[:3, 2]
        return SimulatedFrame(
            self.conditions.reported(returns.points),
            FIRST_STAMP_NS + round(time_s * NANOSECONDS),
            tuple(item.lifted(lift) for item in labels),
            world_from_lidar,
            {'scene': self.scene.kind, **self.conditions.to_dict()},
        )

    def _effects(self) -> Effects:
        lacquered = tuple(actor.name in LACQUERED for actor in self.scene.actors)
        return Effects(
            surfaces=self.config.surfaces,
            lacquered=lacquered,
            elevation_offsets=self.conditions.elevation_offsets,
            motion=self.conditions.motion,
        )

    def _label(self, index: int, box: Box, returns: Returns) -> SimulatedObject:
        actor, motion = self.scene.actors[index], self.conditions.motion
        seen = box if motion is None else _as_swept(box, motion)
        on_it = returns.object_ids == index
        label_box = None
        if part := self.config.labels.shrink:
            label_box = shrink_box(seen, returns.points[on_it, :3].astype(np.float64), part)
        return SimulatedObject(
            actor.track_id,
            actor.name,
            seen,
            int(on_it.sum()),
            float(returns.occlusions[index]),
            label_box,
        )


def _box(actor: Actor, ground: Ground, lidar_from_world: Array, time_s: float) -> Box:
    x, y = actor.position_at(time_s)
    z = ground.height(np.array([x]), np.array([y]))[0] + actor.size[2] / 2
    center = transform_points(lidar_from_world, np.array([[x, y, z]]))[0]
    turn = float(np.arctan2(lidar_from_world[1, 0], lidar_from_world[0, 0]))
    length, width, height = actor.size
    yaw = float(wrap_angle(actor.yaw + turn))
    return float(center[0]), float(center[1]), float(center[2]), length, width, height, yaw


def _lifted(box: Box, lift: float) -> Box:
    return (*box[:2], box[2] + lift, *box[3:])


def _as_swept(box: Box, motion: Motion) -> Box:
    """The box as a moving sensor sees it during its turn."""
    time_s = float(motion.times(np.array([np.arctan2(box[1], box[0])]))[0])
    turn = -motion.turn_rate * time_s
    x, y = box[0] - motion.velocity[0] * time_s, box[1] - motion.velocity[1] * time_s
    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    yaw = float(wrap_angle(box[6] + turn))
    return (x * cos - y * sin, x * sin + y * cos, *box[2:6], yaw)


def _moved(mesh: Mesh, target_from_source: Array) -> Mesh:
    moved = transform_points(target_from_source, mesh.vertices)
    return replace(mesh, vertices=moved.astype(np.float32))
