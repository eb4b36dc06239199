# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How a signal asks a training of this process to save itself and stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_asked: list[bool] = []  # an entry for each training that heeds requests


@contextmanager
def heeds_requests() -> Iterator[Callable[[], bool]]:
    """While a training looks again and again whether it was asked to stop.

    Yields:
        Whether it was.
    """
    place = len(_asked)
    _asked.append(False)
    try:
        yield lambda: _asked[place]
    finally:
        del _asked[place:]


def ask_to_stop() -> bool:
    """Ask the training, if there is one that heeds it; returns whether there is."""
    _asked[:] = [True] * len(_asked)
    return bool(_asked)
