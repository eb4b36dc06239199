# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of `comparison_node`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from pointdistiller_core.detector import DEFAULT_BUNDLE, DEFAULT_TEACHER
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.pipelines.comparison.detectors import ComparisonConfig
from pointdistiller_ros.conversions import Detection3DArray
from pointdistiller_ros.parameters import (
    DetectorParameters,
    InputParameters,
    MountingParameters,
    parameter,
)


def _bundle_of(role: str, default: str) -> Any:
    return parameter(
        default,
        f'bundle of the {role}, run folder that holds one, or name of a shipped bundle',
        required=True,
    )


def _backend_of(role: str) -> Any:
    return parameter(
        ComparisonConfig.teacher_backend,
        f'what the {role} runs in; auto is the first that is installed and in the bundle',
        choices=DetectorParameters.__dataclass_fields__['backend'].metadata['choices'],
    )


@dataclass(frozen=True)
class StaleLimit:
    """Limits that make a level of the diagnostics."""

    stale_after_s: float = parameter(1.0, 'without any cloud', range=(0.0, 1e6))


@dataclass(frozen=True)
class ComparisonLimits:
    """Limits of the diagnostics of `comparison_node`, named like the detector's."""

    warn: StaleLimit = StaleLimit()
    error: StaleLimit = StaleLimit(stale_after_s=5.0)


AS_GIVEN = MountingParameters(auto=False)  # the numbers are then those of the verb `compare`


@dataclass(frozen=True)
class ComparisonParameters(InputParameters):
    """Parameters of `comparison_node`."""

    teacher: str = _bundle_of('teacher', DEFAULT_TEACHER)
    student: str = _bundle_of('student', DEFAULT_BUNDLE)
    mounting: MountingParameters = AS_GIVEN
    output: str = parameter('', 'folder to create for the report; empty writes none')
    device: str = parameter(
        ComparisonConfig.device, 'where the networks run: cpu, cuda, cuda:1, ...'
    )
    teacher_backend: str = _backend_of('teacher')
    student_backend: str = _backend_of('student')
    num_threads: int = parameter(
        ComparisonConfig.num_threads, 'CPU threads of each network; 0 is its own', range=(0, 1024)
    )
    teacher_score_threshold: float = parameter(
        ComparisonConfig.teacher_score_threshold,
        "lowest score of a teacher's box that counts",
        range=(0.0, 1.0),
    )
    student_score_threshold: float = parameter(
        ComparisonConfig.student_score_threshold,
        "lowest score of a student's box that counts",
        range=(0.0, 1.0),
    )
    min_iou: float = parameter(
        ComparisonConfig.min_iou,
        "least IoU from above of boxes that agree; 0 is the least overlap of KITTI's metric: 0.7 "
        'for cars, 0.5 for all others',
        range=(0.0, 1.0),
    )
    distances: Sequence[float] = parameter(
        ComparisonConfig.distances,
        'where bands of distances begin [m], after the first; ascending',
    )
    ground_truth_type: str = parameter(
        'none',
        'what is on the topic ground_truth: none, boxes (PointCloud2 as on ~/student/boxes) or '
        'detections (vision_msgs/Detection3DArray)',
        choices=('none', 'boxes', 'detections'),
    )
    ground_truth_classes: Sequence[str] = parameter(
        ('',), "names that the labels of boxes on ground_truth index; empty: the teacher's"
    )
    stamp_tolerance: float = parameter(
        0.0,
        'most that the stamps of a cloud and its ground truth may differ [s]; less than half a '
        'period',
        range=(0.0, 10.0),
    )
    max_waiting: int = parameter(
        100, 'clouds, and ground truths, that may wait for one another', range=(1, 100_000)
    )
    num_pictures: int = parameter(
        ComparisonConfig.num_pictures,
        'clouds with most disagreements to draw in the report',
        range=(0, 100),
    )
    diagnostics: ComparisonLimits = ComparisonLimits()


def check_settings(settings: ComparisonParameters) -> None:
    """Refuse what no descriptor can express.

    Raises:
        ConfigError: vision_msgs is wanted and not installed.
    """
    if settings.ground_truth_type == 'detections' and Detection3DArray is None:
        raise ConfigError(
            "parameter ground_truth_type is 'detections', but vision_msgs is not installed; "
            "install it, or send 'boxes'"
        )


def config_of(settings: ComparisonParameters) -> ComparisonConfig:
    """What the parameters say of the comparison itself.

    Raises:
        ConfigError: distances do not ascend.
    """
    names = [field.name for field in fields(ComparisonConfig)]
    return ComparisonConfig(**{name: getattr(settings, name) for name in names})
