# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Teacher beside student, with a bag player and RViz on request.

ros2 launch pointdistiller_ros compare.launch.py points:=/velodyne_points rviz:=true
ros2 launch pointdistiller_ros compare.launch.py teacher:=teacher student:=student \
    bag:=drive output:=report
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch_ros.actions import Node

from pointdistiller_ros.launching import (
    bag_player,
    consumer,
    describe,
    end_with_bag,
    given,
    given_bool,
    given_topic,
    given_topics,
    text,
)

TF_TOPICS = ['/tf', '/tf_static']
REPORT_TIMEOUT = '60'  # [s] that the report may take before the node is terminated


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    return describe(
        'comparison',
        start,
        {
            'teacher': (
                '',
                'bundle, run folder that holds one, or a shipped name; empty: lidar_teacher',
            ),
            'student': (
                '',
                'bundle, run folder that holds one, or a shipped name; empty: lidar_4x',
            ),
            'points': (
                'points',
                'PointCloud2 topic to compare on, of the bag the one to play; several, which are '
                'merged, with commas between them',
            ),
            'bag': ('', 'bag to play, reliably; at its end everything ends; empty plays none'),
            'lockstep': ('true', 'play the bag as fast as both detect, dropping nothing'),
            'ground_truth': ('', 'topic with labelled boxes, live or of the bag; empty: none'),
            'ground_truth_type': (
                'boxes',
                'boxes (PointCloud2, also of a bag) or detections (vision_msgs/Detection3DArray)',
            ),
            'output': ('', 'folder to create for the report; empty writes none'),
        },
    )


def start(context: LaunchContext) -> list[Node]:
    """The nodes, for what stands on the command line."""
    bag = given(context, 'bag')
    points, truth = given_topics(context, 'points'), given_topic(context, 'ground_truth')
    lockstep = given_bool(context, 'lockstep')
    nodes = [
        consumer(
            context,
            'comparison',
            ['teacher', 'student', 'output'],
            bag=bag,
            points=points,
            # an empty name cannot be remapped to
            remappings={'ground_truth': truth or 'ground_truth'},
            parameters={'ground_truth_type': text(given(context, 'ground_truth_type'))}
            if truth
            else {},
            sigterm_timeout=REPORT_TIMEOUT,
        )
    ]
    if bag:
        player = bag_player(
            context,
            bag,
            points,
            results='student/boxes',
            lockstep=lockstep,
            on_exit=end_with_bag,
            extra_topics=[*TF_TOPICS, truth] if truth else TF_TOPICS,
        )
        nodes.append(player)
    return nodes
