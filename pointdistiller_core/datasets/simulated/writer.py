# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated sweeps as files: a KITTI folder, or an MCAP bag with its truth beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pointdistiller_core import __version__
from pointdistiller_core.config import CameraConfig, SimulationConfig
from pointdistiller_core.config.simulation import VariationConfig
from pointdistiller_core.datasets.simulated.drive import (
    SimulatedFrame,
    SimulatedObject,
    simulate_drive,
    simulate_scene,
)
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.files import (
    check_writable,
    is_partial,
    new_folder,
    read_text,
    write_file,
)
from pointdistiller_core.formats.kitti import (
    CLASS_NAMES,
    KittiObjects,
    camera_calibration,
    format_calibration,
    format_objects,
    objects_from_boxes,
)
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.messages.boxes_cloud import TRUTH_TOPIC, to_box_columns
from pointdistiller_core.records import IGNORE_LABEL, Detections
from pointdistiller_core.workers import map_in_workers

SETTINGS_FILE = 'simulation.yaml'
TRUTH_FILE = 'truth.json'
DRIVE_TOPIC, LIDAR_FRAME_ID = '/points', 'velodyne'
TRUTH_CLASSES = (*CLASS_NAMES, 'Van', 'Truck', 'Misc')  # that labels of a drive's boxes index
# KITTI's levels 0 visible, 1 partly, 2 largely occluded, as parts of an object's beams; more is 3,
# unknown.
OCCLUSION_LEVELS = (0.2, 0.5, 0.8)


def simulate_dataset(
    root: Path,
    config: SimulationConfig,
    *,
    splits: Mapping[str, int],
    seed: int,
    num_workers: int = 2,
    on_frame: Callable[[int, int], None] | None = None,
) -> None:
    """Write independent labelled scenes in KITTI's layout.

    Beside KITTI's own files, `training/objects/NNNNNN.json` holds every road user, also those
    outside the image or without a point, with its exact box, number of points, occlusion and the
    part outside the image (`truncation`).

    The files depend only on (config, splits, seed). An interrupted simulation continues where it
    stopped.

    Args:
        root: folder to write.
        config: what is simulated.
        splits: name and number of frames of each, e.g. `{'train': 200, 'val': 50}`.
        seed: of everything.
        num_workers: processes.
        on_frame: told how many frames are done, and how many there are.

    Raises:
        DatasetError: `root` holds something else, or a simulation with other settings.
        WriteError: it cannot be written.
        PointDistillerError: a process was killed, or cannot be started.
    """
    claim_folder(root, settings_of(config, seed=seed, splits=dict(splits)))
    names = [f'{index:06d}' for index in range(sum(splits.values()))]
    starts = np.cumsum([0, *splits.values()])
    for split, start, count in zip(splits, starts, splits.values(), strict=False):
        text = '\n'.join(names[start : start + count]) + '\n'
        write_file(root / 'ImageSets' / f'{split}.txt', text.encode())
    sizes = {name: config.camera.image_size for name in names}
    write_file(root / 'image_sizes.json', json.dumps(sizes).encode())
    missing = [i for i, name in enumerate(names) if not _last_file(root, name).exists()]
    _write_frames(root, config, missing, seed=seed, num_workers=num_workers, on_frame=on_frame)


def write_drive_bag(
    path: Path,
    config: SimulationConfig,
    *,
    num_frames: int,
    seed: int,
    on_frame: Callable[[int, int], None] | None = None,
) -> None:
    """Write a drive as an MCAP bag (topic `/points`, frame `velodyne`), and `truth.json` in it.

    The topic `/ground_truth/boxes` has the labelled boxes, whose labels index `TRUTH_CLASSES`.
    `truth.json` is a list of frames: `stamp_ns`, `world_from_lidar` (4 x 4) and `objects`. The bag
    appears once it is whole. Where it is there already, with the same settings, nothing is done.

    Args:
        path: bag folder to create.
        config: what is simulated.
        num_frames: sweeps.
        seed: of everything.
        on_frame: told how many frames are done, and how many there are.

    Raises:
        DatasetError: `path` holds a drive with other settings.
        WriteError: it holds something else, or cannot be written.
    """
    settings = settings_of(config, seed=seed, num_frames=num_frames)
    if (path / SETTINGS_FILE).exists():
        _check_settings(path, settings)
        return
    truth = []
    with new_folder(path) as aside:
        with CloudBagWriter(aside) as writer:
            writer.name_classes(TRUTH_TOPIC, TRUTH_CLASSES)
            frames = simulate_drive(config, num_frames=num_frames, seed=seed)
            for done, frame in enumerate(frames, start=1):
                boxes = to_box_columns(labelled_boxes(frame.objects))
                writer.write(TRUTH_TOPIC, frame.stamp_ns, LIDAR_FRAME_ID, *boxes)
                writer.write(DRIVE_TOPIC, frame.stamp_ns, LIDAR_FRAME_ID, frame.points)
                truth.append(
                    {
                        'stamp_ns': frame.stamp_ns,
                        'world_from_lidar': frame.world_from_lidar.tolist(),
                        'objects': [item.to_dict() for item in frame.objects],
                        **({'conditions': dict(frame.conditions)} if _varies(config) else {}),
                    }
                )
                if on_frame is not None:
                    on_frame(done, num_frames)
        write_file(aside / TRUTH_FILE, json.dumps(truth).encode())
        write_file(aside / SETTINGS_FILE, _to_yaml(settings))


def labelled_boxes(objects: Sequence[SimulatedObject]) -> Detections:
    """All road users with their tracks; those without a point are ignored."""
    numbers = {name: number for number, name in enumerate(TRUTH_CLASSES)}
    labels = [numbers[item.name] if item.num_points else IGNORE_LABEL for item in objects]
    boxes = np.array([item.label_box or item.box for item in objects], np.float32)
    return Detections(
        boxes=boxes.reshape(-1, 7),
        scores=np.ones(len(objects), np.float32),
        labels=np.array(labels, np.int64),
        tracks=np.array([item.track_id for item in objects], np.int64),
    )


def label_objects(
    objects: Sequence[SimulatedObject], camera: CameraConfig, *, all_round: bool = False
) -> KittiObjects:
    """KITTI labels of the road users with a point, in the image or all round."""
    labels = _in_camera(objects, camera, labelled=True)
    levels = np.searchsorted(OCCLUSION_LEVELS, [item.occlusion for item in objects], side='right')
    labels = replace(labels, occluded=levels.astype(np.int64))
    low, high = labels.boxes_2d[:, :2], labels.boxes_2d[:, 2:]
    in_image = ((high - low) > 0).all(axis=1)
    in_image |= all_round
    return labels[in_image & np.array([item.num_points > 0 for item in objects], dtype=bool)]


def _in_camera(
    objects: Sequence[SimulatedObject], camera: CameraConfig, *, labelled: bool = False
) -> KittiObjects:
    """All road users, as the camera sees them; their exact boxes or the labelled ones."""
    boxes = [(item.label_box if labelled else None) or item.box for item in objects]
    return objects_from_boxes(
        np.array(boxes).reshape(-1, 7),
        [item.name for item in objects],
        camera_calibration(camera),
        camera.image_size,
    )


def settings_of(config: SimulationConfig, **further: Any) -> dict[str, Any]:
    """All settings that the files depend on, as YAML returns them."""
    values = {'version': __version__, **further, **config.model_dump(mode='json')}
    settings: dict[str, Any] = json.loads(json.dumps(values))
    return settings


def _to_yaml(settings: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(dict(settings), sort_keys=False).encode()


def claim_folder(root: Path, settings: dict[str, Any]) -> None:
    """Write the settings into a new folder; check them in an existing one.

    Raises:
        DatasetError: the folder holds something else, or was simulated with other settings.
        WriteError: it cannot be written.
    """
    if (root / SETTINGS_FILE).exists():
        _check_settings(root, settings)
        return
    check_writable(root, folder=True)
    if root.exists() and not all(is_partial(path) for path in root.iterdir()):
        raise DatasetError(f'{root} holds other files; choose an empty or a new folder')
    write_file(root / SETTINGS_FILE, _to_yaml(settings))


def _check_settings(root: Path, settings: dict[str, Any]) -> None:
    file = root / SETTINGS_FILE
    try:
        before = yaml.safe_load(read_text(file, DatasetError))
    except yaml.YAMLError as error:
        raise DatasetError(f'{file}: not valid YAML: {error}') from error
    if isinstance(before, dict):  # settings that are newer have their defaults
        before = _filled(before, SimulationConfig().model_dump(mode='json'))
    if changes := list(_changes(before, settings)):
        raise DatasetError(
            f'{root} was simulated with other settings: {"; ".join(changes)}; choose another '
            'folder or remove it'
        )


def _filled(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """`values`, completed by defaults; what is no dictionary stays."""
    filled = {**defaults, **values}
    for name, default in defaults.items():
        if isinstance(default, dict) and isinstance(filled[name], dict) and name != 'kinds':
            filled[name] = _filled(filled[name], default)
    return filled


def _changes(before: Any, now: Any, key: str = '') -> Iterator[str]:
    """Each value that differs, as `key.sub: before -> now`."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            path = f'{key}.{name}' if key else name
            yield from _changes(before.get(name), now.get(name), path)
    elif before != now:
        yield f'{key}: {before} -> {now}'


def _write_frames(
    root: Path,
    config: SimulationConfig,
    indices: Sequence[int],
    *,
    seed: int,
    num_workers: int,
    on_frame: Callable[[int, int], None] | None,
) -> None:
    write = partial(_write_frame, root, config, seed)
    for done, _ in enumerate(map_in_workers(write, indices, num_workers=num_workers), start=1):
        if on_frame is not None:
            on_frame(done, len(indices))


def _write_frame(root: Path, config: SimulationConfig, seed: int, index: int) -> None:
    """Write the files of one frame; the last one marks it as complete."""
    frame: SimulatedFrame = simulate_scene(config, seed=seed, index=index)
    folder, name = root / 'training', f'{index:06d}'
    calibration = format_calibration(camera_calibration(config.camera))
    labels = format_objects(
        label_objects(frame.objects, config.camera, all_round=config.labels.all_round)
    )
    write_file(folder / 'velodyne' / f'{name}.bin', frame.points.tobytes())
    write_file(folder / 'calib' / f'{name}.txt', calibration.encode())
    write_file(folder / 'label_2' / f'{name}.txt', labels.encode())
    truncations = _in_camera(frame.objects, config.camera).truncated.tolist()
    objects = [
        {**item.to_dict(), 'truncation': truncation}
        for item, truncation in zip(frame.objects, truncations, strict=True)
    ]
    if _varies(config):
        text = json.dumps(dict(frame.conditions))
        write_file(folder / 'conditions' / f'{name}.json', text.encode())
    write_file(_last_file(root, name), json.dumps(objects).encode())


def _varies(config: SimulationConfig) -> bool:
    """Whether frames differ in more than a plain street."""
    return config.variation != VariationConfig() or set(config.scene.kinds) != {'plain'}


def _last_file(root: Path, name: str) -> Path:
    return root / 'training' / 'objects' / f'{name}.json'
