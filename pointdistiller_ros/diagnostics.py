# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Health of a detector: counted while it works, compared with limits from time to time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np

from pointdistiller_core.detector import REPAIRS, describe_constant
from pointdistiller_core.errors import describe
from pointdistiller_core.messages.storage import NANOSECONDS
from pointdistiller_core.records import Detections
from pointdistiller_ros.parameters import DiagnosticParameters, InputParameters

if TYPE_CHECKING:
    from pointdistiller_ros.comparison_parameters import ComparisonLimits

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass(frozen=True)
class CloudCounts:
    """What became of clouds.

    Attributes:
        received: the sum of the following three and the current cloud.
        results: all messages for them are sent.
        failed: there is no result for them.
        dropped: replaced by a newer one before they were worked on.
        lost: never received, as far as the middleware knows.
    """

    received: int = 0
    results: int = 0
    failed: int = 0
    dropped: int = 0
    lost: int = 0

    def __sub__(self, earlier: CloudCounts) -> CloudCounts:
        return CloudCounts(
            **{name: value - getattr(earlier, name) for name, value in vars(self).items()}
        )


@dataclass(frozen=True)
class Report:
    """How a detector does.

    Attributes:
        total: clouds since the start.
        recent: clouds since the last report.
        period_s: time since then.
        silence_s: time since the last cloud, by the node's clock.
        last: what was found in the last cloud, or why it failed; None before the first.
        latency_ms: stages of the last result, from the cloud's arrival to the last message.
        max_latency_ms: longest time from arrival to the last message since the last report.
    """

    total: CloudCounts = CloudCounts()
    recent: CloudCounts = CloudCounts()
    period_s: float = 1.0
    silence_s: float = 0.0
    last: Detections | str | None = None
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    max_latency_ms: float = 0.0


class Monitor:
    """Counts what a detector does; its methods may be called from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._now = Report()
        self._reported = CloudCounts()
        self._reported_at = monotonic()
        self._heard_ns = 0  # what a clock says that has not begun: not known
        self.repairs = dict.fromkeys(REPAIRS, 0)  # of all results

    @property
    def counts(self) -> CloudCounts:
        """What became of the clouds so far."""
        return self._now.total

    def restart(self) -> None:
        """The clock has jumped: take the time of the next report as that of the last cloud."""
        with self._lock:
            self._heard_ns = 0

    def receive(self, now_ns: int) -> None:
        """A cloud has come, at this time of the node's clock."""
        with self._lock:
            self._heard_ns = now_ns
            self._count(received=1)

    def drop(self, clouds: int) -> None:
        """Clouds will never be worked on."""
        with self._lock:
            self._count(dropped=clouds)

    def lose(self, clouds: int) -> None:
        """Clouds were sent and have not arrived."""
        with self._lock:
            self._count(lost=clouds)

    def fail(self, error: Exception) -> None:
        """There is no result for a cloud."""
        with self._lock:
            self._count(failed=1)
            # not the error itself, which would keep the cloud and the detector alive
            self._now = replace(self._now, last=describe(error))

    def succeed(self, detections: Detections, latency_ms: Mapping[str, float]) -> None:
        """All messages for a cloud are sent.

        Args:
            detections: found in it.
            latency_ms: of the stages; `end_to_end` is compared with the limit.
        """
        with self._lock:
            self._count(results=1)
            for name in REPAIRS:
                self.repairs[name] += detections.counts.get(name, 0)
            longest = max(self._now.max_latency_ms, latency_ms['end_to_end'])
            self._now = replace(
                self._now, last=detections, latency_ms=latency_ms, max_latency_ms=longest
            )

    def report(self, now_ns: int) -> Report:
        """What happened until this time of the node's clock; the next report begins here."""
        with self._lock:
            self._heard_ns = self._heard_ns or now_ns
            now = monotonic()
            report = replace(
                self._now,
                recent=self._now.total - self._reported,
                period_s=now - self._reported_at,
                silence_s=max(now_ns - self._heard_ns, 0) / NANOSECONDS,
            )
            self._reported, self._reported_at = report.total, now
            self._now = replace(self._now, max_latency_ms=0.0)
            return report

    def _count(self, **more: int) -> None:
        total = self._now.total
        sums = {name: getattr(total, name) + number for name, number in more.items()}
        self._now = replace(self._now, total=replace(total, **sums))


def judge(
    report: Report, parameters: DiagnosticParameters, problem: str = ''
) -> tuple[bytes, str]:
    """The worst level that a report reaches, and all problems.

    Args:
        report: what was counted.
        parameters: limits.
        problem: with all clouds, for a warning.
    """
    findings = [
        (ERROR if value > getattr(parameters.error, limit) else WARN, text)
        for limit, value, text in _measurements(report)
        if value > min(getattr(parameters.warn, limit), getattr(parameters.error, limit))
    ]
    if isinstance(report.last, str):
        findings.append((ERROR, f'the last cloud failed: {report.last}'))
    if isinstance(report.last, Detections):
        findings += list(find_useless(report.last, problem))
    if problem:
        findings.append((WARN, problem))
    return _worst(findings, 'waiting for the first cloud' if report.last is None else 'detecting')


def judge_comparison(
    report: Report, limits: ComparisonLimits, *, problem: str = '', warning: str = ''
) -> tuple[bytes, str]:
    """The worst level of a comparison, and all problems.

    `problem` is what went wrong with the last cloud, `warning` a problem of all clouds.
    """
    received, silence_s = report.total.received, report.silence_s
    findings = []
    if silence_s > min(limits.warn.stale_after_s, limits.error.stale_after_s) or not received:
        level = ERROR if silence_s > limits.error.stale_after_s else WARN
        text = f'no cloud for {silence_s:.1f} s' if received else 'no cloud so far'
        findings.append((level, text))
    if dropped := report.recent.dropped:
        findings.append((WARN, f'slower than its input: {dropped} clouds dropped'))
    if lost := report.recent.lost:
        findings.append((WARN, f'{lost} clouds lost on their way'))
    if isinstance(report.last, Detections):
        findings += find_useless(report.last, warning)
    findings += [(ERROR, problem)] if problem else []
    findings += [(WARN, warning)] if warning else []
    return _worst(findings, 'comparing')


def _worst(findings: Sequence[tuple[bytes, str]], otherwise: str) -> tuple[bytes, str]:
    """The highest level with all texts, or OK if there are none."""
    if not findings:
        return OK, otherwise
    return max(level for level, _ in findings), '; '.join(text for _, text in findings)


def find_useless(found: Detections, said: str = '') -> Iterator[tuple[bytes, str]]:
    """Level and description of why nothing can be detected in a cloud, or only wrong things.

    Args:
        found: in it, with the counts of a `Detector`.
        said: of the intensity of all clouds, which is not said again.
    """
    counts, points = found.counts, found.counts.get('points', 0)
    usable = points - max(
        counts.get('points_without_return', 0), counts.get('points_not_finite', 0)
    )
    in_range, far = counts.get('points_in_range'), counts.get('points_beyond_1_km', 0)
    if in_range is None:
        return
    if not points:
        yield WARN, 'the cloud has no points'
    elif usable <= 0:
        yield ERROR, f'all {points} points are at the origin or not finite'
    elif 2 * far > usable:
        yield ERROR, f'{far} of {points} points are beyond 1 km: is the cloud in millimeters?'
    elif not in_range:
        yield ERROR, f'none of {points} points is in the range of the bundle'
    elif in_range > 1 and found.intensity_range and len(set(found.intensity_range)) == 1:
        text = describe_constant(found.intensity_range[0])
        if text not in said:
            yield WARN, text


def without_filled_intensity(found: Detections, parameters: InputParameters) -> Detections:
    """The same without a range of intensity if that is only the value filled in for none."""
    fillings = {'zero': 0.0, 'constant': parameters.constant_intensity}
    filling = fillings.get(parameters.missing_intensity)
    if filling is None or found.intensity_range != (np.float32(filling),) * 2:
        return found
    return replace(found, intensity_range=None)


def warnings_of(report: Report, reliability: str, said: str = '') -> Iterator[tuple[str, str]]:
    """Kind and text of warnings for the console.

    Args:
        report: since the last report.
        reliability: of the subscription, as the node's parameter says it.
        said: of the intensity of all clouds, which is not said again.
    """
    if lost := report.recent.lost:
        sent = lost + report.recent.received
        remedy = (
            '' if reliability == 'reliable' else ', or set the parameter reliability: reliable'
        )
        yield (
            'lost',
            f'{lost} of {sent} clouds lost on their way in {report.period_s:.1f} s, '
            f'{report.total.lost} so far: give whoever sends them room in shared memory (export '
            'FASTDDS_DEFAULT_PROFILES_FILE=$(ros2 pkg prefix --share pointdistiller_ros)'
            f'/config/dds/fastdds.xml there){remedy}',
        )
    if report.recent.results and isinstance(report.last, Detections):
        for _, text in find_useless(report.last, said):
            yield 'useless', f'a cloud of little use: {text}'


def values_of(report: Report) -> dict[str, str]:
    """Everything that a report holds, as text."""
    values = {f'clouds_{key}': str(value) for key, value in vars(report.total).items()}
    values['input_hz'] = f'{report.recent.received / report.period_s:.2f}'
    values['output_hz'] = f'{report.recent.results / report.period_s:.2f}'
    values |= {f'latency_ms.{key}': f'{value:.2f}' for key, value in report.latency_ms.items()}
    if isinstance(report.last, Detections):
        values |= {key: str(value) for key, value in report.last.counts.items()}
        for kind, cut in report.last.cuts.items():
            values |= {f'cuts.{kind}.{key}': str(value) for key, value in cut._asdict().items()}
        values['detections'] = str(len(report.last))
        if report.last.intensity_range is not None:
            least, largest = report.last.intensity_range
            values['intensity'] = f'{least:g} to {largest:g}'
    return values


def _measurements(report: Report) -> Iterator[tuple[str, float, str]]:
    """Name of the limit, value and description of each measurement."""
    yield 'stale_after_s', report.silence_s, f'no cloud for {report.silence_s:.1f} s'
    recent = report.recent
    if recent.received:
        text = f'{recent.dropped} of {recent.received} clouds dropped: slower than its input'
        yield 'max_drop_fraction', recent.dropped / recent.received, text
    if recent.lost:
        sent = recent.received + recent.lost
        text = f'{recent.lost} of {sent} clouds lost on their way'
        yield 'max_drop_fraction', recent.lost / sent, text
    latency = report.max_latency_ms
    yield 'max_latency_ms', latency, f'a cloud took {latency:.0f} ms'
    if isinstance(report.last, Detections):
        yield from _measure_points(report.last)


def _measure_points(found: Detections) -> Iterator[tuple[str, float, str]]:
    """Measurements of what was cut off the last cloud, or should not be in it."""
    for kind, cut in found.cuts.items():
        if cut.dropped:
            yield 'max_cut_fraction', cut.dropped / sum(cut), f'{cut.dropped} {kind} cut off'
    counts = found.counts
    if outside := counts.get('intensity_outside', 0):
        text = f'intensity of {outside} points is outside of the range of the training clouds'
        yield 'max_intensity_outside', outside / max(counts.get('points', 0), outside), text
