# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The direction of imports: which room may see which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = 'pointdistiller_core'
IMPORTER = """
import importlib, os, sys
import numpy, pydantic, yaml
assert 'torch' not in sys.modules
for line in sys.stdin:
    if (child := os.fork()) == 0:
        importlib.import_module(line.strip())
        print('torch' in sys.modules, flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print('failed', flush=True)
"""
BASE = {
    *('blas', 'compiled', 'cores', 'errors', 'files', 'workers'),
    *('grid', 'config', 'records', 'geometry'),
}
FORMATS = BASE | {'formats'}
NETWORKS = FORMATS | {'pointcloud', 'sparse', 'models'}
DETECTOR = NETWORKS | {'deploy', 'detector'}
PIPELINES = DETECTOR | {
    *('messages', 'datasets', 'evaluation', 'tracking', 'labelling', 'pipelines'),
}
SEES = {
    'blas': set(),
    'compiled': set(),
    'cores': set(),
    'errors': set(),
    'files': {'errors'},
    'workers': {'blas', 'errors'},
    'grid': {'errors'},
    'config': {'errors', 'files', 'grid'},
    'records': {'errors', 'grid', 'config'},
    'geometry': {'blas', 'errors', 'grid', 'config'},
    'formats': BASE,
    'messages': BASE,
    'pointcloud': BASE,
    'sparse': BASE,
    'tracking': BASE,
    'labelling': BASE | {'tracking'},
    'datasets': FORMATS | {'messages', 'pointcloud'},
    'evaluation': FORMATS,
    'models': NETWORKS,
    'distill': NETWORKS,
    'deploy': NETWORKS,
    'detector': DETECTOR,
    'pipelines': PIPELINES,
    'training': PIPELINES | {'distill'},
    'studies': PIPELINES | {'distill', 'training'},
}
ROS_SEES = {
    *('detector', 'records', 'config', 'errors', 'evaluation', 'messages', 'tracking'),
    *('geometry', 'pipelines', 'pointcloud'),
}


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: import absolutely'
            yield node.module or ''


def rooms_seen(path: Path) -> set[str]:
    prefix = f'{CORE}.'
    return {
        name.removeprefix(prefix).split('.')[0]
        for name in imports_of(path)
        if name.startswith(prefix)
    }


@pytest.mark.parametrize('room', sorted(SEES))
def test_core_rooms_look_one_way(room):
    base = ROOT / CORE / room
    files = list(base.rglob('*.py')) if base.is_dir() else [base.with_suffix('.py')]
    for path in files:
        assert rooms_seen(path) <= SEES[room] | {room}, path


def test_every_room_of_the_core_is_known():
    rooms = {
        path.stem
        for path in (ROOT / CORE).iterdir()
        if (path.suffix == '.py' and not path.stem.startswith('_'))
        or (path / '__init__.py').exists()
    }
    assert rooms == set(SEES) | {'cli'}


def test_core_never_imports_ros():
    ros = {'rclpy', 'sensor_msgs', 'std_msgs', 'visualization_msgs', 'vision_msgs'}
    for path in (ROOT / CORE).rglob('*.py'):
        roots = {name.split('.')[0] for name in imports_of(path)}
        assert not roots & (ros | {'pointdistiller_ros'}), path


def test_no_file_holds_both_sides_of_a_merge():
    folders = ('pointdistiller_core', 'pointdistiller_ros', 'test', 'config', 'docs', 'launch')
    files = [path for folder in folders for path in (ROOT / folder).rglob('*')]
    for path in [*files, *ROOT.glob('*.*')]:
        if path.suffix in {'.py', '.yaml', '.md', '.rst', '.toml', '.rviz'}:
            lines = path.read_text(encoding='utf-8').splitlines()
            assert not any(line.startswith('<' * 7) for line in lines), path


def test_one_module_imports_matplotlib():
    importers = {
        path.name
        for path in (ROOT / CORE).rglob('*.py')
        if 'matplotlib' in {name.split('.')[0] for name in imports_of(path)}
    }
    assert importers == {'figures.py'}


def test_one_module_replaces_files():
    calls = {
        path.name
        for path in [*(ROOT / CORE).rglob('*.py'), *(ROOT / 'pointdistiller_ros').rglob('*.py')]
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, ast.Attribute) and node.attr in {'mkstemp', 'rename', 'renames'}
    }
    assert calls == {'files.py'}


def test_ros_package_computes_nothing():
    for path in (ROOT / 'pointdistiller_ros').rglob('*.py'):
        assert 'torch' not in {name.split('.')[0] for name in imports_of(path)}, path
        assert rooms_seen(path) <= ROS_SEES, path


@pytest.fixture(scope='module')
def import_afresh():
    """Imports a module in a process of its own, which says whether torch came with it.

    These are forked from one that has imported what nearly all of them need.
    """
    command = [sys.executable, '-c', IMPORTER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as importer:

        def ask(module: str) -> str:
            importer.stdin.write(f'{module}\n')
            importer.stdin.flush()
            return importer.stdout.readline().strip()

        yield ask
        importer.stdin.close()


@pytest.mark.parametrize(
    'module',
    [
        *('records', 'config', 'formats.kitti', 'geometry.detection', 'cli', 'datasets'),
        *(
            'detector',
            'deploy.backends',
            'deploy.hosts',
            'pointcloud.voxel_arrays',
            'evaluation.comparison.same_boxes',
        ),
        *('evaluation.comparison.session', 'evaluation.comparison.page', 'evaluation.lidar'),
        *('pipelines.comparison', 'messages.cloud_reader'),
        *(
            'evaluation.kitti.metric',
            'evaluation.matching',
            'tracking.drives',
            'evaluation.sweeps',
            'evaluation.pictures.scenes',
            'evaluation.kitti.curves',
        ),
    ],
)
def test_imports_without_torch(module, import_afresh):
    assert import_afresh(f'{CORE}.{module}') == 'False', 'see the error above'
