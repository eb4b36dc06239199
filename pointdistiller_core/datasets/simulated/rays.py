# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Where a LiDAR looks during one turn."""

from __future__ import annotations

from dataclasses import dataclass, replace
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import SensorConfig
from pointdistiller_core.datasets.simulated.meshes import Mesh
from pointdistiller_core.geometry.transforms import wrap_angle

if TYPE_CHECKING:
    Array = NDArray[np.float64]
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

GOLDEN_TURN = 2 * math.pi * (math.sqrt(5) - 1) / 2  # [rad], never twice at the same azimuth
SLACK = 0.03  # margin of elevations, for their errors and the motion of the sensor [rad]
WEAVE = math.sqrt(2) / 97  # how fast a rosette goes up and down, per ray


@dataclass(frozen=True)
class Motion:
    """Motion of the sensor during a turn; the sweep is stamped in its middle, looking ahead.

    Attributes:
        velocity: (3,) [m/s], sensor frame.
        turn_rate: to the left [rad/s].
        period_s: of a turn.
    """

    velocity: Array
    turn_rate: float
    period_s: float

    def times(self, azimuths: Array) -> Array:
        """Times at which it looks towards azimuths [rad], from minus to plus half a period [s].

        It turns clockwise and starts looking back.
        """
        times: Array = -azimuths / (2 * np.pi) * self.period_s
        return times


@dataclass(frozen=True)
class Rays:
    """Rays of one turn, beam after beam.

    Attributes:
        directions: (R, 3) float32 unit vectors, sensor frame.
        azimuths: (columns,) of the firings [rad]; R = beams * columns.
        elevations: (beams,) [rad]; None if each ray has its own.
    """

    directions: FloatArray
    azimuths: Array
    elevations: Array | None

    @property
    def num_columns(self) -> int:
        """Rays of each beam."""
        return len(self.azimuths)

    def moving(self, motion: Motion | None) -> tuple[FloatArray, FloatArray]:
        """Directions and starts (R, 3) [m] of the rays of a sensor in motion.

        They are in the frame of the sensor in the middle of the turn.
        """
        if motion is None:
            return self.directions, np.zeros_like(self.directions)
        times = np.tile(motion.times(self.azimuths), len(self.directions) // self.num_columns)
        turns = motion.turn_rate * times
        x, y, z = self.directions.T
        cos, sin = np.cos(turns), np.sin(turns)
        turned = np.stack([x * cos - y * sin, x * sin + y * cos, z], axis=1)
        starts = times[:, None] * motion.velocity
        return turned.astype(np.float32), starts.astype(np.float32)

    def towards(self, mesh: Mesh) -> IntArray:
        """Indices of all rays that can meet a mesh, and of a few others."""
        numbers = np.arange(len(self.directions)).reshape(-1, self.num_columns)
        places = mesh.vertices
        middle = places[:, :2].mean(axis=0)
        bearing = np.arctan2(middle[1], middle[0])
        azimuths = np.arctan2(places[:, 1], places[:, 0])
        reach = np.abs(wrap_angle(azimuths - bearing)).max()
        in_columns = np.abs(wrap_angle(self.azimuths - bearing)) <= reach + 0.01
        in_beams: NDArray[np.bool_] = np.ones(len(numbers), np.bool_)
        if self.elevations is not None:
            in_beams = self._in_beams(mesh, middle, self.elevations)
        window: IntArray = numbers[in_beams][:, in_columns].ravel()
        return window

    @staticmethod
    def _in_beams(mesh: Mesh, middle: FloatArray, elevations: Array) -> NDArray[np.bool_]:
        """(beams,) which can meet a mesh around `middle` x, y."""
        radius = np.linalg.norm(mesh.vertices[:, :2] - middle, axis=1).max()
        near = max(float(np.linalg.norm(middle) - radius), 1e-3)
        far = float(np.linalg.norm(middle) + radius)
        low, high = float(mesh.vertices[:, 2].min()), float(mesh.vertices[:, 2].max())
        lowest = np.arctan2(low, near if low < 0 else far)
        highest = np.arctan2(high, near if high > 0 else far)
        chosen: NDArray[np.bool_] = (elevations >= lowest - 0.01) & (elevations <= highest + 0.01)
        return chosen


def beam_elevations(config: SensorConfig) -> Array:
    """Elevation of each beam [rad], block after block."""
    blocks = [np.linspace(first, last, count) for first, last, count in config.beams]
    elevations: Array = np.radians(np.concatenate(blocks))
    return elevations


def within_reach(mesh: Mesh, config: SensorConfig) -> Mesh:
    """A mesh (sensor frame) without faces above all beams or beyond the range."""
    highest = float(
        np.tan(np.radians(max(max(first, last) for first, last, _ in config.beams)) + SLACK)
    )
    x, y, z = mesh.vertices.T
    out = np.hypot(x, y)
    # The region above a cone that opens upwards is convex, so it holds whole triangles.
    above = (z > highest * out) if highest > 0 else np.zeros(len(z), np.bool_)
    corners = mesh.vertices[mesh.faces]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    beyond = np.sqrt(out * out + z * z)[mesh.faces].min(axis=1) - longest > config.max_range
    kept = ~(above[mesh.faces].all(axis=1) | beyond)
    return replace(mesh, faces=mesh.faces[kept], materials=mesh.materials[kept])


def draw_rays(config: SensorConfig, elevation_offsets: Array | None = None) -> Rays:
    """The rays of a turn.

    Args:
        config: of the sensor.
        elevation_offsets: (beams,) added to the elevations [rad].
    """
    if config.pattern == 'rosette':
        return _rosette(config)
    elevations = beam_elevations(config)
    if elevation_offsets is not None:
        elevations += elevation_offsets
    azimuths = np.linspace(np.pi, -np.pi, config.num_columns, endpoint=False, dtype=np.float64)
    return Rays(_directions(elevations[:, None], azimuths), azimuths, elevations)


def _rosette(config: SensorConfig) -> Rays:
    """Rays all round that weave up and down, evenly from the lowest to the highest elevation."""
    first, last, _ = config.beams[0]
    number: Array = np.arange(config.num_columns, dtype=np.float64)
    azimuths: Array = np.pi - np.mod(number * GOLDEN_TURN, 2 * np.pi, dtype=np.float64)
    weave = np.abs(np.mod(number * WEAVE, 2) - 1)
    return Rays(_directions(np.radians(first + (last - first) * weave), azimuths), azimuths, None)


def _directions(elevations: Array, azimuths: Array) -> FloatArray:
    directions = np.stack(
        np.broadcast_arrays(
            np.cos(elevations) * np.cos(azimuths),
            np.cos(elevations) * np.sin(azimuths),
            np.sin(elevations),
        ),
        axis=-1,
    )
    return directions.reshape(-1, 3).astype(np.float32)
