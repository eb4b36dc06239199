# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `study`: experiments that compare ways to train a student."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
import signal
from threading import Lock
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
    from pointdistiller_core.studies.table import Comparison, Row, Scores


SPREAD = 'mean ± standard deviation over seeds'
PAIRED = 'Differences of two arms, seed by seed: mean ± standard deviation'


def study_command(
    study: Annotated[
        str,
        typer.Argument(
            help='ablation, methods, sensitivity, compression, schedule or a YAML file.'
        ),
    ],
    *,
    size: Annotated[
        str, typer.Option(help='small, long, full (for a GPU) or a YAML file.')
    ] = 'small',
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
    kept: Annotated[
        Path | None,
        typer.Option(
            '--continue',
            metavar='FOLDER',
            help='Instead of --output: a folder for version control, from which any machine goes '
            'on. It ignores frames and checkpoints, and stores weights in half precision.',
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

    if kept is not None and output is not None:
        raise ConfigError(f'--continue {kept} and --output {output}: give one folder, for all')
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
    if left_out := [arm.name for arm in config.arms if arm.student in settings.absent]:
        print_note(f'arms {", ".join(left_out)} are left out: the family has no such student')
    setting_values(config, plan)  # raises now, not after hours
    other = model not in {None, *list(settings.models)[:1]}
    name = f'{size_file.stem}-{model}' if other else size_file.stem
    output = kept or output or Path('runs') / name
    for note in dict.fromkeys(note for job in plan for note in notes_of_taps(job.experiment)):
        print_note(note)
    check_begun(output, plan)
    report = Report(output / study_file.stem, config, plan, name, settings.data)
    outcomes: list[Outcome] = []
    if not report_only:
        outcomes = _train(
            settings,
            report,
            output,
            jobs=jobs,
            device=device,
            stop_at=stop_at,
            shrink=kept is not None,
        )
    report.write()
    report.show()
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
    report: Report,
    output: Path,
    *,
    jobs: int | None,
    device: str,
    stop_at: float | None,
    shrink: bool,
) -> list[Outcome]:
    """Simulate and train what is missing."""
    from pointdistiller_core.studies.kept import ignore_the_rest
    from pointdistiller_core.studies.runner import default_jobs, run_jobs

    plan = report.plan
    if shrink:
        ignore_the_rest(output)
    num_jobs = jobs or default_jobs(plan[0].experiment.training)
    try:
        with _interrupted_at(stop_at):
            _simulate(output, settings.data)
        print_note(f'{output}: {len(plan)} runs, {num_jobs} at once')
        return run_jobs(
            output,
            plan,
            num_jobs=num_jobs,
            device=device,
            listener=_make_listener(output, report),
            stop_at=stop_at,
            shrink=shrink,
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
    simulate_frames(
        output / DATA,
        data.simulation,
        splits,
        layout=data.format,
        seed=data.seed,
        workers=usable_cores(),
    )


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


def _make_listener(output: Path, report: Report) -> Any:
    from pointdistiller_core.studies.plan import collect_runs
    from pointdistiller_core.studies.runner import StudyListener

    done: Counter[str] = Counter()
    writing, plan = Lock(), report.plan

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
                with writing:  # whatever happens next, this run is told of
                    report.write()
            minutes, seconds = divmod(round(outcome.seconds), 60)
            print_note(
                f'[{done["runs"]}/{len(plan)}] {_name(outcome.job)}: {result}, '
                f'{minutes} min {seconds:02} s'
            )

    return Lines()


def _name(job: Job) -> str:
    return f'{job.arm}, seed {job.seed}'


@dataclass(frozen=True)
class Report:
    """The results of a study: `write` them as JSON and Markdown, `show` them with a picture.

    Attributes:
        stem: of the files, in the folder of the runs.
        study: its arms and their order.
        plan: its runs.
        size: its name.
        data: what the runs were trained on.
    """

    stem: Path
    study: StudyConfig
    plan: Sequence[Job]
    size: str
    data: SimulatedDataConfig

    @property
    def title(self) -> str:
        """Of table and picture."""
        return f'{self.study.title}, size {self.size}'

    def write(self) -> None:
        """Write what the complete runs say."""
        runs, rows, quantity = self._collect()
        values = {
            'study': self.stem.name,
            'size': self.size,
            'data': self.data.model_dump(mode='json'),
            'table': [asdict(row) for row in rows],
            'comparisons': [asdict(each) for each in self._compare(rows, runs)],
            'runs': runs,
        }
        write_json(f'{self.stem}.json', values)
        _write_page(
            self.stem.with_suffix('.md'),
            self.title,
            quantity,
            rows,
            runs,
            comparisons=self._compare(rows, runs),
        )

    def show(self) -> None:
        """Print the table of the complete runs, and draw it."""
        from pointdistiller_core.studies.plan import scores_by_arm, setting_values
        from pointdistiller_core.studies.table import format_comparisons, format_table

        runs, rows, quantity = self._collect()
        title = f'{self.title}; {quantity}: {SPREAD}'
        print_table(title, *format_table(rows), json_target=None)
        if waiting := _describe_waiting(rows):
            print_note(waiting)
        compared = self._compare(rows, runs)
        if any(each.num_seeds for each in compared):
            print_table(PAIRED, *format_comparisons(compared), json_target=None)
        words = {'title': self.title, 'quantity': quantity}
        settings = setting_values(self.study, self.plan)
        _draw(self.stem.with_suffix('.png'), words, rows, scores_by_arm(runs), settings)
        print_note(f'{self.stem}.json, .md, .png: {len(runs)} of {len(self.plan)} runs')

    def _compare(self, rows: Sequence[Row], runs: Sequence[Mapping[str, Any]]) -> list[Comparison]:
        from pointdistiller_core.studies.plan import scores_by_arm
        from pointdistiller_core.studies.table import compare_arms

        titles = {row.arm.name: row.arm.title for row in rows}
        pairs = [pair for pair in self.study.comparisons if set(pair) <= set(titles)]
        return compare_arms(pairs, titles, scores_by_arm(runs), rows[0].means)

    def _collect(self) -> tuple[list[dict[str, Any]], list[Row], str]:
        """The complete runs, their table and the quantity in it."""
        from pointdistiller_core.evaluation.metric import find_metric
        from pointdistiller_core.studies.plan import collect_runs, list_arms, scores_by_arm
        from pointdistiller_core.studies.table import MEANS, summarize

        runs = collect_runs(self.stem.parent, self.plan)
        metric, means = (runs[0]['metric'], runs[0]['means']) if runs else ('kitti', MEANS)
        rows = summarize(list_arms(self.study, self.plan), scores_by_arm(runs), means)
        return runs, rows, find_metric(metric).quantity


def _write_page(
    file: Path,
    title: str,
    quantity: str,
    rows: Sequence[Row],
    runs: Sequence[Mapping[str, Any]],
    *,
    comparisons: Sequence[Comparison],
) -> None:
    from pointdistiller_core.files import write_text
    from pointdistiller_core.studies.table import (
        format_comparisons,
        format_markdown,
        format_table,
    )

    revisions = sorted({revision for run in runs for revision in run['revisions']})
    note = (
        f'{quantity}: {SPREAD}. A gain is the difference to the same network trained on\n'
        f'labels alone with the same schedule and seed. {len(runs)} runs, code of revision '
        f'{", ".join(revisions) or "-"}.\n'
    )
    text = f'# {title}\n\n{format_markdown(*format_table(rows))}\n{note}'
    if waiting := _describe_waiting(rows):
        text += f'\n{waiting}.\n'
    if any(each.num_seeds for each in comparisons):
        text += f'\n{PAIRED}\n\n{format_markdown(*format_comparisons(comparisons))}'
    write_text(file, text)


def _describe_waiting(rows: Sequence[Row]) -> str:
    """Which arms have no run yet; empty if all have."""
    titles = [row.arm.title for row in rows if not row.num_seeds]
    return f'Without a complete run yet: {"; ".join(titles)}' if titles else ''


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
