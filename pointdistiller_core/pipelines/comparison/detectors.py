# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Teacher and student of a comparison: loaded, and run on the same points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pointdistiller_core.deploy.bundle_format import named_folder
from pointdistiller_core.detector import AUTO, REPAIRS, Detector, Mounting, facts_of
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.evaluation.comparison.pairs import relabel
from pointdistiller_core.evaluation.comparison.same_boxes import SURE_SCORE
from pointdistiller_core.evaluation.comparison.session import ComparisonRules
from pointdistiller_core.evaluation.matching import default_overlaps
from pointdistiller_core.records import Detections

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROLES = ('teacher', 'student')


@dataclass(frozen=True)
class ComparisonConfig:
    """What is compared, and what counts; the node has parameters of these names.

    Attributes:
        teacher: its bundle, run folder that holds one, or name of a shipped bundle.
        student: the same of the student.
        device: where the networks run.
        teacher_backend: what the teacher runs in.
        student_backend: what the student runs in.
        num_threads: CPU threads of each network; 0 is its own choice.
        teacher_score_threshold: lowest score of a teacher's box that counts.
        student_score_threshold: lowest score of a student's box that counts.
        min_iou: least IoU from above of boxes that agree; 0 is KITTI's least overlap of the class.
        distances: where bands of distances begin [m], after the first; ascending.
        num_pictures: clouds with most disagreements to draw in the report.

    Raises:
        ConfigError: distances do not ascend.
    """

    teacher: str
    student: str
    device: str = 'cpu'
    teacher_backend: str = AUTO
    student_backend: str = AUTO
    num_threads: int = 0
    teacher_score_threshold: float = SURE_SCORE
    student_score_threshold: float = SURE_SCORE
    min_iou: float = 0.0
    distances: tuple[float, ...] = (20.0, 40.0)
    num_pictures: int = 4

    def __post_init__(self) -> None:
        given = list(self.distances)
        if given != sorted(set(given)) or (given and given[0] <= 0):
            raise ConfigError(f'distances is {given}; it must be positive and ascend')


def load_detector(bundle: str, *, backend: str, device: str, num_threads: int) -> Detector:
    """The detector of a bundle, or of a run folder that holds one; 0 threads are its own choice.

    Raises:
        PointDistillerError: as `Detector.load`.
    """
    return Detector.load(bundle, backend=backend, device=device, num_threads=num_threads or None)


class ComparedDetectors:
    """Teacher and student, by role.

    Args:
        config: which, and what counts.
        load: makes a detector of each, as `load_detector` does.
        warn: called with what they do not have in common.

    Attributes:
        infos: what their bundles say, by role.
        class_names: names that the labels of each index, by role.
        about: what a report says of each, by role: name, files with checksums, backend, ...
        rules: what counts when they are compared.
        repairs: counts of corrected or refused values of each.

    Raises:
        ConfigError: they have no class in common.
        PointDistillerError: as `load`; a `CheckpointError` names the role.
    """

    def __init__(
        self,
        config: ComparisonConfig,
        load: Callable[..., Detector],
        warn: Callable[[str], object],
    ) -> None:
        self._config = config
        self._detectors = {role: self._load(role, load) for role in ROLES}
        self.infos = {role: detector.info for role, detector in self._detectors.items()}
        for role, info in self.infos.items():
            info.model.check_one_sweep(f'the {role}')
        self.class_names = {role: one.class_names for role, one in self._detectors.items()}
        self.about = {role: self._describe(role) for role in ROLES}
        self.rules = self._build_rules(warn)
        self.repairs = {role: dict.fromkeys(REPAIRS, 0) for role in ROLES}
        self._warm = False

    def _load(self, role: str, load: Callable[..., Detector]) -> Detector:
        try:
            return load(
                getattr(self._config, role),
                backend=getattr(self._config, f'{role}_backend'),
                device=self._config.device,
                num_threads=self._config.num_threads,
            )
        except CheckpointError as error:  # one of two, and perhaps nobody named it
            raise CheckpointError(f'the {role}: {error}') from error

    def _describe(self, role: str) -> dict[str, Any]:
        path = named_folder(getattr(self._config, role)).resolve()
        detector = self._detectors[role]
        return {
            'name': path.parent.name if path.name == 'bundle' else path.name,
            'bundle': str(path),
            'backend': detector.backend,
            'device': self._config.device,
            'classes': list(detector.class_names),
            **facts_of(detector.info),
            'sha256': dict(detector.info.sha256),
        }

    def detect(
        self, points: NDArray[np.float32], mountings: Mapping[str, Mounting | None]
    ) -> list[Detections]:
        """What teacher and student find and are sure of, one after the other.

        Args:
            points: (N, 4) of a cloud.
            mountings: of its sensor, by role, because they may expect different ones.

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
        sure = found[found.scores >= getattr(self._config, f'{role}_score_threshold')]
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
        least = self._config.min_iou
        overlaps = (least,) * len(common) if least else default_overlaps(common)
        return ComparisonRules(common, overlaps, tuple(self._config.distances), ranges)
