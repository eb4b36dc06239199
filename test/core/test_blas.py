# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Matrix products that stay in their thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import json
import subprocess
import sys
from threading import Event
from typing import ClassVar

import numpy as np
import pytest
from threadpoolctl import OpenBLASController, ThreadpoolController

from pointdistiller_core.blas import products_in_calling_thread
from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.deploy.hosts.pillar_host import PillarHost
from pointdistiller_core.geometry.mounting import Mounting

# Other modules bring libraries of their own (SciPy an OpenBLAS): only NumPy's are asked.
PATHS_OF_NUMPY = (
    'import json, numpy, threadpoolctl;'
    "libraries = threadpoolctl.ThreadpoolController().select(user_api='blas');"
    'print(json.dumps([library.filepath for library in libraries.lib_controllers]))'
)
LIBRARIES = ThreadpoolController().select(
    filepath=json.loads(subprocess.check_output([sys.executable, '-c', PATHS_OF_NUMPY]))
)


def num_threads() -> set[int]:
    return {library.num_threads for library in LIBRARIES.lib_controllers}


@pytest.fixture(autouse=True)
def _two_threads():
    if not LIBRARIES.lib_controllers:
        pytest.skip("NumPy's BLAS is none that has threads")
    with LIBRARIES.limit(limits=2):
        OpenBLASController.clear_controlling_thread()  # other threads may set it, too
        yield
        assert num_threads() == {2}


@products_in_calling_thread()
def fail():
    with products_in_calling_thread():
        assert num_threads() == {1}
    assert num_threads() == {1}
    raise KeyError


def test_one_thread_within_and_all_after():
    with pytest.raises(KeyError):
        fail()
    assert num_threads() == {2}


def test_callers_that_overlap():
    """The first to come is the first to go; the second neither loses the limit nor keeps it."""
    first_is_in, second_is_in, first_is_out = Event(), Event(), Event()

    def first():
        with products_in_calling_thread():
            first_is_in.set()
            second_is_in.wait(0.5)  # unless it has to wait itself
        first_is_out.set()

    def second():
        assert first_is_in.wait(10)
        with products_in_calling_thread():
            second_is_in.set()
            assert first_is_out.wait(10)
            return num_threads()

    with ThreadPoolExecutor() as pool:
        _, within = pool.submit(first), pool.submit(second)
    assert within.result() == {1}
    assert num_threads() == {2}


class Watched(np.ndarray):
    """Notes how many threads its products may take."""

    seen: ClassVar[list[set[int]]] = []

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if ufunc is np.matmul:
            Watched.seen.append(num_threads())
        plain = [np.asarray(one) for one in inputs]
        return getattr(ufunc, method)(*plain, **options)


def test_encoder_and_mounting_stay_in_their_thread(monkeypatch):
    monkeypatch.setattr(Watched, 'seen', [])
    config = PointPillarsConfig()
    weights = {
        name: np.ones(shape, np.float32).view(Watched if len(shape) > 1 else np.ndarray)
        for name, shape in PillarHost.shapes(config).items()
    }
    points = np.full((5, 4), 0.5, np.float32)
    host = PillarHost(config, weights)
    host.encode(host.prepare(points))
    Mounting(np.eye(4)).points_to_training(points.view(Watched))
    assert Watched.seen == [{1}] * 4
