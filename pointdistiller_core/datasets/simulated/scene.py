# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A street with road users and with clutter that a detector may mistake for them.

The world frame has x along the street, z up, and the sensor's vehicle at its origin at first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import SceneConfig
from pointdistiller_core.datasets.simulated.meshes import (
    CAR_SHAPES,
    Material,
    Mesh,
    block,
    car,
    cyclist,
    foliage,
    merge,
    pedestrian,
    truck,
    tube,
    van,
)

if TYPE_CHECKING:
    Array = NDArray[np.float64]

GROUND_CELL = 2.0  # [m]
KERB = 5.5  # from the middle of the street to the sidewalk [m]
CLEARANCE = 0.4  # between any two objects [m]
PROPOSALS = 30  # of a place, before something is left out
EGO_PLACE = (0.0, -1.8)  # of the sensor's vehicle at first, world frame [m]
EGO_ROOM = (3.5, 2.5)  # half extents that are kept free around it [m]

# Length, width, height [m], mean and deviation: KITTI's labels (vans and trucks: common models).
SIZES: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    'Car': ((3.89, 1.63, 1.53), (0.42, 0.10, 0.13)),
    'Van': ((5.06, 1.90, 2.20), (0.50, 0.12, 0.22)),
    'Truck': ((9.50, 2.55, 3.30), (1.50, 0.10, 0.25)),
    'Pedestrian': ((0.84, 0.66, 1.76), (0.20, 0.12, 0.11)),
    'Cyclist': ((1.76, 0.60, 1.73), (0.16, 0.10, 0.10)),
}
SPEEDS = {'Car': 9.0, 'Van': 9.0, 'Truck': 8.0, 'Pedestrian': 1.3, 'Cyclist': 4.5}  # [m/s]


@dataclass(frozen=True)
class Actor:
    """A road user.

    Attributes:
        track_id: the same in every frame of a drive.
        name: KITTI's name of its class.
        size: length, width, height [m].
        position: x, y [m] at time 0, world frame.
        yaw: heading [rad].
        speed: along the heading [m/s].
        shape: variant of the mesh.
        phase: of the gait or the pedals at time 0.
    """

    track_id: int
    name: str
    size: tuple[float, float, float]
    position: tuple[float, float]
    yaw: float
    speed: float
    shape: str
    phase: float

    def position_at(self, time_s: float) -> tuple[float, float]:
        """x, y [m] in the world frame."""
        reach = self.speed * time_s
        return (
            self.position[0] + reach * float(np.cos(self.yaw)),
            self.position[1] + reach * float(np.sin(self.yaw)),
        )

    def mesh_at(self, time_s: float) -> Mesh:
        """Upright at the origin, heading along +x."""
        swing = float(np.sin(self.phase + 2 * np.pi * 0.9 * time_s * (self.speed > 0)))
        shapes: Mapping[str, Callable[[], Mesh]] = {
            'Car': lambda: car(self.shape),
            'Van': van,
            'Truck': truck,
            'Pedestrian': lambda: pedestrian(swing if self.speed > 0 else 0.15),
            'Cyclist': lambda: cyclist(swing),
        }
        return shapes[self.name]().filling(self.size)


@dataclass(frozen=True)
class Ground:
    """Gentle waves on a slope.

    Attributes:
        slope: rise along x and y [m/m].
        waves: (n, 4) amplitude [m], wave numbers along x and y [rad/m], phase [rad].
    """

    slope: Array
    waves: Array

    def height(self, x: Array, y: Array) -> Array:
        """The height [m] at places of any shape; 0 at the origin."""
        here = self._waves(x, y) + self.slope[0] * x + self.slope[1] * y
        origin: Array = self._waves(np.zeros(1), np.zeros(1))
        relative: Array = here - origin[0]
        return relative

    def _waves(self, x: Array, y: Array) -> Array:
        amplitude, along_x, along_y, phase = self.waves.T
        angle = x[..., None] * along_x + y[..., None] * along_y + phase
        total: Array = (amplitude * np.sin(angle)).sum(axis=-1)
        return total

    def mesh(self, x_range: tuple[float, float], y_range: tuple[float, float]) -> Mesh:
        """Asphalt between the kerbs, grass beyond."""
        x, y = (
            np.arange(low, high + GROUND_CELL, GROUND_CELL) for low, high in (x_range, y_range)
        )
        grid_x, grid_y = np.meshgrid(x, y, indexing='ij')
        corners = np.stack([grid_x, grid_y, self.height(grid_x, grid_y)], axis=-1)
        index = np.arange(grid_x.size, dtype=np.int32).reshape(grid_x.shape)
        a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
        faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=2).reshape(-1, 3)
        middle = corners.reshape(-1, 3)[faces].mean(axis=1)[:, 1]
        materials = np.where(np.abs(middle) < KERB + 4, Material.ASPHALT, Material.GRASS)
        return Mesh(corners.reshape(-1, 3).astype(np.float32), faces, materials.astype(np.int32))


@dataclass(frozen=True)
class Scene:
    """Everything that stands still, and the road users.

    Attributes:
        ground: what all stands on.
        static: ground and clutter, world frame.
        actors: the road users.
    """

    ground: Ground
    static: Mesh
    actors: tuple[Actor, ...]


def build_scene(
    config: SceneConfig, rng: np.random.Generator, *, duration_s: float = 0.0
) -> Scene:
    """A random street, on which nothing runs through anything.

    Args:
        config: how much of what.
        rng: source of all chance.
        duration_s: how long the sensor will drive along x; the street is that much longer.
    """
    ground = _random_ground(rng)
    path_length = config.ego_speed * duration_s
    x_range = (-config.extent, config.extent + path_length)
    placer = _Placer(rng, x_range=x_range, duration_s=duration_s)
    placer.stand(EGO_PLACE, EGO_ROOM, (config.ego_speed, 0.0))
    stretch = 1 + path_length / (2 * config.extent)
    clutter = [
        mesh
        for kind, place in CLUTTER.items()
        for mesh in place(_count(getattr(config, kind), rng, stretch), placer, ground)
    ]
    actors: list[Actor] = []
    for kind, names in ROAD_USERS.items():
        for _ in range(_count(getattr(config, kind), rng, stretch)):
            name = str(rng.choice(names))
            if (actor := _place_actor(name, len(actors), placer)) is not None:
                actors.append(actor)
    far = config.extent + 40
    floor = ground.mesh((-far, far + path_length), (-far, far))
    return Scene(ground, merge([floor, *clutter]), tuple(actors))


ROAD_USERS = {
    'trucks': ('Truck',),
    'cars': ('Car',) * 9 + ('Van',),
    'cyclists': ('Cyclist',),
    'pedestrians': ('Pedestrian',),
}


class _Placer:
    """Finds places that stay free; what stands or moves is kept as rectangles along x and y."""

    def __init__(
        self, rng: np.random.Generator, *, x_range: tuple[float, float], duration_s: float = 0.0
    ) -> None:
        self.rng = rng
        self.x_range = x_range
        self._duration_s = duration_s
        self._taken: list[tuple[float, ...]] = []  # x, y, half extents, velocity

    def stand(
        self, place: tuple[float, float], room: tuple[float, float], velocity: tuple[float, float]
    ) -> None:
        """Take a place from now on."""
        self._taken.append((*place, *room, *velocity))

    def claim(
        self,
        lateral: Callable[[], float],
        room: tuple[float, float],
        velocity: tuple[float, float] = (0.0, 0.0),
    ) -> tuple[float, float] | None:
        """A place with y from `lateral`, or None where the street is full.

        Args:
            lateral: proposes a distance from the middle of the street [m].
            room: half extents along x and y [m].
            velocity: along x and y [m/s]; the way is free, too.
        """
        for _ in range(PROPOSALS):
            place = self._along(), lateral()
            if not self._meets(place, room, velocity):
                self.stand(place, room, velocity)
                return place
        return None

    def _meets(
        self, place: tuple[float, float], room: tuple[float, float], velocity: tuple[float, float]
    ) -> bool:
        """Whether it touches anything, at any time of the drive."""
        taken = np.array(self._taken).reshape(-1, 3, 2)
        offset, reach = taken[:, 0] - place, taken[:, 1] + room + CLEARANCE
        drift = taken[:, 2] - velocity
        drift = np.where(np.abs(drift) < 1e-9, 1e-9, drift)  # at rest: together always or never
        first, second = (-reach - offset) / drift, (reach - offset) / drift
        begin = np.minimum(first, second).max(axis=1, initial=0.0)
        end = np.maximum(first, second).min(axis=1, initial=self._duration_s)
        return bool((begin <= end).any())

    def _along(self) -> float:
        """Near the sensor and ahead of it more often than far away or behind."""
        low, high = self.x_range
        if self.rng.random() < 0.65:
            return float(self.rng.uniform(4, high - 30))
        return float(self.rng.uniform(low, high))

    def sided(self, low: float, high: float) -> float:
        """A distance from the middle of the street, on either side."""
        return float(self.rng.choice([-1, 1]) * self.rng.uniform(low, high))


def _room(length: float, width: float, yaw: float) -> tuple[float, float]:
    """Half extents along x and y of a turned rectangle [m]."""
    cos, sin = abs(float(np.cos(yaw))), abs(float(np.sin(yaw)))
    return (length * cos + width * sin) / 2, (length * sin + width * cos) / 2


def _place_actor(name: str, track_id: int, placer: _Placer) -> Actor | None:
    rng = placer.rng
    mean, deviation = SIZES[name]
    length, width, height = (
        float(np.clip(rng.normal(m, d), m - 2.2 * d, m + 2.2 * d))
        for m, d in zip(mean, deviation, strict=True)
    )
    lateral, along_street, moving = _habits(name, placer)
    side = int(rng.choice([-1, 1]))
    speed = float(SPEEDS[name] * rng.uniform(0.6, 1.2)) if moving else 0.0
    yaw = _heading(name, side, rng, along_street=along_street, moving=moving)
    place = placer.claim(
        lambda: side * lateral(),
        _room(length, width, yaw),
        (speed * float(np.cos(yaw)), speed * float(np.sin(yaw))),
    )
    if place is None:
        return None
    return Actor(
        track_id=track_id,
        name=name,
        size=(length, width, height),
        position=place,
        yaw=yaw,
        speed=speed,
        shape=str(rng.choice(list(CAR_SHAPES))),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )


def _heading(
    name: str, side: int, rng: np.random.Generator, *, along_street: bool, moving: bool
) -> float:
    """In [-pi, pi); right-hand traffic: the right lane has negative y."""
    if not along_street:
        return float(rng.uniform(-np.pi, np.pi))
    onward = rng.random() < 0.5 if name == 'Pedestrian' else side < 0
    # What moves keeps its lane; what is parked is parked as people do.
    yaw = (0.0 if onward else -np.pi) + (0.0 if moving else rng.normal(0, 0.05))
    return float((yaw + np.pi) % (2 * np.pi) - np.pi)


def _habits(name: str, placer: _Placer) -> tuple[Callable[[], float], bool, bool]:
    """How far from the middle such a road user is, whether it is aligned, whether it moves."""
    rng = placer.rng
    chance = rng.random()
    if name == 'Pedestrian':
        return lambda: rng.uniform(2.0, 14.0), chance < 0.5, chance < 0.75
    if name == 'Cyclist':
        return lambda: rng.uniform(2.5, 9.0), chance < 0.8, chance < 0.9
    if chance < 0.35:
        return lambda: rng.uniform(1.4, 2.6), True, True
    if chance < 0.75:
        return lambda: rng.uniform(KERB - 1.2, KERB + 0.4), True, False
    return lambda: rng.uniform(KERB + 2, 26.0), False, False


def _count(bounds: tuple[int, int], rng: np.random.Generator, stretch: float) -> int:
    return round(int(rng.integers(bounds[0], bounds[1] + 1)) * stretch)


def _random_ground(rng: np.random.Generator) -> Ground:
    waves = np.stack(
        [
            rng.uniform(0.01, 0.12, 6),
            rng.normal(0, 0.12, 6),
            rng.normal(0, 0.12, 6),
            rng.uniform(0, 2 * np.pi, 6),
        ],
        axis=1,
    )
    return Ground(slope=rng.normal(0, 0.006, 2), waves=waves)


# --- clutter ---------------------------------------------------------------------------------


def _stand(mesh: Mesh, place: tuple[float, float], ground: Ground, yaw: float) -> Mesh:
    z = ground.height(np.array([place[0]]), np.array([place[1]]))[0]
    return mesh.placed((*place, z - 0.05), yaw)


def _poles(count: int, placer: _Placer, ground: Ground) -> Sequence[Mesh]:
    """Lamp posts, signs and tree trunks: as thin as pedestrians."""
    meshes = []
    for _ in range(count):
        rng = placer.rng
        if (place := placer.claim(lambda: placer.sided(KERB + 0.8, 16.0), (0.4, 0.4))) is None:
            continue
        height, radius = rng.uniform(1.0, 7.0), rng.uniform(0.04, 0.22)
        wooden = radius > 0.13
        parts = [tube((0, 0, 0), (0, 0, height), radius, (Material.METAL, Material.WOOD)[wooden])]
        if wooden:
            crown = rng.uniform(1.0, 2.2)
            parts.append(foliage((0, 0, height), (crown, crown, crown * 0.8), rng, 250))
        elif height < 3:
            parts.append(block((-0.03, -0.3, height - 0.5), (0.03, 0.3, height), Material.PLATE))
        meshes.append(_stand(merge(parts), place, ground, rng.uniform(-np.pi, np.pi)))
    return meshes


def _bushes(count: int, placer: _Placer, ground: Ground) -> Sequence[Mesh]:
    """Lumps of leaves and bins: as big as people, cyclists and cars."""
    meshes = []
    for _ in range(count):
        rng = placer.rng
        radius = rng.uniform(0.3, 1.5)
        lateral = partial(placer.sided, KERB + 1.2, 24.0)
        if (place := placer.claim(lateral, (radius, radius))) is None:
            continue
        lumps = [
            foliage(
                (*rng.uniform(-radius / 2, radius / 2, 2), rng.uniform(0.2, 0.8)),
                (rng.uniform(0.4, 0.8, 3) * radius + 0.1).tolist(),
                rng,
                60,
            )
            for _ in range(5)
        ]
        if rng.random() < 0.25:
            lumps = [block((-0.3, -0.3, 0), (0.3, 0.3, 1.15), Material.PAINT)]
        meshes.append(_stand(merge(lumps), place, ground, rng.uniform(-np.pi, np.pi)))
    return meshes


def _walls(count: int, placer: _Placer, ground: Ground) -> Sequence[Mesh]:
    """Houses along the street, and low walls."""
    meshes = []
    for _ in range(count):
        rng = placer.rng
        length, depth = rng.uniform(4, 22), rng.uniform(0.25, 9)
        height = rng.uniform(3, 9) if depth > 2 else rng.uniform(0.8, 2.2)
        yaw = float(rng.normal(0, 0.08))
        near = 14 + depth / 2
        lateral = partial(placer.sided, near, near + 18)
        if (place := placer.claim(lateral, _room(length, depth, yaw))) is None:
            continue
        low, high = (-length / 2, -depth / 2, -1.0), (length / 2, depth / 2, height)
        meshes.append(_stand(block(low, high, Material.CONCRETE), place, ground, yaw))
    return meshes


def _fences(count: int, placer: _Placer, ground: Ground) -> Sequence[Mesh]:
    """Posts with rails between them."""
    meshes = []
    for _ in range(count):
        rng = placer.rng
        height, half = rng.uniform(0.8, 1.6), int(rng.integers(3, 9))
        yaw = float(rng.normal(0, 0.15))
        room = _room(2 * half, 0.2, yaw)
        if (place := placer.claim(lambda: placer.sided(KERB + 4.5, 20.0), room)) is None:
            continue
        posts = [
            tube((x, 0, 0), (x, 0, height), 0.05, Material.WOOD) for x in range(-half, half + 1, 2)
        ]
        rails = [
            block((-half, -0.03, z - 0.07), (half, 0.03, z + 0.07), Material.WOOD)
            for z in (height * 0.4, height * 0.9)
        ]
        meshes.append(_stand(merge([*posts, *rails]), place, ground, yaw))
    return meshes


CLUTTER: Mapping[str, Callable[[int, _Placer, Ground], Sequence[Mesh]]] = {
    'walls': _walls,
    'fences': _fences,
    'poles': _poles,
    'bushes': _bushes,
}
