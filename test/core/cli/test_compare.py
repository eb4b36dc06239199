# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`pointdistiller compare`."""

from __future__ import annotations

import json

import pytest

from pointdistiller_core.deploy import bundle_format
from pointdistiller_core.deploy.bundle_format import DEFAULT_BUNDLE, DEFAULT_TEACHER
from pointdistiller_core.pipelines.comparison import ComparedDetectors


@pytest.fixture
def pair(make_bundle):
    """Options that name two untrained bundles, with all their boxes."""
    words = ['--teacher', make_bundle('teacher'), '--student', make_bundle('student', seed=1)]
    return [*words, '--teacher-score-threshold', 0, '--student-score-threshold', 0]


def test_numbers_of_a_dataset(run, dataset, pair, tmp_path):
    options = ['--min-iou', '0.01', '--json', '-', '--output', tmp_path / 'report']
    code, output, notes = run('compare', dataset, *pair, *options)
    assert code == 0
    summary = json.loads(output)
    assert summary['clouds']['compared'] == summary['clouds']['with_truth'] == 2
    assert summary['ground_truth']['teacher']['num_reference'] > 0
    assert 'student beside teacher' in notes
    assert 'wrote' in notes
    assert (tmp_path / 'report' / 'comparison.html').is_file()


def test_a_check_that_does_not_hold_is_the_exit_code(run, dataset, pair):
    code, output, _ = run('compare', dataset, *pair, '--check', 'num_reference>=1')
    assert code == 0
    assert output.splitlines()[0].startswith('student beside teacher')
    code, _, error = run('compare', dataset, *pair, '--check', 'latency.median_ratio>=1e9')
    assert code == 1
    assert 'so this does not hold: latency.median_ratio>=1e9' in error


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (['--check', 'recall'], "check 'recall' is not of the form NAME>=NUMBER"),
        (['--start', '1', '--stamp-tolerance', '1'], 'leave out --start, --stamp-tolerance'),
        (['--topic', '/points'], 'topic'),
    ],
)
def test_what_does_not_fit_is_named(run, dataset, pair, options, named):
    code, _, error = run('compare', dataset, *pair, *options)
    assert code == 2
    assert named in error
    assert 'Traceback' not in error


@pytest.mark.parametrize('option', [['--dataset', 'data'], ['--dataset=data']])
def test_who_means_the_old_verb_is_told_the_new_name(run, option):
    code, _, error = run('compare', 'runs/a', 'runs/b', *option)
    assert code == 2
    assert f'pointdistiller compare-at-recall runs/a runs/b {" ".join(option)}' in error


def test_without_bundles_the_shipped_ones_are_compared(run, dataset, make_bundle, monkeypatch):
    shipped = make_bundle(f'package/weights/{DEFAULT_TEACHER}').parents[1]
    make_bundle(f'package/weights/{DEFAULT_BUNDLE}', seed=1)
    monkeypatch.setattr(bundle_format, 'shipped_files', lambda names: sorted(shipped.glob(names)))
    code, output, _ = run('compare', dataset, '--json', '-')
    assert code == 0
    summary = json.loads(output)
    for role, name in (('teacher', DEFAULT_TEACHER), ('student', DEFAULT_BUNDLE)):
        assert summary[role]['name'] == name
        assert summary[role]['bundle'] == str(shipped / 'weights' / name)


def test_a_teacher_that_does_not_ship_is_one_clear_error(run, dataset, make_bundle, monkeypatch):
    shipped = make_bundle(f'package/weights/{DEFAULT_BUNDLE}').parents[1]
    monkeypatch.setattr(bundle_format, 'shipped_files', lambda names: sorted(shipped.glob(names)))
    code, _, error = run('compare', dataset)
    assert code == 2
    assert f'the teacher: {DEFAULT_TEACHER}: no such folder, and no bundle of that name' in error
    assert f"give a bundle, the folder of a run, or one of ['{DEFAULT_BUNDLE}']" in error
    assert 'Traceback' not in error


@pytest.mark.parametrize('report', [True, False])
def test_ctrl_c_says_what_is_kept(run, dataset, pair, tmp_path, monkeypatch, report):
    detect, clouds = ComparedDetectors.detect, []

    def stopping(*arguments):
        clouds.append(0)
        if len(clouds) == 2:
            raise KeyboardInterrupt
        return detect(*arguments)

    monkeypatch.setattr(ComparedDetectors, 'detect', stopping)
    folder = tmp_path / 'report'
    code, _, said = run('compare', dataset, *pair, *(['--output', folder] if report else []))
    assert code == 130
    if report:
        assert json.loads((folder / 'comparison.json').read_text())['complete'] is False
        assert f'{folder}: stopped; the report tells of the clouds until then' in said
    else:
        assert 'stopped; nothing is kept: repeat the command' in said
