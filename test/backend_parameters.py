# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Backends as parameters of tests."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from pointdistiller_core.deploy.backends import BACKENDS

EXPORTING = {'openvino-int8': 'nncf', 'openvino': 'openvino', 'onnx': 'onnx', 'torch': 'torch'}


def installed(name: str) -> bool:
    """Whether a bundle can be exported to a backend and run by it."""
    return all(find_spec(package) for package in (BACKENDS[name].package, EXPORTING[name]))


def backends(*names: str) -> list[Any]:
    """These backends, or all; without their packages they are skipped."""
    return [
        pytest.param(
            name,
            marks=pytest.mark.skipif(not installed(name), reason=f'{name} is not installed'),
        )
        for name in names or BACKENDS
    ]
