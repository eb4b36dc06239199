# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frames moved so that their ground lies level, for detectors of levelled clouds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.records import Frame, GroundTruth, spread_indices

if TYPE_CHECKING:
    from pointdistiller_core.datasets import Frames

TRIED_FRAMES = 50  # whose ground is looked for before a training


def level(frame: Frame, height: float | None) -> Frame:
    """The frame as a level sensor would see it from a height above the ground in it.

    Args:
        frame: one sweep, LiDAR frame, whose z axis points up, more or less.
        height: of the sensor that is thought of [m]; None changes nothing.

    Returns:
        The points moved, and boxes that are upright there; the frame as it is if no ground is
        found in it.
    """
    return _from(frame, None if height is None else Mounting.found_in(frame.points, height))


class Levelling:
    """Levels frames again and again, but looks for the ground of each only once."""

    def __init__(self, height: float | None) -> None:
        """See `level` for the height."""
        self._height = height
        self._mountings: dict[int, Mounting | None] = {}

    def __call__(self, frame: Frame, index: int) -> Frame:
        """The frame of this number as `level` gives it; each time it must have the same points."""
        if self._height is not None and index not in self._mountings:
            self._mountings[index] = Mounting.found_in(frame.points, self._height)
        return _from(frame, self._mountings.get(index))


def _from(frame: Frame, mounting: Mounting | None) -> Frame:
    if mounting is None:
        return frame
    truth = frame.ground_truth
    return replace(
        frame,
        points=mounting.points_to_training(frame.points),
        ground_truth=None if truth is None else _moved(truth, mounting),
    )


def describe_levelling(frames: Frames) -> str:
    """What is said before a training on levelled frames: in how many no ground is found."""
    tried = spread_indices(len(frames), TRIED_FRAMES)
    bare = sum(Mounting.found_in(frames[index].points, 1.0) is None for index in tried)
    rest = f'; in {bare} there is none, and such frames stay as they are' if bare else ''
    return f'each frame is levelled by the ground found in it (tried on {len(tried)}{rest})'


def _moved(truth: GroundTruth, mounting: Mounting) -> GroundTruth:
    speeds = truth.velocities
    return replace(
        truth,
        boxes=mounting.boxes_to_training(truth.boxes),
        velocities=None if speeds is None else mounting.velocities_to_training(speeds),
    )
