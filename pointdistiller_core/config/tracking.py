# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How detections of successive sweeps become tracks."""

from __future__ import annotations

from pydantic import Field

from pointdistiller_core.config.base import Config, Count, Positive, Probability


class TrackingConfig(Config):
    """A Kalman filter of constant velocity for each object, seen from above."""

    birth_score: Probability = Field(0.4, description='from which a detection begins a track')
    min_score: Probability = Field(0.1, description='from which a detection goes on with one')
    min_hits: Count = Field(3, description='detections that make a track worth showing')
    max_gap_s: Positive = Field(0.5, description='time without a detection that ends a track [s]')
    position_noise: Positive = Field(0.3, description='of the centers, standard deviation [m]')
    acceleration: Positive = Field(3.0, description='of objects, standard deviation [m/s^2]')
    initial_speed: Positive = Field(8.0, description='of new objects, standard deviation [m/s]')
    velocity_noise: Positive = Field(
        2.0, description='of velocities that the detector gives, standard deviation [m/s]'
    )
    gate: Positive = Field(3.5, description='standard deviations within which a detection fits')
    max_step: Positive = Field(4.0, description='distance of the prediction that never fits [m]')
