# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What computes sparse convolutions without torch: Numba if it is installed, or NumPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
import logging
from typing import TYPE_CHECKING, NamedTuple

from pointdistiller_core.sparse.array_convolution import convolve_relu
from pointdistiller_core.sparse.sites import Sites

if TYPE_CHECKING:
    from pointdistiller_core.sparse.array_convolution import FloatArray

logger = logging.getLogger(__name__)


class ArrayEngine(NamedTuple):
    """Sites and a convolution that belong together.

    Attributes:
        name: of the library.
        sites: finds which cells meet.
        convolve_relu: see `array_convolution.convolve_relu`.
    """

    name: str
    sites: type[Sites]
    convolve_relu: Callable[..., FloatArray]


NUMPY = ArrayEngine('numpy', Sites, convolve_relu)


@cache
def best_array_engine() -> ArrayEngine:
    """Numba's, which takes a third of the time, if Numba works here, or NumPy's."""
    if find_spec('numba') is None:
        return NUMPY
    try:
        from pointdistiller_core.sparse import compiled_convolution as numba
    except ImportError as error:  # made for another version of NumPy or Python
        logger.warning('numba cannot be used: %s; numpy takes three times as long', error)
        return NUMPY
    return ArrayEngine('numba', numba.CompiledSites, numba.convolve_relu)
