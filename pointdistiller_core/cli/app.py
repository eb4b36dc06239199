# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verbs of the command line, in the order of a project's life."""

from __future__ import annotations

from typing import Annotated

import typer

from pointdistiller_core import __version__
from pointdistiller_core.cli.bags import bag_app, convert_dataset_command
from pointdistiller_core.cli.balance import balance_command
from pointdistiller_core.cli.bundles import bundles_command
from pointdistiller_core.cli.compare import CompareCommand, compare_command
from pointdistiller_core.cli.comparison import (
    compare_at_recall_command,
    compare_features_command,
)
from pointdistiller_core.cli.configuration import (
    dump_config_command,
    models_command,
)
from pointdistiller_core.cli.data import (
    check_dataset_command,
    make_bag_command,
    simulate_command,
)
from pointdistiller_core.cli.demo import demo_command
from pointdistiller_core.cli.evaluation import evaluate_command
from pointdistiller_core.cli.export import export_command
from pointdistiller_core.cli.from_bag import from_bag_command
from pointdistiller_core.cli.inference import detect_command, import_checkpoint_command
from pointdistiller_core.cli.label import label_command
from pointdistiller_core.cli.labels import labels_app
from pointdistiller_core.cli.packing import (
    copy_bundle_command,
    pack_command,
    unpack_command,
)
from pointdistiller_core.cli.ros import run_command
from pointdistiller_core.cli.study import study_command
from pointdistiller_core.cli.sweeps import compare_sweeps_command
from pointdistiller_core.cli.thresholds import choose_thresholds_command
from pointdistiller_core.cli.training import distill_command, train_command


def print_version(asked: bool) -> None:
    """Print the version of the package, and end."""
    if asked:
        typer.echo(__version__)
        raise typer.Exit


def common_options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            '--version', help='Print the version.', is_eager=True, callback=print_version
        ),
    ] = False,
) -> None:
    """Take options without a verb."""


app = typer.Typer(
    name='pointdistiller',
    help='LiDAR 3D detection whose small, fast student was taught by a big, accurate teacher.',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode='markdown',
)
app.callback()(common_options)
app.command('simulate')(simulate_command)
app.command('make-bag')(make_bag_command)
app.add_typer(bag_app, name='bag')
app.command('convert')(convert_dataset_command)
app.command('label')(label_command)
app.add_typer(labels_app, name='labels')
app.command('from-bag')(from_bag_command)
app.command('check-dataset')(check_dataset_command)
app.command('compare-sweeps')(compare_sweeps_command)
app.command('train')(train_command)
app.command('distill')(distill_command)
app.command('balance')(balance_command)
app.command('study')(study_command)
app.command('evaluate')(evaluate_command)
app.command('compare', cls=CompareCommand)(compare_command)
app.command('compare-at-recall')(compare_at_recall_command)
app.command('compare-features')(compare_features_command)
app.command('choose-thresholds')(choose_thresholds_command)
app.command('export')(export_command)
app.command('copy-bundle')(copy_bundle_command)
app.command('pack')(pack_command)
app.command('unpack')(unpack_command)
app.command('detect')(detect_command)
app.command(
    'run',
    add_help_option=False,  # `run detect --help` is for the parser of the nodes
    context_settings={'allow_extra_args': True, 'ignore_unknown_options': True},
)(run_command)
app.command('bundles')(bundles_command)
app.command('models')(models_command)
app.command('dump-config')(dump_config_command)
app.command('import-checkpoint')(import_checkpoint_command)
app.command('demo')(demo_command)
