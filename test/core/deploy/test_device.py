# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from pointdistiller_core.deploy.device import find_device
from pointdistiller_core.errors import ConfigError


def test_cpu_and_auto():
    assert find_device('cpu') == torch.device('cpu')
    assert find_device(torch.device('cpu')) == torch.device('cpu')
    assert find_device('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')


def test_absent_gpu():
    count = torch.cuda.device_count()
    with pytest.raises(ConfigError, match=rf"'cuda:{count}': torch sees {count} CUDA devices"):
        find_device(f'cuda:{count}')


def test_unknown_device():
    with pytest.raises(ConfigError, match="device 'gpu': unknown; use auto, cpu"):
        find_device('gpu')
