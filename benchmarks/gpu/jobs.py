# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What a GPU is borrowed for, in order of worth. Every job also runs shrunken on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from time import monotonic, perf_counter
from typing import Any
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SEED = '0'  # of the students


@dataclass(frozen=True)
class Place:
    """Where and how jobs run.

    Attributes:
        work: folder that later calls on the same machine find again.
        device: `cuda` or `cpu`.
        small: in a shrunken form.
        stop_at: moment of `time.monotonic` at which a job must have saved what it has.
        epochs: of the trainings, instead of the study's.
    """

    work: Path
    device: str
    small: bool
    stop_at: float
    epochs: int | None = None

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self.stop_at - monotonic())

    @property
    def study(self) -> Path:
        """Folder of the frames and the runs."""
        return self.work / 'study'

    def log(self, name: str) -> Path:
        """File of what a program says."""
        return self.work / 'logs' / f'{name}.log'

    def python(
        self, *words: object, log: str, environment: Mapping[str, str] | None = None
    ) -> int:
        """Run Python on this checkout; returns its exit code, 124 where time was over."""
        self.log(log).parent.mkdir(parents=True, exist_ok=True)
        values = {**os.environ, 'PYTHONPATH': python_path(), **(environment or {})}
        with self.log(log).open('a', encoding='utf-8') as stream:
            try:
                return subprocess.run(
                    [sys.executable, *map(str, words)],
                    cwd=ROOT,
                    env=values,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    timeout=max(1.0, self.left),
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                return 124


def check(place: Place) -> dict[str, Any]:
    """The tests that need a GPU: do its numbers agree with the CPU's."""
    on_cpu = {} if place.device == 'cuda' else {'POINTDISTILLER_TEST_DEVICE': place.device}
    folder = 'test/core/geometry' if place.small else 'test/core'
    return _test(place, folder, '-m', 'cuda', name='cuda', environment=on_cpu)


def core(place: Place) -> dict[str, Any]:
    """All tests of the core on that machine, its versions and its GPU."""
    if place.small:
        return _test(place, 'test/core/test_grid.py', name='core')
    workers = str(max(1, (os.cpu_count() or 1) - 2))
    return _test(place, 'test/core', '-n', workers, name='core')


def _test(
    place: Place,
    folder: str,
    *options: str,
    name: str,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    report = place.work / f'{name}.xml'
    words = ['-m', 'pytest', folder, *options, '--junitxml', report]
    start = perf_counter()
    code = place.python(*words, log=f'tests-{name}', environment=environment)
    seconds = round(perf_counter() - start, 1)
    if not report.exists():
        return {'exit_code': code, 'seconds': seconds, 'error': 'no report'}
    (suite,) = ElementTree.parse(report).iter('testsuite')
    bad = {
        f'{case.get("classname")}::{case.get("name")}': (problem.get('message') or '')[:300]
        for case in suite.iter('testcase')
        for problem in [*case.iter('failure'), *case.iter('error')]
    }
    skipped = int(suite.get('skipped', 0))
    return {
        'exit_code': code,
        'seconds': seconds,
        'passed': int(suite.get('tests', 0)) - len(bad) - skipped,
        'skipped': skipped,
        'failed': bad,
    }


def latency(place: Place) -> dict[str, Any]:
    """Batch 1: eager, folded, as a CUDA graph, compiled; by precision."""
    options: list[object] = ['--device', place.device, '--seconds', place.left * 0.8]
    if place.small:
        options += ['--models', '16x', '--ways', 'eager', 'graph', '--precisions', 'fp32', 'fp16']
        options += ['--clouds', 1, '--calls', 1]
    return _benchmark(place, 'latency.py', *options)


def throughput(place: Place) -> dict[str, Any]:
    """Frames per second of a training step, and where its time goes."""
    options: list[object] = ['--device', place.device]
    if place.small:
        options += ['--trainings', '16x', '--batch-sizes', 1, '--steps', 1]
    else:
        options += ['--batch-sizes', 4, 8, 16, '--precisions', 'bf16']
    return _benchmark(place, 'throughput.py', *options)


def engines(place: Place) -> dict[str, Any]:
    """Do the engines of sparse convolution agree, forward and backward, and how fast are they."""
    options: list[object] = ['--device', place.device]
    return _benchmark(
        place, 'engines.py', *options, *(['--cells', 500, '--calls', 1] if place.small else [])
    )


def _benchmark(place: Place, script: str, *options: object) -> dict[str, Any]:
    target = place.work / f'{script}.json'
    target.unlink(missing_ok=True)
    name = Path(script).stem
    code = place.python(HERE / script, *options, '--json', target, log=name)
    return _with_code(code, target, place.log(name))


def frames(place: Place) -> dict[str, Any]:
    """Simulated frames of the trainings, then the input pipeline against the network."""
    from pointdistiller_core.datasets.simulated import simulate_dataset

    cores, data = os.cpu_count() or 1, _size(place).data
    splits = {'train': data.train, 'val': data.val, 'test': data.test}
    start = perf_counter()
    simulate_dataset(
        place.study / 'data', data.simulation, splits=splits, seed=data.seed, num_workers=cores
    )
    seconds = perf_counter() - start
    count = sum(splits.values())
    made = {
        'frames': count,
        'cores': cores,
        'seconds': round(seconds, 1),
        'frames_per_second': round(count / seconds, 2),
    }
    target = place.work / 'input_pipeline.json'
    options: list[object] = ['--dataset', place.study / 'data']
    # A CPU takes half a minute for the steps that are measured.
    options += ['--device', place.device] if not place.small else ['--steps-per-second', 1]
    workers = [0, 4, 8, 16] if not place.small else [0]
    options += ['--workers', *workers, '--batch-size', 8 if not place.small else 1]
    options += ['--batches', 20 if not place.small else 1, '--json', target]
    code = place.python(ROOT / 'benchmarks/input_pipeline.py', *options, log='input_pipeline')
    return {**made, 'input_pipeline': _with_code(code, target, place.log('input_pipeline'))}


def teacher(place: Place) -> dict[str, Any]:
    """The teacher alone, at full range, as many epochs as time allows."""
    return _train(place, only_teacher=True)


def students(place: Place) -> dict[str, Any]:
    """4x and 16x students, alone and distilled, several at once; the teacher, too, if need be."""
    return _train(place, only_teacher=False)


def _train(place: Place, *, only_teacher: bool) -> dict[str, Any]:
    from pointdistiller_core.config import StudyConfig, find_config, load_config
    from pointdistiller_core.studies.plan import collect_runs, plan_study
    from pointdistiller_core.studies.runner import run_jobs

    study = load_config(StudyConfig, find_config('studies', 'compression'))
    plan = plan_study(study, _size(place), size_name='loan', seeds=[int(SEED)], folder=HERE)
    jobs = plan[:1] if only_teacher else plan
    if place.small:
        jobs = [job for job in jobs if '16x' not in job.arm]
    # Those that need no teacher run beside it: one process does not fill a GPU.
    num_jobs = min(len(jobs), 3 if not place.small else 1)
    os.environ['PYTHONPATH'] = python_path()
    if not place.small:
        _bring_earlier(place, [job.folder for job in jobs])
    outcomes = run_jobs(
        place.study, jobs, num_jobs=num_jobs, device=place.device, stop_at=place.stop_at
    )
    return {
        'runs_at_once': num_jobs,
        'outcomes': {
            outcome.job.folder: {
                'seconds': round(outcome.seconds, 1),
                'state': 'stopped' if outcome.stopped else outcome.error or 'complete',
            }
            for outcome in outcomes
        },
        'runs': collect_runs(place.study, jobs),
    }


def _bring_earlier(place: Place, folders: Sequence[str]) -> None:
    """Begin with the runs that earlier loans have left in `weights`."""
    for folder in folders:
        kept, run = ROOT / 'weights' / Path(folder).name, place.study / folder
        if kept.exists() and not run.exists():
            shutil.copytree(kept, run)


def _size(place: Place) -> Any:
    from pointdistiller_core.config import StudySizeConfig, load_config
    from pointdistiller_core.studies.plan import merge

    size = load_config(StudySizeConfig, HERE / ('small.yaml' if place.small else 'loan.yaml'))
    if place.epochs is None:
        return size
    experiment = merge(size.experiment, {'training': {'epochs': place.epochs}})
    return size.model_copy(update={'experiment': experiment})


def _with_code(code: int, target: Path, log: Path) -> dict[str, Any]:
    if target.exists():
        return {'exit_code': code, **json.loads(target.read_bytes())}
    return {'exit_code': code, 'error': log.read_text(encoding='utf-8')[-1000:]}


def python_path() -> str:
    """This checkout before all else."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])


JOBS: Mapping[str, Callable[[Place], dict[str, Any]]] = {
    'check': check,
    'latency': latency,
    'throughput': throughput,
    'engines': engines,
    'frames': frames,
    'teacher': teacher,
    'students': students,
    'core': core,
}


def has_failed(result: Mapping[str, Any]) -> bool:
    """Whether a job's result says that something in it went wrong."""
    codes: Sequence[Any] = [result, *(part for part in result.values() if isinstance(part, dict))]
    bad_codes = any(part.get('exit_code') or 'error' in part for part in codes)
    states = [outcome['state'] for outcome in result.get('outcomes', {}).values()]
    return bad_codes or any(state not in {'complete', 'stopped'} for state in states)
