# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What computes sparse convolutions without torch: Numba if it is installed, or NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pointdistiller_core.compiled import numba_works
from pointdistiller_core.sparse.array_convolution import convolve_relu
from pointdistiller_core.sparse.sites import Sites

if TYPE_CHECKING:
    from pointdistiller_core.sparse.array_convolution import FloatArray


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


def best_array_engine() -> ArrayEngine:
    """Numba's, which takes a third of the time, if Numba works here, or NumPy's."""
    if not numba_works():
        return NUMPY
    from pointdistiller_core.sparse import compiled_convolution as numba

    return ArrayEngine('numba', numba.CompiledSites, numba.convolve_relu)
