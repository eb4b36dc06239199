# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Variation from frame to frame: the sensor's place, its beams, noise and intensities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import SensorConfig
from pointdistiller_core.config.simulation import VariationConfig
from pointdistiller_core.datasets.simulated.rays import Motion, beam_elevations

if TYPE_CHECKING:
    Array = NDArray[np.float64]
    FloatArray = NDArray[np.float32]

Curve: TypeAlias = 'Callable[[FloatArray, float], FloatArray]'

# Intensities (N,) as another sensor would give them, by a number drawn from 0 to 1.
CURVES: Mapping[str, Curve] = {
    'as_is': lambda values, _: values,
    'gamma': lambda values, drawn: np.clip((0.6 + drawn) * values ** (0.5 + 1.5 * drawn), 0, 1),
    'clipped': lambda values, drawn: np.clip((2 + 6 * drawn) * values, 0, 1),
    'constant': lambda values, drawn: np.full_like(values, drawn),
    'zero': lambda values, _: np.zeros_like(values),
}


@dataclass(frozen=True)
class Conditions:
    """Conditions that one frame, or one drive, was simulated with.

    Attributes:
        sensor: with its height, columns, noise and loss as drawn.
        preset: that was drawn, or None.
        lift: added to the z of clouds and labels [m], see `VariationConfig.mounting`.
        roll, pitch: of the sensor [rad]: left side up, front down.
        elevation_offsets: (beams,) errors [rad], or None.
        motion: during a turn, or None.
        curve, curve_number: curve of intensities, a key of `CURVES`, and the number it is drawn
        with.
    """

    sensor: SensorConfig
    preset: str | None
    lift: float
    roll: float
    pitch: float
    elevation_offsets: Array | None
    motion: Motion | None
    curve: str
    curve_number: float

    def reported(self, points: FloatArray) -> FloatArray:
        """Points (N, 4) with the intensities and at the height that a user's driver would give."""
        if self.lift:
            points = points + np.array([0, 0, self.lift, 0], np.float32)
        if self.curve == 'as_is':
            return points
        changed = CURVES[self.curve](points[:, 3], self.curve_number)
        return np.concatenate([points[:, :3], changed[:, None].astype(np.float32)], axis=1)

    def to_dict(self) -> dict[str, float | str]:
        """What was drawn, for JSON: lengths in m, angles in degrees."""
        motion = self.motion
        preset = {} if self.preset is None else {'sensor': self.preset}
        return {
            **preset,
            'roll': math.degrees(self.roll),
            'pitch': math.degrees(self.pitch),
            'height': self.sensor.height,
            'beams': len(beam_elevations(self.sensor)),
            'columns': self.sensor.num_columns,
            'range_noise': self.sensor.range_noise,
            'dropout': self.sensor.dropout,
            'intensity': self.curve,
            'intensity_number': self.curve_number,
            'speed': float(motion.velocity[0]) if motion else 0.0,
            'turn_rate': math.degrees(motion.turn_rate) if motion else 0.0,
        }


def draw_conditions(
    sensor: SensorConfig, config: VariationConfig, rng: np.random.Generator
) -> Conditions:
    """Draw the conditions of a frame; without any range they are the sensor's own."""
    preset = None
    reference = sensor.height
    if config.sensors:
        names, weights = list(config.sensors), np.array(list(config.sensors.values()))
        preset = str(rng.choice(names, p=weights / weights.sum()))
        sensor = SensorConfig(preset=preset, height=sensor.height, roof=sensor.roof)
    if config.mounting is not None:
        sensor = sensor.model_copy(update={'height': float(rng.uniform(*config.mounting))})
    lift = sensor.height - reference
    roll, pitch = (math.radians(rng.uniform(*span)) for span in (config.roll, config.pitch))
    changed = {
        'height': sensor.height + rng.uniform(*config.height),
        'num_columns': max(1, round(sensor.num_columns * rng.uniform(*config.columns))),
        'range_noise': sensor.range_noise * rng.uniform(*config.range_noise),
        'dropout': min(1.0, sensor.dropout + rng.uniform(*config.dropout)),
        'beams': _every(int(rng.choice(config.beam_steps)), sensor),
    }
    drawn = sensor.model_copy(update=changed)
    deviation = math.radians(rng.uniform(*config.beam_noise))
    offsets = rng.normal(0, deviation, len(beam_elevations(drawn))) if deviation else None
    speed, turn_rate = rng.uniform(*config.speed), math.radians(rng.uniform(*config.turn_rate))
    motion = Motion(np.array([speed, 0.0, 0.0]), turn_rate, 1 / sensor.rate)
    curves, weights = list(config.intensity), np.array(list(config.intensity.values()))
    return Conditions(
        sensor=drawn,
        preset=preset,
        lift=lift,
        roll=roll,
        pitch=pitch,
        elevation_offsets=offsets,
        motion=motion if speed or turn_rate else None,
        curve=str(rng.choice(curves, p=weights / weights.sum())),
        curve_number=float(rng.random()),
    )


def _every(step: int, sensor: SensorConfig) -> tuple[tuple[float, float, int], ...]:
    """The blocks of every n-th beam; a rosette keeps its limits."""
    if step == 1 or sensor.pattern == 'rosette':
        return sensor.beams
    kept = np.degrees(beam_elevations(sensor))[::step]
    return tuple((float(value), float(value), 1) for value in kept)
