# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Tracks of detections, sweep by sweep, as a node needs them.

Detections are matched within each class by distance from above, in units of the filter's
uncertainty (a Mahalanobis distance), the nearest pair first. Sure detections choose first; unsure
ones may continue a track, but begin none (ByteTrack, ECCV 2022). The heading follows the axis of
the detections and the direction of their majority, because detectors often confuse front and rear
of a car.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import TrackingConfig
from pointdistiller_core.geometry.boxes import transform_boxes
from pointdistiller_core.geometry.transforms import invert_rigid, rotate_xy, wrap_angle
from pointdistiller_core.records import Detections
from pointdistiller_core.tracking.filter import Motion

if TYPE_CHECKING:
    Array = NDArray[np.floating[Any]]
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

NANOSECONDS = 1_000_000_000
HEIGHT_GATE = 2.0  # [m] between the centers of a detection and of a track that it fits
SHAPE_GAIN = 0.2  # of a new size, height or axis, against those before


@dataclass(frozen=True)
class Tracks:
    """The tracks after one sweep that were seen often enough.

    Attributes:
        ids: (T,) int64, never used again.
        boxes: (T, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad], sensor frame.
        velocities: (T, 2) float32 over ground along x and y of the sensor frame [m/s]; relative to
            the sensor if its pose is not known.
        labels: (T,) int64 index into the class names.
        scores: (T,) float32 of the newest detection.
        hits: (T,) int64 detections so far.
        seen: (T,) bool whether this sweep has a detection of it; otherwise its place is a
            prediction.
        track_of: (N,) int64 id for each detection of the sweep, -1 for none; also ids of tracks
            too young to be listed.
    """

    ids: IntArray
    boxes: FloatArray
    velocities: FloatArray
    labels: IntArray
    scores: FloatArray
    hits: IntArray
    seen: BoolArray
    track_of: IntArray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class _State:
    """All tracks in the fixed frame; rows belong together."""

    motion: Motion
    z: Array
    size: Array
    yaw: Array
    front: Array  # votes for the direction of the yaw, minus those against it
    ids: IntArray
    labels: IntArray
    scores: Array
    hits: IntArray
    last_ns: IntArray

    def __getitem__(self, keep: NDArray[np.generic]) -> _State:
        return _State(**{name: column[keep] for name, column in vars(self).items()})

    @classmethod
    def joined(cls, first: _State, second: _State) -> _State:
        columns = {
            name: np.concatenate([column, getattr(second, name)])
            for name, column in vars(first).items()
            if name != 'motion'
        }
        return cls(motion=Motion.joined(first.motion, second.motion), **columns)


class Tracker:
    """Gives objects numbers that they keep from sweep to sweep; not thread-safe."""

    def __init__(self, config: TrackingConfig) -> None:
        self.config = config
        self.num_restarts = 0
        """How often all tracks ended because the time went backwards, or by `restart`."""
        self._next_id = 0
        self._stamp_ns: int | None = None
        self._state = self._begin(np.zeros((0, 7)), Detections.empty(), 0, None)

    def update(
        self,
        found: Detections,
        stamp_ns: int,
        world_from_sensor: NDArray[np.floating] | None = None,
    ) -> Tracks:
        """Continue with the detections of a sweep.

        Args:
            found: in the sensor frame; velocities over ground, where there are any, are those of
                new tracks.
            stamp_ns: of the sweep; a stamp that is not later than the last one ends all tracks.
            world_from_sensor: (4, 4) pose in a fixed frame, the same for each sweep; None if it is
                not known: objects are then tracked in the sensor's frame.
        """
        pose = np.eye(4) if world_from_sensor is None else np.asarray(world_from_sensor, float)
        boxes = transform_boxes(pose, found.boxes.astype(np.float64))
        state = self._predict(stamp_ns)
        track, detection = self._match(state, boxes, found)
        state = self._correct(state, track, boxes[detection], found.scores[detection], stamp_ns)
        new = np.setdiff1d(np.flatnonzero(found.scores >= self.config.birth_score), detection)
        known = None if world_from_sensor is None else pose  # velocities are over ground
        self._state = _State.joined(state, self._begin(boxes[new], found[new], stamp_ns, known))
        track_of = np.full(len(found), -1)
        track_of[detection] = state.ids[track]
        track_of[new] = self._state.ids[len(state.ids) :]
        return self._shown(pose, stamp_ns, track_of)

    def restart(self) -> None:
        """End all tracks: the next sweep has no place or time in common with them."""
        self.num_restarts += 1
        self._stamp_ns = None
        self._state = self._state[np.zeros(0, np.int64)]

    def _predict(self, stamp_ns: int) -> _State:
        """The tracks at a later time, without those that have ended."""
        seconds = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) / NANOSECONDS
        restart = self._stamp_ns is not None and seconds <= 0
        self.num_restarts += restart
        self._stamp_ns = stamp_ns
        state = self._state
        alive = stamp_ns - state.last_ns <= self.config.max_gap_s * NANOSECONDS
        state = state[alive & (not restart)]
        return replace(state, motion=state.motion.predict(seconds, self.config))

    def _match(self, state: _State, boxes: Array, found: Detections) -> tuple[IntArray, IntArray]:
        """(n,) tracks and (n,) the detection of each."""
        x, y = state.motion.position.T[:, :, None]
        squares = (boxes[:, 0] - x) ** 2 + (boxes[:, 1] - y) ** 2
        spread = state.motion.covariance.position + self.config.position_noise**2
        distances = squares / spread[:, None]
        fits = distances <= self.config.gate**2
        fits &= squares <= self.config.max_step**2
        fits &= abs(boxes[:, 2] - state.z[:, None]) <= HEIGHT_GATE
        fits &= found.labels == state.labels[:, None]
        sure = found.scores >= self.config.birth_score
        tracks, detections = _nearest_first(np.where(fits & sure, distances, np.inf))
        fits[tracks] = False
        fits &= ~sure & (found.scores >= self.config.min_score)
        more, weak = _nearest_first(np.where(fits, distances, np.inf))
        return np.concatenate([tracks, more]), np.concatenate([detections, weak])

    def _correct(
        self, state: _State, track: IntArray, boxes: Array, scores: FloatArray, stamp_ns: int
    ) -> _State:
        """The tracks with the detections of some of them."""
        if not len(track):
            return state
        own = state[track]
        motion = own.motion.correct(boxes[:, :2], self.config)
        turn = wrap_angle(boxes[:, 6] - own.yaw)
        flipped = abs(turn) > np.pi / 2
        turn = np.where(flipped, wrap_angle(turn + np.pi), turn)
        front = own.front + np.where(flipped, -scores, scores)
        backwards = front < 0
        gain = np.maximum(SHAPE_GAIN, 1 / (own.hits + 1))
        yaw = wrap_angle(own.yaw + gain * turn + np.pi * backwards)
        seen = replace(
            own,
            motion=motion,
            z=own.z + gain * (boxes[:, 2] - own.z),
            size=own.size + gain[:, None] * (boxes[:, 3:6] - own.size),
            yaw=yaw,
            front=abs(front),
            scores=scores.astype(np.float64),
            hits=own.hits + 1,
            last_ns=np.full(len(track), stamp_ns),
        )
        order = np.r_[track, np.setdiff1d(np.arange(len(state.ids)), track)]
        both = _State.joined(seen, state[order[len(track) :]])
        return both[np.argsort(order)]

    def _begin(self, boxes: Array, found: Detections, stamp_ns: int, pose: Array | None) -> _State:
        """New tracks of boxes in the fixed frame, with the detector's velocities if it has any.

        Without a pose, tracks are relative to the sensor, and velocities over ground do not help.
        """
        velocity = None
        if found.velocities is not None and pose is not None:
            velocity = rotate_xy(
                found.velocities.astype(float), np.arctan2(pose[1, 0], pose[0, 0])
            )
        first, self._next_id = self._next_id, self._next_id + len(boxes)
        return _State(
            motion=Motion.begin(boxes[:, :2], self.config, velocity),
            z=boxes[:, 2],
            size=boxes[:, 3:6],
            yaw=boxes[:, 6],
            front=found.scores.astype(np.float64),
            ids=np.arange(first, self._next_id),
            labels=found.labels,
            scores=found.scores.astype(np.float64),
            hits=np.ones(len(boxes), np.int64),
            last_ns=np.full(len(boxes), stamp_ns),
        )

    def _shown(self, pose: Array, stamp_ns: int, track_of: IntArray) -> Tracks:
        state = self._state[self._state.hits >= self.config.min_hits]
        motion = state.motion
        boxes = np.column_stack([motion.position, state.z, state.size, state.yaw])
        back = invert_rigid(pose)
        turn = np.arctan2(back[1, 0], back[0, 0])
        return Tracks(
            ids=state.ids,
            boxes=transform_boxes(back, boxes).astype(np.float32),
            velocities=rotate_xy(motion.velocity, turn).astype(np.float32),
            labels=state.labels,
            scores=state.scores.astype(np.float32),
            hits=state.hits,
            seen=state.last_ns == stamp_ns,
            track_of=track_of,
        )


def _nearest_first(distances: Array) -> tuple[IntArray, IntArray]:
    """Rows and columns of (T, N), each at most once, the nearest pair first; infinity is none."""
    rows, columns = np.nonzero(np.isfinite(distances))
    order = np.argsort(distances[rows, columns], kind='stable')
    taken_rows, taken_columns = set[int](), set[int]()
    pairs = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            pairs.append((row, column))
    found = np.array(pairs, np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]
