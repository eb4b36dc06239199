# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Rays that came back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def find_returns(points: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """(N,) which points are returns: some drivers put rays without one at exactly (0, 0, 0).

    Args:
        points: (N, 3 or more) x, y, z, ... in the sensor frame.
    """
    at_origin = points[:, 0] == 0
    if at_origin.any():  # rare; only then are the other columns looked at
        at_origin &= (points[:, 1] == 0) & (points[:, 2] == 0)
    returns: NDArray[np.bool_] = ~at_origin
    return returns
