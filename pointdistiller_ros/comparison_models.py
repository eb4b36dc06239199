# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Teacher and student of `comparison_node`: loaded, and run on the same points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.detector import Detector, Mounting
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.evaluation.comparison.pairs import relabel
from pointdistiller_core.evaluation.comparison.session import ComparisonRules
from pointdistiller_core.evaluation.matching import default_overlaps
from pointdistiller_core.records import Detections
from pointdistiller_ros.comparison_parameters import ComparisonParameters
from pointdistiller_ros.detectors import facts_of
from pointdistiller_ros.diagnostics import REPAIRS
from pointdistiller_ros.transforms import Transforms, find_mounting

ROLES = ('teacher', 'student')


class Models:
    """Both models, by role.

    Args:
        settings: of the node.
        load: makes a detector of each, as `load_bundle` does.
        warn: called with what they do not have in common.

    Attributes:
        infos: what their bundles say, by role.
        class_names: names that the labels of each index, by role.
        about: what a report says of each, by role: name, files with checksums, backend, ...
        rules: what counts when they are compared.
        repairs: counts of corrected or refused values of each.

    Raises:
        ConfigError: they have no class in common.
        PointDistillerError: as `load`.
    """

    def __init__(
        self,
        settings: ComparisonParameters,
        load: Callable[..., Detector],
        warn: Callable[[str], object],
    ) -> None:
        self._settings = settings
        self._detectors = {
            role: load(
                getattr(settings, role),
                backend=getattr(settings, f'{role}_backend'),
                device=settings.device,
                num_threads=settings.num_threads,
            )
            for role in ROLES
        }
        self.infos = {role: detector.info for role, detector in self._detectors.items()}
        self.class_names = {role: one.class_names for role, one in self._detectors.items()}
        self.about = {role: self._describe(role) for role in ROLES}
        self.rules = self._build_rules(warn)
        self.repairs = {role: dict.fromkeys(REPAIRS, 0) for role in ROLES}
        self._warm = False

    def _describe(self, role: str) -> dict[str, Any]:
        path, detector = Path(getattr(self._settings, role)).resolve(), self._detectors[role]
        return {
            'name': path.parent.name if path.name == 'bundle' else path.name,
            'bundle': str(path),
            'backend': detector.backend,
            'device': self._settings.device,
            'classes': list(detector.class_names),
            **facts_of(detector.info),
            'sha256': dict(detector.info.sha256),
        }

    def find_mountings(
        self, frame_id: str, transforms: Transforms | None
    ) -> dict[str, Mounting | None]:
        """The mounting of a cloud's sensor for each, because they may expect different ones.

        Raises:
            CloudError: TF does not connect the frames.
        """
        given = self._settings.mounting
        return {
            role: find_mounting(given, transforms, frame_id, info.sensor_height)
            for role, info in self.infos.items()
        }

    def detect(
        self, points: NDArray[np.float32], mountings: Mapping[str, Mounting | None]
    ) -> list[Detections]:
        """What teacher and student find and are sure of, one after the other.

        Args:
            points: (N, 4) of a cloud.
            mountings: of its sensor.

        Returns:
            Detections in the frame of the cloud, labelled by the classes of the rules.
        """
        if not self._warm:  # a network's first run takes longer and is not measured
            for role, mounting in mountings.items():
                self._detectors[role](points, mounting=mounting)
            self._warm = True
        return [self._detect(role, points, mountings[role]) for role in ROLES]

    def _detect(
        self, role: str, points: NDArray[np.float32], mounting: Mounting | None
    ) -> Detections:
        found = self._detectors[role](points, mounting=mounting)
        for name in REPAIRS:
            self.repairs[role][name] += found.counts.get(name, 0)
        sure = found[found.scores >= getattr(self._settings, f'{role}_score_threshold')]
        return relabel(sure, self.class_names[role], self.rules.class_names)

    def _build_rules(self, warn: Callable[[str], object]) -> ComparisonRules:
        names = self.class_names
        common = tuple(name for name in names['teacher'] if name in names['student'])
        if not common:
            given = ', '.join(f'the {role} {list(of_role)}' for role, of_role in names.items())
            raise ConfigError(f'teacher and student have no class in common: {given}')
        for role, all_names in names.items():
            if others := [name for name in all_names if name not in common]:
                warn(f'only the {role} knows {", ".join(others)}: not compared')
        ranges = tuple(info.model.point_cloud_range for info in self.infos.values())
        if len(set(ranges)) > 1:
            warn(
                f'teacher and student see different ranges, {ranges[0]} and {ranges[1]}: what is '
                'in one of them alone counts as missed or extra'
            )
        least = self._settings.min_iou
        overlaps = (least,) * len(common) if least else default_overlaps(common)
        return ComparisonRules(common, overlaps, tuple(self._settings.distances), ranges)
