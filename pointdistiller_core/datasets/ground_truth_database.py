# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labelled objects cut out of all frames, and their pasting into others (SECOND).

As in mmdetection3d, an object is pasted where it was labelled, a frame is filled up to a number of
objects of each class, objects that would collide seen from above are left out, and the frame's own
points inside a pasted box are removed. Unlike there, objects are drawn only from the generator,
not from a list that is worked off over several frames, and of two objects that collide the first
one drawn is pasted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
import hashlib
import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import GroundTruthSamplingConfig
from pointdistiller_core.datasets.packed_arrays import pack_arrays, unpack_arrays
from pointdistiller_core.errors import ConfigError, DatasetError, WriteError
from pointdistiller_core.files import write_file
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.geometry.iou import rotated_iou_bev
from pointdistiller_core.records import IGNORE_LABEL, Frame, GroundTruth

if TYPE_CHECKING:
    from pointdistiller_core.datasets import FrameDataset

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

logger = logging.getLogger(__name__)

VERSION = 3  # of the file format and of what is cut out


@dataclass(frozen=True)
class GroundTruthDatabase:
    """Labelled objects of many frames, with the points inside their boxes.

    Attributes:
        class_names: K names, which the labels index.
        level_names: those that the levels index, if there are any.
        truth: N boxes, each in the LiDAR frame of its sweep.
        points: (M, F) float32 of all objects, columns and frames as of their sweeps.
        starts: (N + 1,) int64; object i has the points from `starts[i]` to `starts[i + 1]`.
    """

    class_names: tuple[str, ...]
    level_names: tuple[str, ...]
    truth: GroundTruth
    points: FloatArray
    starts: IntArray

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, keep: IntArray) -> GroundTruthDatabase:
        return replace(
            self,
            truth=self.truth[keep],
            points=self.points_of(keep),
            starts=_starts(self.num_points[keep]),
        )

    @property
    def num_points(self) -> IntArray:
        """(N,) points of each object."""
        return np.diff(self.starts)

    def points_of(self, objects: IntArray) -> FloatArray:
        """(n, F) points of some objects, one after the other."""
        spans = [self.points[self.starts[i] : self.starts[i + 1]] for i in objects]
        return np.concatenate([self.points[:0], *spans])

    def usable(self, config: GroundTruthSamplingConfig) -> GroundTruthDatabase:
        """The objects that may be pasted.

        Raises:
            ConfigError: a class to paste is not in the database.
        """
        classes = config.of_classes(self.class_names)
        if unknown := [name for name in classes if name not in self.class_names]:
            raise ConfigError(
                f'ground_truth_sampling.classes: {unknown} are not in the database; '
                f'it has {list(self.class_names)}'
            )
        least = [
            classes[name].min_points if name in classes else np.inf for name in self.class_names
        ]
        rated = self._rated(config.difficulties)
        labels = self.truth.labels
        enough = self.num_points >= np.array(least)[labels]
        usable = enough & rated
        for name, wanted in classes.items():
            own = labels == self.class_names.index(name)
            if wanted.count and not (own & usable).any():
                logger.warning(
                    'ground_truth_sampling: nothing of class %s can be pasted: of its %d objects, '
                    '%d have %d points, %d are %s',
                    *(name, own.sum(), (own & enough).sum(), wanted.min_points),
                    *((own & rated).sum(), ' or '.join(config.difficulties)),
                )
        return self[np.flatnonzero(usable)]

    def _rated(self, levels: Sequence[str]) -> BoolArray:
        """(N,) which objects have one of these levels; all if there are no levels."""
        if self.truth.levels is None:
            return np.ones(len(self), np.bool_)
        rated: BoolArray = np.isin([*self.level_names, 'none'], levels)[self.truth.levels]
        return rated


def load_database(dataset: FrameDataset) -> GroundTruthDatabase:
    """The database of a dataset, from its cache or else built and stored there.

    The file's name depends on all that the database is made from, so a changed dataset gets a new
    one. A damaged file is made again.

    Raises:
        DatasetError: a frame cannot be read or has no labels.
        WriteError: the cache cannot be written.
    """
    facts = [str(VERSION), *(dataset.fingerprint(index) for index in range(len(dataset)))]
    key = hashlib.sha256('\n'.join(facts).encode()).hexdigest()[:24]
    file = dataset.cache / 'ground_truth' / f'{key}.safetensors'
    if file.exists():
        try:
            columns = unpack_arrays(file.read_bytes())
            points, starts = columns.pop('points'), columns.pop('starts')
            names = (tuple(dataset.class_names), tuple(dataset.levels))
            return GroundTruthDatabase(*names, GroundTruth(**columns), points, starts)
        except (KeyError, TypeError, ValueError) as error:
            logger.warning('%s: damaged (%s); it is made again', file, error)
    database = build_database(dataset)
    truth = {'boxes': database.truth.boxes, **database.truth.columns()}
    columns = {**truth, 'points': database.points, 'starts': database.starts}
    try:
        write_file(file, pack_arrays(columns))
    except WriteError as error:
        raise WriteError(f'{error}; set dataset.cache to another folder') from error
    return database


def build_database(dataset: FrameDataset) -> GroundTruthDatabase:
    """Cut the labelled objects that have a point out of all frames.

    Raises:
        DatasetError: a frame cannot be read or has no labels.
    """
    parts = [_cut_out(dataset[index]) for index in range(len(dataset))]
    return GroundTruthDatabase(
        tuple(dataset.class_names),
        tuple(dataset.levels),
        GroundTruth.joined([truth for truth, _, _ in parts]),
        points=np.concatenate([points for _, points, _ in parts]),
        starts=_starts(np.concatenate([sizes for _, _, sizes in parts])),
    )


def paste_objects(
    frame: Frame,
    database: GroundTruthDatabase,
    config: GroundTruthSamplingConfig,
    rng: np.random.Generator,
) -> Frame:
    """Fill a labelled frame up with objects of the database; their points come first.

    Args:
        frame: one sweep, LiDAR frame; without labels it is not changed.
        database: the usable objects.
        config: how many of which class.
        rng: source of all randomness.
    """
    truth = frame.ground_truth
    if truth is None:
        return frame
    drawn = _draw(database, truth.labels, config, rng)
    pasted = database[drawn[_fit_in(database.truth.boxes[drawn], truth.boxes)]]
    room = ~points_in_boxes(frame.points, pasted.truth.boxes).any(axis=1)
    return replace(
        frame,
        points=np.concatenate([pasted.points, frame.points[room]]),
        ground_truth=GroundTruth.joined([truth, pasted.truth]),
    )


def _draw(
    database: GroundTruthDatabase,
    labels: IntArray,
    config: GroundTruthSamplingConfig,
    rng: np.random.Generator,
) -> IntArray:
    """(n,) different objects: as many of each class as the frame lacks."""
    drawn: list[IntArray] = [np.zeros(0, np.int64)]
    for name, wanted in config.of_classes(database.class_names).items():
        label = database.class_names.index(name)
        pool = np.flatnonzero(database.truth.labels == label)
        missing = max(0, wanted.count - int((labels == label).sum()))
        drawn.append(rng.choice(pool, min(missing, len(pool)), replace=False))
    return np.concatenate(drawn)


def _fit_in(boxes: FloatArray, others: FloatArray) -> BoolArray:
    """(N,) which boxes, in their order, overlap neither the others nor one another."""
    free: BoolArray = (rotated_iou_bev(boxes, others) == 0).all(axis=1)
    collides = rotated_iou_bev(boxes, boxes) > 0
    for index in range(len(boxes)):
        free[index] &= not (collides[index, :index] & free[:index]).any()
    return free


def _cut_out(frame: Frame) -> tuple[GroundTruth, FloatArray, IntArray]:
    """The objects of one frame, their points one after the other, and how many each has."""
    truth = frame.ground_truth
    if truth is None:
        raise DatasetError(f'frame {frame.frame_id} has no labels; its objects cannot be cut out')
    inside = points_in_boxes(frame.points, truth.boxes).T
    kept = np.flatnonzero((truth.labels != IGNORE_LABEL) & inside.any(axis=1))
    _, point_indices = np.nonzero(inside[kept])
    return truth[kept], frame.points[point_indices], inside[kept].sum(axis=1)


def _starts(sizes: IntArray) -> IntArray:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
