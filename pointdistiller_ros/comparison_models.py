# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Teacher and student of `comparison_node`: loaded, and run on the same points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.detector import Mounting
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.evaluation.comparison.pairs import relabel
from pointdistiller_core.evaluation.comparison.session import ComparisonRules, default_overlaps
from pointdistiller_core.records import Detections
from pointdistiller_ros.comparison_parameters import ComparisonParameters
from pointdistiller_ros.detectors import PointDetector, load_bundle
from pointdistiller_ros.diagnostics import REPAIRS
from pointdistiller_ros.transforms import Transforms, find_mounting

if TYPE_CHECKING:
    from pointdistiller_core.detector import BundleInfo

ROLES = ('teacher', 'student')


@dataclass(frozen=True)
class Model:
    """A detector and what a report says about it.

    Attributes:
        detector: the detector.
        about: name, files with checksums, backend, grid, ...
        ranges: its range as x_min, y_min, z_min, x_max, y_max, z_max [m]; none if not known.
    """

    detector: PointDetector
    about: Mapping[str, Any]
    ranges: tuple[tuple[float, float, float, float, float, float], ...] = ()


def load_model(bundle: str, *, backend: str, device: str, num_threads: int) -> Model:
    """The detector of a bundle; takes and raises the same as `load_bundle`."""
    detector = load_bundle(bundle, backend=backend, device=device, num_threads=num_threads)
    info, path = detector.info, Path(bundle).resolve()
    about = {
        'name': path.parent.name if path.name == 'bundle' else path.name,
        'bundle': str(path),
        'backend': detector.backend,
        'device': device,
        'width': info.model.width,
        'classes': list(info.model.class_names),
        'point_cloud_range': list(info.model.grid.point_cloud_range),
        'voxel_size': list(info.model.grid.voxel_size),
        'sha256': dict(info.sha256),
    }
    return Model(detector, about, (info.model.grid.point_cloud_range,))


class Models:
    """Both models, by role.

    Args:
        settings: of the node.
        load: makes a model from a bundle, a backend, a device and a number of threads.
        warn: told what they do not have in common.

    Attributes:
        rules: what counts when they are compared.
        repairs: what was made possible for each, or refused.

    Raises:
        ConfigError: they have no class in common.
        PointDistillerError: as `load`.
    """

    def __init__(
        self,
        settings: ComparisonParameters,
        load: Callable[..., Model],
        warn: Callable[[str], object],
    ) -> None:
        self._settings = settings
        self._models = {
            role: load(
                getattr(settings, role),
                backend=getattr(settings, f'{role}_backend'),
                device=settings.device,
                num_threads=settings.num_threads,
            )
            for role in ROLES
        }
        self.rules = self._build_rules(warn)
        self.repairs = {role: dict.fromkeys(REPAIRS, 0) for role in ROLES}
        self._warm = False

    @property
    def about(self) -> dict[str, Mapping[str, Any]]:
        """What a report says about each."""
        return {role: model.about for role, model in self._models.items()}

    @property
    def infos(self) -> dict[str, BundleInfo]:
        """What their bundles say."""
        return {role: model.detector.info for role, model in self._models.items()}

    def class_names(self, role: str) -> Sequence[str]:
        """Names that the labels of one of them index."""
        return self._models[role].detector.class_names

    def find_mountings(
        self, frame_id: str, transforms: Transforms | None
    ) -> dict[str, Mounting | None]:
        """The mounting of a cloud's sensor for each: they may differ in what they expect.

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
        if not self._warm:  # a network's first run takes longer: it is not measured
            for role, mounting in mountings.items():
                self._models[role].detector(points, mounting=mounting)
            self._warm = True
        return [self._detect(role, points, mountings[role]) for role in ROLES]

    def _detect(
        self, role: str, points: NDArray[np.float32], mounting: Mounting | None
    ) -> Detections:
        found = self._models[role].detector(points, mounting=mounting)
        for name in REPAIRS:
            self.repairs[role][name] += found.counts.get(name, 0)
        sure = found[found.scores >= getattr(self._settings, f'{role}_score_threshold')]
        return relabel(sure, self.class_names(role), self.rules.class_names)

    def _build_rules(self, warn: Callable[[str], object]) -> ComparisonRules:
        names = {role: self.class_names(role) for role in ROLES}
        common = tuple(name for name in names['teacher'] if name in names['student'])
        if not common:
            given = ', '.join(f'the {role} {list(of_role)}' for role, of_role in names.items())
            raise ConfigError(f'teacher and student have no class in common: {given}')
        for role, all_names in names.items():
            if others := [name for name in all_names if name not in common]:
                warn(f'only the {role} knows {", ".join(others)}: not compared')
        ranges = tuple(one for model in self._models.values() for one in model.ranges)
        if len(set(ranges)) > 1:
            warn(
                f'teacher and student see different ranges, {ranges[0]} and {ranges[1]}: what is '
                'in one of them alone counts as missed or extra'
            )
        least = self._settings.min_iou
        overlaps = (least,) * len(common) if least else default_overlaps(common)
        return ComparisonRules(common, overlaps, tuple(self._settings.distances), ranges)
