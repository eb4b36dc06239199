# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `bundles`: the detectors that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pointdistiller_core.cli.output import (
    JsonOption,
    print_lines,
    print_note,
    print_table,
    write_json,
)
from pointdistiller_core.deploy.bundle_format import read_info, shipped_bundles
from pointdistiller_core.errors import CheckpointError
from pointdistiller_core.files import read_text

CARD_FILE = 'README.md'  # of a shipped bundle


def bundles_command(
    name: Annotated[str | None, typer.Argument(help='Print the card of this one.')] = None,
    *,
    json_file: JsonOption = None,
) -> None:
    """List the detectors that come with the package; their names stand for their folders.

    Example: `pointdistiller bundles lidar_4x`
    """
    folders = shipped_bundles()
    if name is not None:
        if name not in folders:
            raise CheckpointError(f'no bundle {name!r} is shipped; choose from {sorted(folders)}')
        card = folders[name] / CARD_FILE
        print_note(f'folder: {folders[name]}')
        print_lines(read_text(card, CheckpointError).splitlines(), json_target=json_file)
    rows = [describe_bundle(folder) for folder in folders.values()]
    if name is None:
        print_table(
            'Shipped bundles',
            ['bundle', 'detector', 'classes', 'parameters', 'range', 'runs in', 'size'],
            [
                [
                    row['name'],
                    row['detector'],
                    ', '.join(row['classes']),
                    f'{row["parameters"] / 1e6:.2f} M',
                    '{:g} to {:g} m ahead, {:g} to {:g} m aside'.format(*row['range']),
                    ', '.join(row['backends']),
                    f'{row["size"] / 1e6:.1f} MB',
                ]
                for row in rows
            ],
            json_target=json_file,
        )
    write_json(json_file, [row for row in rows if name in (None, row['name'])])


def describe_bundle(folder: Path) -> dict[str, Any]:
    """What is told of a shipped bundle."""
    from pointdistiller_core.deploy.backends import BACKENDS
    from pointdistiller_core.evaluation.efficiency import count_parameters
    from pointdistiller_core.models import sketch_detector

    info = read_info(folder)
    model = info.model
    low, high = model.point_cloud_range[:3], model.point_cloud_range[3:]
    return {
        'name': folder.name,
        'folder': str(folder),
        'detector': model.name,
        'classes': list(model.class_names),
        'parameters': count_parameters(sketch_detector(model)),
        'range': [low[0], high[0], low[1], high[1]],
        'backends': [
            name for name, kind in BACKENDS.items() if set(kind.files) <= info.sha256.keys()
        ],
        'size': sum(file.stat().st_size for file in folder.iterdir()),
        'training': info.training,
    }
