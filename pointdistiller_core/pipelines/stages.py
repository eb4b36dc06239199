# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Stages of a long job in one folder: what is current is skipped, the rest is done, and why.

Beside its results, a stage leaves a record of what they depend on: its settings, and the stages
that it builds on. It is written before the stage begins, so a process that is killed at any moment
leaves either a stage that has not begun, one that goes on, or one that is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
import hashlib
import json
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import JsonValue

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.files import read_text, remove_folder, write_text

RECORDS = 'stages'  # folder of the records
MOST_CHANGES = 5  # that are named
Facts = Mapping[str, Any]
Changes = Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Stage:
    """A part of a job.

    Attributes:
        name: of the stage.
        run: does it, or goes on with it; returns what is worth knowing of its results, as plain
            values. It is told whether an earlier process has begun it with the same settings.
        settings: that its results depend on, as nested plain values; asked when its turn has come.
        after: the stages that it builds on; None: the one before it.
        results: files and folders that it leaves, in the order in which they are removed before it
            is done again with other settings.
        clear: removes them instead; it is told what has changed (before, now) and the facts that
            the stage returned before, empty if it was interrupted.
        title: what it does, for people.
    """

    name: str
    run: Callable[[bool], Facts]
    settings: Callable[[], Mapping[str, Any]]
    after: Sequence[str] | None = None
    results: Sequence[Path] = ()
    clear: Callable[[Changes, Facts], None] | None = None
    title: str = ''


@dataclass(frozen=True)
class StageResult:
    """How a stage ended.

    Attributes:
        name: of the stage.
        title: what it does.
        reason: why it was done; empty if it was current.
        seconds: that its last start took.
        facts: that it returned, this time or an earlier one.
    """

    name: str
    title: str
    reason: str
    seconds: float
    facts: Facts = field(default_factory=dict)


class StageListener:
    """Does nothing; override what you want to be told."""

    def on_begin(self, number: int, total: int, stage: Stage, reason: str) -> None:
        """Stage `number` of `total` begins; why, e.g. which setting has changed."""

    def on_skip(self, number: int, total: int, stage: Stage) -> None:
        """A stage is current."""


def run_stages(
    folder: Path, stages: Sequence[Stage], listener: StageListener | None = None
) -> Iterator[StageResult]:
    """Bring stages up to date, one after another; yields each once it is complete.

    Args:
        folder: of the job; records of the stages are in `stages/`.
        stages: in their order.
        listener: told how it goes.

    Raises:
        DatasetError: a record is damaged.
        WriteError: a record cannot be written, or results of other settings not be removed.
    """
    listener = listener or StageListener()
    identities: dict[str, str] = {}
    previous: list[str] = []
    for number, stage in enumerate(stages, start=1):
        after = previous if stage.after is None else stage.after
        record = _Record(folder / RECORDS / f'{stage.name}.json')
        now = {
            'settings': _flatten(stage.settings()),
            'after': {name: identities[name] for name in after},
        }
        reason = record.reason(now, stage)
        if reason:
            listener.on_begin(number, len(stages), stage, reason)
            _run(stage, record, now)
        else:
            listener.on_skip(number, len(stages), stage)
        identities[stage.name] = record.identity
        previous = [stage.name]
        yield StageResult(
            stage.name, stage.title, reason, record.values['seconds'], record.values['facts']
        )


def _run(stage: Stage, record: _Record, now: Mapping[str, Any]) -> None:
    begun = record.is_of(now)
    if not begun:
        if record.values:  # otherwise nobody knows whose results these are
            _clear(stage, record.changes(now), record.values.get('facts', {}))
        record.write({**now, 'complete': False})
    start = perf_counter()
    facts = json.loads(json.dumps(dict(stage.run(begun))))
    seconds = round(perf_counter() - start, 1)
    record.write({**now, 'complete': True, 'seconds': seconds, 'facts': facts})


def _clear(stage: Stage, changes: Changes, before: Facts) -> None:
    if stage.clear is not None:
        stage.clear(changes, before)
        return
    for path in stage.results:
        if path.is_dir():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)


class _Record:
    """What a stage says about itself; empty values if it has never begun."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.values: dict[str, Any] = {}
        if not path.exists():
            return
        try:
            self.values = json.loads(read_text(path, DatasetError))
            _ = self.values['settings'], self.values['after'], self.values['complete']
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f'{path}: damaged ({error!r}); remove it and what this stage has made'
            ) from error

    @property
    def identity(self) -> str:
        """A text that changes with the results."""
        facts = [self.values[key] for key in ('settings', 'after', 'facts')]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def is_of(self, now: Mapping[str, Any]) -> bool:
        """Whether the stage has begun with these settings, behind the same stages."""
        return all(self.values.get(key) == now[key] for key in ('settings', 'after'))

    def reason(self, now: Mapping[str, Any], stage: Stage) -> str:
        """Why the stage is not current; empty if it is."""
        if not self.values:
            return 'not done yet'
        if changes := self.changes(now):
            listed = [f'{key}: {old} -> {new}' for key, (old, new) in changes.items()]
            more = len(listed) - MOST_CHANGES
            return 'changed: ' + '; '.join(
                [*listed[:MOST_CHANGES], *([f'{more} more'] if more > 0 else [])]
            )
        before, after = self.values['after'], now['after']
        if others := [name for name, value in after.items() if before.get(name) != value]:
            return f'{" and ".join(others)} gave other results'
        if not self.values['complete']:
            return 'was interrupted, and goes on'
        if missing := [str(path) for path in stage.results if not path.exists()]:
            return f'{", ".join(missing)} is missing'
        return ''

    def changes(self, now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Each changed setting: before, and now; `-` is none."""
        before, after = self.values.get('settings', {}), now['settings']
        return {
            key: (before.get(key, '-'), after.get(key, '-'))
            for key in sorted(before.keys() | after.keys())
            if before.get(key, '-') != after.get(key, '-')
        }

    def write(self, values: dict[str, Any]) -> None:
        """Replace the record."""
        write_text(self._path, json.dumps(values, indent=2) + '\n')
        self.values = values


def _flatten(values: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Every plain value under its dotted key; lists stay whole."""
    flat: dict[str, JsonValue] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            inner = _flatten(value)
            flat |= {f'{key}.{name}': item for name, item in inner.items()}
        else:
            flat[key] = json.loads(json.dumps(value))
    return flat
