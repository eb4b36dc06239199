# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Studies as folders: their runs, which of them are done, and their results.

* `data/`: the simulated frames of every run.
* `runs/<arm>-seed<k>/`: a run. An arm is the same in every study, so studies that share a folder
  share its runs. Beside it are `.yaml`, the experiment, and `.log`, the output of the process.
* `<study>.json`, `.md`, `.png`: the results of a study; the first two after every run.

An experiment names the data relative to the folder, which may be moved or copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from pointdistiller_core.config import (
    ArmConfig,
    DistillationConfig,
    ExperimentConfig,
    StudyConfig,
    StudySizeConfig,
    TrainingConfig,
    dump_config,
    parse_config,
    read_model,
)
from pointdistiller_core.config.study import TEACHER, Values, merge
from pointdistiller_core.distill import check_distillation
from pointdistiller_core.errors import CheckpointError, ConfigError, PointDistillerError
from pointdistiller_core.evaluation.kitti.scores import ap40_of
from pointdistiller_core.evaluation.scores import to_json
from pointdistiller_core.studies.table import Arm, Scores
from pointdistiller_core.training.experiment import weights_checksum
from pointdistiller_core.training.run import (
    CONFIG_FILE,
    METRICS_FILE,
    open_run,
    read_facts,
    read_features,
    read_history,
    read_scores,
    read_sessions,
)

DATA = 'data'
RUNS = 'runs'


@dataclass(frozen=True)
class Job:
    """One run of a study.

    Attributes:
        arm: its name.
        title: of the arm.
        network: `teacher`, or a student of the size.
        experiment: complete; datasets are relative to the study's folder.
        teacher: folder of the teacher's run in the study's, for a distillation.
    """

    arm: str
    title: str
    network: str
    experiment: ExperimentConfig
    teacher: str | None = None

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return self.experiment.training.seed

    @property
    def folder(self) -> str:
        """Folder of the run, in the study's."""
        return f'{RUNS}/{self.arm}-seed{self.seed}'


# --- plan ------------------------------------------------------------------------------------


def plan_study(
    study: StudyConfig,
    size: StudySizeConfig,
    *,
    size_name: str,
    seeds: Sequence[int] = (),
    folder: Path = Path(),
) -> list[Job]:
    """The runs of a study in the order of their start.

    Args:
        study: its arms.
        size: data, networks and training.
        size_name: the name by which arms for one size alone refer to it.
        seeds: of the students, instead of the study's own.
        folder: of the size's file; model files may be named relative to it.

    Returns:
        The teacher's run, then the others in the order of the study.

    Raises:
        ConfigError: lists the problems of all arms.
    """
    teacher = _teacher_job(size, folder)
    jobs, problems = [], []
    arms = (arm for arm in study.arms if arm.size in {None, size_name})
    for arm in (arm for arm in arms if arm.student not in size.absent):
        try:
            jobs += [
                _student_job(size, arm, seed, folder=folder, teacher=teacher)
                for seed in seeds or study.seeds
            ]
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError('\n'.join(problems))
    if study.order == 'labels':
        jobs.sort(key=lambda job: (job.teacher is not None, job.seed))
    return [teacher, *jobs]


def experiment_values(size: StudySizeConfig, arm: ArmConfig) -> Values:
    """The values of an arm's experiment, before defaults and the seed.

    Raises:
        ConfigError: the size has no such student.
    """
    if arm.student not in size.students:
        raise ConfigError(
            f'arm {arm.name}: no student {arm.student!r}; choose from {sorted(size.students)}'
        )
    values = merge(_placed(size), size.students[arm.student], arm.experiment)
    if values.get('distillation') is not None:
        where = f'arm {arm.name}, distillation'
        values['distillation'] = _fill_terms(values['distillation'], size.terms, where=where)
    return values


def _placed(size: StudySizeConfig) -> Values:
    places = {
        'dataset': {'root': DATA, 'split': 'train'},
        'validation': {'root': DATA, 'split': 'test'},
    }
    return merge(places, size.experiment)


def _fill_terms(distillation: Any, defaults: Mapping[str, Values], *, where: str) -> Values:
    """Distillation whose terms have the size's settings unless the arm names others."""
    named = distillation.get('terms') if isinstance(distillation, dict) else None
    if not isinstance(named, list):  # a preset knows no size, so its settings give way
        preset = parse_config(DistillationConfig, distillation, where=where)
        # what is not said is left to the model
        terms = [
            {
                'name': term.name,
                **term.model_dump(mode='json', exclude_unset=True),
                **defaults.get(term.name, {}),
            }
            for term in preset.terms
        ]
        return {**preset.model_dump(mode='json'), 'terms': terms}
    named = [term if isinstance(term, dict) else {'name': term} for term in named]
    terms = [{**defaults.get(str(term.get('name')), {}), **term} for term in named]
    return {**distillation, 'terms': terms}


def _teacher_job(size: StudySizeConfig, folder: Path) -> Job:
    values = read_model(merge(_placed(size), size.teacher), folder)
    experiment = parse_config(ExperimentConfig, values, where=TEACHER)
    return Job(TEACHER, TEACHER, TEACHER, experiment)


def _student_job(
    size: StudySizeConfig, arm: ArmConfig, seed: int, *, folder: Path, teacher: Job
) -> Job:
    values = merge(experiment_values(size, arm), {'training': {'seed': seed}})
    experiment = parse_config(
        ExperimentConfig, read_model(values, folder), where=f'arm {arm.name}'
    )
    title = arm.title or arm.name
    if experiment.distillation is None:
        return Job(arm.name, title, arm.student, experiment)
    try:  # before the teacher is trained for hours
        check_distillation(experiment.distillation, teacher.experiment.model, experiment.model)
    except ConfigError as error:
        raise ConfigError(f'arm {arm.name}: {error}') from error
    return Job(arm.name, title, arm.student, experiment, teacher.folder)


# --- what is there ---------------------------------------------------------------------------


def is_complete(run: Path) -> bool:
    """Whether a run has its bundle and its metrics."""
    return (run / 'bundle').exists() and (run / METRICS_FILE).exists()


def check_begun(output: Path, jobs: Sequence[Job]) -> None:
    """Check that existing runs are those of the plan.

    The results of complete runs are read, so that damage is found before hours of training.

    Raises:
        ConfigError: lists what changed, for each run that differs.
        CheckpointError: likewise, if the first of these has a damaged file.
    """
    errors: list[PointDistillerError] = []
    for job in jobs:
        run = output / job.folder
        if (run / CONFIG_FILE).exists():
            try:
                open_run(run, job.experiment, _facts(output, job), resume=True)
                collect_runs(output, [job])
            except (ConfigError, CheckpointError) as error:
                errors.append(error)
    if errors:
        raise type(errors[0])('\n'.join(map(str, errors)))


def _facts(output: Path, job: Job) -> dict[str, JsonValue]:
    """What else the run depends on; if its teacher is missing, what the run itself says."""
    if job.teacher is None:
        return {}
    if is_complete(output / job.teacher):
        return {'teacher_sha256': weights_checksum(output / job.teacher)}
    return read_facts(output / job.folder)


# --- what was found --------------------------------------------------------------------------


def collect_runs(output: Path, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Results and origin of each complete run.

    `scores` are those of the `metric`, of which some are `means`; of KITTI's, `ap40` has easy,
    moderate and hard [%].

    Raises:
        CheckpointError: a file of a run is missing or damaged.
    """
    return [
        _describe_run(output / job.folder, job) for job in jobs if is_complete(output / job.folder)
    ]


def _describe_run(run: Path, job: Job) -> dict[str, Any]:
    sessions, history = read_sessions(run), read_history(run)
    metric, scores = read_scores(run, job.experiment.model.class_names)
    losses = [record['losses'] for record in history]
    taught = {'losses': {'first': losses[0], 'last': losses[-1]}, 'features': read_features(run)}
    return {
        'arm': job.arm,
        'seed': job.seed,
        'config_sha256': sha256(dump_config(job.experiment).encode()).hexdigest(),
        'revisions': sorted({session['revision'] for session in sessions}),
        'metric': metric,
        'means': list(scores.means),
        **({'ap40': ap40_of(scores.details)} if metric == 'kitti' else {}),
        'scores': to_json(scores.row),
        'seconds': round(sum(record['seconds'] for record in history), 3),
        'machine': sessions[-1]['machine'],
        **(taught if job.teacher else {}),
    }


def scores_by_arm(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, Scores]]:
    """Scores of the runs, by arm and seed."""
    scores: dict[str, dict[int, Scores]] = {}
    for run in runs:
        scores.setdefault(run['arm'], {})[run['seed']] = run['scores']
    return scores


def list_arms(study: StudyConfig, jobs: Sequence[Job]) -> list[Arm]:
    """The teacher and the study's arms in their order, each with its baseline.

    The baseline of a distilled student is the first arm that trains the same network on labels
    alone by the same schedule.
    """
    first = {job.arm: job for job in reversed(jobs)}
    names = [TEACHER, *(arm.name for arm in study.arms if arm.name in first)]
    plain = [first[name] for name in names if first[name].teacher is None]
    baselines = {_schedule_of(job): job.arm for job in reversed(plain)}
    return [
        Arm(name, job.title, baselines.get(_schedule_of(job)) if job.teacher else None)
        for name, job in ((name, first[name]) for name in names)
    ]


def _schedule_of(job: Job) -> tuple[str, TrainingConfig]:
    """The network and how it is trained, whatever the seed."""
    return job.network, job.experiment.training.model_copy(update={'seed': 0})


def setting_values(study: StudyConfig, jobs: Sequence[Job]) -> dict[str, dict[str, float]]:
    """For each setting of a term, the arms that are drawn over it and their values.

    Raises:
        ConfigError: an arm has no term with that setting.
    """
    experiments = {job.arm: job.experiment for job in jobs}
    return {
        setting: {
            arm: _setting_of(arm, experiments[arm], setting) for arm in arms if arm in experiments
        }
        for setting, arms in study.curves.items()
    }


def _setting_of(arm: str, experiment: ExperimentConfig, setting: str) -> float:
    for value in _settings(experiment, setting):
        return float(value)
    raise ConfigError(f'curves.{setting}: no term of the arm {arm!r} has this setting')


def _settings(experiment: ExperimentConfig, setting: str) -> Iterator[float]:
    for term in experiment.distillation.terms if experiment.distillation else ():
        if setting in type(term).model_fields:
            yield getattr(term, setting)
