# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""KITTI's layout to the open dataset folder and back; whatever one cannot hold is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import CameraConfig, KittiConfig
from pointdistiller_core.datasets.class_tally import ClassTally
from pointdistiller_core.datasets.image_sizes import size_from_principal_point
from pointdistiller_core.datasets.kitti import KittiDataset, read_sweep
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.files import new_folder, read_text, write_file
from pointdistiller_core.formats.folder import (
    COLUMNS,
    FRAMES_FILE,
    CameraInfo,
    DriveInfo,
    FolderInfo,
    FrameRange,
    FrameRow,
    FrameTable,
    Label,
    SensorInfo,
    is_folder_dataset,
    ranges_of,
    read_further,
    read_info,
    read_labels,
    read_points,
    read_split,
    resolve_split,
    shortest_floats,
    split_names,
)
from pointdistiller_core.formats.folder_writer import FolderWriter
from pointdistiller_core.formats.kitti import (
    DONT_CARE,
    NOWHERE,
    Calibration,
    KittiObjects,
    boxes_from_objects,
    camera_calibration,
    format_calibration,
    format_objects,
    numbers_of,
    objects_from_boxes,
)
from pointdistiller_core.formats.nuscenes.versions import versions_at

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]

KITTI, AREAS = 'kitti', 'kitti_areas'  # keys of data that only KITTI holds
KITTI_SENSOR_HEIGHT = 1.73  # [m]
IGNORED_CLASS = 'Misc'  # of KITTI: neither an object of a model nor background
SAME_BOX = 0.005  # [m] or [rad]; KITTI's own files have two digits
Progress = Callable[[int, int], None]


# --- KITTI to folder -------------------------------------------------------------------------


def kitti_to_folder(
    source: Path,
    target: Path,
    *,
    tally: ClassTally | None = None,
    on_frame: Progress | None = None,
) -> Mapping[str, int]:
    """Turn a dataset in KITTI's layout, real or simulated, into an open folder.

    Points keep every bit. Beside each box, KITTI's own numbers are kept, so that the way back
    restores them. In simulated scenes, every road user is labelled with its exact box, also those
    that no camera sees; those that no ray has met are ignored. An interrupted conversion continues
    where it stopped.

    Args:
        source: folder that holds `training/` and `ImageSets/`.
        target: new folder, or one that was begun.
        tally: renames and counts classes; None keeps their names.
        on_frame: told how many frames are done, and how many there are.

    Returns:
        Data that the folder cannot hold, and their numbers.

    Raises:
        DatasetError: a file is missing or malformed, or `target` holds something else, or was
            begun with other names of classes.
        WriteError: the file system refuses; frames that were written before are intact.
    """
    tally = tally or ClassTally({})
    splits = _kitti_splits(source)
    names = sorted({name for listed in splits.values() for name in listed})
    if not names:
        raise DatasetError(f'{source}: its ImageSets list no frame that is in training/velodyne')
    dataset = KittiDataset(KittiConfig(root=source, camera_view=False), (), frame_ids=names)
    drive = _safe(source.resolve().name) or KITTI
    lost: Counter[str] = Counter()
    info = FolderInfo(sensor=SensorInfo(height=KITTI_SENSOR_HEIGHT))
    with FolderWriter(target, info) as writer:
        there = set(writer.earlier.names())
        about = DriveInfo(
            source={'kitti': str(source)}, settings={'class_map': dict(tally.class_map)}
        )
        _begin_drive(writer, drive, about)
        reader = _KittiReader(dataset, source, writer.info.cameras, lost)
        classes = dict.fromkeys(writer.info.class_names)
        for index, name in enumerate(names):
            frame = reader.read(index)
            if frame.labels is not None:
                frame.labels = [
                    replace(label, name=tally.renamed(label.name)) for label in frame.labels
                ]
            classes |= dict.fromkeys(label.name for label in frame.labels or ())
            if name not in there:
                if writer.info.cameras.keys() != reader.cameras.keys():
                    writer.update(cameras=dict(reader.cameras))
                row = FrameRow(name, drive, camera=frame.camera)
                writer.add(row, frame.points, frame.labels, frame.further)
            if on_frame is not None:
                on_frame(index + 1, len(names))
        table = FrameTable(target / FRAMES_FILE)
        places = table.find(names)
        ranges = {
            split: ranges_of(table, [places[name] for name in listed])
            for split, listed in splits.items()
            if listed
        }
        writer.set_ranges(names, ranges)
        about = about.model_copy(update={'counts': {'frames': len(names)}})
        drives = {**writer.info.drives, drive: about}
        writer.update(class_names=tuple(classes), drives=drives)
    return +lost


def _begin_drive(writer: FolderWriter, name: str, about: DriveInfo) -> None:
    """Note a drive as begun.

    Raises:
        DatasetError: it was begun with other names of classes.
    """
    before, key = writer.info.drives.get(name), 'class_map'
    if before is not None and before.settings.get(key, {}) != about.settings[key]:
        raise DatasetError(
            f'{writer.root}: its classes are named by {before.settings.get(key, {})}, not by '
            f'{about.settings[key]}; choose another folder'
        )
    if before is None:
        writer.update_drive(name, about.model_copy(update={'complete': False}))


class _KittiFrame:
    """A frame as the folder holds it."""

    def __init__(self, points: FloatArray) -> None:
        self.points = points
        self.labels: list[Label] | None = None
        self.further: dict[str, Any] = {}
        self.camera = ''


class _KittiReader:
    """Reads frames of KITTI's layout.

    Attributes:
        cameras: cameras found, by their new names.
    """

    def __init__(
        self,
        dataset: KittiDataset,
        root: Path,
        cameras: Mapping[str, CameraInfo],
        lost: Counter[str],
    ) -> None:
        self._dataset, self._root, self._lost = dataset, root, lost
        self.cameras = dict(cameras)
        self._names = {repr(camera): name for name, camera in cameras.items()}

    def read(self, index: int) -> _KittiFrame:
        """A frame."""
        frame = _KittiFrame(read_sweep(self._dataset.path('velodyne', index)))
        labelled = self._dataset.path('label_2', index).exists()
        if not labelled and not self._dataset.path('calib', index).exists():
            return frame
        calibration = self._dataset.calibration(index)
        size = self._dataset.find_image_size(index)
        frame.camera = self._name(CameraInfo.from_calibration(calibration, size))
        for key in _other_matrices(self._dataset.path('calib', index)):
            self._lost[f'calibrations with a {key} of its own'] += 1
        if self._dataset.measure_image(index) is not None:
            self._lost['images'] += 1
        if labelled:
            objects = self._dataset.objects(index)
            areas = objects[objects.names == DONT_CARE]
            frame.further = {AREAS: areas.boxes_2d.tolist()} if len(areas) else {}
            frame.labels = self._labels(index, objects[objects.names != DONT_CARE], calibration)
        return frame

    def _name(self, camera: CameraInfo) -> str:
        key = repr(camera)
        if key not in self._names:
            # Named by its values, so that datasets with several can be joined.
            name = f'camera_{hashlib.sha256(key.encode()).hexdigest()[:8]}'
            self._names[key] = name
            self.cameras[name] = camera
        return self._names[key]

    def _labels(self, index: int, objects: KittiObjects, calibration: Calibration) -> list[Label]:
        boxes = boxes_from_objects(objects, calibration)
        labels = [
            Label(str(name), shortest_floats(box), further={KITTI: row})
            for name, box, row in zip(objects.names, boxes, numbers_of(objects), strict=True)
        ]
        path = self._root / 'training' / 'objects' / f'{self._dataset.frame_ids[index]}.json'
        if not path.is_file():
            return labels
        return _joined(labels, [_exact(item) for item in _read_exact(path)])


def _other_matrices(path: Path) -> list[str]:
    """Matrices of a calibration file that are lost: neither kept, nor copies, nor identities."""
    lines = (line.partition(':') for line in read_text(path, DatasetError).splitlines())
    matrices = {key.strip(): text.split() for key, _, text in lines if text.strip()}
    kept = {key: matrices.pop(key) for key in ('P2', 'R0_rect', 'Tr_velo_to_cam')}
    nothing = [f'{value:.12e}' for value in np.eye(3, 4).flat]  # as `format_calibration` has it
    return [key for key, text in matrices.items() if text not in (kept['P2'], nothing)]


def _read_exact(path: Path) -> list[dict[str, Any]]:
    try:
        content: list[dict[str, Any]] = json.loads(read_text(path, DatasetError))
    except ValueError as error:
        raise DatasetError(f'{path}: is not valid JSON: {error}') from error
    return content


def _exact(item: Mapping[str, Any]) -> Label:
    """A road user of a simulated scene, with its labelled box."""
    further = {key: item[key] for key in ('num_points', 'occlusion') if key in item}
    box = shortest_floats(item.get('label_box') or item['box'])
    return Label(item['name'], box, ignore=item['num_points'] == 0, further=further)


def _joined(labels: Sequence[Label], exact: Sequence[Label]) -> list[Label]:
    """Exact labels, with what KITTI's say of the same objects; labels of nothing else are kept."""
    rest, joined = list(labels), []
    for found in exact:
        same = next((label for label in rest if _is_same(label, found)), None)
        if same is None:
            joined.append(found)
        else:
            rest.remove(same)
            further = {**found.further, **same.further}
            joined.append(Label(found.name, found.box, ignore=found.ignore, further=further))
    return joined + rest


def _is_same(label: Label, other: Label) -> bool:
    near = np.abs(np.subtract(label.box[:6], other.box[:6])).max() < 2 * SAME_BOX
    return label.name == other.name and bool(near)


def _kitti_splits(source: Path) -> dict[str, list[str]]:
    """Frames of each split; those whose sweep is in another folder, as of `test`, are left out."""
    folder = source / 'training' / 'velodyne'
    splits = {}
    for file in sorted((source / 'ImageSets').glob('*.txt')):
        listed = read_text(file, DatasetError).split()
        splits[file.stem] = [name for name in listed if (folder / f'{name}.bin').is_file()]
        if missing := len(listed) - len(splits[file.stem]):
            if splits[file.stem]:
                raise DatasetError(
                    f'{file}: {missing} of its {len(listed)} frames are not in {folder}; put them '
                    'there or take them out of the list'
                )
            del splits[file.stem]
    if not splits:
        raise DatasetError(f'{source / "ImageSets"}: has no list of frames of {folder}')
    return splits


# --- folder to KITTI -------------------------------------------------------------------------


def folder_to_kitti(
    source: Path,
    target: Path,
    *,
    tally: ClassTally | None = None,
    on_frame: Progress | None = None,
) -> Mapping[str, int]:
    """Turn an open folder into a dataset in KITTI's layout, which appears once it is complete.

    Points keep every bit. Labels that came from KITTI, and were not moved since, get KITTI's own
    numbers again; of others the camera's view is computed. Boxes that no camera sees are kept,
    without a 2D box. Frames without a camera get one that looks forward.

    Args:
        source: folder that holds `dataset.yaml`.
        target: new folder.
        tally: renames and counts classes; None keeps their names.
        on_frame: told how many frames are done, and how many there are.

    Returns:
        Data that KITTI's layout cannot hold, and their numbers.

    Raises:
        DatasetError: a file is missing or malformed.
        WriteError: `target` exists, or the file system refuses; nothing is left behind.
    """
    info, table = read_info(source), FrameTable(source / FRAMES_FILE)
    if missing := [name for name in COLUMNS if name not in info.columns]:
        raise DatasetError(f'{source}: its points lack the columns {missing}, which KITTI has')
    lost: Counter[str] = Counter()
    for name in info.columns:
        if name not in COLUMNS:
            lost[f'points with a column {name!r}'] += len(table)
    sizes = {}
    with new_folder(target) as aside:
        writer = _KittiWriter(source, aside / 'training', info, lost, tally or ClassTally({}))
        for place in range(len(table)):
            row: FrameRow = table[place]
            if (size := writer.write(row)) is not None:
                sizes[row.name] = size
            if on_frame is not None:
                on_frame(place + 1, len(table))
        write_file(aside / 'image_sizes.json', json.dumps(sizes).encode())
        for split in split_names(source) or ['train']:
            places: Iterable[int] = range(len(table))
            if split in split_names(source):
                places = resolve_split(table, read_split(source, split), f'split {split}').tolist()
            text = ''.join(f'{table.name(place)}\n' for place in places)
            write_file(aside / 'ImageSets' / f'{split}.txt', text.encode())
    return +lost


class _KittiWriter:
    """Writes frames in KITTI's layout."""

    def __init__(
        self, source: Path, folder: Path, info: FolderInfo, lost: Counter[str], tally: ClassTally
    ) -> None:
        self._source, self._folder, self._info, self._lost = source, folder, info, lost
        self._tally = tally
        camera = CameraConfig()
        self._ahead = CameraInfo.from_calibration(camera_calibration(camera), camera.image_size)
        self._columns = [info.columns.index(name) for name in COLUMNS]

    def write(self, row: FrameRow) -> tuple[int, int] | None:
        """Write a frame; returns the size of its image, if that is known."""
        points = read_points(self._source, row, self._info.columns)
        self._write('velodyne', f'{row.name}.bin', points[:, self._columns].tobytes())
        camera = self._info.cameras.get(row.camera)
        if row.camera and camera is None:
            raise DatasetError(f'{self._source}: frame {row.name}: no camera {row.camera!r}')
        self._lost['frames without a camera; one that looks forward is assumed'] += camera is None
        camera = camera or self._ahead
        assumed = size_from_principal_point(camera.calibration)
        size = camera.image_size or assumed or CameraConfig().image_size
        text = format_calibration(camera.calibration)
        self._write('calib', f'{row.name}.txt', text.encode())
        for what, value in (('time', row.stamp_ns), ('pose', row.pose)):
            self._lost[f'frames with a {what}'] += value is not None
        labels = read_labels(self._source, row.name)
        if labels is None:
            self._lost['frames without labels, which have no label file'] += 1
        else:
            labels = [replace(label, name=self._tally.renamed(label.name)) for label in labels]
            areas = read_further(self._source, row.name).get(AREAS, [])
            text = self._format(labels, areas, camera.calibration, size)
            self._write('label_2', f'{row.name}.txt', text.encode())
        return camera.image_size

    def _write(self, folder: str, name: str, content: bytes) -> None:
        write_file(self._folder / folder / name, content)

    def _format(
        self,
        labels: Sequence[Label],
        areas: Sequence[Sequence[float]],
        calibration: Calibration,
        size: tuple[int, int],
    ) -> str:
        self._count(labels)
        boxes = np.array([label.box for label in labels], np.float32).reshape(-1, 7)
        names = [
            IGNORED_CLASS if label.ignore else '_'.join(label.name.split()) for label in labels
        ]
        seen = objects_from_boxes(boxes, names, calibration, size)
        rows = np.array(numbers_of(seen)).reshape(len(labels), 14)
        for number, label in enumerate(labels):
            kept = label.further.get(KITTI)
            if kept is not None and _is_unmoved(kept, label, calibration):
                rows[number] = kept
        return format_objects(_objects(rows, names)) + format_objects(_dont_care(areas))

    def _count(self, labels: Sequence[Label]) -> None:
        for label in labels:
            self._lost['scores'] += label.score is not None
            self._lost['tracks'] += label.track is not None
            self._lost['velocities'] += label.velocity is not None
            ignored = f'objects to be ignored, which are of class {IGNORED_CLASS} then'
            self._lost[ignored] += label.ignore
            spaced = label.name != '_'.join(label.name.split())
            self._lost['names of classes with spaces, which are _ then'] += spaced


def _is_unmoved(kept: Sequence[float], label: Label, calibration: Calibration) -> bool:
    """Whether KITTI's numbers still belong to the box."""
    if len(kept) != 14:
        return False
    (box,) = boxes_from_objects(_objects(np.array([kept]), [label.name]), calibration)
    difference = np.subtract(box, label.box)
    difference[6] = np.sin(difference[6])  # full turns are no difference
    return bool(np.abs(difference).max() < 2 * SAME_BOX)


def _objects(rows: NDArray[np.float64], names: Sequence[str]) -> KittiObjects:
    return KittiObjects(
        names=np.array(names, np.str_),
        truncated=rows[:, 0],
        occluded=rows[:, 1].astype(np.int64),
        alpha=rows[:, 2],
        boxes_2d=rows[:, 3:7],
        dimensions=rows[:, 7:10],
        locations=rows[:, 10:13],
        rotation_y=rows[:, 13],
    )


def _dont_care(areas: Sequence[Sequence[float]]) -> KittiObjects:
    """Areas as KITTI's files have them."""
    nothing = [-1.0, -1, -10, 0, 0, 0, 0, -1, -1, -1, NOWHERE, NOWHERE, NOWHERE, -10]
    rows = np.tile(nothing, (len(areas), 1))
    if areas:
        rows[:, 3:7] = areas
    return _objects(rows.reshape(-1, 14), [DONT_CARE] * len(areas))


# --- folders ---------------------------------------------------------------------------------


def merge_folders(
    sources: Sequence[Path], target: Path, *, on_frame: Progress | None = None
) -> Mapping[Path, str]:
    """Join open folders into one, byte for byte; it continues where it stopped.

    Args:
        sources: of the same columns and sensor height.
        target: new folder, or one that was begun.
        on_frame: told how many frames are done, and how many there are.

    Returns:
        Prefix of the names of frames and drives of each source; empty if they clash with no
        earlier source.

    Raises:
        ConfigError: the sources do not fit together.
        DatasetError: a file is missing or malformed, or `target` holds something else.
        WriteError: the file system refuses; frames that were written before are intact.
    """
    parts = _parts_of(sources)
    total, done = sum(len(part.table) for part in parts), 0
    first = parts[0].info.model_copy(update={'drives': {}, 'cameras': {}, 'class_names': ()})
    with FolderWriter(target, first) as writer:
        there = set(writer.earlier.names())
        infos = [writer.info, *(part.info for part in parts)]
        writer.update(
            class_names=_united(*(info.class_names for info in infos)),
            drives={**writer.info.drives, **{k: v for part in parts for k, v in part.drives}},
            cameras={k: v for part in parts for k, v in part.info.cameras.items()},
        )
        for part in parts:
            for place in range(len(part.table)):
                row: FrameRow = part.table[place]
                renamed = part.with_new_names(row)
                if renamed.name not in there:
                    writer.copy(renamed, part.source, row.name)
                done += 1
                if on_frame is not None:
                    on_frame(done, total)
            writer.set_ranges([part.prefix + name for name in part.table.names()], part.ranges())
    return {part.source: part.prefix for part in parts}


class _Part:
    """One of the folders that are joined.

    Attributes:
        prefix: of the names of its frames and drives.
    """

    def __init__(self, source: Path) -> None:
        self.source, self.prefix = source, ''
        self.info, self.table = read_info(source), FrameTable(source / FRAMES_FILE)

    @property
    def drives(self) -> list[tuple[str, DriveInfo]]:
        """Drives by their new names."""
        return [(self.prefix + name, drive) for name, drive in self.info.drives.items()]

    def with_new_names(self, row: FrameRow) -> FrameRow:
        """A row with its new names."""
        drive = self.prefix + row.drive if row.drive else ''
        return replace(row, name=self.prefix + row.name, drive=drive)

    def ranges(self) -> dict[str, list[FrameRange]]:
        """The ranges of each split, by the new names."""
        return {
            split: [
                FrameRange(self.prefix + found.first, self.prefix + found.last)
                for found in read_split(self.source, split)
            ]
            for split in split_names(self.source)
        }


def _parts_of(sources: Sequence[Path]) -> list[_Part]:
    """The folders, if they fit together, with prefixes that keep names apart."""
    parts = [_Part(source) for source in sources]
    if len({source.resolve() for source in sources}) < len(sources):
        raise ConfigError(f'{", ".join(map(str, sources))}: one of them is given twice')
    taken: set[str] = set()
    for part in parts:
        for key in ('columns', 'sensor'):
            first, own = getattr(parts[0].info, key), getattr(part.info, key)
            if first != own:
                raise ConfigError(f'{part.source}: {key} is {own}, not {first} as in {sources[0]}')
        drives = part.info.drives.items()
        if unfinished := [name for name, drive in drives if not drive.complete]:
            raise ConfigError(
                f'{part.source}: {unfinished} is not converted to its end; do that first'
            )
        names = {*part.table.names(), *part.info.drives}
        if names & taken:
            part.prefix = f'{_safe(part.source.resolve().name)}_'
            names = {part.prefix + name for name in names}
        if names & taken:
            raise ConfigError(
                f'{part.source}: has frames of the same name as another dataset, even as '
                f'{min(names & taken)}; rename the folder'
            )
        taken |= names
    return parts


def _united(*names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for some in names for name in some))


def _safe(name: str) -> str:
    return ''.join(c if (c.isalnum() and c.isascii()) or c in '_-' else '_' for c in name)


def kind_of(source: Path) -> str:
    """`folder` or `kitti`, whichever a dataset is.

    Raises:
        DatasetError: it is neither.
    """
    if is_folder_dataset(source):
        return 'folder'
    if (source / 'ImageSets').is_dir():
        return KITTI
    if versions_at(source):
        raise DatasetError(
            f"{source}: is in nuScenes' format, which is trained and evaluated on as it is; it "
            'cannot be converted'
        )
    raise DatasetError(
        f"{source}: is no dataset: neither has it a dataset.yaml nor KITTI's ImageSets/"
    )
