# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The arrays of a bundle that surround its exported network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
import safetensors.numpy

from pointdistiller_core.errors import CheckpointError

if TYPE_CHECKING:
    from pointdistiller_core.deploy.hosts.host import Arrays, Shape

ARRAYS_FILE = 'arrays.safetensors'


def pack_arrays(arrays: Arrays) -> bytes:
    """Arrays as the content of a file."""
    return safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()})


def unpack_arrays(content: bytes, expected: Mapping[str, Shape], *, where: str) -> Arrays:
    """The arrays of a file; they must have the expected names and shapes.

    Raises:
        CheckpointError: the file holds something else.
    """
    try:
        found = safetensors.numpy.load(content)
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f'{where}: not safetensors: {error}') from error
    shapes = {name: array.shape for name, array in found.items()}
    if shapes != expected:
        raise CheckpointError(
            f'{where}: arrays of another architecture: {shapes}, not {expected}; '
            'export the bundle again'
        )
    if bad := sorted(name for name, array in found.items() if not _is_sound(array)):
        raise CheckpointError(
            f'{where}: {bad} are NaN, infinite or not float32; export a sound bundle again'
        )
    return found


def _is_sound(array: NDArray[Any]) -> bool:
    return array.dtype == np.float32 and bool(np.isfinite(array).all())
