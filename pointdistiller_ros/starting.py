# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How the executables in `scripts` start, in whatever interpreter comes first on the PATH."""

from __future__ import annotations

from importlib import import_module
import sys
from typing import NoReturn


def start(module: str) -> NoReturn:
    """Run the node of a module of this package, or say where its packages may be."""
    try:
        main = import_module(f'pointdistiller_ros.{module}').main
    except ImportError as error:
        sys.exit(
            f'{error} (for {sys.executable}); activate the virtual environment that holds the '
            'packages, and source ROS 2: see docs/ros.md, Building with colcon'
        )
    sys.exit(main())
