# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The ROS package: metadata, launch file, and what `colcon build` installs."""

from __future__ import annotations

import ast
import dataclasses
from importlib import import_module
import os
from pathlib import Path
import re
import runpy
import subprocess
import sys
from types import ModuleType
from xml.etree import ElementTree

from colcon_install import PACKAGE, ROOT, install
import pytest
import yaml

from pointdistiller_core import __version__
from pointdistiller_core.deploy.bundle_format import shipped_bundles

SCRIPTS = ROOT / 'scripts'  # executables of the nodes
LAUNCH_FILE = ROOT / 'launch' / 'detect.launch.py'
COMPARE_LAUNCH_FILE = ROOT / 'launch' / 'compare.launch.py'
LAUNCHING = 'pointdistiller_ros.launching'
LAUNCH_MODULES = (
    'ament_index_python',
    'launch',
    'launch.actions',
    'launch.conditions',
    'launch.event_handlers',
    'launch.events',
    'launch.events.process',
    'launch.logging',
    'launch.substitutions',
    'launch_ros',
    'launch_ros.actions',
    'launch_ros.parameter_descriptions',
    'launch_ros.substitutions',
)


def setup_arguments():
    """Keyword arguments of setup() that are literals."""
    tree = ast.parse((ROOT / 'setup.py').read_text(encoding='utf-8'))
    call = next(
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and 'setup' in ast.dump(n.func)
    )
    arguments = {}
    for keyword in call.keywords:
        try:
            arguments[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError:
            continue
    return arguments


def entry_points():
    return dict(
        re.split(r'\s*=\s*', line) for line in setup_arguments()['entry_points']['console_scripts']
    )


def executables():
    """What `ros2 run` finds."""
    return {path.name for path in SCRIPTS.iterdir()} | set(entry_points())


def test_version_and_maintainer_are_stated_alike():
    package, arguments = ElementTree.parse(ROOT / 'package.xml').getroot(), setup_arguments()
    assert package.get('format') == '3'
    assert package.findtext('name') == PACKAGE
    assert package.findtext('version') == arguments['version'] == __version__
    assert package.findtext('license') == arguments['license']
    assert package.find('maintainer').get('email') == arguments['maintainer_email']
    assert package.findtext('export/build_type') == 'ament_python'
    assert (ROOT / 'resource' / PACKAGE).is_file()


@pytest.mark.parametrize(('name', 'target'), entry_points().items())
def test_entry_points_exist(name, target):
    module, function = target.split(':')
    assert callable(getattr(import_module(module), function)), name


@pytest.mark.parametrize('distribution', ['kilted', 'jazzy'])
def test_wheels_are_pinned(monkeypatch, distribution):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr('setuptools.setup', lambda **_: None)
    wheels = runpy.run_path('setup.py')['wheels'](distribution)
    lines = (ROOT / f'constraints-{distribution}.txt').read_text(encoding='utf-8').splitlines()
    assert set(wheels) <= {line.split('==')[0] for line in lines if not line.startswith('#')}


def test_setup_takes_all_files_of_every_bundle_in_weights(monkeypatch, tmp_path):
    for name in ('one', 'other', 'run/bundle'):  # the last is no shipped bundle, but a run's
        (tmp_path / 'weights' / name).mkdir(parents=True)
        for file in ('bundle.json', 'README.md', 'model.safetensors'):
            (tmp_path / 'weights' / name / file).touch()
    (tmp_path / 'scripts').mkdir()
    given = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('setuptools.setup', lambda **arguments: given.update(arguments))
    runpy.run_path(str(ROOT / 'setup.py'))
    found = {
        Path(target) / Path(file).name
        for target, files in given['data_files']
        for file in files
        if 'weights' in target
    }
    share = Path('share', PACKAGE, 'weights')
    files = ('bundle.json', 'README.md', 'model.safetensors')
    assert found == {share / name / file for name in ('one', 'other') for file in files}


class Recorded:
    """Stands for any class of launch: keeps what it was made from."""

    def __init__(self, *arguments, **keywords):
        self.arguments, self.keywords = arguments, keywords

    def perform(self, given):
        """The value of a launch configuration."""
        return given[self.arguments[0]]

    def __getitem__(self, _):
        """A part of what was found."""
        return ''


@pytest.fixture
def launched(monkeypatch):
    """The nodes and arguments of the detector's launch file."""
    return launch(monkeypatch, LAUNCH_FILE)


@pytest.fixture
def compared(monkeypatch):
    """The nodes and arguments of the comparison's launch file."""
    return launch(monkeypatch, COMPARE_LAUNCH_FILE)


def launch(monkeypatch, file):
    """A launch file's nodes and arguments, with stand-ins for launch and launch_ros."""
    for name in LAUNCH_MODULES:
        module = ModuleType(name)
        module.__getattr__ = lambda kind: type(kind, (Recorded,), {})
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, LAUNCHING, None)  # forgotten after the test
    del sys.modules[LAUNCHING]
    description = runpy.run_path(str(file))['generate_launch_description']()
    (parts,) = description.arguments
    arguments = {
        part.arguments[0]: part.keywords for part in parts if 'description' in part.keywords
    }
    given = {name: name for name in arguments}
    started = [
        node
        for part in parts
        if 'function' in part.keywords
        for node in part.keywords['function'](given, *part.keywords.get('args', ()))
    ]
    nodes = {
        node.keywords['executable']: node.keywords
        for node in (*started, *parts)
        if node.keywords.get('package')
    }
    return nodes, arguments


def names_in(value):
    """Names of the launch configurations that a value is made of."""
    if isinstance(value, Recorded):
        if type(value).__name__ == 'LaunchConfiguration':
            return {value.arguments[0]}
        return names_in([*value.arguments, *value.keywords.values()])
    if isinstance(value, dict):
        return names_in(list(value.values()))
    if isinstance(value, list | tuple):
        return {name for part in value for name in names_in(part)}
    return set()


def test_launch_file_starts_what_is_installed(launched):
    nodes, arguments = launched
    assert set(nodes) == {'detector_node', 'bag_player_node', 'rviz2'}
    assert set(nodes) - {'rviz2'} <= executables()
    assert names_in(list(nodes.values())) <= set(arguments)
    assert all('default_value' in about for about in arguments.values())
    assert all(about['description'] for about in arguments.values())


def test_launch_file_sets_parameters_that_exist(launched):
    pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
    from pointdistiller_ros import parameters

    tables = {
        'detector_node': parameters.DetectorParameters,
        'bag_player_node': parameters.BagPlayerParameters,
    }
    for executable, table in tables.items():
        known = {field.name for field in dataclasses.fields(table)} | {'use_sim_time'}
        given = [
            values for values in launched[0][executable]['parameters'] if isinstance(values, dict)
        ]
        assert {name for values in given for name in values} <= known


def test_comparison_launch_file_starts_what_is_installed(compared):
    nodes, arguments = compared
    ours = {'comparison_node', 'bag_player_node'}
    assert set(nodes) == ours | {'rviz2'}
    assert ours <= executables()
    assert names_in(list(nodes.values())) <= set(arguments)
    assert all('default_value' in about for about in arguments.values())
    assert all(about['description'] for about in arguments.values())


def test_comparison_launch_file_plays_ground_truth_and_transforms(compared):
    pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
    from pointdistiller_ros.parameters import TF_TOPICS

    (values,) = compared[0]['bag_player_node']['parameters']
    assert values['extra_topics'] == [*TF_TOPICS, '/ground_truth']


def test_comparison_launch_file_sets_parameters_that_exist(compared):
    pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
    from pointdistiller_ros import comparison_parameters, parameters

    tables = {
        'comparison_node': comparison_parameters.ComparisonParameters,
        'bag_player_node': parameters.BagPlayerParameters,
    }
    for executable, table in tables.items():
        known = {field.name for field in dataclasses.fields(table)} | {'use_sim_time'}
        for values in compared[0][executable]['parameters']:
            assert not isinstance(values, dict) or set(values) <= known


@pytest.mark.parametrize('file', ['detector', 'comparison'])
def test_parameter_files_hold_the_defaults(file):
    pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
    from pointdistiller_ros import comparison_parameters, parameters

    table = {
        'detector': parameters.DetectorParameters,
        'comparison': comparison_parameters.ComparisonParameters,
    }[file]
    text = (ROOT / 'config' / 'nodes' / f'{file}.yaml').read_text(encoding='utf-8')
    values = yaml.safe_load(text)['/**']['ros__parameters']
    defaults = dataclasses.asdict(table())
    assert values == {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in defaults.items()
    }


@pytest.mark.parametrize('file', [LAUNCH_FILE, COMPARE_LAUNCH_FILE], ids=lambda file: file.stem)
def test_launch_file_with_launch_itself(file):
    pytest.importorskip('launch_ros', reason='launch_ros is not installed')
    description = runpy.run_path(str(file))['generate_launch_description']()
    names = {argument.name for argument in description.get_launch_arguments()}
    assert names >= {'points', 'bag', 'rviz', 'use_sim_time', 'params'}


@pytest.fixture(scope='module', params=[(), ('--symlink-install',)], ids=['copied', 'linked'])
def prefix(request, tmp_path_factory):
    """Where colcon installs a copy of this package."""
    return install(tmp_path_factory.mktemp('colcon'), *request.param) / PACKAGE


def test_colcon_installs_what_ros2_run_and_launch_need(prefix):
    share = prefix / 'share'
    assert (share / 'ament_index' / 'resource_index' / 'packages' / PACKAGE).is_file()
    assert (share / PACKAGE / 'package.xml').is_file()
    assert {path.name for path in (prefix / 'lib' / PACKAGE).iterdir()} == executables()
    bundles = {f'weights/{name}' for name in shipped_bundles()}
    assert {f'weights/{path.name}' for path in (share / PACKAGE / 'weights').iterdir()} == bundles
    for folder in ('launch', 'config', *bundles):
        shipped = {
            path.relative_to(ROOT)
            for path in (ROOT / folder).rglob('*.*')
            if path.suffix != '.pyc'
        }
        installed = {
            path.relative_to(share / PACKAGE) for path in (share / PACKAGE / folder).rglob('*.*')
        }
        assert installed == shipped


NOTHING_GIVEN = '--ros-args -p "bundle:=\'\'" -p "teacher:=\'\'"'  # beside what has no default


def run_installed(prefix, name, folder, path):
    """An executable as a shell runs it that has sourced the installation."""
    executable = prefix / 'lib' / PACKAGE / name
    script = f'source {prefix.parent / "setup.bash"} && exec {executable} {NOTHING_GIVEN}'
    return subprocess.run(
        ['bash', '-c', script],
        cwd=folder,
        env=os.environ | {'PATH': path, 'ROS_LOG_DIR': str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize('name', sorted(path.name for path in SCRIPTS.iterdir()))
def test_installed_executable_takes_the_first_interpreter(prefix, tmp_path, name):
    pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    done = run_installed(prefix, name, tmp_path, path)
    assert done.returncode == 2, done.stderr
    assert 'is empty; give it' in done.stderr


def test_executable_in_the_wrong_interpreter_says_what_to_do(prefix, tmp_path):
    python = tmp_path / 'bin' / 'python3'
    python.parent.mkdir()
    # Without the folder that has numpy: nothing but the standard library, and this package.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', encoding='utf-8')
    python.chmod(0o755)
    path = os.pathsep.join([str(python.parent), os.environ['PATH']])
    done = run_installed(prefix, 'detector_node', tmp_path, path)
    assert done.returncode == 1
    assert 'No module named' in done.stderr
    assert 'activate the virtual environment' in done.stderr
    assert 'Traceback' not in done.stderr
