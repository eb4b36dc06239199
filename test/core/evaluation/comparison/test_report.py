# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
from dataclasses import replace
from io import BytesIO
import json
import re

from matplotlib.image import imread
import numpy as np
import pytest

from pointdistiller_core.errors import ConfigError, WriteError
from pointdistiller_core.evaluation.comparison.page import build_page
from pointdistiller_core.evaluation.comparison.plots import draw_cloud
from pointdistiller_core.evaluation.comparison.report import (
    Check,
    ReportFolder,
    describe_machine,
    find_number,
    format_table,
    speed,
    summarize,
    to_json,
)
from pointdistiller_core.evaluation.comparison.session import (
    CloudResult,
    ComparisonRules,
    OnlineComparison,
)
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.records import Detections, GroundTruth

FACTS = {
    'teacher': {'name': 'big <b>', 'backend': 'torch', 'sha256': {'model.safetensors': 'a1'}},
    'student': {
        'name': 'small',
        'backend': 'openvino-int8',
        'sha256': {'model.safetensors': 'b2'},
    },
    'clouds': {'received': 3},
    'machine': {'cores': 2},
}


def found(*places, total=10.0):
    boxes = np.array([(x, 0, 0, 4, 2, 1.5, 0) for x in places], np.float32).reshape(-1, 7)
    scores = np.linspace(0.9, 0.5, len(places), dtype=np.float32)
    labels = np.zeros(len(places), np.int64)
    return Detections(boxes, scores, labels, latency_ms={'total': total})


def build_comparison(num_clouds=3, *, truth=False, log=None):
    """The teacher sees cars at 5 and 15 m; the student the first, in 10 ms instead of 40."""
    rules = ComparisonRules(('Car', 'Van'), (0.7, 0.5), ranges=((0, -5, -3, 50, 5, 1),) * 2)
    comparison = OnlineComparison(rules, log=log)
    points = np.random.default_rng(0).uniform(0, 20, (50, 4)).astype(np.float32)
    for stamp in range(1, num_clouds + 1):
        comparison.add(CloudResult(stamp, points, found(5, 15, total=40.0), found(5)))
        if truth:
            labels = found(5, 15, 25)
            comparison.add_truth(stamp, GroundTruth(labels.boxes, labels.labels))
    return comparison


def test_rows_are_in_the_file_at_once(tmp_path):
    report = ReportFolder(tmp_path / 'new' / 'report')
    build_comparison(2, truth=True, log=report)
    tables = {}
    for name in ('clouds', 'ground_truth'):  # before anything is closed
        with (report.path / f'{name}.csv').open(newline='', encoding='utf-8') as file:
            tables[name] = list(csv.DictReader(file))
    report.close()
    assert [row['stamp_ns'] for row in tables['clouds']] == ['1', '2']
    assert tables['clouds'][1]['cloud'] == '2'
    assert float(tables['clouds'][0]['recall']) == 0.5
    assert float(tables['clouds'][0]['teacher_ms']) == 40.0
    assert float(tables['ground_truth'][0]['teacher_recall']) == pytest.approx(2 / 3, rel=1e-5)


def test_what_is_not_a_number_is_an_empty_cell(tmp_path):
    report = ReportFolder(tmp_path / 'report')
    report.write('table', {'count': 1, 'rate': float('nan')})
    report.close()
    assert (tmp_path / 'report' / 'table.csv').read_text(encoding='utf-8') == 'count,rate\n1,\n'


def test_a_report_is_never_overwritten(tmp_path):
    ReportFolder(tmp_path / 'empty')
    ReportFolder(tmp_path / 'empty').replace('numbers.json', '{}')
    with pytest.raises(ConfigError, match=r'empty holds a report or other files already'):
        ReportFolder(tmp_path / 'empty')
    with pytest.raises(ConfigError, match=r'numbers\.json holds'):
        ReportFolder(tmp_path / 'empty' / 'numbers.json')
    assert (tmp_path / 'empty' / 'numbers.json').read_text(encoding='utf-8') == '{}'


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    report = ReportFolder(tmp_path / 'report')
    report.replace('page.html', 'old')
    report.replace('page.html', 'new')
    assert [path.name for path in report.path.iterdir()] == ['page.html']
    (report.path / '.page.html.partial').mkdir()  # stands in the way
    with pytest.raises(WriteError, match=r'page\.html: cannot be written: Is a directory'):
        report.replace('page.html', 'newer')
    assert (report.path / 'page.html').read_text(encoding='utf-8') == 'new'


def test_numbers_of_a_comparison():
    summary = summarize(build_comparison(truth=True), FACTS)
    assert summary['agreement']['recall'] == 0.5
    assert summary['agreement']['precision'] == 1.0
    assert summary['agreement']['classes']['Car']['distances']['0-20 m']['num_matched'] == 3
    assert summary['clouds'] == {'received': 3, 'compared': 3, 'repeated': 0, 'with_truth': 3}
    assert summary['latency']['median_ratio'] == pytest.approx(4.0, rel=0.01)
    assert summary['ground_truth']['student']['recall'] == pytest.approx(1 / 3)
    assert summary['rules']['min_iou'] == {'Car': 0.7, 'Van': 0.5}
    assert summary['teacher'] == FACTS['teacher']
    assert json.loads(to_json(summary)) == summary


def test_numbers_of_nothing_are_json_too():
    summary = json.loads(to_json(summarize(build_comparison(0), {})))
    assert summary['agreement']['recall'] is None
    assert summary['latency']['median_ratio'] is None
    assert summary['ground_truth'] is None
    assert '-' in format_table(summary)


def test_table_names_what_matters():
    text = format_table(summarize(build_comparison(truth=True), FACTS))
    rows = [line.split() for line in text.splitlines()]
    lines = {row[0]: row for row in reversed(rows) if row}  # the first of a name
    assert lines['all'][1:4] == ['0.500', '1.000', '0.667']
    assert lines['Car'][-2:] == ['6', '3']
    assert lines['Van'][1] == '-'
    assert 'student beside labels' in text
    assert re.search(
        r'teacher 40\.\d ms \(torch, .*student .*openvino-int8, .*: 4\.0 times faster', text
    )
    assert '3 compared' in text


def test_a_student_may_be_slower():
    summary = summarize(build_comparison(), FACTS)
    slower = {**summary, 'latency': {**summary['latency'], 'median_ratio': 0.52}}
    assert ': 1.9 times slower' in format_table(slower)
    assert speed(None)[0] == speed(float('nan'))[0] == '-'
    page = build_page(build_comparison(), slower)
    assert re.search(r'1\.9\D+times slower', page)
    assert 's median (openvino-int8)' in page


@pytest.mark.parametrize(
    ('text', 'holds'),
    [
        ('recall>=0.5', True),
        ('recall > 0.5', False),
        ('precision<=1', True),
        ('classes.Car.distances.0-20 m.recall<0.51', True),
        ('classes.Van.recall>=0', False),  # there were none: nothing was shown
        ('latency.median_ratio>=3.9', True),
        ('latency.student.p95_ms<5', False),
        ('clouds.compared>=3', True),
    ],
)
def test_checks(text, holds):
    summary = summarize(build_comparison(), FACTS)
    assert Check.parse(text).holds(summary) is holds


@pytest.mark.parametrize('text', ['recall', 'recall>=', 'recall=0.8', '>=1', 'recall>=much'])
def test_check_that_cannot_be_understood(text):
    with pytest.raises(ConfigError, match=r"not of the form NAME>=NUMBER, e\.g\. 'recall>=0\.8'"):
        Check.parse(text)


@pytest.mark.parametrize('name', ['recal', 'classes.Bus.recall', 'classes', 'teacher.name'])
def test_unknown_number(name):
    with pytest.raises(ConfigError, match=f"no number '{name}'; it has .*'recall'"):
        find_number(summarize(build_comparison(), FACTS), name)


@pytest.mark.parametrize('truth', [False, True])
def test_page_is_one_file_with_everything(truth):
    comparison = build_comparison(truth=truth)
    page = build_page(comparison, summarize(comparison, FACTS))
    sources = re.findall(r'(?:src|href)="([^"]{1,24})', page)
    assert all(source.startswith('data:image/') for source in sources)
    kinds = [source.removeprefix('data:image/').split(';')[0] for source in sources]
    assert kinds == ['svg+xml'] * (5 if truth else 4) + ['png'] * 3
    assert 'big &lt;b&gt;' in page
    assert 'big <b>' not in page
    assert 'model.safetensors: b2' in page
    assert ('student beside labels' in page) is truth


def test_page_of_nothing():
    comparison = build_comparison(0)
    page = build_page(comparison, summarize(comparison, {}))
    assert 'There is none.' in page
    assert page.count('<img') == 4


def test_picture_of_a_cloud():
    comparison = build_comparison(1)
    ((result, agreement),) = comparison.worst
    picture = draw_cloud(result, agreement, comparison, 'title')
    assert picture.startswith(b'\x89PNG')


def test_picture_of_a_cloud_shows_the_ground_from_above():
    """However the sensor is mounted, here to the left and upside down."""
    comparison = build_comparison(1)
    ((level, agreement),) = comparison.worst
    left = Mounting.from_angles(1.5, height=2.5, roll=np.pi, pitch=0.3, yaw=np.pi / 2)
    points = level.points.copy()
    points[:, :3] = left.points_to_sensor(points[:, :3])
    seen = replace(level, points=points, mountings=(left, left))
    first, second = (
        imread(BytesIO(draw_cloud(one, agreement, comparison, 'title'))) for one in (level, seen)
    )
    np.testing.assert_allclose(first, second, atol=0.1)


def test_machine():
    machine = describe_machine()
    assert machine['processor']
    assert machine['cores'] >= 1
