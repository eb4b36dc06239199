# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`labels export`, `labels import`: dataset folders and annotation tools."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from pointdistiller_core.cli.output import check_folder, print_lines, print_note, progress_bar
from pointdistiller_core.config import FolderConfig
from pointdistiller_core.formats.label_tools import LABEL_TOOLS, TILT

labels_app = typer.Typer(
    no_args_is_help=True, help='Exchange labels with annotation tools, in the LiDAR frame.'
)
Tool = Enum('Tool', {name: name for name in LABEL_TOOLS}, type=str)  # type: ignore[misc]


@labels_app.command('export')
def export_labels_command(
    dataset: Annotated[Path, typer.Argument(help='Dataset folder.')],
    out: Annotated[Path, typer.Argument(help='Folder to write.', callback=check_folder)],
    *,
    to: Annotated[Tool, typer.Option(help='The tool that will read it.')],
    split: Annotated[str, typer.Option(help='Frames to write.')] = 'all',
    without_points: Annotated[
        bool, typer.Option('--without-points', help='Write only labels.')
    ] = False,
) -> None:
    """Write frames and labels for an annotation tool.

    Example: `pointdistiller labels export data/own annotate --to sustech --split val`
    """
    from pointdistiller_core.datasets.folder import FolderDataset
    from pointdistiller_core.pipelines.exchange_labels import export_labels

    frames = FolderDataset(FolderConfig(root=dataset, split=split), (), labelled=False)
    with progress_bar('export', 'frames') as update:
        counts = export_labels(frames, out, to.value, points=not without_points, on_frame=update)
    boxes = sum(counts.boxes.values())
    print_lines(
        [f'{out}: {boxes} boxes of {counts.frames} frames for {to.value}'], json_target=None
    )
    if counts.without_labels:
        print_note(f'{counts.without_labels} frames have no labels')


@labels_app.command('import')
def import_labels_command(
    dataset: Annotated[Path, typer.Argument(help='Dataset folder.')],
    source: Annotated[Path, typer.Argument(help='Folder of the tool, or of its label files.')],
    *,
    tool: Annotated[Tool, typer.Option('--from', help='The tool that wrote it.')],
    replace: Annotated[
        bool, typer.Option('--replace', help='Replace labels of people, too.')
    ] = False,
) -> None:
    """Import labels from an annotation tool; labels of detectors are replaced.

    Example: `pointdistiller labels import data/own annotate --from sustech`
    """
    from pointdistiller_core.pipelines.exchange_labels import import_labels

    counts = import_labels(dataset, source, tool.value, replace=replace)
    classes = ', '.join(f'{count} {name}' for name, count in counts.boxes.most_common())
    print_lines([f'{dataset}: labels of {counts.frames} frames: {classes}'], json_target=None)
    if counts.tilted:
        print_note(
            f'{counts.tilted} boxes were tilted by more than {TILT:g} rad; boxes are upright here'
        )
    if counts.others:
        print_note(f'{counts.others} objects are no boxes and were left out')
    if counts.unknown:
        print_note(
            f'{len(counts.unknown)} label files are of no frame of the dataset, '
            f'{counts.unknown[0]} first; they were left out'
        )
