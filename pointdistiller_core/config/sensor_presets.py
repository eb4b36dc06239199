# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sensors by name, as their makers' data sheets describe them, at 10 turns per second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Elevations [deg] that no few even blocks describe.
VLP_32C = (
    *(15.0, 10.333, 7.0, 4.667, 3.333, 2.333, 1.667, 1.333, 1.0, 0.667, 0.333, 0.0, -0.333),
    *(-0.667, -1.0, -1.333, -1.667, -2.0, -2.333, -2.667, -3.0, -3.333, -3.667, -4.0, -4.667),
    *(-5.333, -6.148, -7.254, -8.843, -11.31, -15.639, -25.0),
)
PANDAR64_TOP, PANDAR64_BOTTOM = (14.88, 11.03, 8.06, 5.06, 3.04), (-18.89, -24.9)


def _single(elevations: tuple[float, ...]) -> tuple[tuple[float, float, int], ...]:
    return tuple((elevation, elevation, 1) for elevation in elevations)


SENSOR_PRESETS: Mapping[str, Mapping[str, Any]] = {
    'VLP-16': {
        'beams': ((15.0, -15.0, 16),),
        'num_columns': 1800,
        'max_range': 100.0,
        'range_noise': 0.02,
    },
    'VLP-32C': {
        'beams': _single(VLP_32C),
        'num_columns': 1800,
        'max_range': 200.0,
        'range_noise': 0.02,
        'weak_range': 110.0,
    },
    'HDL-32E': {
        'beams': ((10.67, -30.67, 32),),
        'num_columns': 2170,
        'max_range': 100.0,
        'range_noise': 0.015,
    },
    'HDL-64E': {
        'beams': ((2.0, -8.33, 32), (-8.83, -24.33, 32)),
        'num_columns': 2083,
        'max_range': 80.0,
        'range_noise': 0.015,
        'ring_gain': 0.15,
        'silent_range': 56.0,
        'weak_range': 150.0,
        'dropout': 0.01,
    },
    'OS1-64': {
        'beams': ((22.5, -22.5, 64),),
        'num_columns': 1024,
        'max_range': 120.0,
        'min_range': 0.5,
        'range_noise': 0.02,
    },
    'OS1-128': {
        'beams': ((22.5, -22.5, 128),),
        'num_columns': 1024,
        'max_range': 120.0,
        'min_range': 0.5,
        'range_noise': 0.02,
    },
    'Pandar64': {
        'beams': (
            *_single(PANDAR64_TOP),
            (2.03, -5.96, 49),
            (-6.98, -13.93, 8),
            *_single(PANDAR64_BOTTOM),
        ),
        'num_columns': 1800,
        'max_range': 200.0,
        'min_range': 0.3,
        'range_noise': 0.02,
        'weak_range': 110.0,
    },
    'Mid-360': {
        'pattern': 'rosette',
        'beams': ((52.0, -7.0, 1),),
        'num_columns': 20_000,
        'max_range': 70.0,
        'min_range': 0.1,
        'range_noise': 0.02,
    },
}
