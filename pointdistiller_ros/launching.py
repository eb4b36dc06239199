# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of the launch files; the only module that needs launch and launch_ros."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import os
import signal
from typing import Any

from ament_index_python import get_resource, has_resource
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.conditions import evaluate_condition_expression
from launch.events.process import ProcessExited
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'pointdistiller_ros'
# Variables that tell Fast DDS its transports; `docs/ros.md` says why. Version 3 (Kilted) still
# accepts version 2's name, with a warning; version 2 (Jazzy and before) knows no other.
PROFILES_2, PROFILES_3 = 'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'
TRANSPORTS, ROOMY = 'FASTDDS_BUILTIN_TRANSPORTS', 'LARGE_DATA'
# What RViz shows of a node: the topics of its configurations, below the name of the node.
SHOWN = ('markers', 'importance', 'importance_markers', 'track_markers')
ENDED_AS_ASKED = (0, -signal.SIGINT)  # Ctrl-C may come before a node listens to it


def describe(
    name: str,
    start: Callable[[LaunchContext], list[Node]],
    arguments: Mapping[str, tuple[str, str]],
) -> LaunchDescription:
    """Arguments, nodes and RViz.

    Args:
        name: of the node, and of the files in `config/nodes` and `config/rviz`.
        start: makes the nodes from the command line.
        arguments: default and description of each; the common ones are added.
    """
    common = {
        'namespace': ('', 'of all nodes; relative topics are in it'),
        'name': (name, 'of the node'),
        'rviz': ('false', 'show clouds and results in RViz'),
        'frame': ('velodyne', 'fixed frame of RViz: the frame of the clouds'),
        'use_sim_time': ('', 'take the time from /clock, which the bag player sends'),
        'params': (shared_file('config', 'nodes', f'{name}.yaml'), f'parameters of the {name}'),
    }
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(argument, default_value=default, description=description)
                for argument, (default, description) in {**arguments, **common}.items()
            ),
            OpaqueFunction(function=lambda context: [*start(context), *rviz(context, name)]),
        ]
    )


def given(context: LaunchContext, name: str) -> str:
    """An argument as given on the command line.

    It is not evaluated as a Python expression, so paths and topics may contain quotes.
    """
    return LaunchConfiguration(name).perform(context)


def given_bool(context: LaunchContext, name: str) -> bool:
    """An argument that is true or false."""
    return evaluate_condition_expression(context, [LaunchConfiguration(name)])


def consumer(
    context: LaunchContext,
    name: str,
    arguments: list[str],
    *,
    bag: str,
    points: Sequence[str],
    remappings: Mapping[str, str],
    **options: Any,
) -> Node:
    """A node that works on clouds.

    Args:
        context: of the launch.
        name: of the files in `config`; the executable is `NAME_node`.
        arguments: of the launch file that are parameters of the node, as text; where one is empty
            the file of parameters holds.
        bag: bag that is played; empty if the clouds come from elsewhere.
        points: topics of the clouds.
        remappings: of its other topics.
        options: `parameters`, by name, and others of a `Node`.
    """
    several = {'points': list(points)} if len(points) > 1 else {}
    names = {} if several else {'points': points[0]}
    # Big clouds between processes get lost if nobody asks for them again.
    quality = {'reliability': 'reliable'} if bag else {}
    values = {
        argument: text(value) for argument in arguments if (value := given(context, argument))
    }
    values |= {**options.pop('parameters', {}), **quality, **several, **use_sim_time(context)}
    return _node(
        context,
        f'{name}_node',
        name=given(context, 'name'),
        remappings=list({**names, **remappings}.items()),
        parameters=[LaunchConfiguration('params'), values],
        **options,
    )


def bag_player(
    context: LaunchContext,
    bag: str,
    points: Sequence[str],
    *,
    results: str,
    lockstep: bool,
    on_exit: Any = None,
    **parameters: Any,
) -> Node:
    """The node that plays a bag.

    Args:
        context: of the launch.
        bag: to play.
        points: topics of the clouds in it.
        results: topic, below the name of the node that works on the clouds; nothing is played
            without that node.
        lockstep: wait there for each cloud's result; otherwise keep the bag's time.
        on_exit: what to do at its end; None ends the others if the player failed.
        parameters: further ones.
    """
    results = f'{given(context, "name")}/{results}'
    topic = list(points) if len(points) > 1 else text(points[0])
    parameters |= {'bag': text(bag), 'topic': topic, 'wait_for': results}
    parameters['acknowledgment'] = results if lockstep else ''
    exiting = {'on_exit': on_exit} if on_exit else {}
    return _node(context, 'bag_player_node', name='bag_player', parameters=[parameters], **exiting)


def _node(context: LaunchContext, executable: str, **options: Any) -> Node:
    """A node of this package, which ends the others if it fails."""
    return Node(
        package=PACKAGE,
        executable=executable,
        namespace=given(context, 'namespace') or None,
        output='screen',
        additional_env=shared_memory(context),
        **{'on_exit': end_after_failure, **options},
    )


def given_topic(context: LaunchContext, name: str) -> str:
    """A topic of the command line, or none; topics of a bag are full names."""
    topic = given(context, name)
    return full_name(topic) if topic and given(context, 'bag') else topic


def given_topics(context: LaunchContext, name: str) -> list[str]:
    """The topic of the command line, or several: `/front,/rear` or `[/front, /rear]`."""
    topics = [topic.strip() for topic in given(context, name).strip().strip('[]').split(',')]
    found = [full_name(topic) if given(context, 'bag') else topic for topic in topics if topic]
    return found or ['']


def rviz(context: LaunchContext, name: str) -> list[Node]:
    """RViz with the configuration of a node, on request.

    Raises:
        RuntimeError: it is not installed; raised before anything starts.
    """
    if not given_bool(context, 'rviz'):
        return []
    if not has_resource('packages', 'rviz2'):
        raise RuntimeError(
            'rviz:=true, but rviz2 is not installed: install it (ros-$ROS_DISTRO-rviz2), '
            'or leave rviz out'
        )
    node = Node(
        package='rviz2',
        executable='rviz2',
        namespace=given(context, 'namespace') or None,
        # The topics of the configuration are relative.
        remappings=[
            ('points', given_topics(context, 'points')[0]),
            *((f'{name}/{topic}', f'{given(context, "name")}/{topic}') for topic in SHOWN),
        ],
        arguments=[
            '-d',
            shared_file('config', 'rviz', f'{name}.rviz'),
            '-f',
            LaunchConfiguration('frame'),
        ],
        parameters=[use_sim_time(context)],
    )
    return [node]


def shared_file(*parts: str) -> PathJoinSubstitution:
    """A file that is installed with the package."""
    return PathJoinSubstitution([FindPackageShare(PACKAGE), *parts])


def shared_memory(context: LaunchContext) -> dict[str, PathJoinSubstitution]:
    """Room in shared memory for a node's clouds; variables that are set already are kept."""
    file = shared_file('config', 'dds', 'fastdds.xml')
    read = (PROFILES_2,) if fast_dds_is_version_2() else (PROFILES_3, PROFILES_2)
    known = {name: value for name in (*read, TRANSPORTS) if (value := os.environ.get(name))}
    if not known:
        return {read[0]: file}
    path = file.perform(context)
    if path not in known.values() and not known.get(TRANSPORTS, '').startswith(ROOMY):
        said = ', '.join(f'{name}={value}' for name, value in known.items())
        get_logger(PACKAGE).warning(
            f'{said} holds, not {path}: clouds of more than 30,000 points may get lost, '
            'see docs/ros.md, Clouds between processes'
        )
    return {}


def fast_dds_is_version_2() -> bool:
    """Whether the middleware is built on version 2, whose package had another name."""
    where = ('package_run_dependencies', 'rmw_fastrtps_shared_cpp')
    return bool(has_resource(*where)) and 'fastrtps' in get_resource(*where)[0].split(';')


def end_after_failure(event: ProcessExited, _: LaunchContext) -> list[Action]:
    """End launch and the other nodes, which would wait in vain, if a node fails.

    Only an exception makes `ros2 launch` end with an exit code other than 0.
    """
    if event.returncode in ENDED_AS_ASKED:
        return []
    reason = f'{event.process_name} ended with exit code {event.returncode}'

    def fail(_: LaunchContext) -> None:
        raise RuntimeError(reason)

    return [Shutdown(reason=reason), OpaqueFunction(function=fail)]


def end_with_bag(event: ProcessExited, _: LaunchContext) -> list[Action]:
    """End everything when a bag is over, and say how it ended."""
    return end_after_failure(event, _) or [Shutdown(reason='the bag is over')]


def text(value: str | LaunchConfiguration) -> ParameterValue:
    """A parameter that stays text even if it looks like a number."""
    return ParameterValue(value, value_type=str)


def full_name(topic: str) -> str:
    """The name of a topic, with the leading slash that users may leave out."""
    return '/' + topic.lstrip('/')


def use_sim_time(context: LaunchContext) -> dict[str, bool]:
    """The parameter of every node, if the command line sets it."""
    name = 'use_sim_time'
    return {name: given_bool(context, name)} if given(context, name) else {}
