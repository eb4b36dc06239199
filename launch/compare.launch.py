# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Teacher beside student, with a bag player and RViz on request.

ros2 launch pointdistiller_ros compare.launch.py teacher:=teacher student:=student \
    points:=/velodyne_points rviz:=true
ros2 launch pointdistiller_ros compare.launch.py teacher:=teacher student:=student \
    bag:=drive output:=report
"""

from __future__ import annotations

import os

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.conditions import IfCondition, evaluate_condition_expression
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'pointdistiller_ros'
SHARE = FindPackageShare(PACKAGE)
TF_TOPICS = ['/tf', '/tf_static']
REPORT_TIMEOUT = '60'  # [s] that the report may take before the node is terminated
# By which Fast DDS is told its transports, up to Jazzy and since; `docs/ros.md` says why.
PROFILES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
TRANSPORTS = 'FASTDDS_BUILTIN_TRANSPORTS'


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    return LaunchDescription([*declare_arguments(), OpaqueFunction(function=start), rviz()])


def start(context: LaunchContext) -> list[Node]:
    """The nodes, for what stands on the command line.

    No Python expression is made of it, so that paths and topics may have quotes in them.
    """
    names = ('bag', 'points', 'ground_truth', 'ground_truth_type')
    bag, points, truth, kind = (LaunchConfiguration(name).perform(context) for name in names)
    lockstep = evaluate_condition_expression(context, [LaunchConfiguration('lockstep')])
    nodes = [comparison(points, truth, kind if truth else 'none', reliable=bool(bag))]
    return [*nodes, bag_player(bag, points, truth, lockstep=lockstep)] if bag else nodes


def comparison(points: str, truth: str, truth_type: str, *, reliable: bool) -> Node:
    """The node that compares."""
    # Big clouds between processes get lost where nobody asks for them again.
    quality = {'reliability': 'reliable'} if reliable else {}
    names = ('teacher', 'student', 'output')
    return Node(
        package=PACKAGE,
        executable='comparison_node',
        name='comparison',
        output='screen',
        # an empty name cannot be remapped to
        remappings=[('points', points), ('ground_truth', truth or 'ground_truth')],
        parameters=[
            LaunchConfiguration('params'),
            {name: text(LaunchConfiguration(name)) for name in names},
            {'ground_truth_type': text(truth_type), **quality},
            use_sim_time(),
        ],
        additional_env=shared_memory(),
        sigterm_timeout=REPORT_TIMEOUT,
        on_exit=end_after_failure,
    )


def bag_player(bag: str, points: str, truth: str, *, lockstep: bool) -> Node:
    """The node that plays a bag. When it ends all does: the report is written."""
    extra_topics = [*TF_TOPICS, '/' + truth.lstrip('/')] if truth else TF_TOPICS
    return Node(
        package=PACKAGE,
        executable='bag_player_node',
        name='bag_player',
        output='screen',
        parameters=[
            {
                'bag': text(bag),
                'topic': text('/' + points.lstrip('/')),  # topics of a bag are full names
                'acknowledgment': 'comparison/student/boxes' if lockstep else '',
                'extra_topics': extra_topics,
            }
        ],
        additional_env=shared_memory(),
        on_exit=Shutdown(reason='the bag is over'),
    )


def shared_memory() -> dict[str, PathJoinSubstitution]:
    """Room in shared memory for the clouds that a node sends; what is set outside holds."""
    if any(name in os.environ for name in (*PROFILES, TRANSPORTS)):
        return {}
    file = PathJoinSubstitution([SHARE, 'config', 'dds', 'fastdds.xml'])
    return dict.fromkeys(PROFILES, file)


def end_after_failure(event: ProcessExited, _: LaunchContext) -> Shutdown | None:
    """End the others where a node could not start or go on: they would wait in vain."""
    reason = f'{event.process_name} ended with exit code {event.returncode}'
    return Shutdown(reason=reason) if event.returncode else None


def text(value: str | LaunchConfiguration) -> ParameterValue:
    """A parameter that stays text even where it looks like a number."""
    return ParameterValue(value, value_type=str)


def use_sim_time() -> dict[str, ParameterValue]:
    """The parameter that every node has."""
    return {'use_sim_time': ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)}


def rviz() -> Node:
    """RViz, on request."""
    config = PathJoinSubstitution([SHARE, 'config', 'rviz', 'compare.rviz'])
    return Node(
        package='rviz2',
        executable='rviz2',
        condition=IfCondition(LaunchConfiguration('rviz')),
        remappings=[('/points', LaunchConfiguration('points'))],
        arguments=['-d', config, '-f', LaunchConfiguration('frame')],
        parameters=[use_sim_time()],
    )


def declare_arguments() -> list[DeclareLaunchArgument]:
    """What may stand on the command line."""
    params = PathJoinSubstitution([SHARE, 'config', 'nodes', 'comparison.yaml'])
    described = {  # name: default value, description
        'points': ('/points', 'PointCloud2 topic to compare on; of the bag, the one to play'),
        'bag': ('', 'bag to play, reliably; at its end everything ends; empty plays none'),
        'lockstep': ('true', 'play the bag as fast as both detect, dropping nothing'),
        'ground_truth': ('', 'topic with labelled boxes, live or of the bag; empty: none'),
        'ground_truth_type': (
            'boxes',
            'boxes (PointCloud2, also of a bag) or detections (vision_msgs/Detection3DArray)',
        ),
        'output': ('', 'folder to create for the report; empty writes none'),
        'rviz': ('false', 'show clouds and boxes in RViz'),
        'frame': ('velodyne', 'fixed frame of RViz: the frame of the clouds'),
        'use_sim_time': ('false', 'take the time from /clock, which the bag player sends'),
        'params': (params, 'parameters of the comparison'),
    }
    required = {
        'teacher': "teacher's bundle, or run folder that holds one",
        'student': "student's bundle, or run folder that holds one",
    }
    return [
        *(DeclareLaunchArgument(name, description=about) for name, about in required.items()),
        *(
            DeclareLaunchArgument(name, default_value=default, description=description)
            for name, (default, description) in described.items()
        ),
    ]
