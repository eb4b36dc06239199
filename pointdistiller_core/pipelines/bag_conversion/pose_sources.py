# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Poses of a sensor: from TF, odometry, or its own clouds."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import ConfigError
from pointdistiller_core.geometry.poses import Pose, PoseTrack, TransformError, TransformTree

if TYPE_CHECKING:
    Matrix: TypeAlias = NDArray[np.float64]

ICP_PACKAGE = 'kiss-icp'
ICP_DRIFT = 0.005  # of the distance, as published for KITTI's odometry
MAX_RANGE = 100.0  # [m]
WARM_UP_CLOUDS = 10
LEAST_POINTS = 100  # of a cloud
# With KISS-ICP's default of 1 m, and the ground, the pose was 4 m short after 20 m of a simulated
# street: rings on a flat road and points on smooth walls seem to move along. With these values, it
# was off by 0.13 m after 41 m.
VOXEL, GROUND = 0.25, 0.3  # [m]: size of a voxel; height up to which points are ground


class PoseSource(Protocol):
    """Poses `world_from_sensor` by time.

    Attributes:
        needs_points: whether it must see every cloud, in order of time.
    """

    needs_points: bool

    def is_ready(self, stamp_ns: int) -> bool:
        """Whether later messages can no longer change the pose at a time [ns]."""

    def at(self, stamp_ns: int, points: NDArray[np.float32] | None) -> Matrix | None:
        """(4, 4) pose; None if poses are not wanted.

        Args:
            stamp_ns: time of the cloud [ns].
            points: (N, 4) points of the cloud, if needed.

        Raises:
            TransformError: there is no pose at this time.
        """


class NoPoses:
    """No poses."""

    needs_points = False

    def is_ready(self, stamp_ns: int) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def at(self, stamp_ns: int, points: NDArray[np.float32] | None) -> None:
        """None."""


class TfPoses:
    """Poses from TF.

    Args:
        tree: transforms so far.
        fixed: fixed frame.
        frame: frame of the sensor.
    """

    needs_points = False

    def __init__(self, tree: TransformTree, fixed: str, frame: str) -> None:
        self._tree, self._fixed, self._frame = tree, fixed, frame

    def is_ready(self, stamp_ns: int) -> bool:
        """Whether there is a transform after a time."""
        return self._tree.is_ready(self._fixed, self._frame, stamp_ns)

    def at(self, stamp_ns: int, points: NDArray[np.float32] | None) -> Matrix:  # noqa: ARG002
        """(4, 4) pose."""
        return self._tree.lookup(self._fixed, self._frame, stamp_ns)


class OdometryPoses:
    """Poses from odometry messages, and from TF between the vehicle and the sensor.

    Args:
        track: poses of the vehicle so far.
        tree: transforms so far.
        child: frame of the vehicle; empty means the sensor itself.
        frame: frame of the sensor.
    """

    needs_points = False

    def __init__(self, track: PoseTrack, tree: TransformTree, child: str, frame: str) -> None:
        self._track, self._tree, self._child, self._frame = track, tree, child, frame

    def is_ready(self, stamp_ns: int) -> bool:
        """Whether there is a pose after a time."""
        return self._track.last_ns is not None and self._track.last_ns >= stamp_ns

    def at(self, stamp_ns: int, points: NDArray[np.float32] | None) -> Matrix:  # noqa: ARG002
        """(4, 4) pose."""
        pose = self._track.at(stamp_ns)
        if not self._child:
            return pose
        return np.asarray(pose @ self._tree.lookup(self._child, self._frame, stamp_ns))


class KnownPoses:
    """Poses stored next to a simulated drive.

    Args:
        poses: (4, 4) poses by time [ns].
    """

    needs_points = False

    def __init__(self, poses: dict[int, Matrix]) -> None:
        self._poses = poses

    def is_ready(self, stamp_ns: int) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def at(self, stamp_ns: int, points: NDArray[np.float32] | None) -> Matrix:  # noqa: ARG002
        """(4, 4) pose."""
        if stamp_ns not in self._poses:
            raise TransformError('the simulation has no sweep of this time')
        return self._poses[stamp_ns]


class IcpPoses:
    """Poses from KISS-ICP, which aligns each cloud to earlier ones; the first is at the origin.

    Args:
        height: height of the sensor [m], to leave out the ground; None takes all points.

    Raises:
        ConfigError: its package is not installed.
    """

    needs_points = True

    def __init__(self, height: float | None) -> None:
        if not is_icp_installed():
            raise ConfigError(
                f"poses 'icp' need the package {ICP_PACKAGE}: pip install "
                "'pointdistiller_ros[odometry]', or choose other poses"
            )
        self._lowest = -np.inf if height is None else GROUND - height
        self._none: NDArray[np.float64] = np.zeros(0)
        self._odometry = self._begin()

    def warm_up(self, clouds: Iterable[NDArray[np.float32]]) -> None:
        """Estimate the speed of the sensor at the beginning.

        A recording may begin while the sensor moves. Aligned as if it stood still, the first poses
        would fall short.

        Args:
            clouds: (N, 4) points of the first clouds; pass them to `at` again afterwards.
        """
        for points in clouds:
            with suppress(TransformError):
                self.at(0, points)
        motion = np.array(self._odometry.last_delta)
        self._odometry = self._begin()
        if np.isfinite(motion).all():
            self._odometry.last_delta = motion
            self._odometry.last_pose = np.linalg.inv(motion)  # puts the first one at 0

    def _begin(self) -> Any:
        from kiss_icp.config import KISSConfig
        from kiss_icp.kiss_icp import KissICP

        config = KISSConfig()
        # One thread gives the same poses each time. A sweep without times cannot be deskewed.
        config.registration.max_num_threads = 1
        config.data.deskew = False
        config.data.max_range = MAX_RANGE
        config.mapping.voxel_size = VOXEL
        return KissICP(config)

    def is_ready(self, stamp_ns: int) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def at(self, stamp_ns: int, points: NDArray[np.float32] | None) -> Matrix:  # noqa: ARG002
        """(4, 4) pose of the next cloud."""
        assert points is not None
        points = points[points[:, 2] > self._lowest]
        if len(points) < LEAST_POINTS:
            raise TransformError(f'{len(points)} points above the ground are too few to align')
        self._odometry.register_frame(points[:, :3].astype(np.float64), self._none)
        pose = np.array(self._odometry.last_pose)
        if not np.isfinite(pose).all():
            raise TransformError('KISS-ICP found no pose')
        return pose


def is_icp_installed() -> bool:
    """Whether KISS-ICP is installed."""
    return find_spec('kiss_icp') is not None


def icp_version() -> str:
    """Version of KISS-ICP."""
    return version(ICP_PACKAGE)


def world_pose(world_from_sensor: Matrix, training_from_sensor: Matrix) -> Pose:
    """Pose of the dataset's frame, whose points were transformed from the sensor's."""
    return Pose.from_matrix(world_from_sensor @ np.linalg.inv(training_from_sensor))
