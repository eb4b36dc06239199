# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Small clouds, and files of them, made for a test."""

from __future__ import annotations

import numpy as np

# Written by another library: four points, the intensities 0, 51, 102 and 255 as uint8.
COMPRESSED_PCD = (
    b'VERSION 0.7\nFIELDS x y reflectivity z\nSIZE 4 4 1 4\nTYPE F F U F\nCOUNT 1 1 1 1\n'
    b'WIDTH 4\nHEIGHT 1\nVIEWPOINT 0.0 0.0 0.0 1.0 0.0 0.0 0.0\nPOINTS 4\n'
    b'DATA binary_compressed\n"\x00\x00\x004\x00\x00\x00\x07\x00\x00\x80?\x00\x00\x00@ \x02 \x03'
    b'\x00\x80 \x03\xe0\x06\x00\x023f\xff \x17\x00\xbf\xe0\x01\x03\x01\x80\xbf'
)


def flat_ground(num_points: int = 600) -> np.ndarray:
    """(N, 4) float32 points all around a sensor, in no order."""
    rng = np.random.default_rng(3)
    angle, distance = rng.uniform(0, 2 * np.pi, num_points), rng.uniform(3, 60, num_points)
    z = rng.normal(-1.7, 0.3, num_points)
    columns = [distance * np.cos(angle), distance * np.sin(angle), z, rng.random(num_points)]
    return np.column_stack(columns).astype(np.float32)


def with_ring_and_time(points: np.ndarray) -> np.ndarray:
    """(N, 8) of points (N, 4): also ring, time [s], and what else a driver may add."""
    ring, time = np.arange(len(points)) % 32, np.linspace(0, 0.1, len(points))
    return np.column_stack([points, ring, time, ring * 8, time * 2])
