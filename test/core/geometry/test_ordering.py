# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from pointdistiller_core.geometry.ordering import sort_with_order


@pytest.mark.parametrize('count', [0, 1, 2, 3, 64, 65, 1000])
@pytest.mark.parametrize('limit', [1, 5, 1 << 40, (1 << 62) - 1, (1 << 63) - 1])
def test_it_is_a_stable_sort(count, limit):
    values = np.random.default_rng(count).integers(0, limit, count, endpoint=True)
    values[: count // 2] = limit
    found, order = sort_with_order(values)
    expected = np.argsort(values, kind='stable')
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(found, values[expected])
