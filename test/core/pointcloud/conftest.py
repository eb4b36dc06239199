# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers of PointRCNN's CUDA kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch


@pytest.fixture(scope='session')
def operators(shared_data):
    """Inputs and outputs of the operators, by name."""
    arrays = np.load(shared_data / 'openpcdet_pointrcnn' / 'pointnet_ops_unit.npz')
    return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture(scope='session')
def network(shared_data):
    """What a PointRCNN makes of a real sweep, by name."""
    folder = shared_data / 'openpcdet_pointrcnn'
    arrays = np.load(folder / 'pointrcnn_narrow_000008.npz')
    wanted = ('points', 'index', 'roi', 'count', 'radius', 'local')
    names = [name for name in arrays if any(part in name for part in wanted)]
    return {name: torch.from_numpy(arrays[name]) for name in names}
