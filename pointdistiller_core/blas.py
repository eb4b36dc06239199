# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How many threads NumPy's matrix products take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import numpy as np  # noqa: F401 (only a library that is loaded is found)
from threadpoolctl import ThreadpoolController

_LIBRARIES = ThreadpoolController().select(user_api='blas')
# Each caller restores the setting it found, so two at a time would restore each other's.
_ONE_AT_A_TIME = RLock()


@contextmanager
def products_in_calling_thread() -> Iterator[None]:
    """Let matrix products of NumPy run in the thread that asks for them; also a decorator.

    OpenBLAS shares those of large arrays among threads that go on spinning for a while after,
    on the cores that the network needs next: on two cores this takes up to five times as long.
    The setting is the process's, so callers in several threads take turns.
    """
    with _ONE_AT_A_TIME, _LIBRARIES.limit(limits=1):
        yield


def keep_products_in_calling_thread() -> None:
    """The same from now on; for one of as many processes as there are cores."""
    _LIBRARIES.limit(limits=1)
