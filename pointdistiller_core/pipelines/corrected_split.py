# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Splits of the frames that people have labelled or corrected, by drive and by time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import SplitConfig
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.formats.folder import (
    FRAMES_FILE,
    FrameTable,
    labels_path,
    ranges_of,
    read_label_source,
    read_split,
    resolve_split,
    split_names,
    write_split,
)
from pointdistiller_core.geometry.poses import NANOSECONDS
from pointdistiller_core.pipelines.bag_conversion.splits import LEAST_FRAMES, MOST_GAP

TRAIN = 'train'


@dataclass(frozen=True)
class DriveSplit:
    """Corrected frames of a drive, as places in `frames.csv`.

    Attributes:
        drive: its name, maybe empty.
        train: for training.
        val: for validation.
        between: in neither, because they are too near to the others in time.
    """

    drive: str
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    between: NDArray[np.int64]


@dataclass(frozen=True)
class CorrectedSplit:
    """What became of the corrected frames.

    Attributes:
        names: of the splits: all corrected frames, those for training, those for validation.
        drives: by drive.
        notes: what was assumed, and what to mind.
    """

    names: tuple[str, str, str]
    drives: list[DriveSplit]
    notes: list[str] = field(default_factory=list)


def split_corrected(root: Path, config: SplitConfig, *, name: str = 'corrected') -> CorrectedSplit:
    """Write splits of the frames whose labels are of people.

    They are `NAME` (all), `NAME_train` and `NAME_val`: whole drives, or the beginning and the end
    of each drive, never shuffled, because neighboring sweeps are nearly the same. A split that
    would be empty is not written.

    Args:
        root: the dataset folder.
        config: which drives, or which part of the frames of each, are for validation.
        name: of the splits.

    Raises:
        ConfigError: a drive for validation has no such frame.
        DatasetError: nobody has labelled a frame, or a file is malformed.
        WriteError: a split cannot be written.
    """
    table = FrameTable(root / FRAMES_FILE)
    places = [place for place in range(len(table)) if _is_by_people(root, table.name(place))]
    if not places:
        raise DatasetError(
            f'{root}: no frame has labels of people; correct some (`labels export`, `labels '
            'import`)'
        )
    groups: dict[str, list[int]] = {}
    for place in places:
        groups.setdefault(table.drive(place), []).append(place)
    if unknown := [drive for drive in config.val_drives if drive not in groups]:
        raise ConfigError(
            f'val_drives {unknown}: the drives with corrected frames are {list(groups)}'
        )
    notes: list[str] = []
    drives = [_split(table, drive, own, config, notes) for drive, own in groups.items()]
    found = CorrectedSplit((name, f'{name}_train', f'{name}_val'), drives, notes)
    parts = (
        places,
        [int(place) for each in drives for place in each.train],
        [int(place) for each in drives for place in each.val],
    )
    for split, own in zip(found.names, parts, strict=True):
        if own:
            write_split(root, split, ranges_of(table, own))
        else:
            (root / 'splits' / f'{split}.txt').unlink(missing_ok=True)
            notes.append(
                f'no frame is for {split}; drives with fewer than {LEAST_FRAMES} corrected '
                'frames are not split, and --val-drive names whole drives'
            )
    if near := _near_training(root, table, parts[2], config):
        notes.append(
            f'{near} frames of the split {TRAIN} are within {config.gap_s:g} s of a frame of '
            f'{found.names[2]}: do not train on {TRAIN} and validate on this'
        )
    return found


def _is_by_people(root: Path, name: str) -> bool:
    return labels_path(root, name).exists() and read_label_source(root, name) is None


def _split(
    table: FrameTable, drive: str, places: list[int], config: SplitConfig, notes: list[str]
) -> DriveSplit:
    stamps = [table[place].stamp_ns for place in places]
    if any(stamp is None for stamp in stamps):
        notes.append(
            f'drive {drive!r}: without times, frames are split in the order of {FRAMES_FILE}'
        )
        stamps = [place * NANOSECONDS for place in places]
    times = np.array(stamps, np.int64)
    num_train, val = _parts_of(drive, times, config)
    own = np.array(places, np.int64)
    return DriveSplit(drive, own[:num_train], own[val:], own[num_train:val])


def _parts_of(drive: str, times: NDArray[np.int64], config: SplitConfig) -> tuple[int, int]:
    """Number of frames for training, and place of the first one for validation.

    The part for validation is one of the frames, not of the time, because people choose frames as
    they like.
    """
    num = len(times)
    if config.val_drives:
        return (0, 0) if drive in config.val_drives else (num, num)
    if num < LEAST_FRAMES or config.val_part in (0, 1):
        return (0, 0) if config.val_part == 1 else (num, num)
    val = num - max(round(config.val_part * num), 1)
    gap_s = min(config.gap_s, MOST_GAP * float(times[-1] - times[0]) / NANOSECONDS)
    return int(np.searchsorted(times, times[val] - round(gap_s * NANOSECONDS), 'right')), val


def _near_training(root: Path, table: FrameTable, val: list[int], config: SplitConfig) -> int:
    """Frames of the usual training split that are near a validation frame in time."""
    if not val or TRAIN not in split_names(root):
        return 0
    train = resolve_split(table, read_split(root, TRAIN), f'{root}, split {TRAIN}').tolist()
    near = 0
    for drive in {table.drive(place) for place in val}:
        times, others = (
            np.array(sorted(table[p].stamp_ns or 0 for p in own if table.drive(p) == drive))
            for own in (val, train)
        )
        after = np.searchsorted(times, others)
        before, last = np.maximum(after - 1, 0), len(times) - 1
        distances = np.abs(others - times[before]), np.abs(times[np.minimum(after, last)] - others)
        near += int((np.minimum(*distances) < config.gap_s * NANOSECONDS).sum())
    return near
