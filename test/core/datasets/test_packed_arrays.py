# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.datasets.packed_arrays import pack_arrays, unpack_arrays


def test_arrays_come_back_and_any_damage_is_noticed():
    arrays = {'points': np.arange(8, dtype=np.float32).reshape(2, 4), 'none': np.zeros((0, 7))}
    content = pack_arrays(arrays)
    again = unpack_arrays(content)
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype
    for index in range(len(content)):
        damaged = content[:index] + bytes([content[index] ^ 4]) + content[index + 1 :]
        with pytest.raises(ValueError, match=r'checksum|safetensors'):
            unpack_arrays(damaged)
