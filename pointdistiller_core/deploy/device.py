# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The device that a network runs on."""

from __future__ import annotations

import torch

from pointdistiller_core.errors import ConfigError


def find_device(name: torch.device | str) -> torch.device:
    """The device of a name: `cpu`, `cuda`, `cuda:1`, ...; `auto` is a GPU if there is one.

    Raises:
        ConfigError: no such device on this machine.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f'device {name!r}: unknown; use auto, cpu, cuda or cuda:1') from error
    found = torch.cuda.device_count()
    if device.type == 'cuda' and (device.index or 0) >= found:
        raise ConfigError(
            f'device {name!r}: torch sees {found} CUDA devices here; use cpu or auto'
        )
    return device
