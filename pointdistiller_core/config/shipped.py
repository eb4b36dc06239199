# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The YAML files that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pointdistiller_core.files import shipped_files

ConfigKind = Literal[
    'models', 'experiments', 'from_bag', 'studies', 'nodes', 'simulations', 'distillations'
]


def shipped_configs(kind: ConfigKind) -> list[Path]:
    """The YAML files that come with the package, by name."""
    return shipped_files(f'config/{kind}/*.yaml')
