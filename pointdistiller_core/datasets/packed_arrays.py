# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Arrays as the content of a file with a checksum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
import zlib

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

CHECKSUM = 'checksum'  # name of the array that holds it


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as the content of a file, with a checksum of all of them."""
    assert CHECKSUM not in arrays
    packed = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save({**packed, CHECKSUM: _checksum(packed)})


def unpack_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of `pack_arrays`, read-only.

    Raises:
        ValueError: the content is damaged.
    """
    try:
        arrays = load(content)
    except (SafetensorError, LookupError, TypeError) as error:
        raise ValueError(f'not safetensors: {error}') from error
    stored = arrays.pop(CHECKSUM, None)
    if stored is None or not np.array_equal(stored, _checksum(arrays)):
        raise ValueError('its checksum does not fit the rest of it')
    return arrays


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint32]:
    """CRC-32 of names, types, shapes and values."""
    value = 0
    for name, array in sorted(arrays.items()):
        value = zlib.crc32(repr((name, array.dtype.str, array.shape)).encode(), value)
        value = zlib.crc32(array.data, value)
    return np.array([value], np.uint32)
