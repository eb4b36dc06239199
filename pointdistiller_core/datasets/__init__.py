# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labelled frames: read, simulated, checked, augmented."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pointdistiller_core.config import DatasetConfig
from pointdistiller_core.datasets.kitti import KittiDataset
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.formats.kitti import Calibration, KittiObjects
from pointdistiller_core.records import Frame

__all__ = ['DATASETS', 'FrameDataset', 'Frames', 'KittiDataset', 'build_dataset']


class Frames(Protocol):
    """Frames by their number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Frame: ...


class FrameDataset(Frames, Protocol):
    """Frames, as a rule labelled, and what the KITTI metric needs of each."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Labels are indices into these."""
        ...

    @property
    def levels(self) -> tuple[str, ...]:
        """Of difficulty, easiest first; the levels of labels are indices into these."""
        ...

    @property
    def cache(self) -> Path:
        """Folder for what is derived from the frames; it may not exist yet."""
        ...

    def fingerprint(self, index: int, /) -> str:
        """Another one whenever the frame changed."""
        ...

    def objects(self, index: int, /) -> KittiObjects:
        """All labels of a frame, those of other classes too."""
        ...

    def calibration(self, index: int, /) -> Calibration:
        """Camera and LiDAR of a frame."""
        ...

    def image_size(self, index: int, /) -> tuple[int, int]:
        """Width, height of the camera's image [px]."""
        ...


DATASETS: Mapping[str, Callable[..., FrameDataset]] = {
    'kitti': KittiDataset,
}


def build_dataset(
    config: DatasetConfig, class_names: Sequence[str], *, labelled: bool = True
) -> FrameDataset:
    """The dataset that a configuration names.

    Args:
        config: which dataset, where, and which split of it.
        class_names: labels are indices into these.
        labelled: whether the frames come with their labels; without, they need none.

    Raises:
        ConfigError: datasets of this name cannot be read.
        DatasetError: its files are missing or malformed.
    """
    if config.name not in DATASETS:
        raise ConfigError(f'dataset.name {config.name!r}: cannot be read; {sorted(DATASETS)} can')
    return DATASETS[config.name](config, class_names, labelled=labelled)
