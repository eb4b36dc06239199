# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Headings that several boxes of one object agree on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.geometry.transforms import wrap_angle


def common_heading(yaws: NDArray[np.floating[Any]], weights: NDArray[np.floating[Any]]) -> float:
    """The mean axis of headings (n,) [rad] by weights (n,), in the direction of more weight.

    A detector may take a front for a rear, so headings are averaged as axes first.
    """
    doubled = (weights * np.exp(2j * yaws)).sum()
    axis = float(np.angle(doubled)) / 2
    forward = float((weights * np.cos(yaws - axis)).sum()) >= 0
    return float(wrap_angle(axis if forward else axis + np.pi))
