# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The launch files with `launch` itself: processes, parameters, endings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
import json
import os
from pathlib import Path
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time

from colcon_install import PACKAGE, ROOT, install
import numpy as np
import pytest
from ros_graph import listen, spin_until, stamps

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
pytest.importorskip('launch_ros', reason='needs ros2 launch (launch_ros)')

from ament_index_python import has_resource
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import PointCloud2
import torch
import yaml

from pointdistiller_core.config import DetectionConfig, PointPillarsConfig
from pointdistiller_core.deploy.bundle import BundleInfo, save_bundle
from pointdistiller_core.grid import Grid
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.models import build_detector

DETECT, COMPARE = 'detect', 'compare'  # the launch files
BUNDLES = {
    DETECT: ('bundle',),
    COMPARE: ('teacher', 'student'),
}  # their arguments that are bundles
ARGUMENTS = {
    *('points', 'bag', 'lockstep', 'namespace', 'name'),
    *('rviz', 'frame', 'use_sim_time', 'params'),
}
NUM_CLOUDS = 3
NANOSECONDS = 10**9
TIMEOUT_S = 60.0  # processes start and end slowly on a busy machine
ENDED = 'process has finished cleanly'
# What `ros2 launch` does, for machines with launch_ros and without ros2cli.
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
path, *words = sys.argv[1:]
arguments = [word.split(':=', 1) for word in words]
source = PythonLaunchDescriptionSource(path)
service = LaunchService()
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""


# Stands for RViz: subscribes to what a configuration shows.
RVIZ = """
import sys
import rclpy
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray
import yaml
rclpy.init(args=sys.argv)
node = rclpy.create_node('rviz')
_, _, file, *_ = remove_ros_args(sys.argv)
with open(file, encoding='utf-8') as text:
    displays = yaml.safe_load(text)['Visualization Manager']['Displays']
for display in displays:
    if 'Topic' in display:
        kind = MarkerArray if 'MarkerArray' in display['Class'] else PointCloud2
        node.create_subscription(kind, display['Topic']['Value'], print, 10)
try:
    rclpy.spin(node)
except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
    pass
"""


def launch_file(name: str) -> Path:
    return ROOT / 'launch' / f'{name}.launch.py'


@pytest.fixture(scope='module')
def prefix(tmp_path_factory) -> Path:
    """What launch needs of an installation; the executables run the code under test."""
    base = tmp_path_factory.mktemp('prefix')
    marker = base / 'share' / 'ament_index' / 'resource_index' / 'packages' / PACKAGE
    marker.parent.mkdir(parents=True)
    marker.touch()
    for folder in ('config', 'launch'):
        shutil.copytree(ROOT / folder, base / 'share' / PACKAGE / folder)
    (base / 'lib' / PACKAGE).mkdir(parents=True)
    for name in ('detector_node', 'comparison_node', 'bag_player_node'):
        script = base / 'lib' / PACKAGE / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m {PACKAGE}.{name} "$@"\n')
        script.chmod(0o755)
    return base


@pytest.fixture(scope='module')
def bundle(tmp_path_factory) -> Path:
    """A randomly initialized detector with coarse pillars."""
    torch.manual_seed(0)
    config = PointPillarsConfig(
        width=0.25,
        grid=Grid(
            point_cloud_range=(0.0, -20.48, -3.0, 40.96, 20.48, 1.0),
            voxel_size=(0.64, 0.64, 4.0),
        ),
        detection=DetectionConfig(score_threshold=0.0, max_detections=20),
    )
    folder = tmp_path_factory.mktemp('bundles') / "driver's bundle"
    save_bundle(folder, build_detector(config), BundleInfo(model=config))
    return folder


def joined(*folders: Path | str) -> str:
    """A search path."""
    return os.pathsep.join(str(folder) for folder in folders if folder)


class Launched:
    """A launch file that runs, in a process group as in a terminal."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self._log = folder / 'launch.log'
        with self._log.open('w', encoding='utf-8') as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding='utf-8')

    def wait_for(self, said: str) -> None:
        end = time.monotonic() + TIMEOUT_S
        while said not in self.log:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.05)

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        os.killpg(self._process.pid, signal.SIGINT)

    def wait(self) -> int:
        return self._process.wait(TIMEOUT_S)

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture(scope='module')
def rviz(tmp_path_factory) -> Path:
    """An installation of what stands for RViz."""
    base = tmp_path_factory.mktemp('rviz')
    marker = base / 'share' / 'ament_index' / 'resource_index' / 'packages' / 'rviz2'
    marker.parent.mkdir(parents=True)
    marker.touch()
    script = base / 'lib' / 'rviz2' / 'rviz2'
    script.parent.mkdir(parents=True)
    script.write_text(f'#!{sys.executable}\n{RVIZ}', encoding='utf-8')
    script.chmod(0o755)
    return base


@pytest.fixture
def launch(prefix, tmp_path) -> Iterator[Callable[..., Launched]]:
    """Starts a launch file with arguments; it has ended when the test ends."""
    started: list[Launched] = []

    def run(file: str, /, **arguments: object) -> Launched:
        environment = os.environ | {
            'AMENT_PREFIX_PATH': joined(prefix, os.environ.get('AMENT_PREFIX_PATH', '')),
            'PYTHONPATH': joined(ROOT, os.environ.get('PYTHONPATH', '')),
            'ROS_LOG_DIR': str(tmp_path / 'ros_log'),
            'OMP_NUM_THREADS': '1',
        }
        words = [f'{key}:={value}' for key, value in arguments.items()]
        command = [sys.executable, '-c', LAUNCH, str(launch_file(file)), *words]
        started.append(Launched(command, environment, tmp_path))
        return started[-1]

    yield run
    for running in started:
        running.kill()


def write_bag(
    folder: Path,
    topic: str,
    *,
    num_points: int = 200,
    truth: str = '',
    period_ns: int = NANOSECONDS,
) -> Path:
    """Clouds, and where a topic is given for them, a labelled car for each."""
    points = np.random.default_rng(0).uniform(0, 1, (num_points, 4)).astype(np.float32)
    car = {'dx': 4.0, 'dy': 1.6, 'dz': 1.5, 'yaw': 0.5, 'score': 1.0}
    columns = {name: np.full(1, value, np.float32) for name, value in car.items()}
    columns['label'] = np.zeros(1, np.int32)
    with CloudBagWriter(folder) as bag:
        for stamp in range(period_ns, (NUM_CLOUDS + 1) * period_ns, period_ns):
            bag.write(topic, stamp, 'lidar', points)
            if truth:
                bag.write(truth, stamp, 'lidar', points[:1, :3], columns)
    return folder


def num_results(diagnostics: DiagnosticArray) -> int:
    values = {pair.key: pair.value for pair in diagnostics.status[0].values}
    return int(values['clouds_results'])


def parameters_of(session, node_name: str, *names: str) -> list:
    asking = session.add(partial(Node, 'asking'))
    client = asking.create_client(GetParameters, f'{node_name}/get_parameters')
    spin_until(session, client.service_is_ready)
    answer = client.call_async(GetParameters.Request(names=names))
    spin_until(session, answer.done)
    return [parameter_value_to_python(value) for value in answer.result().values]


@pytest.mark.parametrize(
    ('file', 'more'),
    [(DETECT, set()), (COMPARE, {'ground_truth', 'ground_truth_type', 'output'})],
)
def test_arguments_are_described(file, more):
    description = runpy.run_path(str(launch_file(file)))['generate_launch_description']()
    arguments = {argument.name: argument for argument in description.get_launch_arguments()}
    assert set(arguments) == {*BUNDLES[file], *ARGUMENTS, *more}
    assert all(argument.description for argument in arguments.values())
    assert all(argument.default_value is not None for argument in arguments.values())


def test_without_a_bundle_the_shipped_one_runs(launch):
    running = launch(DETECT, points='/points')
    running.wait_for('loaded lidar_4x into')
    running.interrupt()
    assert running.wait() == 0
    assert 'Traceback' not in running.log


@pytest.mark.parametrize(
    ('bag_name', 'points', 'lockstep'),
    [("the 'best' drive", '/lidar/points', 'True'), ('2024', 'lidar/points', 'false')],
)
def test_bag_is_played_and_every_process_ends(
    session, launch, bundle, tmp_path, bag_name, points, lockstep
):
    write_bag(tmp_path / bag_name, '/lidar/points')
    # Not the boxes, which may be out before a busy machine knows that somebody listens.
    diagnostics = listen(session, DiagnosticArray, '/diagnostics')
    running = launch(DETECT, bundle=bundle, bag=bag_name, points=points, lockstep=lockstep)
    spin_until(session, lambda: diagnostics and num_results(diagnostics[-1]) == NUM_CLOUDS)
    reliability, given = parameters_of(session, '/detector', 'reliability', 'bundle')
    assert (reliability, given) == ('reliable', str(bundle))
    spin_until(session, lambda: running.log.count(ENDED) == 1)
    assert f'played {NUM_CLOUDS} clouds on /lidar/points' in running.log
    running.interrupt()
    assert running.wait() == 0
    assert running.log.count(ENDED) == 2
    assert 'Traceback' not in running.log


def test_a_bag_of_several_sensors_is_merged(session, launch, bundle, tmp_path):
    with CloudBagWriter(tmp_path / 'two') as writer:
        for index, topic in product(range(NUM_CLOUDS), ('/front', '/rear')):
            writer.write(topic, (index + 1) * 10**9, 'base', np.ones((50, 4), np.float32))
    diagnostics = listen(session, DiagnosticArray, '/diagnostics')
    running = launch(DETECT, bundle=bundle, bag='two', points='/front, rear', lockstep='true')
    spin_until(session, lambda: diagnostics and num_results(diagnostics[-1]) == NUM_CLOUDS)
    (found,) = parameters_of(session, '/detector', 'points')
    assert list(found) == ['/front', '/rear']
    values = {pair.key: pair.value for pair in diagnostics[-1].status[0].values}
    assert (values['points'], values['sensors./rear.missing']) == ('100', '0')
    spin_until(session, lambda: running.log.count(ENDED) == 1)
    running.interrupt()
    assert running.wait() == 0
    assert 'Traceback' not in running.log


@pytest.mark.parametrize('names', [{}, {'namespace': 'front', 'name': 'lidar_node'}])
def test_bag_with_ground_truth_is_compared_to_its_end(launch, bundle, tmp_path, names):
    bag, truth = tmp_path / "driver's bag", '/labels/boxes'
    write_bag(bag, '/lidar/points', truth=truth, period_ns=10**6)  # faster than anyone detects
    topics = {'points': 'lidar/points', 'ground_truth': 'labels/boxes'}
    bundles = dict.fromkeys(BUNDLES[COMPARE], bundle)
    running = launch(COMPARE, **bundles, **topics, **names, bag=bag.name, output='my report')
    assert running.wait() == 0
    assert running.log.count(ENDED) == 2
    assert 'Traceback' not in running.log
    report = tmp_path / 'my report'
    summary = json.loads((report / 'comparison.json').read_text(encoding='utf-8'))
    counts = summary['clouds']
    assert summary['complete']
    assert counts['received'] == counts['compared'] == counts['with_truth'] == NUM_CLOUDS
    assert summary['ground_truth']['teacher']['num_reference'] == NUM_CLOUDS
    assert summary['settings']['reliability'] == 'reliable'
    assert (report / 'comparison.html').is_file()


@pytest.mark.parametrize(
    ('file', 'node', 'given'),
    [
        (DETECT, 'detector', {'max_detections': 7, 'reliability': 'reliable'}),
        (COMPARE, 'comparison', {'min_iou': 0.25, 'mounting.pitch': 0.5}),
    ],
)
def test_parameters_from_a_file(session, launch, bundle, tmp_path, file, node, given):
    params = tmp_path / 'my parameters.yaml'
    params.write_text(yaml.safe_dump({node: {'ros__parameters': given}}), encoding='utf-8')
    bundles = dict.fromkeys(BUNDLES[file], bundle)
    running = launch(file, **bundles, params=params, use_sim_time='true', points='front/points')
    found = parameters_of(session, f'/{node}', *given, 'use_sim_time')
    assert found == [*given.values(), True]
    observer = session.add(partial(Node, 'observer'))
    spin_until(session, lambda: observer.count_subscribers('/front/points') == 1)
    running.interrupt()
    assert running.wait() == 0
    assert ENDED in running.log


def test_big_clouds_of_a_bag_reach_whoever_does_not_ask_again(session, launch, bundle, tmp_path):
    """As RViz does. Without room in shared memory, best effort loses nearly all of them."""
    period = 2  # [s]; the first may go before player and listener know each other
    bag = write_bag(
        tmp_path / 'drive', '/points', num_points=120_000, period_ns=period * NANOSECONDS
    )
    clouds = listen(session, PointCloud2, '/points', qos_profile_sensor_data)
    launch(DETECT, bundle=bundle, bag=bag)
    sent = [period * (index + 1) for index in range(NUM_CLOUDS)]
    spin_until(session, lambda: clouds and stamps(clouds)[-1] == sent[-1])
    assert stamps(clouds) == sent[-len(clouds) :]


@pytest.mark.parametrize(
    ('file', 'wrong', 'named'),
    [
        (DETECT, {'bundle': '2024'}, '2024: no such folder'),
        (DETECT, {'bag': 'absent'}, 'absent: no such bag'),
        (DETECT, {'points': '/other'}, '/other'),
        (COMPARE, {'teacher': '2024'}, '2024: no such folder'),
        (COMPARE, {'bag': 'absent'}, 'absent: no such bag'),
    ],
)
def test_node_that_cannot_start_ends_the_others(launch, bundle, tmp_path, file, wrong, named):
    bag = write_bag(tmp_path / 'drive', '/points')
    running = launch(file, **dict.fromkeys(BUNDLES[file], bundle) | {'bag': bag} | wrong)
    assert running.wait() == 1
    assert named in running.log
    assert 'ended with exit code 2' in running.log
    assert 'shutting down launched system' in running.log
    assert 'Traceback' not in running.log


@pytest.mark.parametrize(
    ('file', 'shown'),
    [
        (DETECT, ['markers', 'importance', 'importance_markers', 'track_markers']),
        (COMPARE, ['markers']),
    ],
)
def test_namespace_and_name_hold_for_rviz_too(
    session, launch, bundle, rviz, monkeypatch, file, shown
):
    installed = joined(rviz, os.environ.get('AMENT_PREFIX_PATH', ''))
    monkeypatch.setenv('AMENT_PREFIX_PATH', installed)
    bundles = dict.fromkeys(BUNDLES[file], bundle)
    names = {'namespace': 'front', 'name': 'lidar_node', 'points': 'cloud'}
    running = launch(file, **bundles, **names, rviz='true')
    observer = session.add(partial(Node, 'observer'))
    for topic in shown:
        name = f'/front/lidar_node/{topic}'
        spin_until(session, lambda name=name: observer.count_subscribers(name) == 1)
        spin_until(session, lambda name=name: observer.count_publishers(name) == 1)
    spin_until(session, lambda: observer.count_subscribers('/front/cloud') == 2)
    running.interrupt()
    assert running.wait() == 0


def test_bag_is_played_to_a_node_with_another_name(session, launch, bundle, tmp_path):
    bag = write_bag(tmp_path / 'drive', '/points')
    boxes = listen(session, PointCloud2, '/front/lidar_node/boxes')
    names = {'namespace': 'front', 'name': 'lidar_node'}
    launch(DETECT, bundle=bundle, bag=bag, lockstep='true', **names)
    spin_until(session, lambda: boxes and boxes[-1].header.stamp.sec == NUM_CLOUDS)


@pytest.mark.parametrize('file', [DETECT, COMPARE])
def test_rviz_that_is_not_installed_starts_nothing(launch, bundle, file):
    if has_resource('packages', 'rviz2'):
        pytest.skip('rviz2 is installed')
    running = launch(file, **dict.fromkeys(BUNDLES[file], bundle), rviz='true')
    assert running.wait() == 1
    assert 'rviz2 is not installed' in running.log
    assert 'process started' not in running.log


@pytest.mark.parametrize(
    ('given', 'warns'),
    [('', False), ('UDPv4', True), ('LARGE_DATA', False), ('LARGE_DATA?max_msg_size=1MB', False)],
)
def test_other_transports_for_clouds_are_said(launch, monkeypatch, given, warns):
    monkeypatch.setenv('FASTDDS_BUILTIN_TRANSPORTS', given)
    running = launch(DETECT, bundle='absent')
    running.wait()
    assert 'absent: no such folder' in running.log
    assert (f'FASTDDS_BUILTIN_TRANSPORTS={given} holds' in running.log) == warns
    assert 'deprecated' not in running.log


def test_colcon_install_starts(tmp_path, bundle):
    """In a new shell: source the workspace, launch, Ctrl-C."""
    installed = install(tmp_path / 'workspace')
    file = f'{installed / PACKAGE}/share/{PACKAGE}/launch/detect.launch.py'
    words = ['ros2', 'launch', PACKAGE, 'detect.launch.py']
    if shutil.which('ros2') is None:
        words = [sys.executable, '-c', LAUNCH, file]
    words = shlex.join([*words, f'bundle:={bundle}', 'points:=/velodyne_points'])
    environment = os.environ | {
        'PATH': joined(Path(sys.executable).parent, os.environ['PATH']),
        'ROS_LOG_DIR': str(tmp_path / 'ros_log'),
        'OMP_NUM_THREADS': '1',
    }
    command = ['bash', '-c', f'source {installed / "setup.bash"} && exec {words}']
    running = Launched(command, environment, tmp_path)
    try:
        running.wait_for('in clouds on /velodyne_points')
        running.interrupt()
        assert running.wait() == 0
    finally:
        running.kill()
    assert ENDED in running.log
    assert 'Traceback' not in running.log


@pytest.mark.parametrize('file', [DETECT, COMPARE])
def test_lockstep_that_is_neither_true_nor_false(launch, bundle, file):
    bundles = dict.fromkeys(BUNDLES[file], bundle)
    running = launch(file, **bundles, bag='drive', lockstep='maybe')
    assert running.wait() == 1
    assert "got 'maybe'" in running.log
