# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What `detector_node` works with, made from its parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.parameter import Parameter

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.detector import Detector, GroundFollower, Mounting
from pointdistiller_core.errors import ConfigError
from pointdistiller_ros.detectors import load_bundle
from pointdistiller_ros.parameters import (
    ClassThresholds,
    DetectorParameters,
    to_detection_config,
    to_ego_box,
)
from pointdistiller_ros.sensors import CloudReaders
from pointdistiller_ros.transforms import (
    FOLLOW_EVERY,
    Transforms,
    find_mounting,
    follow_ground,
    needs_transforms,
)

READ = (  # parameters that clouds are read by
    *('intensity_field', 'missing_intensity', 'constant_intensity'),
    *('intensity_scale', 'intensity_auto'),
)
LOADED = ('bundle', 'backend', 'device', 'num_threads')  # parameters that a detector is made from


@dataclass(frozen=True)
class Setup:
    """What the node works with; a change replaces all of it between two clouds.

    Attributes:
        settings: the node's parameters.
        detector: made from them.
        readers: of its clouds.
        detection: thresholds and caps.
        transforms: if the mounting, or the pose for tracking, comes from TF.
        ground: that its clouds have seen, if that tells the mounting.
    """

    settings: DetectorParameters
    detector: Detector
    readers: CloudReaders
    detection: DetectionConfig
    transforms: Transforms | None
    ground: GroundFollower

    def find_mounting(self, frame_id: str, points: NDArray[np.float32]) -> Mounting | None:
        """The mounting of the sensor that has sent a cloud; see `find_mounting`."""
        mounting, height = self.settings.mounting, self.detector.info.sensor_height
        ground = self.ground.follow(points) if follow_ground(mounting) else None
        return find_mounting(mounting, self.transforms, frame_id, height, ground)

    def describe(self) -> dict[str, str]:
        """What the diagnostics say of it."""
        info = self.detector.info
        low, high = info.intensity_range
        values = {
            'training_intensity': f'{low:g} to {high:g}',
            'training_intensity_assumed': str(info.intensity_assumed),
        }
        scales = self.readers.scale
        named = scales if isinstance(scales, dict) else {'': scales}
        values |= {
            f'intensity_scale.{topic}'.rstrip('.'): f'{scale:.6g}'
            for topic, scale in named.items()
            if scale is not None
        }
        if follow_ground(self.settings.mounting):
            values |= self.ground.describe()
        return {**values, 'bundle': self.settings.bundle}


class SetupBuilder:
    """Makes a node's setups; each keeps what it can of the one before."""

    def __init__(self, node: Node, load: Callable[[DetectorParameters], Detector]) -> None:
        self._node, self._load = node, load
        self._class_thresholds = ClassThresholds(node)

    def concern(self, changes: Sequence[Parameter]) -> bool:
        """Whether any of these changes concerns a parameter outside the node's table."""
        return self._class_thresholds.concern(changes)

    def build(
        self,
        settings: DetectorParameters,
        before: Setup | None = None,
        changes: Sequence[Parameter] = (),
    ) -> Setup:
        """Make what to work with from now on.

        Args:
            settings: the node's parameters.
            before: what was worked with.
            changes: request to set parameters that is about to be granted.

        Raises:
            PointDistillerError: the parameters ask for something impossible; nothing is changed.
        """
        kept = before if before is not None and _alike(settings, before, LOADED) else None
        detector = kept.detector if kept is not None else self._load_detector(settings)
        transforms = before.transforms if before is not None else None
        with ExitStack() as undo:
            to_ego_box(settings.ego_box)
            needed_for = _needs_transforms(settings)
            if not needed_for:
                transforms = None
            elif transforms is None:
                transforms = Transforms(self._node, needed_for)
                undo.callback(transforms.close)
            thresholds = self._class_thresholds.declare(detector.class_names, changes)
            undo.pop_all()
        detection = to_detection_config(detector.info.model.detection, settings, thresholds)
        if kept is not None and _alike(settings, kept, READ):
            readers = kept.readers  # which have judged clouds
        else:
            readers = CloudReaders(settings, {'bundle': detector.info}, self._node.get_logger())
        ground = before.ground if before is not None else GroundFollower(every=FOLLOW_EVERY)
        return Setup(settings, detector, readers, detection, transforms, ground)

    def _load_detector(self, settings: DetectorParameters) -> Detector:
        if not settings.bundle:
            raise ConfigError(
                'parameter bundle is empty; give it: bundle, or run folder that holds one'
            )
        return self._load(settings)


def load_detector(settings: DetectorParameters) -> Detector:
    """The detector that the parameters name; raises as `load_bundle`."""
    return load_bundle(**{name: getattr(settings, name) for name in LOADED})


def _needs_transforms(settings: DetectorParameters) -> str:
    """A parameter that asks for TF; empty if none does."""
    tracked = settings.outputs.tracks and settings.tracking.fixed_frame
    swept = settings.sweeps.fixed_frame and not settings.sweeps.odometry
    return (
        needs_transforms(settings)
        or ('tracking.fixed_frame' if tracked else '')
        or ('sweeps.fixed_frame' if swept else '')
    )


def _alike(settings: DetectorParameters, before: Setup, names: Sequence[str]) -> bool:
    return all(getattr(settings, name) == getattr(before.settings, name) for name in names)
