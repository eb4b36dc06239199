# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Stages are done once, again when something changes, and go on where they were interrupted."""

from __future__ import annotations

import json

import pytest

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.pipelines.stages import Stage, StageListener, run_stages


class Job:
    """Three stages, each of which leaves a folder; settings and failures can be changed."""

    def __init__(self, folder):
        self.folder = folder
        self.settings = {'data': {'frames': 3}, 'teacher': {'epochs': 2}, 'student': {'width': 1}}
        self.facts = {}
        self.ran, self.failing = [], ''

    def stages(self):
        return [
            Stage(
                name,
                lambda begun, name=name: self.run(name, begun),
                lambda name=name: {name: self.settings[name]},
                results=(self.folder / name,),
            )
            for name in self.settings
        ]

    def run(self, name, begun):
        self.ran.append((name, begun))
        (self.folder / name).mkdir(exist_ok=True, parents=True)
        (self.folder / name / 'file').touch()
        if name == self.failing:
            raise KeyboardInterrupt
        return self.facts.get(name, {})

    def walk(self):
        """What ran, and why."""
        self.ran.clear()
        return {result.name: result.reason for result in run_stages(self.folder, self.stages())}


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / 'job')


def test_each_stage_is_done_once(job):
    assert job.walk() == dict.fromkeys(('data', 'teacher', 'student'), 'not done yet')
    assert job.ran == [('data', False), ('teacher', False), ('student', False)]
    assert job.walk() == {'data': '', 'teacher': '', 'student': ''}
    assert job.ran == []


def test_a_changed_setting_repeats_its_stage_and_those_behind_it_and_says_why(job):
    job.walk()
    job.settings['teacher'] = {'epochs': 3}
    assert job.walk() == {
        'data': '',
        'teacher': 'changed: teacher.epochs: 2 -> 3',
        'student': 'teacher gave other results',
    }
    assert job.ran == [('teacher', False), ('student', False)]
    job.settings['student'] = {'width': 1, 'kind': 'new'}
    assert job.walk() == {
        'data': '',
        'teacher': '',
        'student': 'changed: student.kind: - -> new',
    }


def test_results_of_other_settings_are_removed_first(job):
    job.walk()
    left = job.folder / 'teacher' / 'of the first'
    left.touch()
    job.settings['teacher'] = {'epochs': 3}
    job.walk()
    assert not left.exists()
    assert (job.folder / 'data' / 'file').exists()


def test_an_interrupted_stage_goes_on(job):
    job.failing = 'teacher'
    with pytest.raises(KeyboardInterrupt):
        job.walk()
    job.failing = ''
    assert job.walk() == {
        'data': '',
        'teacher': 'was interrupted, and goes on',
        'student': 'not done yet',
    }
    assert job.ran == [('teacher', True), ('student', False)]


def test_an_interrupted_stage_with_other_settings_begins_anew(job):
    job.failing = 'teacher'
    with pytest.raises(KeyboardInterrupt):
        job.walk()
    job.failing, job.settings['teacher'] = '', {'epochs': 9}
    assert job.walk()['teacher'] == 'changed: teacher.epochs: 2 -> 9'
    assert job.ran[0] == ('teacher', False)


def test_what_was_there_before_the_first_record_is_left_to_the_stage(job):
    (job.folder / 'data').mkdir(parents=True)
    (job.folder / 'data' / 'mine').touch()
    job.walk()
    assert (job.folder / 'data' / 'mine').exists()


def test_a_missing_result_is_made_again(job):
    job.walk()
    (job.folder / 'teacher' / 'file').unlink()
    (job.folder / 'teacher').rmdir()
    reasons = job.walk()
    assert reasons['teacher'] == f'{job.folder / "teacher"} is missing'
    assert reasons['student'] == ''  # the same results again


def test_other_results_of_the_same_settings_repeat_the_stages_behind(job):
    job.walk()
    (job.folder / 'data' / 'file').unlink()
    (job.folder / 'data').rmdir()
    job.facts['data'] = {'frames': 4}
    assert job.walk()['teacher'] == 'data gave other results'


def test_a_stage_builds_on_those_that_it_names(tmp_path):
    settings = {'a': 1, 'b': 1, 'c': 1}

    def walk():
        stages = [
            Stage('a', lambda _: {}, lambda: {'a': settings['a']}),
            Stage('b', lambda _: {}, lambda: {'b': settings['b']}),
            Stage('c', lambda _: {}, lambda: {'c': settings['c']}, after=('a',)),
        ]
        return [bool(result.reason) for result in run_stages(tmp_path, stages)]

    assert walk() == [True, True, True]
    settings['b'] = 2
    assert walk() == [False, True, False]


def test_a_stage_may_keep_what_it_has_made(job):
    cleared = []
    stage = Stage(
        'data',
        lambda _begun: {'frames': 3},
        lambda: {'data': job.settings['data']},
        clear=lambda changes, facts: cleared.append((changes, facts)),
    )
    list(run_stages(job.folder, [stage]))
    job.settings['data'] = {'frames': 4}
    list(run_stages(job.folder, [stage]))
    assert cleared == [({'data.frames': (3, 4)}, {'frames': 3})]


def test_a_listener_is_told(job):
    told = []

    class Teller(StageListener):
        def on_begin(self, number, total, stage, reason):
            told.append((number, total, stage.name, reason))

        def on_skip(self, number, total, stage):
            told.append((number, total, stage.name, 'current'))

    list(run_stages(job.folder, job.stages()[:1], Teller()))
    list(run_stages(job.folder, job.stages()[:2], Teller()))
    assert told == [
        (1, 1, 'data', 'not done yet'),
        (1, 2, 'data', 'current'),
        (2, 2, 'teacher', 'not done yet'),
    ]


@pytest.mark.parametrize('text', ['', '[]', '{"settings": {}}'])
def test_a_damaged_record_is_named(job, text):
    job.walk()
    record = job.folder / 'stages' / 'data.json'
    assert json.loads(record.read_text())['complete']
    record.write_text(text)
    with pytest.raises(DatasetError, match=r'data\.json: damaged'):
        job.walk()
