# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The ground below a sensor, found in its own points."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    Array: TypeAlias = NDArray[np.float64]

NEAREST, FARTHEST = 2.5, 25.0  # [m] from above: beyond the vehicle, before bends
BELOW = 0.2  # [m] under the sensor, at least
ON_PLANE = 0.1  # [m] from the plane
STEEPEST = math.radians(30)  # of a sensor, or of a road
SAMPLED_POINTS, NUM_TRIES = 3000, 200
SAMPLED_CLOUD = 10_000  # of a sweep that is followed; enough, and cheap
KEPT_PART = 0.7  # of the points on the last plane, or it is searched for anew
LEAST_POINTS, LEAST_PART = 100, 0.15  # on the plane, of the points below the sensor
MOST_UNDER = 0.1  # part of the points that may lie below the plane, in pits and mirrors


@dataclass(frozen=True)
class Ground:
    """A plane below a sensor.

    Attributes:
        height: of the origin of the points' frame above it [m].
        normal: (3,) upwards, in that frame.
        part: of the points below the sensor that lie on it.
    """

    height: float
    normal: tuple[float, float, float]
    part: float

    @property
    def plane(self) -> Array:
        """(4,) normal and height."""
        plane: Array = np.array([*self.normal, self.height])
        return plane

    @property
    def tilt(self) -> float:
        """Angle between the sensor's z axis and the normal [rad]."""
        return math.acos(min(self.normal[2], 1.0))

    @property
    def ground_from_sensor(self) -> Array:
        """(4, 4) pose of the sensor in a frame with z up, the ground at 0 and x forward."""
        up = np.array(self.normal)
        forward = np.array([1.0, 0.0, 0.0]) - up[0] * up
        forward /= np.linalg.norm(forward)
        pose = np.eye(4)
        pose[:3, :3] = [forward, np.cross(up, forward), up]
        pose[2, 3] = self.height
        return pose


def fit_ground(
    points: NDArray[np.floating[Any]],
    *,
    eye: Sequence[float] = (0.0, 0.0, 0.0),
    seed: int = 0,
) -> Ground | None:
    """The plane that most points below a sensor lie on (RANSAC, then least squares).

    Args:
        points: (N, 3 or more) x, y, z [m]: one sweep; the z axis of their frame points up, more or
            less.
        eye: x, y, z [m] of the sensor in that frame, which may have its origin on the ground.
        seed: the same seed gives the same plane.

    Returns:
        The plane; None if too few points lie on any, or too many below it.
    """
    rng = np.random.default_rng(seed)
    near = _below(points, eye, rng)
    if len(near) < LEAST_POINTS:
        return None
    return _judged(near, _best_plane(near, rng), eye)


class GroundFollower:
    """The ground below a sensor that moves, from sweep to sweep.

    A sweep from which none is seen changes nothing.

    Args:
        memory: grounds whose median is taken.
        every: once one is known, only each n-th sweep is looked at, for it takes time.
    """

    def __init__(self, memory: int = 5, every: int = 1) -> None:
        self._last: deque[Ground] = deque(maxlen=memory)
        self._every, self._num_sweeps = every, 0
        self._known: Ground | None = None

    def describe(self) -> dict[str, str]:
        """What diagnostics say of it."""
        ground = self._known
        if ground is None:
            return {'ground': 'none seen yet'}
        tilt = math.degrees(ground.tilt)
        return {'ground': f'{ground.height:.2f} m below a sensor tilted by {tilt:.1f} degrees'}

    def follow(self, points: NDArray[np.floating[Any]]) -> Ground | None:
        """The ground after one more sweep, see `fit_ground`; None before any was seen."""
        self._num_sweeps += 1
        if self._known is None or self._num_sweeps % self._every == 0:
            self._look(points)
        return self._known

    def _look(self, points: NDArray[np.floating[Any]]) -> None:
        rng = np.random.default_rng(0)
        if len(points) > SAMPLED_CLOUD:
            points = points[rng.integers(len(points), size=SAMPLED_CLOUD)]
        near = _below(points, (0.0, 0.0, 0.0), rng)
        if len(near) >= LEAST_POINTS:
            # Near the last plane no search is needed, which is most of the time that a fit takes.
            before = self._last[-1] if self._last else None
            found = _judged(near, None if before is None else before.plane)
            if found is None or (before is not None and found.part < KEPT_PART * before.part):
                found = _judged(near, _best_plane(near, rng))
            if found is not None:
                self._last.append(found)
                self._known = join_grounds(self._last)


def join_grounds(found: Sequence[Ground]) -> Ground:
    """The median of the grounds of one or more sweeps, number by number."""
    normal = np.median([ground.normal for ground in found], axis=0)
    x, y, z = map(float, normal / np.linalg.norm(normal))
    height = float(np.median([ground.height for ground in found]))
    return Ground(height, (x, y, z), float(np.median([ground.part for ground in found])))


def _below(
    points: NDArray[np.floating[Any]], eye: Sequence[float], rng: np.random.Generator
) -> Array:
    """(M, 3) a sample of the points around and below the sensor, as seen from it."""
    near: Array = points[:, :3].astype(np.float64) - np.asarray(eye)
    near = near[np.isfinite(near).all(axis=1)]
    reach = np.hypot(near[:, 0], near[:, 1])
    near = near[(reach > NEAREST) & (reach < FARTHEST) & (near[:, 2] < -BELOW)]
    if len(near) > SAMPLED_POINTS:
        near = near[rng.choice(len(near), SAMPLED_POINTS, replace=False)]
    return near


def _judged(
    points: Array, plane: Array | None, eye: Sequence[float] = (0.0, 0.0, 0.0)
) -> Ground | None:
    """The ground near a plane; None if it cannot be one."""
    for _ in range(3):
        if plane is None:
            return None
        plane = _refined(points, plane)
    if plane is None:
        return None
    offsets = points @ plane[:3] + plane[3]
    part = float((abs(offsets) < ON_PLANE).mean())
    under = float((offsets < -3 * ON_PLANE).mean())
    if part < LEAST_PART or part * len(points) < LEAST_POINTS or under > MOST_UNDER:
        return None
    x, y, z, height = map(float, plane)
    return Ground(height - float(plane[:3] @ eye), (x, y, z), part)


def _best_plane(points: Array, rng: np.random.Generator) -> Array | None:
    """(4,) normal and height of the best of many planes through three points."""
    corners = points[rng.integers(len(points), size=(NUM_TRIES, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    usable = lengths > 1e-6
    normals, corners = normals[usable] / lengths[usable, None], corners[usable]
    normals *= np.sign(normals[:, 2:])
    level = normals[:, 2] > math.cos(STEEPEST)
    normals, corners = normals[level], corners[level]
    if not len(normals):
        return None
    heights = -(normals * corners[:, 0]).sum(axis=1)
    on_plane = abs(points @ normals.T + heights) < ON_PLANE
    best = int(on_plane.sum(axis=0).argmax())
    return np.append(normals[best], heights[best])


def _refined(points: Array, plane: Array) -> Array | None:
    """The plane z = a x + b y + c fitted to the points on another one."""
    own = points[abs(points @ plane[:3] + plane[3]) < ON_PLANE]
    if len(own) < 3:
        return None
    columns = np.column_stack([own[:, :2], np.ones(len(own))])
    (a, b, c), *_ = np.linalg.lstsq(columns, own[:, 2], rcond=None)
    return np.array([-a, -b, 1.0, -c]) / math.sqrt(a * a + b * b + 1)
