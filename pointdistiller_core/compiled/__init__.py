# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What Numba compiles for the CPU, where it is installed; NumPy takes over elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
import logging

logger = logging.getLogger(__name__)


@cache
def numba_works() -> bool:
    """Whether modules that need Numba can be imported here."""
    if find_spec('numba') is None:
        return False
    try:
        from pointdistiller_core.compiled import compiler  # noqa: F401
    except ImportError as error:  # made for another version of NumPy or Python
        logger.warning('numba cannot be used: %s; numpy takes two to three times as long', error)
        return False
    return True
