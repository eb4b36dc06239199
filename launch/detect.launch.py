# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detector, with a bag player and RViz on request.

ros2 launch pointdistiller_ros detect.launch.py points:=/velodyne_points rviz:=true
ros2 launch pointdistiller_ros detect.launch.py bundle:=student bag:=drive rviz:=true
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch_ros.actions import Node

from pointdistiller_ros.launching import (
    bag_player,
    consumer,
    describe,
    given,
    given_bool,
    given_topics,
)


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    return describe(
        'detector',
        start,
        {
            'bundle': (
                '',
                'bundle, run folder that holds one, or a shipped name; empty: lidar_4x',
            ),
            'points': (
                'points',
                'PointCloud2 topic to detect in, of the bag the one to play; several, which are '
                'merged, with commas between them',
            ),
            'bag': ('', 'bag to play, reliably; empty plays none'),
            'lockstep': ('false', 'play the bag as fast as the detector, dropping nothing'),
        },
    )


def start(context: LaunchContext) -> list[Node]:
    """The nodes, for what stands on the command line."""
    bag, points = given(context, 'bag'), given_topics(context, 'points')
    lockstep = given_bool(context, 'lockstep')
    nodes = [consumer(context, 'detector', ['bundle'], bag=bag, points=points, remappings={})]
    if bag:
        nodes.append(bag_player(context, bag, points, results='boxes', lockstep=lockstep))
    return nodes
