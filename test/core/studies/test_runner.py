# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Several processes at once; instead of training, they run the scripts of the tests."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
import signal
import sys
from threading import Event, Thread, Timer
from time import monotonic, sleep

import pytest

from pointdistiller_core.config import (
    DistillationConfig,
    ExperimentConfig,
    KittiConfig,
    TrainingConfig,
)
from pointdistiller_core.cores import usable_cores
from pointdistiller_core.studies import runner as study_runner
from pointdistiller_core.studies.plan import Job, is_complete
from pointdistiller_core.studies.runner import StudyListener, default_jobs, run_jobs
from pointdistiller_core.training.exit_codes import EXIT_STOPPED

COMPLETE = """
from pathlib import Path
import os, sys
print('begins', os.environ['OMP_NUM_THREADS'], flush=True)
run = Path(sys.argv[1])
(run / 'bundle').mkdir(parents=True)
(run / 'metrics.json').write_text('{}')
"""
FAIL = """
import sys
sys.exit('Traceback\\n  somewhere\\nerror: the value 3\\n  is bad')
"""
HANG = """
import os, pathlib, signal, subprocess, sys, time
if sys.argv[2] == 'deaf':
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
print('begins', flush=True)
time.sleep(60)
pathlib.Path('slept').touch()
"""
TEACHER = 'runs/teacher-seed0'


def job(arm, seed=0, teacher=None):
    experiment = ExperimentConfig(
        dataset=KittiConfig(root=Path('data')),
        training=TrainingConfig(seed=seed),
        distillation=DistillationConfig() if teacher else None,
    )
    return Job(arm, arm, '4x', experiment, teacher)


JOBS = [job('teacher'), job('plain'), job('taught', teacher=TEACHER)]


@pytest.fixture
def scripts(monkeypatch):
    """Arm -> the script of its process and its second argument; by default it completes."""
    chosen: dict[str, tuple[str, str]] = {}

    def command(job, *_):
        script, word = chosen.get(job.arm, (COMPLETE, ''))
        return [sys.executable, '-c', script, job.folder, word]

    monkeypatch.setattr(study_runner, '_command', command)
    return chosen


class Ends(StudyListener):
    def __init__(self):
        self.waits, self.ends = Event(), []

    def on_wait(self, job):  # noqa: ARG002
        self.waits.set()

    def on_end(self, outcome):
        self.ends.append(outcome.job.arm)


def log_of(output, arm):
    return (output / f'runs/{arm}-seed0.log').read_text()


@pytest.mark.usefixtures('scripts')
@pytest.mark.parametrize('num_jobs', [1, 3])
def test_all_runs_are_completed_the_teacher_before_those_it_teaches(tmp_path, num_jobs):
    listener = Ends()
    outcomes = run_jobs(tmp_path, JOBS, num_jobs=num_jobs, listener=listener)
    assert [outcome.job for outcome in outcomes] == JOBS
    assert not any(outcome.error for outcome in outcomes)
    assert listener.ends.index('teacher') < listener.ends.index('taught')
    threads = max(1, usable_cores() // num_jobs)
    for each in JOBS:
        assert is_complete(tmp_path / each.folder)
        assert (tmp_path / f'{each.folder}.yaml').exists()
        assert log_of(tmp_path, each.arm) == f'begins {threads}\n'


@pytest.mark.usefixtures('scripts')
def test_runs_share_the_cores_that_this_process_may_use(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'cpu_count', lambda: 64)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(16)))
    run_jobs(tmp_path, JOBS[:1], num_jobs=3)
    assert log_of(tmp_path, 'teacher') == 'begins 5\n'


@pytest.mark.usefixtures('scripts')
def test_complete_runs_are_skipped(tmp_path):
    run_jobs(tmp_path, JOBS[:2])
    run_jobs(tmp_path, JOBS)
    assert log_of(tmp_path, 'plain').count('begins') == 1


def test_a_failure_does_not_stop_the_others(tmp_path, scripts):
    scripts['plain'] = FAIL, ''
    teacher, plain, taught = run_jobs(tmp_path, JOBS)
    assert not teacher.error
    assert not taught.error
    log = tmp_path / 'runs/plain-seed0.log'
    assert plain.error == f'exit code 1: error: the value 3\n  is bad; all of it in {log}'


def test_without_a_teacher_nothing_is_distilled(tmp_path, scripts):
    scripts['teacher'] = 'raise ValueError(5)', ''
    teacher, plain, taught = run_jobs(tmp_path, JOBS)
    assert 'exit code 1: ValueError: 5;' in teacher.error
    assert not plain.error
    assert taught.error == 'its teacher has not been trained'
    assert not (tmp_path / taught.job.folder).exists()


def test_a_process_that_leaves_no_metrics_has_failed(tmp_path, scripts):
    scripts['plain'] = 'pass', ''
    (_, plain) = run_jobs(tmp_path, JOBS[:2])
    assert 'has no metrics' in plain.error


def interrupt_when(condition):
    """Press Ctrl-C once `condition()` holds."""

    def press():
        while not condition():
            sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    Timer(0, press).start()


@pytest.mark.parametrize('word', ['', 'deaf'])
def test_interrupted_all_processes_end(tmp_path, scripts, word, monkeypatch):
    monkeypatch.setattr(study_runner, 'GRACE', 0.3)
    scripts['teacher'] = scripts['plain'] = HANG, word
    logs = [tmp_path / f'runs/{arm}-seed0.log' for arm in ('teacher', 'plain')]
    interrupt_when(lambda: all(log.exists() and log.stat().st_size for log in logs))
    listener = Ends()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(tmp_path, [*JOBS, job('later')], num_jobs=2, listener=listener)
    assert not (tmp_path / 'slept').exists()  # nobody waited for them
    assert listener.ends == []
    assert not (tmp_path / 'runs/later-seed0.log').exists()
    for log in logs:  # free again: what they started has ended, too
        with log.open() as file:
            wait_for_lock(file)


def wait_for_lock(file):
    for _ in range(1000):
        if study_runner._try_lock(file):
            return
        sleep(0.02)
    raise AssertionError(f'{file.name}: a process is still alive')


@pytest.mark.usefixtures('scripts')
def test_a_run_that_another_process_is_at_is_waited_for(tmp_path):
    run = tmp_path / JOBS[0].folder
    run.parent.mkdir()
    listener, outcomes = Ends(), []
    with (tmp_path / f'{JOBS[0].folder}.log').open('ab') as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = Thread(
            target=lambda: outcomes.extend(run_jobs(tmp_path, JOBS[:1], listener=listener))
        )
        thread.start()
        assert listener.waits.wait(10)
        (run / 'bundle').mkdir(parents=True)
        (run / 'metrics.json').write_text('{}')
        assert not listener.ends
    thread.join(10)
    assert [outcome.error for outcome in outcomes] == ['']
    assert log_of(tmp_path, 'teacher') == ''  # nothing was started


@pytest.mark.usefixtures('scripts')
def test_it_does_not_wait_beyond_its_time(tmp_path):
    (tmp_path / JOBS[0].folder).parent.mkdir()
    with (tmp_path / f'{JOBS[0].folder}.log').open('ab') as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        (outcome,) = run_jobs(tmp_path, JOBS[:1], listener=Ends(), stop_at=monotonic())
    assert outcome.stopped


def test_two_cores_for_each_run_or_one_for_each_of_its_processes(monkeypatch):
    monkeypatch.setattr(os, 'cpu_count', lambda: 64)  # of which this process may use 16
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(16)))
    assert default_jobs(TrainingConfig(num_workers=0)) == 8
    assert default_jobs(TrainingConfig(num_workers=4)) == 3
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {3})
    assert default_jobs(TrainingConfig()) == 1


def test_begun_runs_are_resumed(tmp_path):
    command = study_runner._command(JOBS[2], tmp_path, 'cpu')
    assert command[1:3] == ['-m', 'pointdistiller_core.workers']
    assert command[3:6] == [str(os.getpid()), 'pointdistiller_core', 'distill']
    assert command[-2:] == ['--teacher', TEACHER]
    assert study_runner._command(JOBS[1], tmp_path, 'cpu')[5] == 'train'
    (tmp_path / JOBS[1].folder).mkdir(parents=True)
    (tmp_path / JOBS[1].folder / 'config.yaml').touch()
    assert study_runner._command(JOBS[1], tmp_path, 'cpu')[-1] == '--resume'
    assert study_runner._command(JOBS[1], tmp_path, 'cpu', 9)[-2:] == ['--stop-after', '9.0']


def test_runs_that_are_stopped_in_time_have_not_failed(tmp_path, scripts):
    scripts['teacher'] = (f'import sys; sys.exit({EXIT_STOPPED})', '')
    outcomes = run_jobs(tmp_path, JOBS, stop_at=monotonic() + 1000)
    assert [(outcome.stopped, outcome.error) for outcome in outcomes] == [
        (True, ''),
        (False, ''),
        (True, ''),  # its teacher is not trained yet
    ]
    del scripts['teacher']
    assert not any(outcome.stopped for outcome in run_jobs(tmp_path, JOBS))


@pytest.mark.usefixtures('scripts')
def test_no_run_begins_when_time_is_over(tmp_path):
    assert all(outcome.stopped for outcome in run_jobs(tmp_path, JOBS, stop_at=monotonic()))
    assert not (tmp_path / 'runs/teacher-seed0').exists()
