# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How a detector does, counted and judged."""

from __future__ import annotations

from dataclasses import replace
import gc
import weakref

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from pointdistiller_core.detector import IntensityJudge
from pointdistiller_core.errors import CloudError
from pointdistiller_core.records import Cut, Detections
from pointdistiller_ros import diagnostics
from pointdistiller_ros.comparison_parameters import ComparisonLimits
from pointdistiller_ros.diagnostics import (
    ERROR,
    OK,
    WARN,
    CloudCounts,
    Monitor,
    Report,
    find_useless,
    judge,
    judge_comparison,
    values_of,
    warnings_of,
    without_filled_intensity,
)
from pointdistiller_ros.parameters import DiagnosticParameters, InputParameters, Limits

LIMITS = DiagnosticParameters(
    warn=Limits(
        max_latency_ms=100.0,
        stale_after_s=1.0,
        max_drop_fraction=0.1,
        max_cut_fraction=0.2,
        max_intensity_outside=0.01,
    ),
    error=Limits(
        max_latency_ms=1000.0,
        stale_after_s=5.0,
        max_drop_fraction=0.5,
        max_cut_fraction=0.8,
        max_intensity_outside=0.3,
    ),
)
SECOND = 10**9


def found(cuts=None, **counts):
    return replace(Detections.empty(), counts=counts, cuts=cuts or {})


GOOD = Report(
    recent=CloudCounts(received=10, results=9, dropped=1),
    last=found({'points': Cut(72, 18), 'voxels': Cut(50, 0)}, points=100, points_in_range=90),
    max_latency_ms=100.0,
    silence_s=1.0,
)


def test_at_the_limits_all_is_well():
    assert judge(GOOD, LIMITS) == (OK, 'detecting')
    assert judge(Report(), LIMITS) == (OK, 'waiting for the first cloud')


@pytest.mark.parametrize(
    ('changes', 'level', 'named'),
    [
        ({'silence_s': 1.1}, WARN, 'no cloud for 1.1 s'),
        ({'silence_s': 5.1}, ERROR, 'no cloud for 5.1 s'),
        ({'max_latency_ms': 101.0}, WARN, 'a cloud took 101 ms'),
        ({'max_latency_ms': 1001.0}, ERROR, 'a cloud took 1001 ms'),
        ({'recent': CloudCounts(received=10, dropped=2)}, WARN, '2 of 10 clouds dropped'),
        ({'recent': CloudCounts(received=10, dropped=6)}, ERROR, '6 of 10 clouds dropped'),
        ({'recent': CloudCounts(received=8, lost=2)}, WARN, '2 of 10 clouds lost on their way'),
        ({'recent': CloudCounts(lost=3)}, ERROR, '3 of 3 clouds lost on their way'),
        ({'last': found({'points': Cut(7, 3)})}, WARN, '3 points cut off'),
        ({'last': found({'voxels': Cut(1, 9)})}, ERROR, '9 voxels cut off'),
        ({'last': found(points=50, intensity_outside=1)}, WARN, 'intensity of 1 points'),
        ({'last': found(points=50, intensity_outside=50)}, ERROR, 'intensity of 50 points'),
        ({'last': 'no x'}, ERROR, 'the last cloud failed: no x'),
    ],
)
def test_beyond_a_limit(changes, level, named):
    judged, text = judge(replace(GOOD, **changes), LIMITS)
    assert judged == level
    assert named in text


def test_worst_level_and_all_findings():
    report = replace(GOOD, silence_s=2.0, max_latency_ms=2000.0)
    assert judge(report, LIMITS) == (ERROR, 'no cloud for 2.0 s; a cloud took 2000 ms')


def test_limits_of_an_error_below_those_of_a_warning_still_count():
    limits = replace(LIMITS, error=replace(LIMITS.error, max_latency_ms=50.0))
    assert judge(replace(GOOD, max_latency_ms=60.0), limits)[0] == ERROR


def test_reports_follow_one_another():
    monitor = Monitor()
    monitor.receive(1 * SECOND)
    monitor.receive(2 * SECOND)
    monitor.drop(1)
    monitor.succeed(found(points=7), {'network': 3.0, 'end_to_end': 9.0})
    report = monitor.report(5 * SECOND)
    assert report.total == report.recent == CloudCounts(received=2, results=1, dropped=1)
    assert (report.silence_s, report.max_latency_ms) == (3.0, 9.0)
    values = values_of(report)
    assert (values['clouds_dropped'], values['points']) == ('1', '7')
    assert values['latency_ms.network'] == '3.00'
    monitor.fail(CloudError('x'))
    report = monitor.report(6 * SECOND)
    assert report.recent == CloudCounts(failed=1)
    assert report.last == 'x'
    assert (report.silence_s, report.max_latency_ms) == (4.0, 0.0)
    assert 'points' not in values_of(report)


def test_rates_are_those_since_the_report_before(monkeypatch):
    times = iter([10.0, 12.0, 16.0])
    monkeypatch.setattr(diagnostics, 'monotonic', lambda: next(times))
    monitor = Monitor()
    for results, received, expected in ((3, 5, ('2.50', '1.50')), (1, 2, ('0.50', '0.25'))):
        for _ in range(received):
            monitor.receive(SECOND)
        for _ in range(results):
            monitor.succeed(found(), {'end_to_end': 1.0})
        values = values_of(monitor.report(SECOND))
        assert (values['input_hz'], values['output_hz']) == expected


def test_lost_clouds_are_counted_apart():
    monitor = Monitor()
    monitor.receive(SECOND)
    monitor.lose(2)
    monitor.lose(1)
    assert monitor.report(SECOND).recent == CloudCounts(received=1, lost=3)
    assert values_of(monitor.report(SECOND))['clouds_lost'] == '3'


def test_silence_begins_anew_when_time_jumps():
    monitor = Monitor()
    monitor.receive(100 * SECOND)
    monitor.restart()
    assert monitor.report(3 * SECOND).silence_s == 0.0
    assert monitor.report(5 * SECOND).silence_s == 2.0


def test_time_that_goes_back_is_no_silence():
    monitor = Monitor()
    monitor.receive(100 * SECOND)
    assert monitor.report(3 * SECOND).silence_s == 0.0


def test_before_a_clock_begins_there_is_no_silence():
    monitor = Monitor()
    assert monitor.report(0).silence_s == 0.0
    assert monitor.report(100 * SECOND).silence_s == 0.0
    assert monitor.report(103 * SECOND).silence_s == 3.0
    monitor.restart()
    monitor.receive(0)
    assert monitor.report(200 * SECOND).silence_s == 0.0


def test_cuts_are_values():
    values = values_of(GOOD)
    cuts = {key: value for key, value in values.items() if key.startswith('cuts.')}
    assert cuts == {
        'cuts.points.kept': '72',
        'cuts.points.dropped': '18',
        'cuts.voxels.kept': '50',
        'cuts.voxels.dropped': '0',
    }


def test_range_of_the_intensity():
    last = replace(Detections.empty(), intensity_range=(0.0, 0.75))
    assert values_of(replace(GOOD, last=last))['intensity'] == '0 to 0.75'


USEFUL = {'points': 100, 'points_in_range': 90}


@pytest.mark.parametrize(
    ('counts', 'level', 'named'),
    [
        ({'points': 0, 'points_in_range': 0}, WARN, 'the cloud has no points'),
        (
            {'points': 9, 'points_in_range': 0, 'points_without_return': 9},
            ERROR,
            'all 9 points are at the origin or not finite',
        ),
        (
            {'points': 9, 'points_in_range': 0, 'points_not_finite': 9},
            ERROR,
            'all 9 points are at the origin or not finite',
        ),
        (
            {'points': 100, 'points_in_range': 1, 'points_beyond_1_km': 60},
            ERROR,
            '60 of 100 points are beyond 1 km: is the cloud in millimeters?',
        ),
        ({'points': 7, 'points_in_range': 0}, ERROR, 'none of 7 points is in the range'),
    ],
)
def test_useless_cloud(counts, level, named):
    ((found_level, text),) = find_useless(found(**counts))
    assert found_level == level
    assert named in text
    judged, message = judge(replace(GOOD, last=found(**counts)), LIMITS)
    assert (judged, message) == (level, text)


@pytest.mark.parametrize(
    ('counts', 'span', 'texts'),
    [
        (USEFUL, (0.5, 0.5), ['intensity is 0.5 throughout']),
        (USEFUL, (0.0, 0.0), ['intensity is 0 throughout']),
        (USEFUL, (0.0, 0.5), []),
        (USEFUL | {'points_in_range': 1}, (0.5, 0.5), []),  # one point has but one
        ({'points': 100}, (0.5, 0.5), []),  # by whom does not count
    ],
)
def test_constant_intensity(counts, span, texts):
    last = replace(found(**counts), intensity_range=span)
    assert [text for _, text in find_useless(last)] == texts


def test_constant_intensity_of_all_clouds_is_said_once():
    judge_of_clouds = IntensityJudge((0.0, 1.0))
    said = judge_of_clouds.add(np.full((100, 4), 0.5, np.float32))
    constant = replace(found(**USEFUL), intensity_range=(0.5, 0.5))
    assert not list(find_useless(constant, said))
    report = replace(GOOD, last=constant)
    assert judge(report, LIMITS, said) == (WARN, said)
    assert not list(warnings_of(report, 'reliable', said))
    assert list(find_useless(replace(constant, intensity_range=(0.25, 0.25)), said))


@pytest.mark.parametrize(
    ('parameters', 'span', 'kept'),
    [
        ({}, (0.0, 0.0), (0.0, 0.0)),
        ({'missing_intensity': 'zero'}, (0.0, 0.0), None),
        ({'missing_intensity': 'zero'}, (0.5, 0.5), (0.5, 0.5)),
        ({'missing_intensity': 'constant', 'constant_intensity': 0.5}, (0.5, 0.5), None),
        ({'missing_intensity': 'zero'}, None, None),
    ],
)
def test_intensity_that_was_filled_in_is_none(parameters, span, kept):
    last = replace(Detections.empty(), intensity_range=span)
    left = without_filled_intensity(last, InputParameters(**parameters))
    assert left.intensity_range == kept


def test_lost_clouds_are_told_with_the_remedy():
    lost = replace(GOOD, recent=CloudCounts(received=8, lost=2), total=CloudCounts(lost=7))
    ((kind, text),) = warnings_of(lost, 'best_effort')
    assert kind == 'lost'
    assert '2 of 10 clouds lost on their way in 1.0 s, 7 so far' in text
    assert 'config/dds/fastdds.xml' in text
    assert 'reliability: reliable' in text
    ((_, text),) = warnings_of(lost, 'reliable')
    assert 'reliability' not in text
    assert not list(warnings_of(GOOD, 'best_effort'))


def test_useless_clouds_are_told_while_they_come():
    useless = replace(GOOD, last=found(points=0, points_in_range=0))
    assert [kind for kind, _ in warnings_of(useless, 'reliable')] == ['useless']
    assert not list(warnings_of(replace(useless, recent=CloudCounts()), 'reliable'))


def test_failed_cloud_is_not_kept_alive():
    class Cloud:
        pass

    monitor, clouds = Monitor(), []

    def work():
        cloud = Cloud()
        clouds.append(weakref.ref(cloud))
        raise CloudError('no x')

    try:
        work()
    except CloudError as error:
        monitor.fail(error)
    gc.collect()
    assert clouds[0]() is None


@pytest.mark.parametrize(
    ('report', 'problem', 'level', 'text'),
    [
        (Report(CloudCounts(1)), '', OK, 'comparing'),
        (Report(), '', WARN, 'no cloud so far'),
        (Report(silence_s=5.1), '', ERROR, 'no cloud so far'),
        (Report(CloudCounts(1), silence_s=1.0), '', OK, 'comparing'),
        (Report(CloudCounts(1), silence_s=1.1), '', WARN, 'no cloud for 1.1 s'),
        (Report(CloudCounts(1), silence_s=5.1), '', ERROR, 'no cloud for 5.1 s'),
        (
            Report(CloudCounts(9), CloudCounts(5, dropped=4)),
            '',
            WARN,
            'slower than its input: 4 clouds dropped',
        ),
        (
            Report(CloudCounts(5), silence_s=1.1),
            'the last cloud failed: odd',
            ERROR,
            'no cloud for 1.1 s; the last cloud failed: odd',
        ),
    ],
)
def test_levels_of_a_comparison(report, problem, level, text):
    assert judge_comparison(report, ComparisonLimits(), problem=problem) == (level, text)


def test_a_comparison_tells_of_all_that_is_wrong():
    report = Report(CloudCounts(9), CloudCounts(5, lost=2), silence_s=1.1)
    judged = judge_comparison(report, ComparisonLimits(), problem='odd', warning='too bright')
    text = 'no cloud for 1.1 s; 2 clouds lost on their way; odd; too bright'
    assert judged == (ERROR, text)
