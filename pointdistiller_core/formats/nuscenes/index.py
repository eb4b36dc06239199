# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""An index of nuScenes' tables: made once, then opened at once, whatever its size.

It holds what is needed of key frames and sweeps of one LiDAR: no camera, no radar. Its arrays are
read from their files as they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import DatasetError, WriteError
from pointdistiller_core.files import new_folder, remove_folder
from pointdistiller_core.formats.nuscenes.names import in_official_split, official_splits
from pointdistiller_core.formats.nuscenes.tables import (
    TABLES,
    Columns,
    Keys,
    Record,
    check_tables,
    key_of,
    table_file,
)

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    Arrays = dict[str, NDArray[Any]]

logger = logging.getLogger(__name__)

FORMAT = 1  # of the files of the index
KEPT_FROM = 2**26  # [bytes] of tables; smaller ones are read again each time
ALL_SAMPLES = 'all'  # split
LIDAR = 'LIDAR_TOP'
MAX_GAP_S = 1.5  # between neighbors that a velocity is taken from, doubled for one on each side
SPLITS_FILE = 'splits.json'
NAMES = ('scenes', 'categories', 'attributes')
NUMBERS = (
    *('tokens', 'sample_scenes', 'sample_times', 'sample_places', 'key_frames', 'starts'),
    *('boxes', 'velocities', 'num_points', 'labels'),
    *('sweep_times', 'sweep_links', 'sweep_poses', 'mounts'),
)
ARRAYS = (*NAMES, *NUMBERS, 'files', 'file_starts')
NONE, SEVERAL = -1, -2  # instead of an attribute


class NuScenesIndex:
    """Key frames, sweeps and annotations of one version of the tables.

    Samples are in the order of scenes, and in each by their time; annotations in that of samples,
    and in each as in their table.

    Attributes:
        folder: of the tables.
        scenes: names of the scenes.
        categories: names of the categories.
        attributes: names of the attributes.
        tokens: (S,) of the samples, bytes.
        sample_scenes: (S,) scene of each sample.
        sample_times: (S,) [us].
        sample_places: (S,) place in the table of the samples.
        key_frames: (S,) row of the sweep of each sample.
        starts: (S + 1,) sample i has the annotations from `starts[i]` to `starts[i + 1]`.
        boxes: (A, 10) center [m], width, length, height [m], quaternion w, x, y, z; global frame.
        velocities: (A, 3) [m/s], global frame; NaN if not known.
        num_points: (A, 2) of LiDAR, and of radar.
        labels: (A, 3) category; attribute, -1 for none, -2 for several; instance.
        sweep_times: (W,) [us].
        sweep_links: (W, 2) sweep before, -1 for none; mount.
        sweep_poses: (W, 7) of the vehicle in the global frame: center, quaternion w, x, y, z.
        mounts: (K, 7) of the sensor in the vehicle's frame, in the same form.
    """

    scenes: tuple[str, ...]
    categories: tuple[str, ...]
    attributes: tuple[str, ...]
    tokens: NDArray[np.bytes_]
    sample_scenes: IntArray
    sample_times: IntArray
    sample_places: IntArray
    key_frames: IntArray
    starts: IntArray
    boxes: FloatArray
    velocities: FloatArray
    num_points: IntArray
    labels: IntArray
    sweep_times: IntArray
    sweep_links: IntArray
    sweep_poses: FloatArray
    mounts: FloatArray

    def __init__(
        self, folder: Path, arrays: Mapping[str, NDArray[Any]], kept: Path | None = None
    ) -> None:
        """From the arrays of `build_arrays`.

        Args:
            folder: of the tables.
            arrays: of the index.
            kept: where they are kept, if they are: from there another process reads them.
        """
        self.folder, self._kept, self._arrays = folder, kept, arrays
        self._files, self._file_starts = arrays['files'], arrays['file_starts']
        for name in NAMES:
            texts = tuple(text.decode() for text in arrays[name].tolist())
            setattr(self, name, texts)
        for name in NUMBERS:
            setattr(self, name, arrays[name])

    def __len__(self) -> int:
        return len(self.tokens)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._kept is None:
            return NuScenesIndex, (self.folder, self._arrays)
        return _reopen, (self.folder, self._kept)

    def token(self, sample: int) -> str:
        """Token of a sample."""
        return bytes(self.tokens[sample]).decode()

    def sweep_file(self, sweep: int) -> str:
        """File of a sweep, below the root of the dataset."""
        start, end = self._file_starts[sweep], self._file_starts[sweep + 1]
        return self._files[start:end].tobytes().decode()

    def sweeps(self, sample: int, count: int, max_age_us: int | None = None) -> list[int]:
        """The sweep of a sample and those before it, newest first.

        Args:
            sample: its number.
            count: of sweeps, at most; there is at least that of the sample.
            max_age_us: older sweeps are left out [us]; None leaves out none.
        """
        rows = [int(self.key_frames[sample])]
        newest = self.sweep_times[rows[0]]
        while len(rows) < count and (before := int(self.sweep_links[rows[-1], 0])) >= 0:
            if max_age_us is not None and newest - self.sweep_times[before] > max_age_us:
                break
            rows.append(before)
        return rows

    def splits(self) -> tuple[str, ...]:
        """Names of the splits, without `all`."""
        named = tuple(self._custom_splits())
        return tuple(dict.fromkeys((*official_splits(self.folder.name), *named)))

    def is_official(self, split: str) -> bool:
        """Whether a split is a published one, not one of `splits.json`."""
        return split in official_splits(self.folder.name)

    def samples(self, split: str) -> IntArray:
        """(F,) samples of a split, or of several as `train+val`.

        Raises:
            DatasetError: there is none of this name, or it has no samples.
        """
        chosen = np.zeros(len(self.scenes), np.bool_)
        for name in split.split('+'):
            chosen |= self._scenes_of(name)
        samples: IntArray = np.flatnonzero(chosen[self.sample_scenes])
        if not len(samples):
            raise DatasetError(f'{self.folder}: split {split} has no samples')
        return samples

    def _scenes_of(self, split: str) -> NDArray[np.bool_]:
        """Which scenes are in a split."""
        if split == ALL_SAMPLES:
            return np.ones(len(self.scenes), np.bool_)
        if self.is_official(split):
            return np.array([in_official_split(scene, split) for scene in self.scenes], np.bool_)
        custom = self._custom_splits()
        if split not in custom:
            choices = ', '.join((*self.splits(), ALL_SAMPLES))
            raise DatasetError(f'{self.folder}: has no split {split!r}; choose from {choices}')
        if unknown := sorted(set(custom[split]) - set(self.scenes)):
            raise DatasetError(
                f'{self.folder / SPLITS_FILE}: split {split} has the scenes {unknown}, which are '
                'not in scene.json'
            )
        return np.isin(self.scenes, custom[split])

    def _custom_splits(self) -> dict[str, list[str]]:
        return read_splits(self.folder)


def read_splits(folder: Path) -> dict[str, list[str]]:
    """Scenes of the splits in `splits.json`; none without this file.

    Raises:
        DatasetError: it is malformed.
    """
    file = folder / SPLITS_FILE
    if not file.exists():
        return {}
    try:
        splits = json.loads(file.read_bytes())
        valid = isinstance(splits, dict) and all(
            isinstance(names, list) and all(isinstance(name, str) for name in names)
            for names in splits.values()
        )
    except (OSError, ValueError) as error:
        raise DatasetError(f'{file}: cannot be read: {error}') from error
    if not valid:
        raise DatasetError(f'{file}: expected lists of names of scenes by name of the split')
    return dict(splits)


# --- open ------------------------------------------------------------------------------------


def open_index(folder: Path, cache: Path, *, channel: str = LIDAR) -> NuScenesIndex:
    """The index of some tables, from the cache; made and kept there if need be.

    That of small tables is made in memory: nothing is written.

    Args:
        folder: of the tables of one version.
        cache: folder for what is derived from the dataset.
        channel: of the LiDAR.

    Raises:
        DatasetError: a table is missing or malformed, a token points nowhere, a sweep has no pose.
    """
    check_tables(folder)
    states = [(name, table_file(folder, name).stat()) for name in TABLES]
    if sum(state.st_size for _, state in states) < KEPT_FROM:
        return NuScenesIndex(folder, build_arrays(folder, channel))
    facts = (FORMAT, channel, [(name, s.st_size, s.st_mtime_ns) for name, s in states])
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:24]
    kept = cache / 'nuscenes' / f'{folder.name}-{key}'
    arrays = _read_arrays(kept)
    if arrays is None:
        logger.warning('%s: making an index of the tables, once; it takes a minute', folder)
        arrays = build_arrays(folder, channel)
        try:
            _write_arrays(kept, arrays)
        except WriteError as error:
            logger.warning(
                '%s; the index is made again each time; set dataset.cache to another folder',
                error,
            )
            return NuScenesIndex(folder, arrays)
        arrays = _read_arrays(kept) or arrays
    return NuScenesIndex(folder, arrays, kept)


def _reopen(folder: Path, kept: Path) -> NuScenesIndex:
    arrays = _read_arrays(kept)
    if arrays is None:
        raise DatasetError(f'{kept}: is gone; open the dataset again')
    return NuScenesIndex(folder, arrays, kept)


def _read_arrays(kept: Path) -> Arrays | None:
    """Arrays of the index, mapped into memory; None if there are none that are whole."""
    if not kept.is_dir():
        return None
    try:
        return {name: np.load(kept / f'{name}.npy', mmap_mode='r') for name in ARRAYS}
    except (OSError, ValueError, EOFError) as error:
        logger.warning('%s: damaged (%s); it is made again', kept, error)
        return None


def _write_arrays(kept: Path, arrays: Arrays) -> None:
    if kept.exists():  # damaged
        remove_folder(kept)
    with new_folder(kept) as aside:
        for name, values in arrays.items():
            np.save(aside / f'{name}.npy', values)


# --- make ------------------------------------------------------------------------------------


def build_arrays(folder: Path, channel: str = LIDAR) -> Arrays:
    """The arrays of an index, in memory; see `NuScenesIndex`.

    Args:
        folder: of the tables.
        channel: of the LiDAR.

    Raises:
        DatasetError: a table is missing or malformed, a token points nowhere, a sweep has no pose.
    """
    check_tables(folder)
    scenes = Columns(folder, 'scene', links=['token'], texts=['name'])
    samples = Columns(
        folder, 'sample', links=['token', 'scene_token'], numbers={'timestamp': 1}, texts=['token']
    )
    sample_keys = Keys(samples)
    in_scene = Keys(scenes).find(samples, 'scene_token')
    times = samples.numbers('timestamp').astype(np.int64)
    order = np.lexsort((times, in_scene))
    place_of = np.empty_like(order)  # of each record of the table among the sorted samples
    place_of[order] = np.arange(len(order))
    arrays = {
        'scenes': _texts(scenes.texts['name']),
        'tokens': _texts(samples.texts['token'])[order],
        'sample_scenes': in_scene[order],
        'sample_times': times[order],
        'sample_places': samples.places[order],
    }
    arrays |= _sweep_arrays(folder, channel, samples, sample_keys, place_of)
    return arrays | _annotation_arrays(folder, samples, sample_keys, place_of)


def _sweep_arrays(
    folder: Path, channel: str, samples: Columns, sample_keys: Keys, place_of: IntArray
) -> Arrays:
    mounts, is_mounted = _mounts(folder, channel)

    def is_own(record: Record) -> bool:
        token = record['calibrated_sensor_token']
        own = is_mounted.get(key_of(token))
        if own is None:
            raise ValueError(
                f'its calibrated_sensor_token {token!r} is not in calibrated_sensor.json'
            )
        return own

    sweeps = Columns(
        folder,
        'sample_data',
        links=['token', 'prev', 'sample_token', 'ego_pose_token', 'calibrated_sensor_token'],
        numbers={'timestamp': 1, 'is_key_frame': 1},
        texts=['filename'],
        keep=is_own,
    )
    if not len(sweeps):
        raise DatasetError(f'{table_file(folder, "sample_data")}: has no sweep of {channel}')
    wanted = set(sweeps.keys('ego_pose_token').tolist())
    poses = Columns(
        folder,
        'ego_pose',
        links=['token'],
        numbers={'translation': 3, 'rotation': 4},
        keep=lambda record: key_of(record['token']) in wanted,
    )
    own_pose = Keys(poses).find(sweeps, 'ego_pose_token')
    is_key = sweeps.numbers('is_key_frame') > 0
    at = sample_keys.find(sweeps, 'sample_token')[is_key]
    _check_key_frames(samples, channel, np.bincount(at, minlength=len(samples)))
    key_frames = np.full(len(samples), -1)
    key_frames[place_of[at]] = np.flatnonzero(is_key)
    files = [name.encode() for name in sweeps.texts['filename']]
    return {
        'key_frames': key_frames,
        'sweep_times': sweeps.numbers('timestamp').astype(np.int64),
        'sweep_links': np.stack(
            [
                Keys(sweeps).find(sweeps, 'prev', optional=True),
                Keys(mounts).find(sweeps, 'calibrated_sensor_token'),
            ],
            axis=1,
        ),
        'sweep_poses': _poses(poses)[own_pose],
        'mounts': _poses(mounts),
        'files': np.frombuffer(b''.join(files), np.uint8),
        'file_starts': np.cumsum([0, *map(len, files)]),
    }


def _mounts(folder: Path, channel: str) -> tuple[Columns, dict[int, bool]]:
    """The records of how the LiDAR is mounted; and for all keys, whether they are the LiDAR's."""
    sensors = Columns(folder, 'sensor', links=['token'], texts=['channel', 'modality'])
    names = dict(zip(sensors.keys('token').tolist(), sensors.texts['channel'], strict=True))
    if channel not in names.values():
        lidars = [
            name
            for name, kind in zip(*map(sensors.texts.get, ('channel', 'modality')), strict=True)
            if kind == 'lidar'
        ]
        raise DatasetError(
            f'{table_file(folder, "sensor")}: has no sensor {channel!r}; its LiDARs are {lidars}'
        )
    is_mounted: dict[int, bool] = {}

    def is_own(record: Record) -> bool:
        name = names.get(key_of(record['sensor_token']))
        if name is None:
            raise ValueError(f'its sensor_token {record["sensor_token"]!r} is not in sensor.json')
        own = is_mounted[key_of(record['token'])] = bool(name == channel)
        return own

    mounts = Columns(
        folder,
        'calibrated_sensor',
        links=['token', 'sensor_token'],
        numbers={'translation': 3, 'rotation': 4},
        keep=is_own,
    )
    return mounts, is_mounted


def _check_key_frames(samples: Columns, channel: str, counts: IntArray) -> None:
    """Each sample must have one sweep of its own."""
    for wrong, what in ((counts == 0, 'no'), (counts > 1, 'several')):
        if wrong.any():
            token = samples.texts['token'][int(np.argmax(wrong))]
            raise DatasetError(
                f'{table_file(samples.folder, "sample_data")}: {wrong.sum()} samples have {what} '
                f'key frames of {channel}, e.g. {token}'
            )


def _annotation_arrays(
    folder: Path, samples: Columns, sample_keys: Keys, place_of: IntArray
) -> Arrays:
    categories = Columns(folder, 'category', links=['token'], texts=['name'])
    attributes = Columns(folder, 'attribute', links=['token'], texts=['name'])
    instances = Columns(folder, 'instance', links=['token', 'category_token'])
    number_of = {key: at for at, key in enumerate(attributes.keys('token').tolist())}

    def flatten(record: Record) -> bool:
        """Give a record its attribute as a number, and its points as a pair."""
        numbers = [number_of.get(key_of(token)) for token in record['attribute_tokens']]
        if None in numbers:
            raise ValueError(f'{record["attribute_tokens"]} are not all in attribute.json')
        record['attribute'] = SEVERAL if len(numbers) > 1 else numbers[0] if numbers else NONE
        record['points'] = (record['num_lidar_pts'], record['num_radar_pts'])
        return True

    found = Columns(
        folder,
        'sample_annotation',
        links=['token', 'prev', 'next', 'sample_token', 'instance_token'],
        numbers={'translation': 3, 'size': 3, 'rotation': 4, 'attribute': 1, 'points': 2},
        keep=flatten,
    )
    in_sample = sample_keys.find(found, 'sample_token')
    instance = Keys(instances).find(found, 'instance_token')
    category = Keys(categories).find(instances, 'category_token')
    times = samples.numbers('timestamp')[in_sample] * 1e-6
    keys = Keys(found)
    neighbors = [keys.find(found, column, optional=True) for column in ('prev', 'next')]
    velocities = annotation_velocities(found.numbers('translation'), times, *neighbors)
    order = np.argsort(place_of[in_sample], kind='stable')
    counts = np.bincount(place_of[in_sample], minlength=len(samples))
    numbers = [found.numbers(name) for name in ('translation', 'size', 'rotation')]
    columns = [category[instance], found.numbers('attribute').astype(np.int64), instance]
    return {
        'categories': _texts(categories.texts['name']),
        'attributes': _texts(attributes.texts['name']),
        'starts': np.concatenate([[0], np.cumsum(counts)]),
        'boxes': np.concatenate(numbers, axis=1)[order],
        'velocities': velocities[order],
        'num_points': found.numbers('points').astype(np.int64)[order],
        'labels': np.stack(columns, axis=1)[order],
    }


def annotation_velocities(
    centers: FloatArray, times: FloatArray, before: IntArray, after: IntArray
) -> FloatArray:
    """Velocities (A, 3) [m/s] of annotations, from where their objects are before and after.

    NaN for an object without neighbors, or with one too far in time.

    Args:
        centers: (A, 3) [m].
        times: (A,) [s] of their samples.
        before: (A,) the annotation of the same object before, -1 for none.
        after: (A,) the one after.
    """
    own = np.arange(len(centers))
    first, last = np.where(before < 0, own, before), np.where(after < 0, own, after)
    duration = times[last] - times[first]
    longest = MAX_GAP_S * ((before >= 0).astype(float) + (after >= 0))
    known = (duration <= longest) & (longest > 0)
    with np.errstate(divide='ignore', invalid='ignore'):
        velocities = (centers[last] - centers[first]) / duration[:, None]
    return np.where(known[:, None], velocities, np.nan)


def _poses(table: Columns) -> FloatArray:
    columns = [table.numbers('translation'), table.numbers('rotation')]
    return np.concatenate(columns, axis=1)


def _texts(texts: Sequence[str]) -> NDArray[np.bytes_]:
    return np.array([text.encode() for text in texts], np.bytes_)
