# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `balance`: weights of distillation terms by their gradients."""

from __future__ import annotations

from pathlib import Path
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from pointdistiller_core.cli.output import (
    OverrideOption,
    check_file,
    print_note,
    print_table,
    progress_bar,
)
from pointdistiller_core.cli.training import (
    LEAST_RATIO,
    MOST_RATIO,
    ConfigArgument,
    DeviceOption,
)
from pointdistiller_core.config import (
    DistillationConfig,
    ExperimentConfig,
    find_config,
    load_experiment,
)
from pointdistiller_core.files import write_text

if TYPE_CHECKING:
    from pointdistiller_core.training.balance import Balance


def balance_command(
    config: ConfigArgument,
    *,
    teacher: Annotated[Path, typer.Option(help="The teacher's bundle or run folder.")],
    output: Annotated[
        Path,
        typer.Option(
            '--output', '-o', help='YAML file: a preset for each term.', callback=check_file
        ),
    ],
    target: Annotated[
        float,
        typer.Option(
            min=LEAST_RATIO,
            max=MOST_RATIO,
            help="Length of a term's gradient over that of the detection loss.",
        ),
    ] = 0.3,
    batches: Annotated[int, typer.Option(min=1, help='Batches to measure.')] = 8,
    device: DeviceOption = 'auto',
    overrides: OverrideOption = None,
) -> None:
    """Find the weight of every distillation term at which it pulls as hard as all others.

    In the modules that a term reaches, the median length of its gradient becomes `--target` times
    that of the detection loss. The student has its first weights, cut out of the teacher if the
    experiment does not say otherwise; nothing is trained. Terms of the experiment are measured
    with their settings there, all others with their defaults.

    Example: `pointdistiller balance demo_student --teacher runs/teacher -o balanced.yaml`
    """
    from pointdistiller_core.training.balance import balance_terms, describe_presets

    experiment = load_experiment(find_config('experiments', config), tuple(overrides or ()))
    distillation = experiment.distillation or DistillationConfig()
    with progress_bar('measure', 'batches') as update:
        balances = balance_terms(
            experiment,
            teacher,
            target=target,
            num_batches=batches,
            device=device,
            on_batch=update,
        )
    _print_balances(balances, target)
    presets = describe_presets(balances, distillation.initialization)
    body = yaml.safe_dump(presets, sort_keys=False, default_flow_style=None, width=99)
    write_text(output, _describe(experiment, batches) + body)
    print_note(f'{output}: {len(presets)} presets; use one as `distillation` of an experiment')


def _print_balances(balances: list[Balance], target: float) -> None:
    rows = [
        [
            balance.term.name,
            f'{balance.term.weight:g}',
            *(f'{value:.2g}' for value in _spread(balance.ratios)),
            f'{balance.weight:g}',
        ]
        for balance in balances
        if balance.weight is not None
    ]
    columns = ['term', 'weight', 'least', 'median', 'largest', f'weight for {target:g}']
    print_table('Gradients of terms over that of detection', columns, rows, json_target=None)
    for balance in balances:
        if balance.weight is None:
            print_note(f'{balance.term.name}: no weight: {balance.problem}')


def _spread(ratios: tuple[float, ...]) -> tuple[float, float, float]:
    from statistics import median

    return min(ratios), median(ratios), max(ratios)


def _describe(experiment: ExperimentConfig, batches: int) -> str:
    """Comments: how the weights were measured."""
    from pointdistiller_core.training.run import describe_session

    session: dict[str, Any] = describe_session()
    machine = session['machine']
    where = ', '.join(machine['gpus']) or f'{machine["threads"]} thread(s) of {machine["cpu"]}'
    return (
        f'# Made by: pointdistiller {shlex.join(sys.argv[1:])}\n'
        f'# Seed {experiment.training.seed}, {batches} batches of {experiment.training.batch_size}'
        f' frames; {where};\n# torch {session["versions"]["torch"]}, revision '
        f'{session["revision"]}.\n'
    )
