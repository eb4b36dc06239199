# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Verbs that train: `train` and `distill`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointdistiller_core.cli.intensity import (
    USUAL,
    IntensityScaleOption,
    expectations,
    name_of,
    settle_dataset,
)
from pointdistiller_core.cli.output import OverrideOption, print_note, print_table, progress_bar
from pointdistiller_core.config import (
    PILLARS,
    DistillationConfig,
    ExperimentConfig,
    find_config,
    load_experiment,
)
from pointdistiller_core.deploy.bundle_format import find_bundle, read_info
from pointdistiller_core.errors import TrainingInterrupted, TrainingStopped
from pointdistiller_core.training.exit_codes import EXIT_STOPPED
from pointdistiller_core.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from pointdistiller_core.training.listeners import Progress

ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar='NAME|FILE', help='A shipped experiment, such as own_data, or a YAML file.'
    ),
]
OutputOption = Annotated[Path, typer.Option('--output', '-o', help='Folder of the run.')]
FromOption = Annotated[
    Path | None,
    typer.Option(
        '--from',
        metavar='BUNDLE',
        help='Start with the weights of this bundle or run folder (fine-tuning); its classes may '
        'be others.',
    ),
]
ResumeOption = Annotated[
    bool, typer.Option('--resume', help='Continue from the newest checkpoint in the folder.')
]
DeviceOption = Annotated[str, typer.Option(help='auto, cpu or cuda.')]
StopAfterOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar='SECONDS',
        help='Save and stop after this time; the exit code is 75, and --resume continues.',
    ),
]
# Of a term's gradient over that of detection, in what the term reaches.
LEAST_RATIO, MOST_RATIO = 0.1, 1.0


def train_command(
    config: ConfigArgument,
    *,
    output: OutputOption,
    source: FromOption = None,
    resume: ResumeOption = False,
    device: DeviceOption = 'auto',
    intensity_scale: IntensityScaleOption = None,
    stop_after: StopAfterOption = None,
    overrides: OverrideOption = None,
) -> None:
    """Train a detector on labels, from new weights or (`--from`) from trained ones.

    Example: `pointdistiller train own_data -o runs/own --set dataset.root=data/mine
    --set validation.root=data/mine --set training.epochs=4`
    """
    stop_at = moment_after(stop_after)
    experiment = load_experiment(find_config('experiments', config), tuple(overrides or ()))
    experiment = experiment.model_copy(update={'distillation': None})
    experiment = settle_experiment(intensity_scale, experiment, {'the source': source})
    run_with_progress(
        experiment,
        output,
        label='train',
        source=source,
        resume=resume,
        device=device,
        stop_at=stop_at,
    )
    print_validation(output, experiment)


def distill_command(
    config: ConfigArgument,
    *,
    teacher: Annotated[Path, typer.Option(help="The teacher's bundle or run folder.")],
    output: OutputOption,
    source: FromOption = None,
    resume: ResumeOption = False,
    device: DeviceOption = 'auto',
    intensity_scale: IntensityScaleOption = None,
    stop_after: StopAfterOption = None,
    overrides: OverrideOption = None,
) -> None:
    """Train a student on labels and on a frozen teacher's outputs for the same clouds.

    Without `distillation` in the configuration, the preset `default` is used. With `--from`, the
    student goes on from weights that it has, instead of `distillation.initialization`.

    Example: `pointdistiller distill demo_student --teacher runs/teacher
    -o runs/distilled --set distillation=paper`
    """
    from pointdistiller_core.training.processes import is_first_process

    stop_at = moment_after(stop_after)
    experiment = load_experiment(find_config('experiments', config), tuple(overrides or ()))
    distillation = experiment.distillation or DistillationConfig()
    if source is not None:
        distillation = distillation.model_copy(update={'initialization': 'random'})
    experiment = experiment.model_copy(update={'distillation': distillation})
    bundles = {'the teacher': teacher, 'the source': source}
    experiment = settle_experiment(intensity_scale, experiment, bundles)
    if is_first_process():
        for note in notes_of_taps(experiment):
            print_note(note)
    run_with_progress(
        experiment,
        output,
        label='distill',
        teacher=teacher,
        source=source,
        resume=resume,
        device=device,
        stop_at=stop_at,
    )
    print_validation(output, experiment)
    print_lessons(output)


def settle_experiment(
    option: str | None, experiment: ExperimentConfig, bundles: Mapping[str, Path | None]
) -> ExperimentConfig:
    """The experiment with the scale of `--intensity-scale` in each of its datasets.

    Args:
        option: `--intensity-scale`.
        experiment: according to its file and the other options.
        bundles: by name: bundles or runs whose intensities are expected.

    Raises:
        CheckpointError: a bundle is missing or damaged.
        ConfigError, DatasetError: as `settle_dataset`.
    """
    from pointdistiller_core.datasets import build_dataset
    from pointdistiller_core.training.experiment import refuse_bags
    from pointdistiller_core.training.processes import is_first_process

    refuse_bags(experiment)
    build_dataset(experiment.dataset, ())  # checks first that it is there
    infos = {name: read_info(find_bundle(path)) for name, path in bundles.items() if path}
    settle = partial(
        settle_dataset,
        option,
        expected=expectations(infos) or USUAL,
        say=print_note if is_first_process() else lambda _: None,
    )
    distillation, validation = experiment.distillation, experiment.validation
    changes: dict[str, Any] = {
        'dataset': settle(experiment.dataset),
        'validation': validation and settle(validation),
    }
    if distillation and distillation.unlabelled:
        more = settle(distillation.unlabelled)
        changes['distillation'] = distillation.model_copy(update={'unlabelled': more})
    return experiment.model_copy(update=changes)


def notes_of_taps(experiment: ExperimentConfig) -> Iterator[str]:
    """A line for each term that compares another layer than voxels because it has to."""
    layer = experiment.model.taught_layer
    for term in experiment.distillation.terms if experiment.distillation else ():
        if layer != PILLARS and layer in getattr(term, 'taps', ()):
            yield (
                f'{term.name}: compares {layer}, the last of the sparse middle, for no weights of '
                f'{experiment.model.name} come before its voxels'
            )


def moment_after(seconds: float | None) -> float | None:
    """The moment of `time.monotonic` so many seconds from now."""
    return None if seconds is None else monotonic() + seconds


def run_with_progress(
    experiment: ExperimentConfig,
    output: Path,
    *,
    label: str,
    teacher: Path | None = None,
    source: Path | None = None,
    resume: bool = False,
    device: str = 'auto',
    stop_at: float | None = None,
    again: str = 'repeat it with --resume',
) -> Path:
    """`run_experiment` with a progress bar, in the first process; returns the bundle's folder.

    After Ctrl-C it says how to go on: by `again`.

    Raises:
        Exit: it was stopped in time.
    """
    # torch takes a second to import; `--help` should not wait for it
    from pointdistiller_core.training.checkpoint import list_checkpoints
    from pointdistiller_core.training.experiment import run_experiment
    from pointdistiller_core.training.listeners import Listener
    from pointdistiller_core.training.processes import is_first_process
    from pointdistiller_core.training.run import CONFIG_FILE

    keep_freed_memory()
    train = partial(
        run_experiment,
        experiment,
        output,
        teacher=teacher,
        source=source,
        resume=resume,
        device=device,
        stop_at=stop_at,
    )
    try:
        if not is_first_process():
            return train()
        with progress_bar(label, 'steps', when_stopped=None) as update:

            class Bar(Listener):
                def on_note(self, note: str) -> None:
                    print_note(note)

                def on_epoch(self, record: Mapping[str, Any]) -> None:
                    if record['epoch'] == 1:
                        for line in describe_ratios(record.get('gradient_ratios', {})):
                            print_note(line)

                def on_step(self, progress: Progress) -> None:
                    update(
                        progress.step,
                        progress.num_steps,
                        f'epoch {progress.epoch}/{progress.num_epochs} '
                        f'loss {progress.losses["total"]:.3f}',
                    )

                def on_validation(self, done: int, total: int) -> None:
                    update(done, total, 'validated frames')

            bundle = train(listener=Bar())
    except (KeyboardInterrupt, TrainingInterrupted):
        if (output / CONFIG_FILE).exists() and is_first_process():
            names = [folder.name for folder in list_checkpoints(output)]
            beginning = f'from {names[-1]}' if names else 'at its beginning: nothing is saved yet'
            print_note(f'{output}: stopped; {again} to go on {beginning}')
        raise KeyboardInterrupt from None
    except TrainingStopped as stopped:
        print_note(str(stopped))
        raise typer.Exit(EXIT_STOPPED) from None
    print_note(f'{bundle}: trained, seed {experiment.training.seed}')
    return bundle


def describe_ratios(ratios: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Lines about the terms' gradients after the first epoch; a term that does little is named."""
    lines = []
    for term, of_module in ratios.items():
        parts = ', '.join(f'{name} {value:.2g}' for name, value in of_module.items())
        hint = ''
        if not LEAST_RATIO <= of_module.get('reached', 0.0) <= MOST_RATIO:
            hint = f'; {LEAST_RATIO:g} to {MOST_RATIO:g} is usual, see `pointdistiller balance`'
        lines.append(f'{term}: gradient over that of detection: {parts or "none"}{hint}')
    return lines


def print_ratios(title: object, ratios: Mapping[str, Mapping[str, float]]) -> None:
    """Print a row for each term, a column for each module; nothing without terms."""
    modules = list(dict.fromkeys(name for of_module in ratios.values() for name in of_module))
    columns = ['term', *sorted(modules, key=lambda name: name == 'reached')]
    rows = [
        [term, *(f'{of[name]:.2g}' if name in of else '-' for name in columns[1:])]
        for term, of in ratios.items()
    ]
    if rows:
        title = f'Gradients of terms over that of detection, last epoch: {title}'
        print_table(title, columns, rows, json_target=None)


def print_validation(run: Path, experiment: ExperimentConfig) -> None:
    """Print the scores of a finished run, if it was validated."""
    from pointdistiller_core.cli.scores import print_scores
    from pointdistiller_core.training.processes import is_first_process
    from pointdistiller_core.training.run import read_scores

    if experiment.validation is None or not is_first_process():
        return
    _, scores = read_scores(run, experiment.model.class_names)
    print_scores(scores, f'{run} on {name_of(experiment.validation)}', json_target=None)


def print_lessons(run: Path) -> None:
    """Print the losses of a distillation, and how close the features came."""
    from pointdistiller_core.cli.comparison import print_similarities
    from pointdistiller_core.distill.feature_similarity import Similarity
    from pointdistiller_core.training.processes import is_first_process
    from pointdistiller_core.training.run import read_features, read_losses, read_ratios

    if not is_first_process():
        return
    losses = read_losses(run)
    rows = [[name, f'{value:.3f}', f'{losses[-1][name]:.3f}'] for name, value in losses[0].items()]
    columns = ['loss, weighted', 'first epoch', 'last epoch']
    print_table(f'Losses: {run}', columns, rows, json_target=None)
    print_ratios(run, read_ratios(run)[-1])
    if features := read_features(run):
        taps = {
            tap: {name: Similarity(**of_student[tap]) for name, of_student in features.items()}
            for tap in features['student']
        }
        print_similarities(taps, str(run), json_file=None)
