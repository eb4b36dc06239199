# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A Kalman filter of constant velocity for many objects at once, and its smoother.

The noise is the same along x and y, so both share one covariance of position and velocity: three
numbers for each object instead of a matrix of four by four.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import TrackingConfig

if TYPE_CHECKING:
    Array = NDArray[np.floating[Any]]


class Covariance(NamedTuple):
    """Of position [m] and velocity [m/s] along one axis; each (T,)."""

    position: Array
    both: Array
    velocity: Array


@dataclass(frozen=True)
class Motion:
    """Where T objects are, and how they move.

    Attributes:
        position: (T, 2) x, y [m].
        velocity: (T, 2) [m/s].
        covariance: of each.
    """

    position: Array
    velocity: Array
    covariance: Covariance

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, keep: NDArray[np.generic]) -> Motion:
        covariance = Covariance(*(part[keep] for part in self.covariance))
        return Motion(self.position[keep], self.velocity[keep], covariance)

    @classmethod
    def begin(
        cls, position: Array, config: TrackingConfig, velocity: Array | None = None
    ) -> Motion:
        """Objects seen once, at (T, 2).

        Args:
            position: of each [m].
            config: the noise.
            velocity: (T, 2) that the detector gives [m/s], NaN if not known; None without any.
        """
        ones = np.ones(len(position))
        if velocity is None:
            velocity = np.full_like(position, np.nan)
        known = np.asarray(np.isfinite(velocity).all(axis=1))
        spread = np.where(known, config.velocity_noise, config.initial_speed)
        covariance = Covariance(ones * config.position_noise**2, 0 * ones, spread**2)
        return cls(position, np.where(known[:, None], velocity, 0.0), covariance)

    @classmethod
    def joined(cls, first: Motion, second: Motion) -> Motion:
        """The objects of both."""
        pairs = zip(first.covariance, second.covariance, strict=True)
        return cls(
            np.concatenate([first.position, second.position]),
            np.concatenate([first.velocity, second.velocity]),
            Covariance(*(np.concatenate(pair) for pair in pairs)),
        )

    def predict(self, seconds: float, config: TrackingConfig) -> Motion:
        """The same objects later, after a random acceleration."""
        variance = config.acceleration**2
        position, both, velocity = self.covariance
        return Motion(
            self.position + seconds * self.velocity,
            self.velocity,
            Covariance(
                position + seconds * (2 * both + seconds * velocity) + variance * seconds**4 / 4,
                both + seconds * velocity + variance * seconds**3 / 2,
                velocity + variance * seconds**2,
            ),
        )

    def correct(self, seen: Array, config: TrackingConfig) -> Motion:
        """The same objects, seen at (T, 2)."""
        position, both, velocity = self.covariance
        spread = position + config.position_noise**2
        gain, velocity_gain = position / spread, both / spread
        missed = seen - self.position
        return Motion(
            self.position + gain[:, None] * missed,
            self.velocity + velocity_gain[:, None] * missed,
            Covariance((1 - gain) * position, (1 - gain) * both, velocity - velocity_gain * both),
        )


def smooth(seen: Array, times: Array, config: TrackingConfig) -> tuple[Array, Array]:
    """Where an object was, by all observations before and after (Rauch, Tung, Striebel).

    Args:
        seen: (n, 2) x, y [m]; NaN if it was not seen, but not in the first row.
        times: (n,) [s], ascending.
        config: the noise.

    Returns:
        (n, 2) positions [m] and (n, 2) velocities [m/s].
    """
    states = [Motion.begin(seen[:1], config)]
    predictions = states[:]
    for place, seconds in zip(seen[1:], np.diff(times), strict=True):
        prediction = states[-1].predict(float(seconds), config)
        predictions.append(prediction)
        found = bool(np.isfinite(place).all())
        states.append(prediction.correct(place[None], config) if found else prediction)
    position, velocity = states[-1].position[0], states[-1].velocity[0]
    smoothed = [(position, velocity)]
    for index in range(len(seen) - 2, -1, -1):
        state, prediction = states[index], predictions[index + 1]
        gain = _smoother_gain(state, prediction, float(times[index + 1] - times[index]))
        ahead = np.stack([position - prediction.position[0], velocity - prediction.velocity[0]])
        back = gain @ ahead
        position, velocity = state.position[0] + back[0], state.velocity[0] + back[1]
        smoothed.append((position, velocity))
    positions, velocities = zip(*reversed(smoothed), strict=True)
    return np.stack(positions), np.stack(velocities)


def _smoother_gain(state: Motion, prediction: Motion, seconds: float) -> Array:
    """(2, 2) gain by which a later correction moves an earlier position and velocity."""
    own, later = (_matrix(each.covariance) for each in (state, prediction))
    step = np.array([[1.0, seconds], [0.0, 1.0]])
    gain: Array = np.linalg.solve(later, step @ own).T
    return gain


def _matrix(covariance: Covariance) -> Array:
    position, both, velocity = (float(part[0]) for part in covariance)
    return np.array([[position, both], [both, velocity]])
