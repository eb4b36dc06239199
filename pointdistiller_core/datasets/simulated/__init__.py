# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated LiDAR: labelled sweeps of composed scenes, as a KITTI folder or as a bag."""

from pointdistiller_core.datasets.simulated.drive import (
    SimulatedFrame,
    SimulatedObject,
    simulate_drive,
    simulate_scene,
)
from pointdistiller_core.datasets.simulated.writer import simulate_dataset, write_drive_bag

__all__ = [
    'SimulatedFrame',
    'SimulatedObject',
    'simulate_dataset',
    'simulate_drive',
    'simulate_scene',
    'write_drive_bag',
]
