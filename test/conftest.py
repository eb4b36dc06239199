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


@pytest.fixture(scope='session')
def tiny_pointrcnn():
    """PointRCNN for cars on 512 points; a proposal that touches a car is one."""
    from pointdistiller_core.config import (
        PointBackboneConfig,
        PointHeadConfig,
        PointRcnnConfig,
        ProposalConfig,
        ProposalTargetConfig,
        RefinementConfig,
        SampleConfig,
    )

    return PointRcnnConfig(
        class_names=('Car',),
        sample=SampleConfig(point_cloud_range=(0, -12.8, -3, 25.6, 12.8, 1), num_points=512),
        backbone=PointBackboneConfig(
            num_points=(128, 32),
            radii=((0.5, 1.0), (2.0, 4.0)),
            num_neighbors=((4, 8), (4, 8)),
            channels=(((8, 8), (8, 12)), ((12, 16), (12, 16))),
            propagation=((16, 16), (16, 16)),
        ),
        head=PointHeadConfig(class_channels=(16,), box_channels=(16,)),
        proposals=ProposalConfig(max_proposals=16, max_proposals_training=64),
        refinement=RefinementConfig(
            pooled_points=32,
            point_channels=(8, 8),
            num_points=(8,),
            radii=(1.0,),
            num_neighbors=(8,),
            channels=((8, 8), (8, 16)),
            class_channels=(8,),
            box_channels=(8,),
        ),
        targets=ProposalTargetConfig(
            num_proposals=16, easy_iou=0.005, class_iou=(0.01, 0.01), box_iou=0.01
        ),
    )


@pytest.fixture
def toy(monkeypatch):
    """The configuration of a detector of a family of its own, known for the time of a test."""
    from toy_detector import ToyConfig, ToyDetector  # torch takes seconds to import

    from pointdistiller_core.config import MODEL_CONFIGS
    from pointdistiller_core.models import DETECTORS

    monkeypatch.setitem(MODEL_CONFIGS, 'toy', ToyConfig)
    monkeypatch.setitem(DETECTORS, 'toy', ToyDetector)
    return ToyConfig()
