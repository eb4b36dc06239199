# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: what was asked for, where it ran, and how it went.

* `config.yaml`: the effective configuration.
* `run.json`: the seed, further facts that the result depends on and, for the start and each
  resumption, code, versions and machine.
* `metrics.jsonl`: one line for each epoch; of a distillation with `gradient_ratios`: how hard each
  term pulled at each module in the epoch's last step, against detection;
* `tensorboard/`: each step, as curves.
* `checkpoints/`: the newest two, to resume from.
* `metrics.json`, `bundle/`: of a complete run, its last epoch with the validation, and the trained
  detector.
* `features.json`: after a distillation with validation, how alike the features of student and
  teacher are, tap by tap, and those of the student before any training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
import errno
import fcntl
import json
import os
from pathlib import Path
import platform
import shlex
import subprocess
import sys
from typing import Any

from pydantic import JsonValue
import torch

import pointdistiller_core
from pointdistiller_core.config import (
    Config,
    ExperimentConfig,
    dump_config,
    load_stored_experiment,
)
from pointdistiller_core.cores import processor_name
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.evaluation.kitti.scores import score_details
from pointdistiller_core.evaluation.scores import Scores, to_json
from pointdistiller_core.files import named_refusals, write_file, write_text
from pointdistiller_core.models.stages.batch_norm import num_processes

CONFIG_FILE = 'config.yaml'
RUN_FILE = 'run.json'
HISTORY_FILE = 'metrics.jsonl'
METRICS_FILE = 'metrics.json'
FEATURES_FILE = 'features.json'
LOCK_FILE = '.lock'
# Settings that may change when a run is resumed, because its weights do not depend on them.
INDIFFERENT = {
    *(f'{part}.{key}' for part in ('dataset', 'validation') for key in ('cache', 'cache_frames')),
    *('training.num_workers', 'training.checkpoint_every'),
}


def open_run(
    run: Path, config: ExperimentConfig, facts: Mapping[str, JsonValue], *, resume: bool
) -> None:
    """Make the folder of a new run, or check that the run to resume began in the same way.

    Args:
        run: the folder.
        config: the effective configuration.
        facts: what else the result depends on.
        resume: the run has begun already.

    Raises:
        CheckpointError: the folder holds something already, or there is nothing to resume.
        ConfigError: lists what changed since the run began; nothing has been written.
    """
    stillborn = _is_stillborn(run)
    if resume and not stillborn:
        _check_same(run, config, facts)
        return
    if not stillborn and run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise CheckpointError(
            f'{run}: holds a run already; add --resume (in Python resume=True) to go on with it, '
            'or choose another folder'
            if (run / CONFIG_FILE).exists()
            else f'{run}: is not a run, and not empty; choose another folder'
        )
    with named_refusals(run):
        run.mkdir(parents=True, exist_ok=True)
    begun = {'seed': config.training.seed, 'facts': dict(facts), 'sessions': []}
    write_text(run / RUN_FILE, json.dumps(begun, indent=2) + '\n')
    write_text(run / CONFIG_FILE, dump_config(config))  # last: from here on it can be resumed


@contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """Keep other processes from training in this folder.

    Raises:
        CheckpointError: another process trains there.
    """
    lock = run / LOCK_FILE
    with named_refusals(lock):
        opened = lock.open('wb')
    with opened as file:
        try:
            # of this process alone: `flock` would live on in forked workers when it is killed
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):  # else this file system has no locks
                raise CheckpointError(
                    f'{run}: another process trains in it; wait for its end, or send it SIGTERM'
                ) from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def record_session(run: Path, *, first_epoch: int, sparse_engine: str | None = None) -> None:
    """Add to `run.json` how, where and with what versions this part of the run was started.

    Args:
        run: folder of the run.
        first_epoch: of this part.
        sparse_engine: what its sparse convolutions run in; see `sparse.engines.engine_of`.

    Raises:
        CheckpointError: `run.json` is missing or damaged.
    """
    file = run / RUN_FILE
    session = {'first_epoch': first_epoch, **describe_session()}
    if sparse_engine is not None:
        session['sparse_engine'] = sparse_engine
    with named_damage(file):
        values = json.loads(file.read_bytes())
        values['sessions'].append(session)
    write_text(file, json.dumps(values, indent=2) + '\n')


def describe_session() -> dict[str, Any]:
    """Time, command, code, versions and machine."""
    return {
        'started': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'command': _describe_command(sys.argv),
        'revision': git_revision(),
        'versions': {
            'python': platform.python_version(),
            'torch': torch.__version__,
            'pointdistiller': pointdistiller_core.__version__,
        },
        'machine': {
            'cpu': processor_name(),
            'cores': os.cpu_count(),
            'threads': torch.get_num_threads(),
            'processes': num_processes(),
            'gpus': [
                torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
            ],
        },
    }


def _describe_command(words: Sequence[str]) -> str:
    """A command line as a user types it, without where this machine has its program."""
    program = Path(words[0])
    name = program.parent.name if program.name == '__main__.py' else program.name
    return shlex.join([name.replace('pointdistiller_core', 'pointdistiller'), *words[1:]])


def git_revision() -> str:
    """Revision of this package's code, `-dirty` if it was changed.

    Outside git it is what POINTDISTILLER_REVISION says, or `unknown`.
    """
    folder = Path(__file__).parent
    try:
        # An installed copy may lie inside someone else's repository: ask for a tracked file first.
        for arguments in (('ls-files', '--error-unmatch', Path(__file__).name), _DESCRIBE):
            output = subprocess.run(
                ('git', *arguments), cwd=folder, capture_output=True, text=True, check=True
            ).stdout
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get('POINTDISTILLER_REVISION', 'unknown')
    return output.strip()


_DESCRIBE = ('describe', '--always', '--dirty', '--abbrev=40', '--exclude=*')


def keep_history(run: Path, epochs: int) -> None:
    """Drop the lines of `metrics.jsonl` after `epochs` epochs, which are about to be run again.

    Raises:
        CheckpointError: a line to keep is damaged; the file is not changed.
    """
    file = run / HISTORY_FILE
    if file.exists():
        with named_damage(file):
            lines = file.read_bytes().splitlines(keepends=True)[:epochs]
            for line in lines:
                _read_epoch(line)
        write_file(file, b''.join(lines), flush=True)


def append_history(run: Path, record: Mapping[str, Any]) -> None:
    """Add one epoch to `metrics.jsonl`."""
    file = run / HISTORY_FILE
    with named_refusals(file), file.open('a', encoding='utf-8') as stream:
        stream.write(json.dumps(record) + '\n')


def last_record(run: Path) -> dict[str, Any]:
    """The last line of `metrics.jsonl`.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    return read_history(run)[-1]


def read_history(run: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, at least one: `losses`, `seconds` and more of each epoch.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    file = run / HISTORY_FILE
    with named_damage(file):
        records = [_read_epoch(line) for line in file.read_bytes().splitlines()]
        if not records:
            raise ValueError('it is empty')
    return records


def read_losses(run: Path) -> list[dict[str, float]]:
    """The mean losses of each epoch by name, weighted; see `read_history`."""
    return [record['losses'] for record in read_history(run)]


def read_ratios(run: Path) -> list[dict[str, dict[str, float]]]:
    """The gradient ratios of each epoch, see `Distiller.gradient_ratios`; empty where none are."""
    return [record.get('gradient_ratios', {}) for record in read_history(run)]


def describe_validation(scores: Scores, metric: str) -> dict[str, JsonValue]:
    """What `metrics.json` says of a validation: `validation` is all that the metric has."""
    return {
        'validation': to_json(scores.details),
        'scores': {'metric': metric, **scores.summary},
    }


def read_scores(run: Path, class_names: Sequence[str]) -> tuple[str, Scores]:
    """What `metrics.json` says of the validation of a complete run: the metric, and its scores.

    Args:
        run: its folder.
        class_names: of its detector, which a run of an earlier version does not tell.

    Raises:
        CheckpointError: the file is missing or damaged, or there was no validation.
    """
    file = run / METRICS_FILE
    with named_damage(file):
        metrics = json.loads(file.read_bytes())
        details = metrics['validation']
        if 'scores' in metrics:
            scores = Scores.from_summary(metrics['scores'])
            return str(metrics['scores']['metric']), replace(scores, details=dict(details))
        for classes in details.values():  # of an earlier version, which knew one metric
            for levels in classes.values():
                _check_numbers(*levels['ap40'], *levels['ap11'])
        return 'kitti', score_details(details, class_names)


def read_features(run: Path) -> dict[str, dict[str, dict[str, float]]]:
    """What `features.json` says: `student` and `untrained` -> tap -> measure; empty without it.

    Raises:
        CheckpointError: the file is damaged.
    """
    file = run / FEATURES_FILE
    if not file.exists():
        return {}
    with named_damage(file):
        return {name: dict(taps) for name, taps in json.loads(file.read_bytes()).items()}


def read_sessions(run: Path) -> list[dict[str, Any]]:
    """Each start and resumption of a run, as `describe_session` has it; at least one.

    Raises:
        CheckpointError: `run.json` is missing or damaged, or names none.
    """
    file = run / RUN_FILE
    with named_damage(file):
        sessions = [
            {**each, 'revision': str(each['revision']), 'machine': dict(each['machine'])}
            for each in json.loads(file.read_bytes())['sessions']
        ]
        if not sessions:
            raise ValueError('no session')
    return sessions


def read_facts(run: Path) -> dict[str, JsonValue]:
    """What else the result of a run depends on, as `open_run` was told.

    Raises:
        CheckpointError: `run.json` is missing or damaged.
    """
    file = run / RUN_FILE
    with named_damage(file):
        return dict(json.loads(file.read_bytes())['facts'])


@contextmanager
def named_damage(file: Path) -> Iterator[None]:
    """Turn problems with a file of a run, read within the block, into an error that names it.

    Raises:
        CheckpointError: it is missing, unreadable, or its content is not what a run writes.
    """
    try:
        yield
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f'{file}: missing or damaged: {error!r}; restore it, or train the run again in a new '
            'folder'
        ) from error


def _read_epoch(line: bytes) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(line)
    _check_numbers(record['seconds'], *record['losses'].values())
    for ratios in record.get('gradient_ratios', {}).values():
        _check_numbers(*ratios.values())
    return record


def _check_numbers(*values: Any) -> None:
    if wrong := [value for value in values if not isinstance(value, (int, float))]:
        raise TypeError(f'not a number: {wrong[0]!r}')


def _is_stillborn(run: Path) -> bool:
    """Whether a run was killed before it began, so that only `open_run` has written here."""
    if not run.is_dir():
        return False
    names = {file.name for file in run.iterdir()}
    started = {RUN_FILE, *(f'.{name}.partial' for name in (RUN_FILE, CONFIG_FILE))}
    return bool(names) and names <= started


def _check_same(run: Path, config: ExperimentConfig, facts: Mapping[str, JsonValue]) -> None:
    file = run / CONFIG_FILE
    if not file.is_file():
        raise CheckpointError(f'{run}: no run to resume: it has no {CONFIG_FILE}')
    before = _flatten(load_stored_experiment(file))
    before |= read_facts(run)
    now = _flatten(config) | dict(facts)
    changes = '\n'.join(
        f'  {key}: {before.get(key)!r} then, {now.get(key)!r} now'
        for key in sorted((before.keys() | now.keys()) - INDIFFERENT)
        if before.get(key) != now.get(key)
    )
    if changes:
        raise ConfigError(
            f'{run}: begun with another configuration; restore it or use a new folder:\n{changes}'
        )


def _flatten(config: Config) -> dict[str, Any]:
    """Every value under its dotted key."""
    flat: dict[str, Any] = {}
    pending: list[tuple[str, Any]] = [('', config.model_dump(mode='json'))]
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f'{path}.{key}'.removeprefix('.'), child) for key, child in value.items()]
        else:
            flat[path] = value
    return flat
