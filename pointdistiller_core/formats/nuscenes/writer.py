# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets in nuScenes' format, which the official devkit reads, too.

Scenes are written one by one, in any order and by any process: clouds, and a record of what is in
them. The tables are made of the records at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
import zlib

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.files import write_file
from pointdistiller_core.formats.nuscenes.index import LIDAR, SPLITS_FILE
from pointdistiller_core.formats.nuscenes.names import ATTRIBUTES

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]

VERSION = 'v1.0-simulated'
VISIBILITIES = ((0.4, 'v0-40'), (0.6, 'v40-60'), (0.8, 'v60-80'), (1.01, 'v80-100'))
Pose = tuple[float, ...]  # x, y, z [m], quaternion w, x, y, z
# nuScenes' LiDAR: x to the right, y ahead.
MOUNT: Pose = (0.94, 0.0, 1.84, 0.7071067811865476, 0.0, 0.0, -0.7071067811865476)


@dataclass(frozen=True)
class WrittenLabel:
    """An annotation of a key frame, in the global frame.

    Attributes:
        track: number of the object, the same in every key frame of a scene.
        category: its name.
        pose: of the center.
        size: width, length, height [m].
        num_points: of the LiDAR in it.
        attribute: empty for none.
        visible: part that is not hidden.
    """

    track: int
    category: str
    pose: Pose
    size: tuple[float, ...]
    num_points: int
    attribute: str = ''
    visible: float = 1.0


@dataclass(frozen=True)
class WrittenSweep:
    """A sweep whose cloud is written.

    Attributes:
        time_us: time [us].
        file: of the cloud, below the root.
        pose: of the vehicle in the global frame.
        labels: None for a sweep that is no key frame.
    """

    time_us: int
    file: str
    pose: Pose
    labels: tuple[WrittenLabel, ...] | None = None


@dataclass(frozen=True)
class WrittenScene:
    """A scene.

    Attributes:
        name: e.g. `scene-0001`.
        sweeps: by ascending time; the last one is a key frame.
        mount: pose of the LiDAR in the vehicle's frame.
    """

    name: str
    sweeps: tuple[WrittenSweep, ...]
    mount: Pose = MOUNT

    def to_dict(self) -> dict[str, Any]:
        """All of it for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WrittenScene:
        """From `to_dict`."""
        sweeps = []
        for sweep in values['sweeps']:
            labels = sweep['labels']
            if labels is not None:
                labels = tuple(WrittenLabel(**label) for label in labels)
            sweeps.append(WrittenSweep(**{**sweep, 'labels': labels}))
        return cls(values['name'], tuple(sweeps), tuple(values['mount']))


def cloud_file(scene: str, time_us: int, *, key_frame: bool) -> str:
    """File of a cloud, below the root."""
    folder = 'samples' if key_frame else 'sweeps'
    return f'{folder}/{LIDAR}/{scene}__{LIDAR}__{time_us}.pcd.bin'


def write_cloud(root: Path, file: str, points: NDArray[np.float32]) -> None:
    """Write a cloud.

    Args:
        root: of the dataset.
        file: below it.
        points: (N, 5) x, y, z [m] in the frame of the LiDAR, intensity 0 to 255, ring.

    Raises:
        WriteError: the file system refuses.
    """
    assert points.shape[1:] == (5,)
    write_file(root / file, points.astype('<f4').tobytes())


def write_tables(
    root: Path,
    scenes: Sequence[WrittenScene],
    splits: Mapping[str, Sequence[str]],
    *,
    version: str = VERSION,
) -> None:
    """Write the tables of some scenes, and `splits.json`.

    Args:
        root: of the dataset.
        scenes: whose clouds are written.
        splits: names of the scenes of each split.
        version: name of the folder of the tables.

    Raises:
        WriteError: the file system refuses.
    """
    tables = _Tables()
    for scene in scenes:
        tables.add(scene)
    tables.finish()
    for name, records in tables.records.items():
        text = json.dumps(records, indent=0) + '\n'
        write_file(root / version / f'{name}.json', text.encode())
    for record in tables.records['map']:
        write_file(root / record['filename'], _blank_picture())
    text = json.dumps({name: list(own) for name, own in splits.items()}, indent=1) + '\n'
    write_file(root / version / SPLITS_FILE, text.encode())


@dataclass
class _Tables:
    """The thirteen tables, as they grow."""

    records: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {
            name: []
            for name in (
                *('attribute', 'calibrated_sensor', 'category', 'ego_pose', 'instance', 'log'),
                *('map', 'sample', 'sample_annotation', 'sample_data', 'scene', 'sensor'),
                'visibility',
            )
        }
    )

    def add(self, scene: WrittenScene) -> None:
        log, mount = token_of('log', scene.name), token_of('mount', scene.name)
        self._add(
            'log', log, logfile=scene.name, vehicle='', date_captured='', location='simulated'
        )
        self._add(
            'calibrated_sensor',
            mount,
            sensor_token=token_of('sensor'),
            **_pose(scene.mount),
            camera_intrinsic=[],
        )
        keys = [at for at, sweep in enumerate(scene.sweeps) if sweep.labels is not None]
        samples = [token_of('sample', scene.name, at) for at in keys]
        for token, at, before, after in _linked(samples, keys):
            self._add(
                'sample',
                token,
                timestamp=scene.sweeps[at].time_us,
                prev=before,
                next=after,
                scene_token=token_of('scene', scene.name),
            )
        self._add(
            'scene',
            token_of('scene', scene.name),
            log_token=log,
            nbr_samples=len(samples),
            first_sample_token=samples[0],
            last_sample_token=samples[-1],
            name=scene.name,
            description='simulated',
        )
        self._add_sweeps(scene, mount, dict(zip(keys, samples, strict=True)))
        self._add_labels(scene, samples, [scene.sweeps[at].labels or () for at in keys])

    def finish(self) -> None:
        """Add what all scenes share."""
        self._add('sensor', token_of('sensor'), channel=LIDAR, modality='lidar')
        for name in ATTRIBUTES:
            self._add('attribute', token_of('attribute', name), name=name, description='')
        for number, (_, level) in enumerate(VISIBILITIES, start=1):
            self._add('visibility', str(number), level=level, description='')
        self._add(
            'map',
            token_of('map'),
            log_tokens=[record['token'] for record in self.records['log']],
            category='semantic_prior',
            filename='maps/blank.png',
        )

    def _add(self, table: str, token: str, **values: Any) -> None:
        self.records[table].append({'token': token, **values})

    def _add_sweeps(self, scene: WrittenScene, mount: str, samples: Mapping[int, str]) -> None:
        tokens = [token_of('sweep', scene.name, at) for at in range(len(scene.sweeps))]
        for token, at, before, after in _linked(tokens, range(len(tokens))):
            sweep = scene.sweeps[at]
            self._add('ego_pose', token, timestamp=sweep.time_us, **_pose(sweep.pose))
            self._add(
                'sample_data',
                token,
                # The key frame that follows a sweep, as in nuScenes.
                sample_token=next(own for key, own in samples.items() if key >= at),
                ego_pose_token=token,
                calibrated_sensor_token=mount,
                timestamp=sweep.time_us,
                fileformat='pcd',
                is_key_frame=at in samples,
                height=0,
                width=0,
                filename=sweep.file,
                prev=before,
                next=after,
            )

    def _add_labels(
        self,
        scene: WrittenScene,
        samples: Sequence[str],
        labels: Sequence[Sequence[WrittenLabel]],
    ) -> None:
        tracks: dict[int, list[tuple[str, WrittenLabel]]] = {}
        for sample, own in zip(samples, labels, strict=True):
            for label in own:
                tracks.setdefault(label.track, []).append((sample, label))
        known = {record['name'] for record in self.records['category']}
        for track, found in tracks.items():
            category = found[0][1].category
            if category not in known:
                known.add(category)
                token = token_of('category', category)
                self._add('category', token, name=category, description='')
            instance = token_of('instance', scene.name, track)
            tokens = [token_of('label', scene.name, track, sample) for sample, _ in found]
            self._add(
                'instance',
                instance,
                category_token=token_of('category', category),
                nbr_annotations=len(found),
                first_annotation_token=tokens[0],
                last_annotation_token=tokens[-1],
            )
            for token, at, before, after in _linked(tokens, range(len(tokens))):
                sample, label = found[at]
                self._add(
                    'sample_annotation',
                    token,
                    sample_token=sample,
                    instance_token=instance,
                    visibility_token=_visibility(label.visible),
                    attribute_tokens=[token_of('attribute', label.attribute)]
                    if label.attribute
                    else [],
                    **_pose(label.pose),
                    size=list(label.size),
                    prev=before,
                    next=after,
                    num_lidar_pts=label.num_points,
                    num_radar_pts=0,
                )


def token_of(*parts: object) -> str:
    """A token that depends only on what it stands for."""
    text = '/'.join(map(str, parts))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _linked(tokens: Sequence[str], places: Sequence[int]) -> Iterator[tuple[str, int, str, str]]:
    """Each token with its place, and the tokens before and after it; empty at the ends."""
    before, after = ['', *tokens[:-1]], [*tokens[1:], '']
    return zip(tokens, places, before, after, strict=True)


def _pose(pose: Pose) -> dict[str, list[float]]:
    return {'translation': list(pose[:3]), 'rotation': list(pose[3:])}


def _visibility(visible: float) -> str:
    return str(next(at for at, (most, _) in enumerate(VISIBILITIES, 1) if visible < most))


def _blank_picture() -> bytes:
    """A PNG of one black pixel; the devkit wants a map to be there."""
    header = b'\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00'  # 1 x 1, 8 bits, grey
    parts = ((b'IHDR', header), (b'IDAT', zlib.compress(b'\x00\x00')), (b'IEND', b''))
    chunks = [
        len(content).to_bytes(4, 'big')
        + kind
        + content
        + zlib.crc32(kind + content).to_bytes(4, 'big')
        for kind, content in parts
    ]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)
