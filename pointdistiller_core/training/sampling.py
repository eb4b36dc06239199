# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames an epoch sees, where that is not each of them once."""

from __future__ import annotations

from dataclasses import dataclass
import logging

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.datasets import FrameDataset
from pointdistiller_core.errors import DatasetError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassBalance:
    """Draws frames so that every class has its turn equally often (CBGS, Zhu et al., 2019).

    Attributes:
        frames: for each class that has some, (n,) int64 indices of the frames that show it.
    """

    frames: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, dataset: FrameDataset, *, warn: bool = True) -> ClassBalance:
        """That of a dataset; points are not read.

        Args:
            dataset: labelled frames.
            warn: whether to warn of frames that show no class, which are never drawn.

        Raises:
            DatasetError: no frame shows a class, or labels are missing or malformed.
        """
        names = dataset.class_names
        numbers = np.arange(len(names))
        labels = [dataset.labels(index).labels for index in range(len(dataset))]
        shown = np.array([np.isin(numbers, own) for own in labels]).reshape(-1, len(names))
        if not shown.any():
            raise DatasetError(f'sampling class_balanced: no frame shows any of {list(names)}')
        if (bare := int((~shown.any(axis=1)).sum())) and warn:
            logger.warning(
                'sampling class_balanced: %d of %d frames show no object of %s; they are never '
                'drawn',
                *(bare, len(shown), ', '.join(names)),
            )
        return cls(tuple(np.flatnonzero(column) for column in shown.T if column.any()))

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(count,) indices of frames; one comes again only after all others of its class."""
        num_classes = len(self.frames)
        more = rng.permutation(num_classes) < count % num_classes
        none = np.zeros(0, np.int64)
        drawn: list[NDArray[np.int64]] = []
        for own, share in zip(self.frames, count // num_classes + more, strict=True):
            rounds = (rng.permutation(own) for _ in range(-(-share // len(own))))
            drawn.append(np.concatenate([none, *rounds])[:share])
        return np.concatenate(drawn)
