# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated LiDAR: labelled sweeps as a KITTI folder, as a bag, or in nuScenes' format."""

from pointdistiller_core.datasets.simulated.drive import (
    SimulatedFrame,
    SimulatedObject,
    simulate_drive,
    simulate_scene,
)
from pointdistiller_core.datasets.simulated.nuscenes import simulate_nuscenes
from pointdistiller_core.datasets.simulated.writer import simulate_dataset, write_drive_bag

__all__ = [
    'SimulatedFrame',
    'SimulatedObject',
    'simulate_dataset',
    'simulate_drive',
    'simulate_nuscenes',
    'simulate_scene',
    'write_drive_bag',
]
