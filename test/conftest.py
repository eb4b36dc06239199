# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import sys

import pytest

try:
    from hypothesis import settings
except ImportError as error:  # `colcon test` in the system's interpreter
    raise pytest.UsageError(
        f'{error} (for {sys.executable}); in the virtual environment: python -m colcon test'
    ) from error

# A busy machine is slow; that is no failure of a property.
settings.register_profile('patient', deadline=None)
settings.load_profile('patient')
# Before torch is imported: see pointdistiller_core.cli.main.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
if 'PYTEST_XDIST_WORKER' in os.environ:  # one of several processes, as in make test
    os.environ['OMP_NUM_THREADS'] = '1'
# A shell lets what it runs in the background ignore Ctrl-C; here it is sent, and must arrive.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
# Nodes find one another in time and keep up with clouds: never two tests of these at once.
NODES = ('ros/', 'integration/', 'benchmarks/test_node.py')
# Groups of tests that begin first, so that no process ends long after the other.
LONGEST = ('nodes', 'benchmarks/test_gpu.py', 'core/training/test_processes.py')


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Real KITTI frames and golden numbers; not part of the repository."""
    path = Path(
        os.environ.get('POINTDISTILLER_SHARED_DATA', ROOT.parent / 'shared' / 'data')
    ).resolve()
    if not path.is_dir():
        pytest.skip(f'no reference data at {path} (set POINTDISTILLER_SHARED_DATA)')
    return path


@pytest.fixture(scope='session')
def kitti_mini(shared_data: Path) -> Path:
    """Twenty real KITTI frames in KITTI's layout."""
    return shared_data / 'kitti_mini'


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is to be skipped, and what several processes begin with."""
    if hasattr(config, 'workerinput'):  # one of several
        ranks = {group: rank for rank, group in enumerate(LONGEST)}
        items.sort(key=lambda item: ranks.get(group_of(item.nodeid), len(ranks)))
    skip_without_gpu(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """How several processes share the tests: in groups."""
    from xdist.scheduler import LoadScopeScheduling

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = group_of
    return scheduler


def group_of(nodeid: str) -> str:
    """Each file is in one process, for its fixtures; so are all nodes."""
    file = nodeid.partition('::')[0].removeprefix('test/')
    return 'nodes' if file.startswith(NODES) else file


def skip_without_gpu(items: list[pytest.Item]) -> None:
    """Tests marked `cuda` need a GPU, or a device to try them on in its place."""
    import torch

    if torch.cuda.is_available() or 'POINTDISTILLER_TEST_DEVICE' in os.environ:
        return
    for item in items:
        if item.get_closest_marker('cuda'):
            item.add_marker(pytest.mark.skip(reason='no CUDA device'))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> str:
    """The device of a test marked `cuda`: with exact float32, which is not torch's default."""
    import torch

    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    return os.environ.get('POINTDISTILLER_TEST_DEVICE', 'cuda')


@pytest.fixture
def toy(monkeypatch):
    """The configuration of a detector of a family of its own, known for the time of a test."""
    from toy_detector import ToyConfig, ToyDetector  # torch takes seconds to import

    from pointdistiller_core.config import MODEL_CONFIGS
    from pointdistiller_core.models import DETECTORS

    monkeypatch.setitem(MODEL_CONFIGS, 'toy', ToyConfig)
    monkeypatch.setitem(DETECTORS, 'toy', ToyDetector)
    return ToyConfig()
