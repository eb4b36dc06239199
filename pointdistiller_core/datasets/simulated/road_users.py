# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Meshes of road users.

Every object stands on z = 0 with its heading along +x and fills its box exactly, so that labels
are tight by construction.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np

from pointdistiller_core.datasets.simulated.meshes import (
    Material,
    Mesh,
    block,
    ellipsoid,
    merge,
    prism,
    tube,
)


@cache
def wheel(center: tuple[float, float, float], radius: float, width: float) -> Mesh:
    """A tyre about the y axis, open inside as a bicycle's [m]."""
    angles = np.linspace(0, 2 * np.pi, 13)
    rim = np.stack([np.cos(angles), np.zeros(13), np.sin(angles)], axis=1) * radius
    points = rim + np.asarray(center)
    return merge([tube(a, b, width / 2, Material.RUBBER) for a, b in pairwise(points)])


# Side views as parts of length and height: cabin from, to at its base; from, to at the roof;
# height of its base.
CAR_SHAPES = {
    'sedan': (-0.34, 0.22, -0.20, 0.06, 0.60),
    'hatchback': (-0.47, 0.22, -0.42, 0.06, 0.58),
    'estate': (-0.48, 0.20, -0.45, 0.06, 0.58),
    'suv': (-0.48, 0.22, -0.44, 0.10, 0.55),
}


@cache
def car(shape: str) -> Mesh:
    """A passenger car of unit extents; windows are glass, both ends carry a plate."""
    back, front, roof_back, roof_front, waist = CAR_SHAPES[shape]
    body = prism(
        [(-0.5, 0.22), (-0.47, 0.13), (0.47, 0.13), (0.5, 0.22), (0.49, waist * 0.8),
         (front, waist), (back, waist), (-0.5, waist * 0.95)],
        0.5,
        Material.PAINT,
    )  # fmt: skip
    cabin = prism(
        [(back, waist), (front, waist), (roof_front, 0.97), (roof_back, 0.97)],
        0.47,
        Material.GLASS,
        top=0.78,
    )
    roof = block((roof_back, -0.37, 0.96), (roof_front, 0.37, 1.0), Material.PAINT)
    plates = [
        block((x, -0.14, 0.3), (x + 0.004, 0.14, 0.4), Material.PLATE) for x in (-0.503, 0.499)
    ]
    return merge([body, cabin, roof, *plates, *car_wheels(0.30, 0.085, 0.22)])


@cache
def van() -> Mesh:
    """A delivery van of unit extents."""
    body = prism(
        [(-0.5, 0.12), (0.5, 0.12), (0.5, 0.42), (0.38, 0.5), (0.28, 1.0), (-0.5, 1.0)],
        0.5,
        Material.PAINT,
        top=0.94,
    )
    windscreen = prism(
        [(0.375, 0.53), (0.385, 0.53), (0.305, 0.92), (0.295, 0.92)], 0.42, Material.GLASS
    )
    plate = block((-0.503, -0.12, 0.25), (-0.499, 0.12, 0.32), Material.PLATE)
    return merge([body, windscreen, plate, *car_wheels(0.32, 0.075, 0.16)])


@cache
def truck() -> Mesh:
    """A lorry of unit extents: cab and box."""
    cab = prism(
        [(0.28, 0.12), (0.5, 0.12), (0.5, 0.55), (0.46, 0.85), (0.28, 0.85)], 0.49, Material.PAINT
    )
    box = block((-0.5, -0.5, 0.28), (0.25, 0.5, 1.0), Material.METAL)
    chassis = block((-0.48, -0.3, 0.14), (0.28, 0.3, 0.28), Material.METAL)
    return merge([cab, box, chassis, *car_wheels(0.36, 0.05, 0.14)])


def car_wheels(reach: float, radius: float, height: float) -> list[Mesh]:
    """Four discs in unit extents: `radius` is a part of the length, `height` of the height."""
    angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    outline = [
        (float(radius * np.cos(angle)), float(height / 2 * (1 + np.sin(angle))))
        for angle in angles
    ]
    return [
        prism(outline, 0.06, Material.RUBBER).placed((x, y, 0))
        for x in (-reach, reach)
        for y in (-0.43, 0.43)
    ]


def pedestrian(stride: float) -> Mesh:
    """A walking person about 1.7 m tall.

    Args:
        stride: phase of the gait, -1 to 1; 0 stands with closed legs.
    """
    reach = 0.32 * stride
    legs = [
        tube((0, side * 0.1, 0.85), (side * reach, side * 0.1, 0.05), 0.085, Material.CLOTH)
        for side in (-1, 1)
    ]
    arms = [
        tube((0, side * 0.24, 1.4), (-side * 0.8 * reach, side * 0.28, 0.8), 0.055, Material.CLOTH)
        for side in (-1, 1)
    ]
    torso = ellipsoid((0, 0, 1.13), (0.16, 0.22, 0.4), Material.CLOTH)
    head = ellipsoid((0.02, 0, 1.6), (0.11, 0.09, 0.14), Material.SKIN)
    return merge([*legs, *arms, torso, head])


@cache
def bicycle() -> Mesh:
    """Two wheels, frame and handlebar, heading along +x [m]."""
    wheels = [wheel((x, 0, 0.35), 0.33, 0.05) for x in (-0.52, 0.52)]
    frame = [
        tube(start, stop, 0.025, Material.METAL)
        for start, stop in (
            ((-0.52, 0, 0.35), (-0.12, 0, 0.9)),
            ((-0.12, 0, 0.35), (0.42, 0, 0.95)),
            ((-0.15, 0, 0.85), (0.42, 0, 0.9)),
            ((0.42, 0, 1.02), (0.52, 0, 0.35)),
            ((0.4, -0.28, 1.02), (0.4, 0.28, 1.02)),
        )
    ]
    return merge([*wheels, *frame])


def cyclist(pedal: float) -> Mesh:
    """A person on a bicycle, about 1.75 m long and tall.

    Args:
        pedal: phase of the pedals, -1 to 1.
    """
    rider = [
        tube((-0.15, side * 0.1, 0.95), (0.0, side * 0.12, 0.3 + 0.15 * side * pedal), 0.08,
             Material.CLOTH)
        for side in (-1, 1)
    ] + [
        tube((0.12, side * 0.2, 1.38), (0.4, side * 0.25, 1.04), 0.05, Material.CLOTH)
        for side in (-1, 1)
    ]  # fmt: skip
    torso = tube((-0.15, 0, 0.95), (0.12, 0, 1.42), 0.17, Material.CLOTH)
    head = ellipsoid((0.2, 0, 1.62), (0.12, 0.1, 0.14), Material.SKIN)
    return merge([bicycle(), *rider, torso, head])
