# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `run`: ROS 2 nodes without `ros2 launch`."""

from __future__ import annotations

from importlib import import_module

import typer

from pointdistiller_core.errors import PointDistillerError


def run_command(context: typer.Context) -> None:
    """Run ROS 2 nodes in this process, for machines without `ros2 launch`.

    Example: `pointdistiller run detect --bag drive --record out --lockstep`

    `pointdistiller run compare --teacher runs/teacher --student runs/student --bag drive`

    Without bundles they take those that ship.

    `pointdistiller run detect --help` and `pointdistiller run compare --help` list the options.
    """
    if context.args[:1] in (['--help'], ['-h']):
        typer.echo(context.get_help())
        raise typer.Exit
    try:
        nodes = import_module('pointdistiller_ros.run')
    except ModuleNotFoundError as error:
        if (error.name or '').startswith('pointdistiller'):
            raise
        raise PointDistillerError(
            f'ROS 2 for Python is not importable ({error.name}); source a ROS 2 installation or '
            "install the wheels: pip install -e '.[ros]'"
        ) from error
    raise typer.Exit(nodes.main(context.args))
