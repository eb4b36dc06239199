# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Facts about the training data for a bundle: range of the intensity, sizes of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import DetectorConfig, Size
from pointdistiller_core.geometry.intensity import Range, measure_intensity
from pointdistiller_core.records import spread_indices

if TYPE_CHECKING:
    from pointdistiller_core.datasets import FrameDataset, Frames

MEASURED_CLOUDS = 20
MEASURED_LABELS = 1000  # frames
GENEROUS = 2.0  # factor beyond the sizes of the labels
OF_ANCHOR = 2.0  # factor around the anchor of a class without labels
ANY_SIZE = ((1e-3,) * 3, (1e3,) * 3)  # of a class without labels and anchors [m]
# A label that is so many times larger or smaller than nearly all others is a mistake.
OUTLIER, RARE = 4.0, 0.01


def measure_range(frames: Frames) -> Range:
    """Range of the intensity in clouds spread over a dataset.

    Raises:
        DatasetError: one of these frames cannot be read.
    """
    indices = spread_indices(len(frames), MEASURED_CLOUDS)
    return measure_intensity(frames[index].points for index in indices)


def measure_sizes(dataset: FrameDataset, model: DetectorConfig) -> tuple[tuple[Size, Size], ...]:
    """Generous bounds of the sizes of each class, from labels spread over a dataset.

    Raises:
        DatasetError: labels of one of these frames cannot be read.
    """
    indices = spread_indices(len(dataset), MEASURED_LABELS)
    truth = [dataset.labels(index) for index in indices]
    labels = np.concatenate([np.zeros(0, np.int64), *(each.labels for each in truth)])
    sizes = np.concatenate([np.zeros((0, 3)), *(each.boxes[:, 3:6] for each in truth)])
    return tuple(
        _size_bounds(sizes[labels == number], model.usual_size(name))
        for number, name in enumerate(model.class_names)
    )


def _size_bounds(sizes: NDArray[np.float64], guess: Size | None) -> tuple[Size, Size]:
    """Least and largest dx, dy, dz [m] around sizes (N, 3), or around a guess without any."""
    sizes = sizes[(sizes > 0).all(axis=1)]
    if not len(sizes):
        if guess is None:
            return ANY_SIZE
        sizes = np.array([guess]) * [[1 / OF_ANCHOR], [OF_ANCHOR]]
    low, high = np.quantile(sizes, (RARE, 1 - RARE), axis=0)
    usual = sizes[((sizes >= low / OUTLIER) & (sizes <= high * OUTLIER)).all(axis=1)]
    least, most = usual.min(axis=0) / GENEROUS, usual.max(axis=0) * GENEROUS
    return _to_size(least), _to_size(most)


def _to_size(values: NDArray[np.float64]) -> Size:
    dx, dy, dz = values.round(3).clip(min=0.001).tolist()
    return dx, dy, dz
