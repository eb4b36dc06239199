# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A short recording with detections of another program, and the dataset made of it."""

from __future__ import annotations

from detection_messages import DetectionWriter, detection3d, detection3d_array
import numpy as np
from recording_bags import START, scene, transform

from pointdistiller_core.config import ConversionConfig, FolderConfig, SplitConfig
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.pipelines.bag_conversion import convert_bags

STEP = 10**8  # ns
BOX = (-10.0, 3.0, -0.5, 4.0, 1.75, 1.5, -2.5)  # behind, in `lidar`
LIDAR_ON_BASE = {'xyz': (1.0, 0.5, 1.0), 'rpy': (0.0, 0.0, np.pi / 2)}
IN_BASE = (-2.0, -9.5, 0.5, 4.0, 1.75, 1.5, -2.5 + np.pi / 2)  # the same box


def stamp(number):
    return START + number * STEP


def write_drive(path, messages, *, num_clouds=4, height=1.73, clouds=True, tf=True):
    """A lidar, turned to the left on its vehicle, which drives along x of `odom`."""
    with DetectionWriter(path) as writer:
        if tf:
            mounted = transform('base_link', 'lidar', START, **LIDAR_ON_BASE)
            writer.tf(START, [mounted], '/tf_static')
        for number in range(num_clouds):
            if tf:
                moved = transform('odom', 'base_link', stamp(number), xyz=(number, 0, 0))
                writer.tf(stamp(number), [moved])
            if clouds:
                points = scene(number, height=height, count=300)
                writer.write('/points', stamp(number), 'lidar', points)
        for time_ns, message in messages:
            writer.detections(time_ns, message)
    return path


def convert(bag, root, **settings):
    convert_bags({'a': bag}, root, ConversionConfig(**settings), SplitConfig())
    return FolderDataset(FolderConfig(root=root, split='all'), (), labelled=False)


def vision(number, box=BOX, frame='lidar', offset_ns=0, score=0.5, **options):
    time_ns = stamp(number) + offset_ns
    items = [detection3d(box, {'car': score}, **options)]
    return time_ns, detection3d_array(time_ns, frame, items)
