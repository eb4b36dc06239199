# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of a scene: the ground, static things, and road users.

The world frame has x along the street, z up, and the sensor's vehicle at its origin at first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pointdistiller_core.datasets.simulated.ground import Ground
from pointdistiller_core.datasets.simulated.meshes import Mesh
from pointdistiller_core.datasets.simulated.road_users import car, cyclist, pedestrian, truck, van
from pointdistiller_core.datasets.simulated.variants import (
    detailed_car,
    detailed_pedestrian,
    detailed_truck,
    detailed_van,
    trailer,
)

EGO_PLACE = (0.0, -1.8)  # of the sensor's vehicle at first, world frame [m]
EGO_ROOM = (3.5, 2.5)  # half extents that are kept free around it [m]

# Length, width, height [m], mean and deviation: KITTI's labels (vans and trucks: common models).
SIZES: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    'Car': ((3.89, 1.63, 1.53), (0.42, 0.10, 0.13)),
    'Van': ((5.06, 1.90, 2.20), (0.50, 0.12, 0.22)),
    'Truck': ((9.50, 2.55, 3.30), (1.50, 0.10, 0.25)),
    'Pedestrian': ((0.84, 0.66, 1.76), (0.20, 0.12, 0.11)),
    'Cyclist': ((1.76, 0.60, 1.73), (0.16, 0.10, 0.10)),
    'Misc': ((3.40, 1.75, 1.70), (0.90, 0.20, 0.40)),
}
SPEEDS = {
    'Car': 9.0,
    'Van': 9.0,
    'Truck': 8.0,
    'Pedestrian': 1.3,
    'Cyclist': 4.5,
    'Misc': 8.0,
}  # [m/s]


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
        variant: of a detailed mesh; None is a plain one.
    """

    track_id: int
    name: str
    size: tuple[float, float, float]
    position: tuple[float, float]
    yaw: float
    speed: float
    shape: str
    phase: float
    variant: int | None = None

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
        if self.variant is not None:
            return self._detailed_mesh(self.variant, swing).filling(self.size)
        shapes: Mapping[str, Callable[[], Mesh]] = {
            'Car': lambda: car(self.shape),
            'Van': van,
            'Truck': truck,
            'Pedestrian': lambda: pedestrian(swing if self.speed > 0 else 0.15),
            'Cyclist': lambda: cyclist(swing),
        }
        return shapes[self.name]().filling(self.size)

    def _detailed_mesh(self, variant: int, swing: float) -> Mesh:
        shapes: Mapping[str, Callable[[], Mesh]] = {
            'Car': lambda: detailed_car(variant),
            'Van': lambda: detailed_van(variant),
            'Truck': lambda: detailed_truck(variant),
            'Misc': lambda: trailer(variant),
            'Pedestrian': lambda: detailed_pedestrian(
                variant, swing if self.speed > 0 else 0.4 * swing
            ),
            'Cyclist': lambda: cyclist(swing),
        }
        return shapes[self.name]()


@dataclass(frozen=True)
class Scene:
    """All static things, and the road users.

    Attributes:
        ground: the ground.
        static: ground and clutter, world frame.
        actors: the road users.
        kind: of the scene, as configured.
        ego_lane: place across the street of the sensor of a single sweep [m].
    """

    ground: Ground
    static: Mesh
    actors: tuple[Actor, ...]
    kind: str = 'plain'
    ego_lane: tuple[float, float] = (-3.0, 0.0)
