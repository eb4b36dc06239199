# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Where the poses of a sensor come from: TF, odometry, or its own clouds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

FIXED_FRAMES = ('odom', 'map', 'world', 'earth')  # the first that there is; odom does not jump
ICP_PACKAGE = 'kiss-icp'
ICP_DRIFT = 0.005  # of the way, as published for KITTI's odometry benchmark
MAX_RANGE = 100.0  # [m]
WARM_UP_CLOUDS = 10
LEAST_POINTS = 100  # of a cloud
# KISS-ICP's own 1 m, with the ground, fell 4 m short after 20 m of a simulated street: rings on a
# flat road, and the points of smooth walls, seem to go along. So it was 0.13 m after 41 m.
VOXEL, GROUND = 0.25, 0.3  # [m]: of the map; above the ground, what is not aligned


class PoseSource(Protocol):
    """Poses `world_from_sensor` by time.

    Attributes:
        needs_points: whether it must see every cloud, in the order of time.
    """

    needs_points: bool

    def is_ready(self, stamp_ns: int) -> bool:
        """Whether no message that is still to come matters to the pose at a time [ns]."""

    def at(self, stamp_ns: int, points: NDArray[np.float32] | None) -> Matrix | None:
        """(4, 4) pose; None where poses are not asked for.

        Args:
            stamp_ns: time of the cloud [ns].
            points: (N, 4) of the cloud, where they are needed.

        Raises:
            TransformError: there is none at this time.
        """


class NoPoses:
    """Nothing tells where the sensor is."""

    needs_points = False

    def is_ready(self, stamp_ns: int) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def at(self, stamp_ns: int, points: NDArray[np.float32] | None) -> None:
        """None."""


class TfPoses:
    """Poses by TF.

    Args:
        tree: what TF has told so far.
        fixed: frame that stays.
        frame: of the sensor.
    """

    needs_points = False

    def __init__(self, tree: TransformTree, fixed: str, frame: str) -> None:
        self._tree, self._fixed, self._frame = tree, fixed, frame

    def is_ready(self, stamp_ns: int) -> bool:
        """Whether TF has told what comes after a time."""
        return self._tree.is_ready(self._fixed, self._frame, stamp_ns)

    def at(self, stamp_ns: int, points: NDArray[np.float32] | None) -> Matrix:  # noqa: ARG002
        """(4, 4) pose."""
        return self._tree.lookup(self._fixed, self._frame, stamp_ns)


class OdometryPoses:
    """Poses by messages of odometry, and TF from their frame to the sensor's.

    Args:
        track: of the vehicle's frame, as far as it was told.
        tree: what TF has told so far.
        child: the vehicle's frame; empty takes the sensor for the vehicle.
        frame: of the sensor.
    """

    needs_points = False

    def __init__(self, track: PoseTrack, tree: TransformTree, child: str, frame: str) -> None:
        self._track, self._tree, self._child, self._frame = track, tree, child, frame

    def is_ready(self, stamp_ns: int) -> bool:
        """Whether a pose after a time was told."""
        return self._track.last_ns is not None and self._track.last_ns >= stamp_ns

    def at(self, stamp_ns: int, points: NDArray[np.float32] | None) -> Matrix:  # noqa: ARG002
        """(4, 4) pose."""
        pose = self._track.at(stamp_ns)
        if not self._child:
            return pose
        return np.asarray(pose @ self._tree.lookup(self._child, self._frame, stamp_ns))


class KnownPoses:
    """Poses that lie beside a simulated drive.

    Args:
        poses: (4, 4) by time [ns].
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
    """Poses by KISS-ICP, which aligns each cloud to those before; the first one is at the origin.

    Args:
        height: of the sensor above the ground [m], which is left out; None takes all points.

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
        """Learn how fast the sensor moves at the beginning.

        A recording may begin on the way; the first clouds would be aligned as if it stood still,
        and fall short.

        Args:
            clouds: (N, 4) points of the first clouds, which are then given to `at` again.
        """
        for points in clouds:
            with suppress(TransformError):
                self.at(0, points)
        motion = np.array(self._odometry.last_delta)
        self._odometry = self._begin()
        if np.isfinite(motion).all():
            self._odometry.last_delta = motion
            self._odometry.last_pose = np.linalg.inv(motion)  # so that the first one is at 0

    def _begin(self) -> Any:
        from kiss_icp.config import KISSConfig
        from kiss_icp.kiss_icp import KissICP

        config = KISSConfig()
        # One thread gives the same poses each time; a sweep without times cannot be unrolled.
        config.registration.max_num_threads = 1
        config.data.deskew = False
        config.data.max_range = MAX_RANGE
        config.mapping.voxel_size = VOXEL
        return KissICP(config)

    def is_ready(self, stamp_ns: int) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def at(self, stamp_ns: int, points: NDArray[np.float32] | None) -> Matrix:  # noqa: ARG002
        """(4, 4) pose of a cloud that follows the last one."""
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
    """Whether KISS-ICP is there."""
    return find_spec('kiss_icp') is not None


def icp_version() -> str:
    """Its version."""
    return version(ICP_PACKAGE)


def find_fixed_frame(tree: TransformTree, frame: str) -> str:
    """The frame that stays while a sensor moves; empty where TF has none."""
    moves: Callable[[str], bool] = lambda fixed: tree.is_moving(fixed, frame)  # noqa: E731
    return next(filter(moves, FIXED_FRAMES), '')


def world_pose(world_from_sensor: Matrix, training_from_sensor: Matrix) -> Pose:
    """The pose of a dataset's frame, whose points were moved from the sensor's."""
    return Pose.from_matrix(world_from_sensor @ np.linalg.inv(training_from_sensor))
