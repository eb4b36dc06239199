# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Teacher beside student, with a bag player and RViz on request.

ros2 launch pointdistiller_ros compare.launch.py teacher:=teacher student:=student \
    points:=/velodyne_points rviz:=true
ros2 launch pointdistiller_ros compare.launch.py teacher:=teacher student:=student \
    bag:=drive output:=report
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'pointdistiller_ros'
SHARE = FindPackageShare(PACKAGE)
BAG, POINTS = LaunchConfiguration('bag'), LaunchConfiguration('points')
GROUND_TRUTH = LaunchConfiguration('ground_truth')
REPORT_TIMEOUT = '60'  # [s] that the report may take before the node is terminated


def text(value) -> ParameterValue:
    """A parameter that stays text even where it looks like a number."""
    return ParameterValue(value, value_type=str)


def use_sim_time() -> dict[str, ParameterValue]:
    """The parameter that every node has."""
    return {'use_sim_time': ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)}


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    player = bag_player()
    # The report is written when the node ends: at the end of the bag.
    end = OnProcessExit(target_action=player, on_exit=[EmitEvent(event=Shutdown())])
    return LaunchDescription(
        [
            *declare_arguments(),
            comparison(),
            player,
            RegisterEventHandler(end),
            rviz(),
        ]
    )


def comparison() -> Node:
    """The node that compares."""
    # Big clouds between processes get lost where nobody asks for them again.
    reliability = PythonExpression(["'reliable' if '", BAG, "' else 'best_effort'"])
    truth_type = PythonExpression(
        ["'", LaunchConfiguration('ground_truth_type'), "' if '", GROUND_TRUTH, "' else 'none'"]
    )
    # An empty name cannot be remapped to.
    truth_topic = PythonExpression(["'", GROUND_TRUTH, "' or 'ground_truth'"])
    names = ('teacher', 'student', 'output')
    return Node(
        package=PACKAGE,
        executable='comparison_node',
        name='comparison',
        output='screen',
        remappings=[('points', POINTS), ('ground_truth', truth_topic)],
        parameters=[
            LaunchConfiguration('params'),
            {name: text(LaunchConfiguration(name)) for name in names},
            {'reliability': text(reliability), 'ground_truth_type': text(truth_type)},
            use_sim_time(),
        ],
        sigterm_timeout=REPORT_TIMEOUT,
    )


def bag_player() -> Node:
    """The node that plays clouds and ground truth of a bag, where one is given."""
    acknowledgment = PythonExpression(
        [
            *("'/comparison/student/boxes' if '", LaunchConfiguration('lockstep')),
            "' == 'true' else ''",
        ]
    )
    return Node(
        package=PACKAGE,
        executable='bag_player_node',
        name='bag_player',
        output='screen',
        condition=IfCondition(PythonExpression(["'", BAG, "' != ''"])),
        parameters=[
            {'bag': text(BAG), 'topic': text(POINTS), 'acknowledgment': text(acknowledgment)},
            # One text that YAML reads as a list; an empty name in it is none.
            {'extra_topics': ["['/tf', '/tf_static', '", GROUND_TRUTH, "']"]},
        ],
    )


def rviz() -> Node:
    """RViz, on request."""
    config = PathJoinSubstitution([SHARE, 'config', 'rviz', 'compare.rviz'])
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
