# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Tables, JSON and progress bars of the command line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
import typer

from pointdistiller_core.files import check_writable, write_file
from pointdistiller_core.pipelines.stages import Stage, StageListener

if TYPE_CHECKING:
    from pointdistiller_core.records import Detections


# The result of a long computation must have a place before it starts.
def check_json(target: str | None) -> str | None:
    """Refuse a file that cannot be written; `-` and None are none."""
    if target not in (None, '-'):
        check_writable(Path(target))
    return target


def check_file(path: Path | None) -> Path | None:
    """Refuse a file that cannot be written."""
    if path is not None:
        check_writable(path)
    return path


def check_folder(path: Path | None) -> Path | None:
    """Refuse a folder whose files cannot be written."""
    if path is not None:
        check_writable(path, folder=True)
    return path


JsonOption = Annotated[
    str | None,
    typer.Option(
        '--json',
        metavar='FILE',
        help='Also write the numbers as JSON (- for stdout).',
        callback=check_json,
    ),
]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option('--set', metavar='KEY=VALUE', help='Override a configuration value; repeatable.'),
]

ClassMapOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar='NAME=CLASS|MAP',
        help='New name of a class, e.g. Van=Car, or a map of all: nuscenes, vod, autoware; '
        'repeatable.',
    ),
]

# Progress and notes go to stderr, so that stdout holds only results and can be piped.
notes = Console(stderr=True)


def print_error(message: str) -> None:
    """Print one error on stderr."""
    notes.print(f'[bold red]error:[/] {escape(message)}', highlight=False, soft_wrap=True)


def print_note(message: str) -> None:
    """Print one line of information on stderr."""
    notes.print(escape(message), highlight=False, soft_wrap=True)


@contextmanager
def noted_when_stopped(describe: Callable[[], str]) -> Iterator[None]:
    """After Ctrl-C, print what was kept and how to go on, as `describe` says it then."""
    try:
        yield
    except KeyboardInterrupt:
        print_note(describe())
        raise


def repeat_to_go_on(folder: Path) -> str:
    """What `noted_when_stopped` says where the same command goes on from what is in a folder."""
    return f'{folder}: stopped; repeat the command to go on'


class StageTeller(StageListener):
    """Prints where a job stands."""

    def on_begin(self, number: int, total: int, stage: Stage, reason: str) -> None:
        """Print which stage begins, and why."""
        print_note(f'stage {number} of {total}: {stage.name}: {stage.title} ({reason})')

    def on_skip(self, number: int, total: int, stage: Stage) -> None:
        """Print that a stage is current."""
        print_note(f'stage {number} of {total}: {stage.name}: {stage.title} (is current)')


def print_cuts(found: Iterable[Detections], *, name: str = '') -> None:
    """Say what was left out or changed of some clouds, if anything.

    Args:
        found: detections of these clouds, whose cuts and counts tell.
        name: of the detector, if there are several.
    """
    total: Counter[str] = Counter()
    all_of: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for item in found:
        total.update(item.counts)
        all_of.update({kind: sum(cut) for kind, cut in item.cuts.items()})
        dropped.update({kind: cut.dropped for kind, cut in item.cuts.items()})
    prefix = f'{name}: ' if name else ''
    if +dropped:
        cuts = (f'{number} of {all_of[kind]} {kind}' for kind, number in (+dropped).items())
        print_note(
            f'{prefix}of crowded places only some points are used, as in training: '
            f'{", ".join(cuts)} in range left out'
        )
    if outside := total['intensity_outside']:
        print_note(
            f'{prefix}clipped to the range of the training clouds: the intensity of {outside} of '
            f'{total["points"]} points'
        )
    if refused := total['boxes_refused']:
        print_note(
            f'{prefix}refused: {refused} boxes; no object is so large, so small or so far out'
        )


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, json_target: str | None
) -> None:
    """Print a table, the first column left-aligned; on stderr if stdout takes the JSON."""
    table = Table(title=escape(title), title_justify='left')
    for index, column in enumerate(columns):
        first = index == 0
        table.add_column(
            escape(column), justify='left' if first else 'right', no_wrap=first, overflow='fold'
        )
    for row in rows:
        table.add_row(*map(escape, row))
    # Wide enough for every number: a terminal may wrap a line, but nothing is cut off.
    Console(stderr=json_target == '-', width=160).print(table)


def print_lines(lines: Sequence[str], *, json_target: str | None) -> None:
    """Print results that are no table; on stderr if stdout takes the JSON."""
    console = Console(stderr=json_target == '-')
    for line in lines:
        console.out(line, highlight=False)  # `escape` doubles a backslash at the end of a line


def write_json(target: str | None, values: Any) -> None:
    """Write values to a file, to stdout for `-`, or nowhere for None."""
    if target is None:
        return
    text = json.dumps(values, indent=2) + '\n'
    if target == '-':
        sys.stdout.write(text)
        return
    write_file(Path(target), text.encode())


@contextmanager
def progress_bar(
    description: str, unit: str = '', *, when_stopped: str | None = 'stopped; repeat the command'
) -> Iterator[Callable[..., None]]:
    """A bar on stderr; yields `update(done, total, note='')`.

    If nothing was done, it leaves nothing; without a terminal it is printed once, at the end.

    Args:
        description: what is done.
        unit: of what is counted.
        when_stopped: printed after Ctrl-C; None where others say it.
    """
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn('{task.fields[note]}'),
    )
    progress = Progress(*columns, console=notes)
    task = progress.add_task(description, total=None, note='')
    stopped = None
    shown = notes.is_terminal  # before the first update, as a sign of life
    if shown:
        progress.start()

    def update(done: int, total: int, note: str = '') -> None:
        nonlocal shown
        if not shown:
            progress.start()
            shown = True
        progress.update(task, completed=done, total=total, note=note)

    try:
        yield update
    except KeyboardInterrupt:
        stopped = when_stopped
        raise
    finally:
        if shown:
            progress.update(task, visible=progress.tasks[task].total is not None)
            progress.stop()
        if stopped is not None:
            print_note(stopped)
