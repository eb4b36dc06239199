# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Geometry written once for NumPy and torch; arrays alone need no torch.

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
    """The array converted to a type of its own library; the same array if it has that type."""
    if isinstance(array, np.ndarray):
        return array.astype(dtype, copy=False)
    return array.to(dtype)


def descending_order(values: Any) -> Any:
    """(N,) int64 indices that sort values (N,), the largest first; equal ones keep their order."""
    if isinstance(values, np.ndarray):
        return np.argsort(-values, kind='stable')
    return values.argsort(descending=True, stable=True)


def highest(values: Any, count: int) -> Any:
    """The first `count` of `descending_order`; if there are far more, not all are sorted."""
    if len(values) <= count:
        return descending_order(values)
    if isinstance(values, np.ndarray):
        lowest = np.partition(values, -count)[-count]
    else:
        lowest = values.topk(count).values[-1]
    candidates = library_of(values).where(values >= lowest)[0]  # more of them where some are equal
    return candidates[descending_order(values[candidates])[:count]]


def sigmoid(logits: Any) -> Any:
    """1 / (1 + exp(-x)), without overflow."""
    if isinstance(logits, np.ndarray):
        small = np.exp(-abs(logits))
        return np.where(logits < 0, small, 1) / (1 + small)
    return logits.sigmoid()
