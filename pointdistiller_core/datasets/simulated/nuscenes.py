# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated drives in nuScenes' format: all round, with sweeps, poses and velocities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import SimulationConfig
from pointdistiller_core.datasets.simulated.drive import (
    SimulatedFrame,
    SimulatedObject,
    simulate_drive,
)
from pointdistiller_core.datasets.simulated.writer import claim_folder, settings_of
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.files import read_text, write_file
from pointdistiller_core.formats.nuscenes.names import category_class, likely_attributes
from pointdistiller_core.formats.nuscenes.rotations import (
    quaternion_of,
    quaternion_product,
    quaternions_about_z,
)
from pointdistiller_core.formats.nuscenes.writer import (
    MOUNT,
    Pose,
    WrittenLabel,
    WrittenScene,
    WrittenSweep,
    cloud_file,
    write_cloud,
    write_tables,
)
from pointdistiller_core.workers import map_in_workers

if TYPE_CHECKING:
    Array = NDArray[np.float64]

KEY_FRAMES_IN_SCENE = 10
KEY_FRAME_RATE = 2.0  # [Hz]
SWEEPS_BEFORE = 10  # the first key frame of a scene
SCENES_FOLDER = 'scenes'
CATEGORIES = {
    **{'Car': 'vehicle.car', 'Van': 'vehicle.car', 'Truck': 'vehicle.truck'},
    **{'Misc': 'vehicle.trailer', 'Pedestrian': 'human.pedestrian.adult'},
    'Cyclist': 'vehicle.bicycle',
}


def simulate_nuscenes(
    root: Path,
    config: SimulationConfig,
    *,
    splits: Mapping[str, int],
    seed: int,
    num_workers: int = 2,
    on_frame: Callable[[int, int], None] | None = None,
) -> None:
    """Write drives in nuScenes' format, ten key frames in a scene.

    There are key frames twice a second, sweeps between them at the sensor's rate, and ten sweeps
    before the first one. Every road user in reach of the sensor is labelled with its exact box,
    all round; the number of its points is that of the key frame.

    The devkit takes the names `train` and `val` for those of the published data: there, the splits
    are also called `simulated_train` and so on.

    The files depend only on (config, splits, seed). An interrupted simulation continues with the
    scene where it stopped.

    Args:
        root: folder to write.
        config: what is simulated.
        splits: name and number of key frames of each, e.g. `{'train': 200, 'val': 50}`.
        seed: of everything.
        num_workers: processes.
        on_frame: told how many key frames are done, and how many there are.

    Raises:
        DatasetError: `root` holds something else, or a simulation with other settings.
        WriteError: it cannot be written.
        PointDistillerError: a process was killed, or cannot be started.
    """
    claim_folder(root, settings_of(config, seed=seed, splits=dict(splits), format='nuscenes'))
    sizes = {split: list(_scene_sizes(count)) for split, count in splits.items()}
    all_sizes = [size for own in sizes.values() for size in own]
    names = [_scene_name(at) for at in range(len(all_sizes))]
    missing = [at for at, name in enumerate(names) if not _scene_file(root, name).exists()]
    done = sum(all_sizes) - sum(all_sizes[at] for at in missing)
    write = partial(_write_scene, root, config, seed, all_sizes)
    for written in map_in_workers(write, missing, num_workers=num_workers):
        done += written
        if on_frame is not None:
            on_frame(done, sum(all_sizes))
    rest = iter(names)
    scenes = {split: [next(rest) for _ in own] for split, own in sizes.items()}
    also = {f'simulated_{split}': own for split, own in scenes.items()}
    write_tables(root, [_read_scene(root, name) for name in names], {**scenes, **also})


def _scene_sizes(num_key_frames: int) -> Iterator[int]:
    for start in range(0, num_key_frames, KEY_FRAMES_IN_SCENE):
        yield min(KEY_FRAMES_IN_SCENE, num_key_frames - start)


def _scene_name(at: int) -> str:
    return f'simulated-{at + 1:04d}'


def _scene_file(root: Path, name: str) -> Path:
    return root / SCENES_FOLDER / f'{name}.json'


def _read_scene(root: Path, name: str) -> WrittenScene:
    file = _scene_file(root, name)
    try:
        return WrittenScene.from_dict(json.loads(read_text(file, DatasetError)))
    except (LookupError, TypeError, ValueError) as error:
        raise DatasetError(f'{file}: damaged; remove it, and it is simulated again') from error


def _write_scene(
    root: Path, config: SimulationConfig, seed: int, sizes: list[int], at: int
) -> int:
    """Write the clouds of a scene, then its record; returns its number of key frames."""
    name, step = _scene_name(at), max(1, round(config.sensor.rate / KEY_FRAME_RATE))
    own_seed = int(np.random.SeedSequence((seed, at)).generate_state(1)[0])
    num_sweeps = SWEEPS_BEFORE + (sizes[at] - 1) * step + 1
    mount: Pose = (0.0, 0.0, config.sensor.height, *MOUNT[3:])
    places: dict[int, Array] = {}  # of the road users in the sweep before
    sweeps = []
    for number, frame in enumerate(
        simulate_drive(config, num_frames=num_sweeps, seed=own_seed), start=-SWEEPS_BEFORE
    ):
        labels, places = _labels(frame, config, places)
        is_key = number >= 0 and number % step == 0
        time_us = frame.stamp_ns // 1000
        file = cloud_file(name, time_us, key_frame=is_key)
        write_cloud(root, file, _native(frame.points))
        pose = _vehicle_pose(frame.world_from_lidar, config.sensor.height)
        sweeps.append(WrittenSweep(time_us, file, pose, labels if is_key else None))
    scene = WrittenScene(name, tuple(sweeps), mount)
    write_file(_scene_file(root, name), json.dumps(scene.to_dict()).encode())
    return sizes[at]


def _native(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 5) points as nuScenes' sensor gives them, of ring 0."""
    x, y, z, intensity = points.T
    return np.stack([-y, x, z, intensity * 255, np.zeros_like(x)], axis=1)


def _vehicle_pose(world_from_lidar: Array, height: float) -> Pose:
    """Pose of the vehicle, on the ground below the sensor."""
    down = np.eye(4)
    down[2, 3] = -height
    matrix = world_from_lidar @ down
    return (*matrix[:3, 3].tolist(), *quaternion_of(matrix[:3, :3]).tolist())


def _labels(
    frame: SimulatedFrame, config: SimulationConfig, before: Mapping[int, Array]
) -> tuple[tuple[WrittenLabel, ...], dict[int, Array]]:
    """Annotations of a sweep, and the places of the road users."""
    turn = quaternion_of(frame.world_from_lidar[:3, :3])
    labels, places = [], {}
    for item in frame.objects:
        x, y, z, length, width, height, yaw = item.box
        place = (frame.world_from_lidar @ [x, y, z, 1.0])[:3]
        places[item.track_id] = place
        if np.hypot(x, y) > config.sensor.max_range:
            continue
        rotation = quaternion_product(turn, quaternions_about_z(np.array([yaw]))[0])
        moved = place - before.get(item.track_id, place)
        labels.append(
            WrittenLabel(
                track=item.track_id,
                category=CATEGORIES[item.name],
                pose=(*place.tolist(), *rotation.tolist()),
                size=(width, length, height),
                num_points=item.num_points,
                attribute=_attribute(item, moved[:2] * config.sensor.rate),
                visible=1 - item.occlusion,
            )
        )
    return tuple(labels), places


def _attribute(item: SimulatedObject, velocity: Array) -> str:
    name = category_class(CATEGORIES[item.name]) or ''
    if name == 'bicycle':  # each has a rider
        return 'cycle.with_rider'
    return likely_attributes([name], velocity[None])[0]
