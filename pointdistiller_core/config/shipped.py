# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The YAML files that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

ConfigKind = Literal[
    'models', 'experiments', 'from_bag', 'studies', 'nodes', 'simulations', 'distillations'
]


def shipped_configs(kind: ConfigKind) -> list[Path]:
    """The YAML files that come with the package, by name."""
    # Beside the package in a checkout; in share/ of the prefix when pip or colcon installed it.
    for folder in Path(__file__).parents:
        for root in (folder, folder / 'share' / 'pointdistiller_ros'):
            if found := sorted((root / 'config' / kind).glob('*.yaml')):
                return found
    return []
