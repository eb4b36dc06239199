# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What computes sparse convolutions on a CPU: Numba if it is installed, or NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pointdistiller_core.compiled import numba_works
from pointdistiller_core.sparse import array_convolution
from pointdistiller_core.sparse.sites import Sites

if TYPE_CHECKING:
    from pointdistiller_core.sparse.array_convolution import FloatArray, IntArray


class ArrayEngine(NamedTuple):
    """Sites and a convolution that belong together.

    Attributes:
        name: of the library.
        sites: finds which cells meet.
        convolve_relu: see `array_convolution.convolve_relu`.
        stack_layers: see `array_convolution.stack_layers`.
    """

    name: str
    sites: type[Sites]
    convolve_relu: Callable[..., FloatArray]
    stack_layers: Callable[[FloatArray, Sites], tuple[FloatArray, IntArray]]


class TrainingEngine(NamedTuple):
    """A convolution without bias, and the gradient of its kernel.

    Attributes:
        name: of the library.
        convolve: see `array_convolution.convolve`.
        kernel_gradient: see `array_convolution.kernel_gradient`.
    """

    name: str
    convolve: Callable[..., FloatArray]
    kernel_gradient: Callable[..., FloatArray]


NUMPY = ArrayEngine(
    'numpy', Sites, array_convolution.convolve_relu, array_convolution.stack_layers
)
NUMPY_TRAINING = TrainingEngine(
    'numpy', array_convolution.convolve, array_convolution.kernel_gradient
)


def best_array_engine() -> ArrayEngine:
    """Numba's, which takes a third of the time, if Numba works here, or NumPy's."""
    if not numba_works():
        return NUMPY
    from pointdistiller_core.sparse import compiled_convolution as numba

    return ArrayEngine('numba', numba.CompiledSites, numba.convolve_relu, numba.stack_layers)


def best_training_engine(dtype: str = 'float32') -> TrainingEngine:
    """Numba's, if Numba works here and the numbers are float32, or NumPy's."""
    if dtype != 'float32' or not numba_works():
        return NUMPY_TRAINING
    from pointdistiller_core.sparse import compiled_training as numba

    return TrainingEngine('numba', numba.convolve, numba.kernel_gradient)
