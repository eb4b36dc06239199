# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Geometry in NumPy and torch alike: written once, and without torch where there are no tensors.

Both libraries agree on operators and on the functions used here and their leading arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

ArrayT = TypeVar('ArrayT', 'NDArray[np.float32]', 'NDArray[np.float64]', 'Tensor')


def library_of(array: NDArray[Any] | Tensor) -> Any:
    """The module whose functions take this array: `numpy` or `torch`."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def to_type(array: Any, dtype: Any) -> Any:
    """The array with numbers of a type of its own library; itself where it has them already."""
    if isinstance(array, np.ndarray):
        return array.astype(dtype, copy=False)
    return array.to(dtype)
