# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Check of a dataset in KITTI's layout: all its problems, and its content."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import KittiConfig
from pointdistiller_core.datasets.camera_view import survey_view
from pointdistiller_core.datasets.image_sizes import size_from_principal_point
from pointdistiller_core.datasets.kitti import (
    KittiDataset,
    label_problems,
    nothing_in_view,
    points_in_image,
    read_sweep,
    unknown_size,
)
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.kitti import (
    CLASS_NAMES,
    DIFFICULTIES,
    DONT_CARE,
    Calibration,
    KittiObjects,
    boxes_from_objects,
    difficulties_of,
    project_missing_boxes,
    reach_into_image,
    read_objects,
)
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.geometry.intensity import IntensityJudge
from pointdistiller_core.geometry.iou import rotated_iou_3d

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

ResultT = TypeVar('ResultT')

SAME_OBJECT = 0.7  # 3D IoU of two labels of one class; nothing solid overlaps that much
UNLABELLED_SPLIT = 'test'  # KITTI's, whose frames are in another folder


@dataclass(frozen=True)
class Finding:
    """Something to know about a dataset.

    Attributes:
        where: a frame, or a file of `ImageSets/`.
        what: the problem.
        broken: whether it would stop a training, or is certainly damaged.
    """

    where: str
    what: str
    broken: bool = False


@dataclass(frozen=True)
class LabelledObjects:
    """The labelled objects of all frames.

    Attributes:
        names: (N,) str classes.
        boxes: (N, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad], LiDAR frame.
        difficulties: (N,) int64 place in `DIFFICULTIES`, -1 for none.
        num_points: (N,) int64 points inside the box.
    """

    names: NDArray[np.str_]
    boxes: FloatArray
    difficulties: IntArray
    num_points: IntArray

    @property
    def rated(self) -> bool:
        """Whether any object has a difficulty; without a camera none has."""
        return bool((self.difficulties >= 0).any())

    @property
    def distances(self) -> FloatArray:
        """(N,) from the sensor, seen from above [m]."""
        distances: FloatArray = np.hypot(self.boxes[:, 0], self.boxes[:, 1])
        return distances


@dataclass(frozen=True)
class DatasetReport:
    """What `check_dataset` found.

    Attributes:
        splits: frames of each split.
        points_per_sweep: (F,) int64 of the sweeps that could be read.
        objects: of the frames that could be read.
        findings: all findings, broken ones first.
    """

    splits: Mapping[str, int]
    points_per_sweep: IntArray
    objects: LabelledObjects
    findings: tuple[Finding, ...]

    @property
    def num_broken(self) -> int:
        """Findings that would stop a training."""
        return sum(finding.broken for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values; classes by decreasing number of objects."""
        return {
            'splits': dict(self.splits),
            'points_per_sweep': _spread(self.points_per_sweep),
            'classes': {
                name: self._describe_class(name)
                for name, _ in Counter(self.objects.names.tolist()).most_common()
            },
            'broken': self.num_broken,
            'findings': [vars(finding) for finding in self.findings],
        }

    def _describe_class(self, name: str) -> dict[str, Any]:
        own = self.objects.names == name
        levels = self.objects.difficulties[own]
        return {
            'objects': int(own.sum()),
            **{level: int((levels == i).sum()) for i, level in enumerate(DIFFICULTIES)},
            'none': int((levels < 0).sum()),
            'empty': int((self.objects.num_points[own] == 0).sum()),
            'points': _spread(self.objects.num_points[own]),
            'distance': _spread(self.objects.distances[own]),
            'mean_size': self.objects.boxes[own, 3:6].mean(axis=0, dtype=float).round(2).tolist(),
        }


@dataclass(frozen=True)
class _FrameReport:
    """One frame: `digest` and `num_points` of its sweep are None if there is none.

    So are `seen`, which labels the camera sees, and `assumed_size` of an image without a size.
    """

    findings: list[Finding]
    objects: LabelledObjects | None = None
    digest: bytes | None = None
    num_points: int | None = None
    seen: NDArray[np.bool_] | None = None
    assumed_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class _ImageSizes:
    """Width, height [pixels] of an image: listed, measured, or assumed."""

    listed: tuple[int, int] | None = None
    image: tuple[int, int] | None = None
    assumed: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """The size that counts."""
        return self.listed or self.image or self.assumed


def check_dataset(
    root: Path,
    *,
    split: str | None = None,
    class_names: Sequence[str] = CLASS_NAMES,
    on_frame: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Read every frame and note all problems; nothing is raised.

    Args:
        root: folder that holds `training/` and `ImageSets/`.
        split: only this one; by default all but KITTI's `test`, which has no labels.
        class_names: classes known beside KITTI's own.
        on_frame: told how many frames are done, and how many there are.
    """
    names = [split] if split else _split_names(root)
    datasets, findings = _open_splits(root, names, class_names)
    frames = {  # each once, even if it is in several splits
        dataset.frame_ids[index]: (dataset, index)
        for dataset in datasets.values()
        for index in range(len(dataset))
    }
    reports = {}
    intensities = Intensities('training/velodyne')
    for done, (frame_id, place) in enumerate(sorted(frames.items()), 1):
        reports[frame_id] = _check_frame(*place, intensities)
        if on_frame is not None:
            on_frame(done, len(frames))
    findings += _repeated_frames(datasets) + _equal_sweeps(reports)
    findings += _views(datasets, reports) + _assumed_sizes(reports) + intensities.findings
    findings += [finding for report in reports.values() for finding in report.findings]
    sizes = [report.num_points for report in reports.values() if report.num_points is not None]
    return DatasetReport(
        splits={name: len(dataset) for name, dataset in datasets.items()},
        points_per_sweep=np.array(sizes, np.int64),
        objects=join_objects([report.objects for report in reports.values() if report.objects]),
        findings=tuple(sorted(findings, key=lambda finding: not finding.broken)),
    )


# --- splits ----------------------------------------------------------------------------------


def _split_names(root: Path) -> list[str]:
    files = sorted((root / 'ImageSets').glob('*.txt'))
    return [file.stem for file in files if file.stem != UNLABELLED_SPLIT] or ['train']


def _open_splits(
    root: Path, names: Sequence[str], class_names: Sequence[str]
) -> tuple[dict[str, KittiDataset], list[Finding]]:
    datasets, problems = {}, []
    for name in names:
        try:
            datasets[name] = KittiDataset(KittiConfig(root=root, split=name), class_names)
        except DatasetError as error:
            problems.append(Finding(f'{name}.txt', str(error), broken=True))
    return datasets, problems


def _repeated_frames(datasets: Mapping[str, KittiDataset]) -> list[Finding]:
    """Frames that a split lists twice, and frames in both train and val."""
    findings = [
        Finding(f'{name}.txt', f'lists frame {frame_id} {count} times')
        for name, dataset in datasets.items()
        for frame_id, count in Counter(dataset.frame_ids).items()
        if count > 1
    ]
    train, val = (
        set(datasets[name].frame_ids if name in datasets else ()) for name in ('train', 'val')
    )
    return findings + [
        Finding(frame_id, 'is in train and in val') for frame_id in sorted(train & val)
    ]


def _equal_sweeps(reports: Mapping[str, _FrameReport]) -> list[Finding]:
    frames = defaultdict(list)
    for frame_id, report in reports.items():
        if report.num_points:
            frames[report.digest].append(frame_id)
    return [
        Finding(first, f'has the same sweep as {", ".join(others)}')
        for first, *others in frames.values()
        if others
    ]


def _views(
    datasets: Mapping[str, KittiDataset], reports: Mapping[str, _FrameReport]
) -> list[Finding]:
    """What the camera sees of the labels of each split."""
    findings = []
    for name, dataset in datasets.items():
        seen = [reports[frame_id].seen for frame_id in dataset.frame_ids]
        survey = survey_view([flags for flags in seen if flags is not None])
        if survey.loses_all:
            what = f'the camera sees none of {survey.num_labels} labels'
            findings.append(Finding(f'{name}.txt', what, broken=True))
        else:
            findings += [Finding(f'{name}.txt', note) for note in survey.notes]
    return findings


def _assumed_sizes(reports: Mapping[str, _FrameReport]) -> list[Finding]:
    sizes = {name: size for name, report in reports.items() if (size := report.assumed_size)}
    if not sizes:
        return []
    first, (width, height) = next(iter(sizes.items()))
    what = (
        f'has no image and no entry in image_sizes.json; its size is taken as {width} x {height}, '
        'from the principal point'
    )
    return [Finding(first, what + f'; so it is with {len(sizes) - 1} more' * (len(sizes) > 1))]


class Intensities:
    """One finding about the intensities of all sweeps, however many are unusual.

    Args:
        where: the sweeps are.
    """

    def __init__(self, where: str) -> None:
        self._where, self._count = where, 0
        self._judge = IntensityJudge(
            (0.0, 1.0), expected='usual is 0 to 1', remedy='({:.6g})'.format
        )
        self._odd: dict[str, tuple[float, float]] = {}

    def add(self, name: str, points: FloatArray) -> None:
        """Add a sweep (N, 4) of a frame of this name."""
        self._count += 1
        self._judge.add(points)
        intensity = points[np.isfinite(points).all(axis=1), 3]
        low, high = float(intensity.min(initial=0)), float(intensity.max(initial=0))
        if low < 0 or high > 1:
            self._odd[name] = low, high

    @property
    def findings(self) -> list[Finding]:
        """The finding so far, if there is one."""
        odd = list(self._odd)
        if self._judge.finding:
            more = f' (beyond 0 to 1: {len(odd)} of {self._count} sweeps)' if odd else ''
            return [Finding(self._where, self._judge.finding + more)]
        if not odd:
            return []
        low, high = min(self._odd.values())[0], max(high for _, high in self._odd.values())
        what = f'intensities from {low:g} to {high:g}; expected 0 to 1'
        return [Finding(odd[0], what + f'; so it is in {len(odd) - 1} more' * (len(odd) > 1))]


# --- frames ----------------------------------------------------------------------------------


def _check_frame(dataset: KittiDataset, index: int, intensities: Intensities) -> _FrameReport:
    """Try every file of a frame, even if others have problems."""
    problems: list[tuple[str, bool]] = []  # what, and whether it is broken

    def attempt(read: Callable[[], ResultT]) -> ResultT | None:
        try:
            return read()
        except OSError as error:
            problems.append((f'{error.filename}: {error.strerror}', True))
        except DatasetError as error:
            problems.append((str(error), True))
        return None

    points = attempt(lambda: read_sweep(dataset.path('velodyne', index)))
    labels = attempt(lambda: read_objects(dataset.path('label_2', index)))
    calibration = attempt(lambda: dataset.calibration(index))
    sizes = attempt(lambda: _sizes(dataset, index, calibration))
    size, seen, objects = sizes.size if sizes else None, None, labels
    if labels is not None and calibration is not None and size is not None:
        objects = project_missing_boxes(labels, calibration, size)
    table = digest = None
    if points is not None:
        digest = hashlib.blake2b(points.tobytes()).digest()
        problems += sweep_problems(points)
        intensities.add(dataset.frame_ids[index], points)
    if labels is not None and objects is not None:
        if projected := int((labels.lacks_box_2d & ~objects.lacks_box_2d).sum()):
            what = f'{projected} labels have no 2D box; that of their 3D box is taken'
            problems.append((what, False))
        boxed = objects[objects.names != DONT_CARE]
        if calibration is not None and size is not None:
            seen = reach_into_image(boxed, calibration, size)
        problems += [(what, True) for what in label_problems(boxed, dataset.class_names)]
        if points is not None and calibration is not None:
            table = attempt(lambda: _measure(boxed, calibration, points))
    if table is not None:
        problems += [(what, False) for what in box_problems(table)]
    if sizes is not None:
        problems += _size_problems(sizes, calibration)
    if points is not None and calibration is not None and size is not None:
        problems += _view_problems(points, calibration, size)
    findings = [Finding(dataset.frame_ids[index], *problem) for problem in problems]
    num_points = None if points is None else len(points)
    assumed = sizes.assumed if sizes else None
    return _FrameReport(findings, table, digest, num_points, seen, assumed)


def _sizes(dataset: KittiDataset, index: int, calibration: Calibration | None) -> _ImageSizes:
    listed, image = dataset.listed_image_size(index), dataset.measure_image(index)
    told = listed or image
    if told or calibration is None:
        return _ImageSizes(listed, image)
    return _ImageSizes(assumed=size_from_principal_point(calibration))


def _size_problems(sizes: _ImageSizes, calibration: Calibration | None) -> list[tuple[str, bool]]:
    """Problems with the size of an image, and whether it is broken."""
    if sizes.size is None and calibration is not None:
        return [(unknown_size(calibration), True)]
    if not sizes.listed or not sizes.image or sizes.listed == sizes.image:
        return []
    what = 'image_sizes.json says {} x {} pixels, the image has {} x {}'
    return [(what.format(*sizes.listed, *sizes.image), False)]


def _view_problems(
    points: FloatArray, calibration: Calibration, size: tuple[int, int]
) -> list[tuple[str, bool]]:
    """Problems with the view of the camera, and whether it is broken."""
    finite = points[np.isfinite(points).all(axis=1)]
    if not len(finite) or len(points_in_image(finite, calibration, size)):
        return []
    return [(nothing_in_view(len(finite), size), True)]


def sweep_problems(points: FloatArray) -> list[tuple[str, bool]]:
    """Problems with a sweep, and whether it is broken."""
    if not len(points):
        return [('the sweep has no points', True)]
    problems = []
    finite = points[np.isfinite(points).all(axis=1)]
    if len(finite) < len(points):
        count = len(points) - len(finite)
        problems.append((f'{count} of {len(points)} points are not finite', False))
    return problems


def _measure(
    objects: KittiObjects, calibration: Calibration, points: FloatArray
) -> LabelledObjects:
    boxes = boxes_from_objects(objects, calibration)
    inside = points_in_boxes(points[np.isfinite(points).all(axis=1)], boxes)
    return LabelledObjects(objects.names, boxes, difficulties_of(objects), inside.sum(axis=0))


def box_problems(table: LabelledObjects) -> list[str]:
    """Boxes without points, and several boxes of the same object."""
    titles = [
        f'{name} at {distance:.1f} m'
        for name, distance in zip(table.names, table.distances, strict=True)
    ]
    problems = []
    if empty := [titles[i] for i in np.flatnonzero(table.num_points == 0)]:
        problems.append(f'{len(empty)} of {len(titles)} boxes have no points: {", ".join(empty)}')
    overlaps = rotated_iou_3d(table.boxes, table.boxes)
    same = (overlaps > SAME_OBJECT) & (table.names[:, None] == table.names)
    return problems + [
        f'two labels of one {titles[i]} (IoU {overlaps[i, j]:.2f})'
        for i, j in np.argwhere(np.triu(same, k=1))
    ]


# --- numbers ---------------------------------------------------------------------------------


def join_objects(tables: Sequence[LabelledObjects]) -> LabelledObjects:
    """The objects of several frames as one table."""
    none = LabelledObjects(
        np.zeros(0, np.str_),
        np.zeros((0, 7), np.float32),
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
    )
    columns = zip(*(vars(table).values() for table in [none, *tables]), strict=True)
    return LabelledObjects(*(np.concatenate(column) for column in columns))


def _spread(values: NDArray[Any]) -> dict[str, float]:
    """Least, median and greatest; empty without values."""
    if not len(values):
        return {}
    spread = np.quantile(values, (0, 0.5, 1)).round(2).tolist()
    return dict(zip(('least', 'median', 'greatest'), spread, strict=True))
