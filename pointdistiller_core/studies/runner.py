# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The runs of a study, several at once, each in a process of its own.

A process ends with the study's, however that ends. It holds the lock of its run's log as long as
it lives, so another study in the same folder waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
import fcntl
import os
from pathlib import Path
import signal
import subprocess
from threading import Event, Lock
from time import monotonic, perf_counter
from typing import BinaryIO

import pointdistiller_core
from pointdistiller_core.config import TrainingConfig, dump_config
from pointdistiller_core.cores import usable_cores
from pointdistiller_core.errors import PointDistillerError, TrainingStopped
from pointdistiller_core.files import named_refusals, write_text
from pointdistiller_core.studies.kept import shrink_run
from pointdistiller_core.studies.plan import Job, is_complete
from pointdistiller_core.training.exit_codes import EXIT_STOPPED
from pointdistiller_core.training.run import CONFIG_FILE
from pointdistiller_core.workers import command_of_worker

GRACE = 120.0  # from asking a process to end to killing it, for a step and a checkpoint [s]
_LOCK_PERIOD = 0.5  # [s]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        job: the run.
        seconds: that it took this time, waiting included; almost none if it was complete.
        error: why it is not complete; empty if it is, or was stopped in time.
        stopped: stopped in time; it can go on.
    """

    job: Job
    seconds: float
    error: str = ''
    stopped: bool = False


class StudyListener:
    """Does nothing; override what you want to be told. It is called from several threads."""

    def on_wait(self, job: Job) -> None:
        """Another process is working on this run."""

    def on_end(self, outcome: Outcome) -> None:
        """A run is complete or has failed."""


def default_jobs(training: TrainingConfig) -> int:
    """Number of runs at once, if each has two cores or one for each of its processes."""
    return max(1, usable_cores() // max(2, 1 + training.num_workers))


def run_jobs(
    output: Path,
    jobs: Sequence[Job],
    *,
    num_jobs: int = 1,
    device: str = 'auto',
    listener: StudyListener | None = None,
    stop_at: float | None = None,
    shrink: bool = False,
) -> list[Outcome]:
    """Complete the runs of a study; a failure does not stop the others.

    When interrupted, it ends its processes and raises again; the runs can be resumed.

    Args:
        output: folder of the study.
        jobs: as `plan_study` orders them: the teacher first.
        num_jobs: runs at once; they share the cores, and a GPU.
        device: `auto`, `cpu`, `cuda` or `cuda:1`, ...
        listener: told how it goes.
        stop_at: moment of `time.monotonic` at which to save and stop the runs.
        shrink: keep of a complete run only what is small, see `shrink_run`.

    Returns:
        How each run ended, in the order of the jobs.
    """
    runner = _Runner(
        output,
        device,
        listener or StudyListener(),
        num_jobs=num_jobs,
        stop_at=stop_at,
        shrink=shrink,
    )
    tasks: list[Future[Outcome]] = []
    with ThreadPoolExecutor(num_jobs) as pool:
        try:
            for job in jobs:
                tasks.append(pool.submit(runner.run, job, tasks[0] if job.teacher else None))
            return [task.result() for task in tasks]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.stop()
            raise


class _Runner:
    """Starts processes, and ends them all when told to stop."""

    def __init__(
        self,
        output: Path,
        device: str,
        listener: StudyListener,
        *,
        num_jobs: int,
        stop_at: float | None,
        shrink: bool,
    ) -> None:
        self._shrink = shrink
        self._output = output
        self._device = device
        self._listener = listener
        self._stop_at = stop_at
        self._threads = max(1, usable_cores() // num_jobs)
        self._stopped = Event()
        self._starting = Lock()
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, job: Job, teacher: Future[Outcome] | None) -> Outcome:
        """Complete one run, after its teacher's."""
        start, error, stopped = perf_counter(), '', False
        try:
            if teacher is not None and teacher.result().error:
                raise PointDistillerError('its teacher has not been trained')
            if teacher is not None and teacher.result().stopped:
                raise TrainingStopped('waits for its teacher')
            self._complete(job)
        except TrainingStopped:
            stopped = True
        except PointDistillerError as reason:
            error = str(reason)
        outcome = Outcome(job, perf_counter() - start, error, stopped)
        if not self._stopped.is_set():
            self._listener.on_end(outcome)
        return outcome

    def stop(self) -> None:
        """End all processes, and start no more."""
        with self._starting:
            self._stopped.set()
        running = [process for process in self._processes if process.poll() is None]
        for process in running:
            process.terminate()  # not its workers, which it ends in good order
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            with suppress(ProcessLookupError):  # what is left of it and of its workers
                os.killpg(process.pid, signal.SIGKILL)

    def _complete(self, job: Job) -> None:
        run = self._output / job.folder
        log_file = run.with_name(f'{run.name}.log')
        with self._lock(log_file, job) as log:
            if not is_complete(run):
                self._train(job, run, log, log_file)
            if self._shrink:  # before a student reads its teacher's weights
                shrink_run(run)

    def _train(self, job: Job, run: Path, log: BinaryIO, log_file: Path) -> None:
        left = None if self._stop_at is None else self._stop_at - monotonic()
        if left is not None and left <= 0:
            raise TrainingStopped(f'{run}: not begun in time')
        write_text(run.with_name(f'{run.name}.yaml'), dump_config(job.experiment))
        begin = log.tell()
        code = self._start(job, log, left).wait()
        if code == EXIT_STOPPED:
            raise TrainingStopped(f'{run}: stopped in time')
        if code:
            reason = _last_words(log_file, begin)
            raise PointDistillerError(f'exit code {code}: {reason}; all of it in {log_file}')
        if not is_complete(run):
            raise PointDistillerError(f'{run}: has no metrics; remove it to train it again')

    @contextmanager
    def _lock(self, file: Path, job: Job) -> Iterator[BinaryIO]:
        """The log of a run, once no other process holds it; children inherit the lock."""
        with named_refusals(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            log = file.open('ab')
        with log:
            if not _try_lock(log):
                self._listener.on_wait(job)
                while not _try_lock(log):
                    if self._stopped.wait(_LOCK_PERIOD):
                        raise PointDistillerError('stopped')
                    if self._stop_at is not None and monotonic() >= self._stop_at:
                        raise TrainingStopped(f'{job.folder}: another process trains it')
            yield log

    def _start(
        self, job: Job, log: BinaryIO, seconds_left: float | None
    ) -> subprocess.Popen[bytes]:
        # A group of its own, so that Ctrl-C reaches only this process, which then ends the others
        # in good order.
        with self._starting:
            if self._stopped.is_set():
                raise PointDistillerError('stopped')
            process = subprocess.Popen(
                _command(job, self._output, self._device, seconds_left),
                cwd=self._output,
                env=_environment(self._threads),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._processes.append(process)
        return process


def _command(job: Job, output: Path, device: str, seconds_left: float | None = None) -> list[str]:
    words = [*command_of_worker('pointdistiller_core'), 'distill' if job.teacher else 'train']
    words += [f'{job.folder}.yaml', '--output', job.folder, '--device', device]
    if job.teacher:
        words += ['--teacher', job.teacher]
    if (output / job.folder / CONFIG_FILE).exists():
        words += ['--resume']
    if seconds_left is not None:
        words += ['--stop-after', f'{seconds_left:.1f}']
    return words


def _environment(num_threads: int) -> dict[str, str]:
    """Environment with few threads, in which this package is found from any folder."""
    package = str(Path(pointdistiller_core.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get('PYTHONPATH')]))
    return {**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': str(num_threads)}


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_words(log: Path, begin: int) -> str:
    """The error that a process ended with: its own message, or the end of a traceback."""
    lines = log.read_bytes()[begin:].decode(errors='replace').strip().splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith('error:')]
    return '\n'.join(lines[starts[-1] :] if starts else lines[-1:]) or 'it said nothing'
