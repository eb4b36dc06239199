# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detector, with a bag player and RViz on request.

ros2 launch pointdistiller_ros detect.launch.py bundle:=student points:=/velodyne_points rviz:=true
ros2 launch pointdistiller_ros detect.launch.py bundle:=student bag:=drive rviz:=true
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
    bag, points = (LaunchConfiguration(name).perform(context) for name in ('bag', 'points'))
    lockstep = evaluate_condition_expression(context, [LaunchConfiguration('lockstep')])
    nodes = [detector(points, reliable=bool(bag))]
    return [*nodes, bag_player(bag, points, lockstep=lockstep)] if bag else nodes


def detector(points: str, *, reliable: bool) -> Node:
    """The node that detects."""
    # Big clouds between processes get lost where nobody asks for them again.
    quality = {'reliability': 'reliable'} if reliable else {}
    return Node(
        package=PACKAGE,
        executable='detector_node',
        name='detector',
        output='screen',
        remappings=[('points', points)],
        parameters=[
            LaunchConfiguration('params'),
            {'bundle': text(LaunchConfiguration('bundle')), **quality},
            use_sim_time(),
        ],
        additional_env=shared_memory(),
        on_exit=end_after_failure,
    )


def bag_player(bag: str, points: str, *, lockstep: bool) -> Node:
    """The node that plays a bag."""
    return Node(
        package=PACKAGE,
        executable='bag_player_node',
        name='bag_player',
        output='screen',
        parameters=[
            {
                'bag': text(bag),
                'topic': text('/' + points.lstrip('/')),  # topics of a bag are full names
                'acknowledgment': 'detector/boxes' if lockstep else '',
            }
        ],
        additional_env=shared_memory(),
        on_exit=end_after_failure,
    )


def rviz() -> Node:
    """RViz, on request."""
    config = PathJoinSubstitution([SHARE, 'config', 'rviz', 'detect.rviz'])
    return Node(
        package='rviz2',
        executable='rviz2',
        condition=IfCondition(LaunchConfiguration('rviz')),
        remappings=[('/points', LaunchConfiguration('points'))],
        arguments=['-d', config, '-f', LaunchConfiguration('frame')],
        parameters=[use_sim_time()],
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


def declare_arguments() -> list[DeclareLaunchArgument]:
    """What may stand on the command line."""
    params = PathJoinSubstitution([SHARE, 'config', 'nodes', 'detector.yaml'])
    described = {  # name: default value, description
        'points': ('/points', 'PointCloud2 topic to detect in; of the bag, the one to play'),
        'bag': ('', 'bag to play, reliably; empty plays none'),
        'lockstep': ('false', 'play the bag as fast as the detector, dropping nothing'),
        'rviz': ('false', 'show clouds and results in RViz'),
        'frame': ('velodyne', 'fixed frame of RViz: the frame of the clouds'),
        'use_sim_time': ('false', 'take the time from /clock, which the bag player sends'),
        'params': (params, 'parameters of the detector'),
    }
    return [
        DeclareLaunchArgument('bundle', description='bundle, or run folder that holds one'),
        *(
            DeclareLaunchArgument(name, default_value=default, description=description)
            for name, (default, description) in described.items()
        ),
    ]
