# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The objects of a node's clouds, followed from cloud to cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from std_msgs.msg import Header

from pointdistiller_core.errors import CloudError
from pointdistiller_core.records import Detections
from pointdistiller_core.tracking.live import LiveTracker, LiveTracks
from pointdistiller_ros.conversions import stamp_ns
from pointdistiller_ros.logs import RepeatedLog
from pointdistiller_ros.parameters import to_tracking_config

if TYPE_CHECKING:
    from pointdistiller_core.tracking.live import StampedPose
    from pointdistiller_ros.detector_setup import Setup


class Tracking:
    """Tracks objects while the parameter `outputs.tracks` is on.

    Where TF does not know the pose of a cloud, it goes on in the frame of the cloud. As places in
    two frames have nothing in common, that ends all tracks.

    Args:
        log: says so.

    Attributes:
        problem: why the last cloud was not tracked as the parameters ask for; empty if it was.
    """

    def __init__(self, log: RepeatedLog) -> None:
        self.problem = ''
        self._log = log
        self._tracker = LiveTracker()
        self._values: dict[str, str] = {}
        self._num_predicted = 0

    def follow(self, setup: Setup, found: Detections, header: Header) -> LiveTracks | None:
        """Continue with a cloud; None while nothing is to be tracked.

        Args:
            setup: of the node.
            found: in the cloud, in its frame.
            header: of the cloud.
        """
        if not setup.settings.outputs.tracks:
            self.problem, self._values = '', {}
            return None
        frame, poses = self._find_poses(setup, header)
        before = self._tracker.num_restarts
        tracks = self._tracker.update(
            found,
            stamp_ns(header.stamp),
            config=to_tracking_config(setup.settings.tracking),
            frame=frame,
            class_names=setup.detector.class_names,
            poses=poses,
        )
        if self._tracker.num_restarts > before:
            self._log.warning(
                'tracks',
                f'all tracks ended at {stamp_ns(header.stamp)} ns in {frame!r}: this cloud is not '
                'later than the one before, or its frame or classes are others',
            )
        self._num_predicted += len(poses) > 1
        self._values = {
            'tracks': str(len(tracks.objects)),
            'tracks.frame': frame,
            'tracks.restarts': str(self._tracker.num_restarts),
            'tracks.poses_predicted': str(self._num_predicted),
        }
        return tracks

    def describe(self) -> dict[str, str]:
        """What the diagnostics say of it."""
        return self._values

    def _find_poses(self, setup: Setup, header: Header) -> tuple[str, list[StampedPose]]:
        """Frame to track in, and the pose of the cloud there."""
        fixed, sensor, problem = setup.settings.tracking.fixed_frame, header.frame_id, ''
        found: tuple[str, list[StampedPose]] = (sensor, [])
        if fixed:
            assert setup.transforms is not None
            try:
                found = (fixed, setup.transforms.poses(fixed, sensor, stamp_ns(header.stamp)))
            except CloudError as error:
                problem = f'tracks in {sensor!r}, not in {fixed!r}: {error}'
                self._log.warning('tracks without TF', problem)
        self.problem = problem
        return found
