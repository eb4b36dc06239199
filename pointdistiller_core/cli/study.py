# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `study`: experiments that compare ways to train a student."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
import signal
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointdistiller_core.cli.data import simulate_frames
from pointdistiller_core.cli.output import print_error, print_note, print_table, write_json
from pointdistiller_core.cli.training import DeviceOption, moment_after, notes_of_taps
from pointdistiller_core.config import (
    SimulatedDataConfig,
    StudyConfig,
    StudySizeConfig,
    find_config,
    load_config,
)
from pointdistiller_core.cores import usable_cores
from pointdistiller_core.errors import ConfigError, TrainingStopped
from pointdistiller_core.training.exit_codes import EXIT_STOPPED

if TYPE_CHECKING:
    from pointdistiller_core.studies.plan import Job
    from pointdistiller_core.studies.runner import Outcome
    from pointdistiller_core.studies.table import Row, Scores


SPREAD = 'mean ± standard deviation over seeds'


def study_command(
    study: Annotated[
        str,
        typer.Argument(
            help='ablation, methods, sensitivity, compression, schedule or a YAML file.'
        ),
    ],
    *,
    size: Annotated[str, typer.Option(help='small, full (for a GPU) or a YAML file.')] = 'small',
    model: Annotated[
        str | None,
        typer.Option(help="Family of the networks, e.g. second. [default: the size's first one]"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            '--output',
            '-o',
            help='Folder that studies of a family share. [default: runs/SIZE, runs/SIZE-MODEL]',
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds of the students, e.g. 0,1,2; by default the study's.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help='Runs at once. [default: one for every 2 cores]')
    ] = None,
    device: DeviceOption = 'auto',
    stop_after: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar='SECONDS',
            help='Save and stop after this time; the exit code is 75, and the same command '
            'continues.',
        ),
    ] = None,
    report_only: Annotated[
        bool, typer.Option('--report-only', help='Train nothing; report what is there.')
    ] = False,
) -> None:
    """Train every arm of a study with every seed, and compare them in a table and a picture.

    Repeat the command to continue; complete runs are skipped. The exit code is 1 if a run failed,
    and 75 if all were stopped in time. It writes STUDY.json, .md and .png into the output folder.

    Example: `pointdistiller study ablation --size small --seeds 0,1,2 -o runs/small`
    """
    # torch takes a second to import, and `--help` should not wait for it
    from pointdistiller_core.studies.plan import check_begun, plan_study, setting_values

    stop_at = moment_after(stop_after)
    study_file, size_file = find_config('studies', study), find_config('studies', size)
    config = load_config(StudyConfig, study_file)
    settings = load_config(StudySizeConfig, size_file).of_family(model)
    plan = plan_study(
        config,
        settings,
        size_name=size_file.stem,
        seeds=parse_seeds(seeds),
        folder=size_file.parent,
    )
    setting_values(config, plan)  # raises now, not after hours
    other = model not in {None, *list(settings.models)[:1]}
    name = f'{size_file.stem}-{model}' if other else size_file.stem
    output = output or Path('runs') / name
    for note in dict.fromkeys(note for job in plan for note in notes_of_taps(job.experiment)):
        print_note(note)
    check_begun(output, plan)
    outcomes: list[Outcome] = []
    if not report_only:
        outcomes = _train(settings, plan, output, jobs=jobs, device=device, stop_at=stop_at)
    write_report(output / study_file.stem, config, plan, size=name, data=settings.data)
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        print_error(f'{_name(outcome.job)}: {outcome.error}')
    if failed:
        raise typer.Exit(1)
    if stopped := sum(outcome.stopped for outcome in outcomes):
        print_note(f'stopped in time: {stopped} of {len(plan)} runs can go on; repeat the command')
        raise typer.Exit(EXIT_STOPPED)


def parse_seeds(text: str | None) -> tuple[int, ...]:
    """Different seeds from `0,1,2`; none from None.

    Raises:
        ConfigError: not whole numbers, or one is repeated.
    """
    words = text.replace(',', ' ').split() if text is not None else []
    seeds = tuple(int(word) for word in words if word.isdecimal())
    if len(set(seeds)) != len(words) or (text is not None and not words):
        raise ConfigError(f'--seeds {text!r}: expected different whole numbers, as in 0,1,2')
    return seeds


def _train(
    settings: StudySizeConfig,
    plan: Sequence[Job],
    output: Path,
    *,
    jobs: int | None,
    device: str,
    stop_at: float | None,
) -> list[Outcome]:
    """Simulate and train what is missing."""
    from pointdistiller_core.studies.runner import default_jobs, run_jobs

    num_jobs = jobs or default_jobs(plan[0].experiment.training)
    try:
        with _interrupted_at(stop_at):
            _simulate(output, settings.data)
        print_note(f'{output}: {len(plan)} runs, {num_jobs} at once')
        listener = _make_listener(output, plan)
        return run_jobs(
            output, plan, num_jobs=num_jobs, device=device, listener=listener, stop_at=stop_at
        )
    except TrainingStopped:
        print_note('stopped in time while simulating; the same command goes on from here')
        raise typer.Exit(EXIT_STOPPED) from None
    except KeyboardInterrupt:
        print_note('stopped; the same command goes on from here')
        raise typer.Exit(130) from None


def _simulate(output: Path, data: SimulatedDataConfig) -> None:
    from pointdistiller_core.studies.plan import DATA

    splits = {'train': data.train, 'val': data.val, 'test': data.test}
    simulate_frames(output / DATA, data.simulation, splits, seed=data.seed, workers=usable_cores())


@contextmanager
def _interrupted_at(moment: float | None) -> Iterator[None]:
    """Raise `TrainingStopped` at a moment of `time.monotonic`."""
    if moment is None:
        yield
        return

    def interrupt(*_: Any) -> None:
        raise TrainingStopped('while simulating')

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, max(moment - monotonic(), 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _make_listener(output: Path, plan: Sequence[Job]) -> Any:
    from pointdistiller_core.studies.plan import collect_runs
    from pointdistiller_core.studies.runner import StudyListener

    done: Counter[str] = Counter()

    class Lines(StudyListener):
        def on_wait(self, job: Job) -> None:
            print_note(f'{_name(job)}: another process is at it; waiting')

        def on_end(self, outcome: Outcome) -> None:
            done['runs'] += 1
            found = collect_runs(output, [outcome.job])
            result = 'stopped in time' if outcome.stopped else 'failed'
            if found:
                name = found[0]['means'][-1]
                result = f'{name} {found[0]["scores"][name]:.1f}'
            minutes, seconds = divmod(round(outcome.seconds), 60)
            print_note(
                f'[{done["runs"]}/{len(plan)}] {_name(outcome.job)}: {result}, '
                f'{minutes} min {seconds:02} s'
            )

    return Lines()


def _name(job: Job) -> str:
    return f'{job.arm}, seed {job.seed}'


def write_report(
    stem: Path, study: StudyConfig, plan: Sequence[Job], *, size: str, data: SimulatedDataConfig
) -> None:
    """Print the table of the complete runs; write it as JSON, Markdown and a picture.

    Args:
        stem: of the files, in the folder of the runs.
        study: its arms and their order.
        plan: its runs.
        size: its name.
        data: what the runs were trained on.
    """
    from pointdistiller_core.evaluation.metric import find_metric
    from pointdistiller_core.studies.plan import (
        collect_runs,
        list_arms,
        scores_by_arm,
        setting_values,
    )
    from pointdistiller_core.studies.table import MEANS, format_table, summarize

    runs = collect_runs(stem.parent, plan)
    scores = scores_by_arm(runs)
    metric, means = (runs[0]['metric'], runs[0]['means']) if runs else ('kitti', MEANS)
    quantity = find_metric(metric).quantity
    rows = summarize(list_arms(study, plan), scores, means)
    title = f'{study.title}, size {size}'
    print_table(f'{title}; {quantity}: {SPREAD}', *format_table(rows), json_target=None)
    values = {
        'study': stem.name,
        'size': size,
        'data': data.model_dump(mode='json'),
        'table': [asdict(row) for row in rows],
        'runs': runs,
    }
    write_json(f'{stem}.json', values)
    _write_page(stem.with_suffix('.md'), title, quantity, rows, runs)
    words = {'title': title, 'quantity': quantity}
    _draw(stem.with_suffix('.png'), words, rows, scores, setting_values(study, plan))
    print_note(f'{stem}.json, .md, .png: {len(runs)} of {len(plan)} runs')


def _write_page(
    file: Path,
    title: str,
    quantity: str,
    rows: Sequence[Row],
    runs: Sequence[Mapping[str, Any]],
) -> None:
    from pointdistiller_core.files import write_text
    from pointdistiller_core.studies.table import format_markdown, format_table

    revisions = sorted({revision for run in runs for revision in run['revisions']})
    note = (
        f'{quantity}: {SPREAD}. A gain is the difference to the same network trained on\n'
        f'labels alone with the same schedule and seed. {len(runs)} runs, code of revision '
        f'{", ".join(revisions) or "-"}.\n'
    )
    write_text(file, f'# {title}\n\n{format_markdown(*format_table(rows))}\n{note}')


def _draw(
    file: Path,
    words: Mapping[str, str],
    rows: Sequence[Row],
    scores: Mapping[str, Mapping[int, Scores]],
    settings: Mapping[str, Mapping[str, float]],
) -> None:
    from pointdistiller_core.studies.picture import draw_bars, draw_settings

    if settings:
        draw_settings(file, rows, scores, settings=settings, **words)
    else:
        draw_bars(file, rows, scores, **words)
