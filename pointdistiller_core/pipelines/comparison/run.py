# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Run teacher and student on every cloud, compare them, and write the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
import logging
from pathlib import Path
from typing import Any

from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import CloudError, describe
from pointdistiller_core.evaluation.comparison.report import (
    Check,
    ReportFolder,
    check_names,
    describe_machine,
)
from pointdistiller_core.evaluation.comparison.session import CloudResult, OnlineComparison
from pointdistiller_core.evaluation.comparison.writing import ComparisonReport
from pointdistiller_core.messages.storage import NANOSECONDS
from pointdistiller_core.pipelines.comparison.detectors import (
    ComparedDetectors,
    ComparisonConfig,
    load_detector,
)
from pointdistiller_core.pipelines.comparison.sources import (
    OWN,
    Selection,
    Source,
    SourceCloud,
    SourceLabels,
)

logger = logging.getLogger(__name__)


def compare(
    config: ComparisonConfig,
    selection: Selection,
    *,
    output: Path | None = None,
    checks: Sequence[Check] = (),
    load: Callable[..., Detector] = load_detector,
    on_cloud: Callable[[int, int | None], object] = lambda _done, _total: None,
    warn: Callable[[str], object] = logger.warning,
) -> dict[str, Any]:
    """Compare a student with its teacher on every cloud, and with labels where there are any.

    The numbers are those of the comparison node, and the same each time, except for the latencies.
    A cloud that cannot be used is counted and named.

    Args:
        config: who is compared, and what counts.
        selection: the clouds, of a bag or a dataset.
        output: folder to create for the report (`comparison.json`, `comparison.html`,
            `clouds.csv`, `ground_truth.csv`); None writes none.
        checks: limits that will be asked for; unknown names are refused before the run.
        load: makes a detector, as `load_detector` does.
        on_cloud: told how many clouds are done, and how many there are, if that is known.
        warn: told what is wrong.

    Returns:
        All numbers; see `evaluation.comparison.report.summarize`.

    Raises:
        ConfigError: the detectors have no class in common, a check names no number, or `output`
            holds files.
        PointDistillerError: a bundle or the clouds cannot be read, or the report not be written.
            The report has the numbers until then.
    """
    detectors = ComparedDetectors(config, load, warn)
    check_names(checks, detectors.rules)
    source = selection.open(detectors)
    folder = None if output is None else ReportFolder(output)
    return _Run(config, detectors, source, folder, warn).run(on_cloud)


class _Run:
    """One comparison."""

    def __init__(
        self,
        config: ComparisonConfig,
        detectors: ComparedDetectors,
        source: Source,
        folder: ReportFolder | None,
        warn: Callable[[str], object],
    ) -> None:
        self._config, self._detectors, self._source = config, detectors, source
        self._warn = warn
        self._machine = describe_machine()
        self._num_clouds = self._num_failed = self._num_bad_labels = 0
        self._comparison = OnlineComparison(
            detectors.rules,
            log=folder,
            tolerance_ns=round(source.tolerance_s * NANOSECONDS),
            num_worst=config.num_pictures if folder else 0,
        )
        self._report = ComparisonReport(self._comparison, folder, self._facts)
        self._mountings = source.mountings()
        # A height says nothing of a tilt: who was trained on levelled clouds finds the ground.
        self._told = {
            role: None if detectors.infos[role].model.levelled else mounting
            for role, mounting in self._mountings.items()
        }

    def run(self, on_cloud: Callable[[int, int | None], object]) -> dict[str, Any]:
        """Compare all clouds."""
        try:
            total = self._source.num_clouds
            for item in self._source:
                if isinstance(item, SourceLabels):
                    self._add_labels(item)
                else:
                    self._add_cloud(item)
                    on_cloud(self._num_clouds, total)
        except BaseException as error:  # also Ctrl-C: it is not at its end
            self._report.broke_off = error
            raise
        finally:
            self._report.finish()
        self._tell_of_labels()
        return self._report.summarize(ended=True)

    def _add_cloud(self, cloud: SourceCloud) -> None:
        self._num_clouds += 1
        try:
            points = cloud.read()
            teacher, student = self._detectors.detect(points, self._told)
        except CloudError as error:
            self._num_failed += 1
            where = cloud.name or f'stamp {cloud.stamp_ns / 1e9:.3f} s'
            self._warn(f'cloud {self._num_clouds} ({where}) is not compared: {describe(error)}')
            return
        mountings = (self._mountings['teacher'], self._mountings['student'])
        self._comparison.add(
            CloudResult(
                cloud.stamp_ns,
                points,
                teacher,
                student,
                mountings,
                cloud.frame_id,
                cloud.name,
                cloud.truth,
            )
        )

    def _add_labels(self, labels: SourceLabels) -> None:
        try:
            truth = labels.read()
        except CloudError as error:
            self._num_bad_labels += 1
            self._warn(f'labels are not used: {describe(error)}')
            return
        elsewhere = self._comparison.num_truth_elsewhere
        self._comparison.add_truth(labels.stamp_ns, truth, labels.frame_id)
        if not elsewhere and self._comparison.frames_apart:
            of_cloud, of_labels = self._comparison.frames_apart
            self._warn(
                f'labels in the frame {of_labels!r} of a cloud in {of_cloud!r} are not used; '
                'they are counted and not mentioned again'
            )

    def _tell_of_labels(self) -> None:
        """Say which labels are no measure of truth."""
        for by, count in self._source.facts.get('labels_by', {}).items():
            if by != OWN:
                self._warn(f'the labels of {count} frames are by {by}, not by people')

    def _facts(self, ended: bool) -> Mapping[str, Any]:  # noqa: ARG002
        counts, source = self._comparison.counts, self._source
        return {
            **self._detectors.about,
            'source': dict(source.facts),
            'intensity': {'problem': source.problem, 'scale': source.scale},
            'repairs': {role: dict(found) for role, found in self._detectors.repairs.items()},
            'machine': self._machine,
            'settings': asdict(self._config),
            'clouds': {
                'received': self._num_clouds,
                'compared': counts['compared'],
                'repeated': counts['repeated'],
                'failed': self._num_failed,
                'dropped': 0,
                'lost': 0,
            },
            'unusable_ground_truths': self._num_bad_labels + self._comparison.num_truth_elsewhere,
        }
