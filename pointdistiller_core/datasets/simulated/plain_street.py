# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A street on open ground, with road users and single things that may be mistaken for them.

This is the street of the shipped studies and of the demo, so it must not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from pointdistiller_core.config import SceneConfig
from pointdistiller_core.datasets.simulated.ground import KERB, Ground, random_ground
from pointdistiller_core.datasets.simulated.meshes import (
    Material,
    Mesh,
    block,
    foliage,
    merge,
    tube,
)
from pointdistiller_core.datasets.simulated.placement import Placer, room_of
from pointdistiller_core.datasets.simulated.road_users import CAR_SHAPES
from pointdistiller_core.datasets.simulated.scene import (
    EGO_PLACE,
    EGO_ROOM,
    SIZES,
    SPEEDS,
    Actor,
    Scene,
)

ROAD_USERS = {
    'trucks': ('Truck',),
    'cars': ('Car',) * 9 + ('Van',),
    'cyclists': ('Cyclist',),
    'pedestrians': ('Pedestrian',),
}


def build_plain_street(
    config: SceneConfig, rng: np.random.Generator, *, duration_s: float = 0.0
) -> Scene:
    """A random street without collisions.

    Args:
        config: how much of what.
        rng: source of all chance.
        duration_s: how long the sensor drives along x; the street is longer by that.
    """
    ground = random_ground(rng)
    path_length = config.ego_speed * duration_s
    x_range = (-config.extent, config.extent + path_length)
    placer = Placer(rng, x_range=x_range, duration_s=duration_s)
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


def _place_actor(name: str, track_id: int, placer: Placer) -> Actor | None:
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
        room_of(length, width, yaw),
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
    # Moving cars keep their lane; parked cars are parked as people do.
    yaw = (0.0 if onward else -np.pi) + (0.0 if moving else rng.normal(0, 0.05))
    return float((yaw + np.pi) % (2 * np.pi) - np.pi)


def _habits(name: str, placer: Placer) -> tuple[Callable[[], float], bool, bool]:
    """Distance from the middle of such a road user, whether it is aligned, whether it moves."""
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


# --- clutter ---------------------------------------------------------------------------------


def _stand(mesh: Mesh, place: tuple[float, float], ground: Ground, yaw: float) -> Mesh:
    z = ground.height(np.array([place[0]]), np.array([place[1]]))[0]
    return mesh.placed((*place, z - 0.05), yaw)


def _poles(count: int, placer: Placer, ground: Ground) -> Sequence[Mesh]:
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


def _bushes(count: int, placer: Placer, ground: Ground) -> Sequence[Mesh]:
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


def _walls(count: int, placer: Placer, ground: Ground) -> Sequence[Mesh]:
    """Houses along the street, and low walls."""
    meshes = []
    for _ in range(count):
        rng = placer.rng
        length, depth = rng.uniform(4, 22), rng.uniform(0.25, 9)
        height = rng.uniform(3, 9) if depth > 2 else rng.uniform(0.8, 2.2)
        yaw = float(rng.normal(0, 0.08))
        near = 14 + depth / 2
        lateral = partial(placer.sided, near, near + 18)
        if (place := placer.claim(lateral, room_of(length, depth, yaw))) is None:
            continue
        low, high = (-length / 2, -depth / 2, -1.0), (length / 2, depth / 2, height)
        meshes.append(_stand(block(low, high, Material.CONCRETE), place, ground, yaw))
    return meshes


def _fences(count: int, placer: Placer, ground: Ground) -> Sequence[Mesh]:
    """Posts with rails between them."""
    meshes = []
    for _ in range(count):
        rng = placer.rng
        height, half = rng.uniform(0.8, 1.6), int(rng.integers(3, 9))
        yaw = float(rng.normal(0, 0.15))
        room = room_of(2 * half, 0.2, yaw)
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


CLUTTER: Mapping[str, Callable[[int, Placer, Ground], Sequence[Mesh]]] = {
    'walls': _walls,
    'fences': _fences,
    'poles': _poles,
    'bushes': _bushes,
}
