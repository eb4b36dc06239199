# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The open dataset folder: labelled or unlabelled sweeps with poses, in simple files.

`dataset.yaml` says what the folder holds, `frames.csv` lists its frames, `points/NAME.bin` and
`labels/NAME.json` are one frame, `splits/*.txt` name frames or ranges of them. Everything is in
the LiDAR frame; no camera is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
import json
import mmap
from pathlib import Path
import re
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
import yaml

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.files import read_text, write_file, write_text
from pointdistiller_core.formats.kitti import Calibration
from pointdistiller_core.geometry.poses import Pose

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]

FORMAT, VERSION = 'pointdistiller-folder', 1
DATASET_FILE, FRAMES_FILE = 'dataset.yaml', 'frames.csv'
POINTS, LABELS, SPLITS = 'points', 'labels', 'splits'
ALL_FRAMES = 'all'  # a split that needs no file
COLUMNS = ('x', 'y', 'z', 'intensity')
ROW_FIELDS = (
    *('frame', 'drive', 'stamp_ns', 'num_points'),
    *('x', 'y', 'z', 'qx', 'qy', 'qz', 'qw', 'camera'),
)
_NAME = re.compile(r'[A-Za-z0-9_+-][A-Za-z0-9_.+-]*')  # of a file, and of a field of CSV
_SCAN = 1 << 20  # bytes of frames.csv read at once


# --- dataset.yaml ----------------------------------------------------------------------------


class _Part(BaseModel):
    """A part of `dataset.yaml`; unknown keys are kept."""

    model_config = ConfigDict(extra='allow', frozen=True, allow_inf_nan=False)


class SensorInfo(_Part):
    """The sensor that the frames are of.

    Attributes:
        frame: name of the frame of points, boxes and poses.
        height: of its origin above the ground [m]; None if that is not known.
    """

    frame: str = 'lidar'
    height: float | None = None


class DriveInfo(_Part):
    """Frames that were recorded one after another.

    Attributes:
        source: origin of the frames.
        settings: settings they were made with.
        choices: automatic choices, with their evidence.
        counts: what was read, kept and left out.
        notes: problems of the source.
        complete: whether all of the source has been converted.
    """

    source: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    choices: dict[str, Any] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    complete: bool = True


class CameraInfo(_Part):
    """A camera beside the sensor.

    Attributes:
        camera_from_lidar: 4 x 4, to a frame with x right, y down, z forward.
        image_from_camera: 3 x 4 projection.
        image_size: width, height [pixels]; None if that is not known.
    """

    camera_from_lidar: list[list[float]]
    image_from_camera: list[list[float]]
    image_size: tuple[int, int] | None = None

    @classmethod
    def from_calibration(
        cls, calibration: Calibration, image_size: tuple[int, int] | None
    ) -> CameraInfo:
        """The camera of a frame in KITTI's layout."""
        return cls(
            camera_from_lidar=calibration.camera_from_lidar.tolist(),
            image_from_camera=calibration.image_from_camera.tolist(),
            image_size=image_size,
        )

    @property
    def calibration(self) -> Calibration:
        """Both matrices as arrays."""
        return Calibration(np.array(self.camera_from_lidar), np.array(self.image_from_camera))


class FolderInfo(_Part):
    """What `dataset.yaml` holds.

    Attributes:
        class_names: classes of the labels; empty if nothing is labelled.
        columns: of the points, float32 each, x, y, z [m] first.
        sensor: that the frames are of.
        drives: by their names.
        cameras: by the names in the column `camera` of `frames.csv`.
    """

    format: Literal['pointdistiller-folder'] = 'pointdistiller-folder'
    version: int = VERSION
    class_names: tuple[str, ...] = ()
    columns: tuple[str, ...] = COLUMNS
    sensor: SensorInfo = Field(default_factory=SensorInfo)
    drives: dict[str, DriveInfo] = Field(default_factory=dict)
    cameras: dict[str, CameraInfo] = Field(default_factory=dict)


def is_folder_dataset(root: Path) -> bool:
    """Whether a folder is such a dataset."""
    return (root / DATASET_FILE).is_file()


def read_info(root: Path) -> FolderInfo:
    """What `dataset.yaml` holds.

    Raises:
        DatasetError: it is missing, not of this format, or of a newer version.
    """
    path = root / DATASET_FILE
    if not path.exists():
        if remedy := _remedy(root):
            raise DatasetError(f'{root}: {remedy}')
        raise DatasetError(
            f'{path}: no such file; `pointdistiller bag convert BAG OPEN` makes an open folder of '
            'a bag'
        )
    text = read_text(path, DatasetError)
    try:
        values = yaml.load(text, getattr(yaml, 'CSafeLoader', yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise DatasetError(f'{path}: not valid YAML: {error}') from error
    if not isinstance(values, dict) or values.get('format') != FORMAT:
        raise DatasetError(f'{path}: is not a dataset of the format {FORMAT!r}')
    if values.get('version') != VERSION:
        raise DatasetError(
            f'{path}: version {values.get("version")!r}; this program reads version {VERSION}: '
            'use a newer one'
        )
    try:
        info = FolderInfo.model_validate(values)
    except ValidationError as error:
        found = [
            f'{".".join(map(str, item["loc"]))}: {item["msg"].lower()}' for item in error.errors()
        ]
        raise DatasetError(f'{path}: {"; ".join(found)}') from error
    if info.columns[:3] != ('x', 'y', 'z') or len(set(info.columns)) < len(info.columns):
        raise DatasetError(f'{path}: columns {list(info.columns)}; x, y, z must be the first')
    return info


def _remedy(root: Path) -> str:
    """What makes an open folder of what lies at a path; empty if that is not known."""
    if any((root / name).is_dir() for name in ('training', 'ImageSets')):
        return (
            f"is in KITTI's layout; `pointdistiller convert {root} OPEN` makes an open folder of "
            'it, and back'
        )
    if root.is_file() or any(root.glob('*.mcap')) or any(root.glob('*.db3')):
        return f'is a bag; `pointdistiller bag convert {root} OPEN` makes an open folder of it'
    return ''


def write_info(root: Path, info: FolderInfo) -> None:
    """Write or replace `dataset.yaml`.

    Raises:
        WriteError: the file system refuses; the file is as it was.
    """
    values = info.model_dump(mode='json')
    text = yaml.safe_dump(
        values, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )
    if not (root / DATASET_FILE).is_file() or read_text(root / DATASET_FILE, DatasetError) != text:
        write_text(root / DATASET_FILE, text)


# --- frames.csv ------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameRow:
    """A row of `frames.csv`; unknown values are None, or empty.

    Attributes:
        name: of the frame and its files.
        drive: that it belongs to.
        stamp_ns: when it was taken [ns].
        num_points: of its points.
        pose: of the sensor in a fixed frame, as `world_from_lidar`; a frame for each drive.
        camera: key in `FolderInfo.cameras`.
    """

    name: str
    drive: str = ''
    stamp_ns: int | None = None
    num_points: int | None = None
    pose: Pose | None = None
    camera: str = ''

    def __post_init__(self) -> None:
        for text in (self.name, *filter(None, (self.drive, self.camera))):
            if not _NAME.fullmatch(text) or '..' in text:
                raise DatasetError(
                    f'{text!r} is no name for a frame, drive or camera; letters, digits and '
                    '_ + - . are allowed'
                )

    def to_line(self) -> str:
        """The row as text, with its end."""
        pose = [''] * 7 if self.pose is None else [repr(value) for value in self.pose.values]
        numbers = [
            '' if value is None else str(value) for value in (self.stamp_ns, self.num_points)
        ]
        return ','.join([self.name, self.drive, *numbers, *pose, self.camera]) + '\n'


class FrameTable(Sequence[FrameRow]):
    """The rows of `frames.csv`, read on demand.

    Memory holds only the beginning of each row, 8 bytes per frame; the file itself is mapped.

    Args:
        path: the file.

    Raises:
        DatasetError: it is missing, or its first line does not name the fields.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open('rb') as file:
                size = file.seek(0, 2)
                self._data: mmap.mmap | bytes = (
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b''
                )
        except OSError as error:
            raise DatasetError(f'{path}: {error.strerror}') from error
        ends = _line_ends(self._data)
        if not len(ends):
            raise DatasetError(f'{path}: has no first line; it names {",".join(ROW_FIELDS)}')
        self._starts = np.concatenate([ends[:1], ends[1:]])  # a row begins where one has ended
        names = self._data[: ends[0]].decode(errors='replace').strip().split(',')
        self._places = {name: place for place, name in enumerate(names)}
        if missing := [name for name in ROW_FIELDS[:1] if name not in self._places]:
            raise DatasetError(f'{path}: lacks the fields {missing}; it has {names}')

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f'frame {index} of {len(self)} in {self._path}')
        return self._parse(index)

    def name(self, index: int) -> str:
        """The frame's name."""
        return self._field(self._line(index), 'frame')

    def drive(self, index: int) -> str:
        """The drive that a frame belongs to."""
        return self._field(self._line(index), 'drive')

    def has_stamp(self, index: int) -> bool:
        """Whether the time of a frame is known."""
        return bool(self._field(self._line(index), 'stamp_ns'))

    def names(self) -> Iterator[str]:
        """The names of all frames, in their order."""
        return map(self.name, range(len(self)))

    def find(self, names: Collection[str]) -> dict[str, int]:
        """Places of frames by their names; missing ones are left out."""
        wanted = set(names)
        return {name: place for place, name in enumerate(self.names()) if name in wanted}

    def _line(self, index: int) -> list[str]:
        start, stop = int(self._starts[index]), int(self._starts[index + 1])
        return self._data[start:stop].decode(errors='replace').rstrip('\r\n').split(',')

    def _field(self, line: Sequence[str], name: str) -> str:
        place = self._places.get(name, -1)
        return line[place] if 0 <= place < len(line) else ''

    def _parse(self, index: int) -> FrameRow:
        line = self._line(index)
        texts = {name: self._field(line, name) for name in ROW_FIELDS}
        try:
            pose = [texts[name] for name in ROW_FIELDS[4:11]]
            return FrameRow(
                name=texts['frame'],
                drive=texts['drive'],
                stamp_ns=int(texts['stamp_ns']) if texts['stamp_ns'] else None,
                num_points=int(texts['num_points']) if texts['num_points'] else None,
                pose=Pose.from_values(list(map(float, pose))) if any(pose) else None,
                camera=texts['camera'],
            )
        except (ValueError, DatasetError) as error:
            raise DatasetError(f'{self._path}:{index + 2}: {error}') from error


def _line_ends(data: mmap.mmap | bytes) -> NDArray[np.int64]:
    """(L,) where the lines of a file end; the text after the last end is no row yet."""
    ends = [
        begin + 1 + np.flatnonzero(np.frombuffer(data[begin : begin + _SCAN], np.uint8) == 10)
        for begin in range(0, len(data), _SCAN)
    ]
    return np.concatenate([np.zeros(0, np.int64), *ends])


# --- points and labels -----------------------------------------------------------------------


@dataclass(frozen=True)
class Label:
    """An object of a frame.

    Attributes:
        name: its class.
        box: x, y, z, dx, dy, dz [m], yaw [rad], LiDAR frame, float32.
        score: in [0, 1], if a detector gave one.
        track: names the object in all frames of its drive.
        velocity: along x and y of the LiDAR frame [m/s].
        ignore: whether it is neither object nor background.
        further: further values of another format, by its name.
    """

    name: str
    box: tuple[float, ...]
    score: float | None = None
    track: int | str | None = None
    velocity: tuple[float, float] | None = None
    ignore: bool = False
    further: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The label in the form of the file; unknown values are left out."""
        optional = {
            'score': self.score,
            'track': self.track,
            'velocity': list(self.velocity) if self.velocity else None,
            'ignore': self.ignore or None,
        }
        known = {key: value for key, value in optional.items() if value is not None}
        return {'class': self.name, 'box': list(self.box), **known, **self.further}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Label:
        """From the form of the file.

        Raises:
            ValueError: something is missing or of another kind.
        """
        rest = dict(values)
        name, box = rest.pop('class', None), rest.pop('box', None)
        velocity, score = rest.pop('velocity', None), rest.pop('score', None)
        track = rest.pop('track', None)
        if not isinstance(name, str) or not name:
            raise ValueError(f'class {name!r} is no name')
        if velocity is not None:
            velocity = cast('tuple[float, float]', _numbers('velocity', velocity, 2))
        if score is not None:
            (score,) = _numbers('score', [score], 1)
        if not isinstance(track, int | str | None):
            raise ValueError(f'track {track!r} is neither a number nor a name')
        ignore = bool(rest.pop('ignore', False))
        return cls(name, _numbers('box', box, 7), score, track, velocity, ignore, rest)


def shortest_floats(values: Iterable[Any]) -> tuple[float, ...]:
    """Numbers of float32 with as few digits as give the same float32 again."""
    return tuple(float(str(np.float32(value))) for value in values)


def _numbers(key: str, values: Any, count: int) -> tuple[float, ...]:
    valid = isinstance(values, list) and len(values) == count
    if not valid or not all(
        isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
        for value in values
    ):
        raise ValueError(f'{key} {values!r} is not {count} finite numbers')
    return tuple(map(float, values))


def points_path(root: Path, name: str) -> Path:
    """The file of a frame's points."""
    return root / POINTS / f'{name}.bin'


def labels_path(root: Path, name: str) -> Path:
    """The file of a frame's labels; an unlabelled frame has none."""
    return root / LABELS / f'{name}.json'


def read_points(root: Path, row: FrameRow, columns: Sequence[str]) -> FloatArray:
    """(N, C) float32 points of a frame, a column for each name.

    Raises:
        DatasetError: the file is missing or of another size.
    """
    path = points_path(root, row.name)
    try:
        values: FloatArray = np.fromfile(path, '<f4')
        size = path.stat().st_size
    except OSError as error:
        raise DatasetError(f'{path}: {error.strerror}') from error
    width = 4 * len(columns)
    expected = size // width * width if row.num_points is None else row.num_points * width
    if size != expected:
        raise DatasetError(
            f'{path}: {size} bytes; {row.num_points or size // width} points of '
            f'{len(columns)} columns are {expected}: it is damaged, or {FRAMES_FILE} is of '
            'something else'
        )
    return values.reshape(-1, len(columns))


def read_labels(root: Path, name: str) -> list[Label] | None:
    """Objects of a frame; None if it is not labelled.

    Raises:
        DatasetError: the file is malformed.
    """
    path = labels_path(root, name)
    if not path.exists():
        return None
    labels = []
    for number, values in enumerate(_parse_labels(path)['objects']):
        try:
            labels.append(Label.from_dict(values))
        except (ValueError, TypeError) as error:
            raise DatasetError(f'{path}: object {number}: {error}') from error
    return labels


def read_label_source(root: Path, name: str) -> str | None:
    """Origin of the labels of a frame, e.g. a bundle; None if it is not known.

    Raises:
        DatasetError: the file is missing or malformed.
    """
    source = _parse_labels(labels_path(root, name)).get('source')
    return None if source is None else str(source)


def read_further(root: Path, name: str) -> dict[str, Any]:
    """Further values of another format for a frame, by its name.

    Raises:
        DatasetError: the file is malformed.
    """
    path = labels_path(root, name)
    content = _parse_labels(path) if path.exists() else {}
    return {key: value for key, value in content.items() if key not in ('objects', 'source')}


def _parse_labels(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path, DatasetError))
    except ValueError as error:
        raise DatasetError(f'{path}: is not {{"objects": [...]}}: {error}') from error
    if not isinstance(content, dict) or not isinstance(content.get('objects'), list):
        raise DatasetError(f'{path}: is not {{"objects": [...]}}')
    return content


def format_labels(
    labels: Iterable[Label],
    source: str | None = None,
    further: Mapping[str, Any] | None = None,
) -> str:
    """The text of a label file, a line for each object."""
    lines = ',\n'.join(json.dumps(label.to_dict(), ensure_ascii=False) for label in labels)
    objects = f'[\n{lines}\n]' if lines else '[]'
    head = '' if source is None else f'"source": {json.dumps(source, ensure_ascii=False)}, '
    others = ''.join(
        f', {json.dumps(key)}: {json.dumps(value)}' for key, value in (further or {}).items()
    )
    return f'{{{head}"objects": {objects}{others}}}\n'


def write_labels(
    root: Path,
    name: str,
    labels: Iterable[Label],
    source: str | None = None,
    further: Mapping[str, Any] | None = None,
) -> None:
    """Write or replace the labels of a frame, and their origin, if it is not a person.

    Args:
        root: of the dataset.
        name: of the frame.
        labels: of its objects.
        source: origin of the labels, e.g. a bundle; None for a person.
        further: further values of another format for the frame, by its name.

    Raises:
        WriteError: the file system refuses; the file is as it was.
    """
    write_file(labels_path(root, name), format_labels(labels, source, further).encode())


# --- splits ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameRange:
    """Frames of one drive from `first` to `last`, both included, as `frames.csv` orders them."""

    first: str
    last: str

    def __str__(self) -> str:
        return self.first if self.first == self.last else f'{self.first}..{self.last}'


def read_split(root: Path, split: str) -> list[FrameRange]:
    """The frames of a split.

    Args:
        root: of the dataset.
        split: a file of `splits/`, without .txt; several as train+val.

    Raises:
        DatasetError: there is no such split, or it names no frames.
    """
    return [found for name in split.split('+') for found in _read_one_split(root, name)]


def write_split(root: Path, split: str, ranges: Iterable[FrameRange]) -> None:
    """Write or replace a split.

    Raises:
        WriteError: the file system refuses; the file is as it was.
    """
    text = ''.join(f'{found}\n' for found in ranges)
    write_text(root / SPLITS / f'{split}.txt', text)


def ranges_of(table: FrameTable, places: Sequence[int]) -> list[FrameRange]:
    """Frames at some places, in their order, as few ranges."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1 and table.drive(place) == table.drive(place - 1):
            runs[-1].append(place)
        else:
            runs.append([place])
    return [FrameRange(table.name(run[0]), table.name(run[-1])) for run in runs]


def split_names(root: Path) -> list[str]:
    """Splits that have a file."""
    return sorted(path.stem for path in (root / SPLITS).glob('*.txt'))


def split_sizes(root: Path) -> dict[str, int]:
    """Number of frames in each split of a dataset.

    Raises:
        DatasetError: a split is malformed.
    """
    table = FrameTable(root / FRAMES_FILE)
    return {
        name: len(resolve_split(table, read_split(root, name), f'{root}, split {name}'))
        for name in split_names(root)
    }


def count_unsplit(root: Path) -> int:
    """Number of frames of a dataset that are in no split.

    Raises:
        DatasetError: a split is malformed.
    """
    table = FrameTable(root / FRAMES_FILE)
    used = np.zeros(len(table), np.bool_)
    for name in split_names(root):
        used[resolve_split(table, read_split(root, name), f'{root}, split {name}')] = True
    return int(np.count_nonzero(~used))


def resolve_split(
    table: FrameTable, ranges: Sequence[FrameRange], where: str
) -> NDArray[np.int64]:
    """(F,) places of the frames of a split in a table.

    Raises:
        DatasetError: a frame is missing, or a range ends before it begins.
    """
    places = table.find({name for found in ranges for name in (found.first, found.last)})
    parts: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for found in ranges:
        if missing := [name for name in (found.first, found.last) if name not in places]:
            raise DatasetError(f'{where}: no frame {missing[0]!r} in {FRAMES_FILE}')
        first, last = places[found.first], places[found.last]
        if last < first:
            raise DatasetError(f'{where}: {found} ends before it begins, see {FRAMES_FILE}')
        places_between, drive = np.arange(first, last + 1), table.drive(first)
        own = [table.drive(place) == drive for place in places_between.tolist()]
        parts.append(places_between[own])
    return np.concatenate(parts)


def _read_one_split(root: Path, split: str) -> list[FrameRange]:
    path = root / SPLITS / f'{split}.txt'
    if not path.is_file():
        known = [*split_names(root), ALL_FRAMES]
        raise DatasetError(f'{path}: no such split; there are {", ".join(known)}')
    ranges = []
    for line in read_text(path, DatasetError).split():
        first, _, last = line.partition('..')
        ranges.append(FrameRange(first, last or first))
    if not ranges:
        raise DatasetError(f'{path}: lists no frames')
    return ranges
