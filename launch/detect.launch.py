# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detector, with a bag player and RViz on request.

ros2 launch pointdistiller_ros detect.launch.py bundle:=student points:=/velodyne_points rviz:=true
ros2 launch pointdistiller_ros detect.launch.py bundle:=student bag:=drive rviz:=true
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'pointdistiller_ros'
SHARE = FindPackageShare(PACKAGE)


BAG, POINTS = LaunchConfiguration('bag'), LaunchConfiguration('points')


def text(value) -> ParameterValue:
    """A parameter that stays text even where it looks like a number."""
    return ParameterValue(value, value_type=str)


def use_sim_time() -> dict[str, ParameterValue]:
    """The parameter that every node has."""
    return {'use_sim_time': ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)}


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    return LaunchDescription([*declare_arguments(), detector(), bag_player(), rviz()])


def detector() -> Node:
    """The node that detects."""
    # Big clouds between processes get lost where nobody asks for them again.
    reliability = PythonExpression(["'reliable' if '", BAG, "' else 'best_effort'"])
    return Node(
        package=PACKAGE,
        executable='detector_node',
        name='detector',
        output='screen',
        remappings=[('points', POINTS)],
        parameters=[
            LaunchConfiguration('params'),
            {'bundle': text(LaunchConfiguration('bundle')), 'reliability': text(reliability)},
            use_sim_time(),
        ],
    )


def bag_player() -> Node:
    """The node that plays a bag, where one is given."""
    acknowledgment = PythonExpression(
        ["'/detector/boxes' if '", LaunchConfiguration('lockstep'), "' == 'true' else ''"]
    )
    return Node(
        package=PACKAGE,
        executable='bag_player_node',
        name='bag_player',
        output='screen',
        condition=IfCondition(PythonExpression(["'", BAG, "' != ''"])),
        parameters=[
            {'bag': text(BAG), 'topic': text(POINTS), 'acknowledgment': text(acknowledgment)}
        ],
    )


def rviz() -> Node:
    """RViz, on request."""
    config = PathJoinSubstitution([SHARE, 'config', 'rviz', 'detect.rviz'])
    return Node(
        package='rviz2',
        executable='rviz2',
        condition=IfCondition(LaunchConfiguration('rviz')),
        remappings=[('/points', POINTS)],
        arguments=['-d', config, '-f', LaunchConfiguration('frame')],
        parameters=[use_sim_time()],
    )


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
