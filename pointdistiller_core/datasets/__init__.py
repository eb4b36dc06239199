# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labelled frames: read, simulated, checked, augmented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pointdistiller_core.config import (
    DATASET_CONFIGS,
    DatasetConfig,
    DetectorConfig,
    has_splits,
    parse_config,
)
from pointdistiller_core.datasets.bag import BagDataset
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.datasets.kitti import KittiDataset
from pointdistiller_core.datasets.nuscenes import NuScenesDataset
from pointdistiller_core.datasets.sweeps import SweptDataset
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.records import Frame, GroundTruth

__all__ = [
    'DATASETS',
    'BagDataset',
    'FolderDataset',
    'FrameDataset',
    'Frames',
    'KittiDataset',
    'NuScenesDataset',
    'build_dataset',
    'divide_by_labels',
    'find_dataset',
    'open_dataset',
    'with_sweeps',
]


class Frames(Protocol):
    """Frames by their number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Frame: ...


class FrameDataset(Frames, Protocol):
    """Frames, usually labelled, with names and facts about all of them."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Labels are indices into these."""
        ...

    @property
    def frame_ids(self) -> Sequence[str]:
        """Names of the frames."""
        ...

    @property
    def point_features(self) -> tuple[str, ...]:
        """Columns of the points."""
        ...

    @property
    def intensity_scale(self) -> float:
        """The factor applied to the intensities."""
        ...

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels of difficulty, easiest first; the levels of labels are indices into these."""
        ...

    @property
    def metric(self) -> str:
        """Name of the usual metric."""
        ...

    @property
    def cache(self) -> Path:
        """Folder for what is derived from the frames; it may not exist yet."""
        ...

    def fingerprint(self, index: int, /) -> str:
        """A text that changes whenever the frame does."""
        ...

    def labels(self, index: int, /) -> GroundTruth:
        """All labels of a frame, also those out of the camera's view; its points are not read."""
        ...

    @property
    def class_map(self) -> Mapping[str, str]:
        """New names of classes."""
        ...

    def label_names(self, index: int, /) -> list[str]:
        """Class of each label of a frame that counts, also of other classes, before the map."""
        ...

    def annotations(self, index: int, /) -> Any:
        """Data that the dataset's own metric needs of a frame, beside points and boxes."""
        ...


class DatasetKind(Protocol):
    """Makes the datasets of one name."""

    @property
    def layout(self) -> str:
        """Name of what lies at its path, for messages."""
        ...

    @property
    def metric(self) -> str:
        """See `FrameDataset`."""
        ...

    def lies_at(self, path: Path, /) -> bool:
        """Whether a dataset of this kind is there, complete or not."""
        ...

    def is_labelled(self, config: Any, /) -> bool:
        """Whether the dataset of a configuration has labels."""
        ...

    def __call__(
        self, config: Any, class_names: Sequence[str], /, *, labelled: bool = True
    ) -> FrameDataset: ...


DATASETS: dict[str, DatasetKind] = {
    'kitti': KittiDataset,
    'folder': FolderDataset,
    'bag': BagDataset,
    'nuscenes': NuScenesDataset,
}


def build_dataset(
    config: DatasetConfig,
    class_names: Sequence[str],
    *,
    labelled: bool = True,
    model: DetectorConfig | None = None,
) -> FrameDataset:
    """The dataset that a configuration names.

    Args:
        config: which dataset, where, and which split of it.
        class_names: labels are indices into these.
        labelled: whether the frames come with their labels; without, they need none.
        model: detector whose sweeps and columns the frames are to have; None: one sweep.

    Raises:
        ConfigError: datasets of this name cannot be read.
        DatasetError: its files are missing or malformed, or it has no poses for past sweeps.
    """
    if config.name not in DATASETS:
        raise ConfigError(f'dataset.name {config.name!r}: cannot be read; {sorted(DATASETS)} can')
    if not config.root.exists():
        raise DatasetError(f'{config.root}: no such file or folder')
    kinds = [name for name, kind in DATASETS.items() if kind.lies_at(config.root)]
    if config.name not in kinds:
        remedy = ''.join(
            f'; it is {DATASETS[name].layout}: set its name to {name} (dataset.name={name})'
            for name in kinds[:1]
        )
        raise DatasetError(f'{config.root}: is not {DATASETS[config.name].layout}{remedy}')
    if model is not None and 'sweeps' in type(config).model_fields:  # it merges them itself
        config = _with_sweeps_of(config, model)
        dataset = DATASETS[config.name](config, class_names, labelled=labelled)
        if dataset.point_features != model.point_features:
            raise ConfigError(
                f'{config.root}: frames of {model.sweeps} sweeps have the columns '
                f'{list(dataset.point_features)}, the model reads {list(model.point_features)}: '
                'set model.point_features'
            )
        return dataset
    dataset = DATASETS[config.name](config, class_names, labelled=labelled)
    return dataset if model is None else with_sweeps(dataset, model, config.root)


def _with_sweeps_of(config: DatasetConfig, model: DetectorConfig) -> DatasetConfig:
    """The configuration with the number of sweeps of a detector, and with their greatest age.

    Raises:
        ConfigError: it asks for other ones.
    """
    wanted = {'sweeps': model.sweeps, 'max_sweep_age_s': model.max_sweep_age_s}
    for name, value in wanted.items():
        own = getattr(config, name)
        if own is not None and own != value:
            raise ConfigError(
                f'{config.root}: dataset.{name} is {own:g}, but that of the model is {value:g} '
                f'(model.{name}): make them the same, or leave out that of the dataset'
            )
    return config.model_copy(update=wanted)


def with_sweeps(
    dataset: FrameDataset, model: DetectorConfig, root: Path, *, alone: bool = False
) -> FrameDataset:
    """The frames as a detector expects them; arguments and errors are those of `SweptDataset`."""
    if model.sweeps == 1 and model.point_features == dataset.point_features:
        return dataset
    return SweptDataset(dataset, model, root, alone=alone)


def find_dataset(path: Path, *, usual_split: str = 'train', **options: Any) -> DatasetConfig:
    """The configuration of the dataset that lies at a path.

    Args:
        path: folder of a dataset, or a bag.
        usual_split: split of a dataset that has splits, if the options name none.
        options: further settings; None leaves one out.

    Raises:
        DatasetError: there is no dataset.
        ConfigError: datasets of this kind have no such setting.
    """
    if not path.exists():
        raise DatasetError(f'{path}: no such file or folder')
    kinds = [name for name, kind in DATASETS.items() if kind.lies_at(path)]
    if not kinds:
        layouts = '; '.join(kind.layout for kind in DATASETS.values())
        raise DatasetError(f'{path}: no dataset: none of these: {layouts}')
    cls = DATASET_CONFIGS[kinds[0]]
    given = {name: value for name, value in options.items() if value is not None}
    if has_splits(cls):
        given = {'split': usual_split, **given}
    return parse_config(cls, {'root': path, **given}, where=f'{path} ({kinds[0]})')


def open_dataset(
    path: Path,
    *,
    split: str | None = None,
    class_names: Sequence[str],
    labelled: bool = True,
    **options: Any,
) -> FrameDataset:
    """The dataset that lies at a path, whatever its kind.

    Args:
        path: folder of a dataset, or a bag.
        split: split of a dataset that has splits; None is `train`.
        class_names: labels are indices into these.
        labelled: whether the frames come with their labels; without, they need none.
        options: further settings of its configuration; None leaves one out.

    Raises:
        DatasetError: there is no dataset, or its files are missing or malformed.
        ConfigError: datasets of this kind have no such setting.
    """
    config = find_dataset(path, split=split, **options)
    return build_dataset(config, class_names, labelled=labelled)


def divide_by_labels(dataset: FrameDataset) -> tuple[FrameDataset, FrameDataset | None]:
    """The frames of a dataset with labels, and those without; None if its kind has all or none."""
    if isinstance(dataset, SweptDataset):
        labelled, bare = divide_by_labels(dataset.frames)
        return dataset.with_frames(labelled), None if bare is None else dataset.with_frames(bare)
    if isinstance(dataset, FolderDataset):
        return dataset.divide_by_labels()
    return dataset, None
