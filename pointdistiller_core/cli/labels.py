# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`labels export`, `import` and `split`: dataset folders, tools, KITTI and bags."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from pointdistiller_core.cli.output import (
    ClassMapOption,
    check_folder,
    print_lines,
    print_note,
    print_table,
    progress_bar,
)
from pointdistiller_core.config import FolderConfig, SplitConfig, parse_class_map
from pointdistiller_core.formats.label_tools import LABEL_TOOLS, TILT

labels_app = typer.Typer(
    no_args_is_help=True,
    help="Exchange labels with annotation tools, KITTI's files and bags, in the LiDAR frame.",
)
Tool = Enum('Tool', {name: name for name in LABEL_TOOLS}, type=str)  # type: ignore[misc]
BAG = 'bag'
Source = Enum(  # type: ignore[misc]
    'Source', {name: name for name in (*LABEL_TOOLS, BAG)}, type=str
)


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
    without_unsure: Annotated[
        bool, typer.Option('--without-unsure', help='Leave unsure boxes out.')
    ] = False,
) -> None:
    """Write frames and labels for an annotation tool, or as files of KITTI.

    Unsure boxes get classes of their own, such as Car_unsure: rename them in the tool to confirm
    them, or delete them; left as they are, they come back as unsure.

    Example: `pointdistiller labels export data/own annotate --to sustech --split val`
    """
    from pointdistiller_core.datasets.folder import FolderDataset
    from pointdistiller_core.pipelines.exchange_labels import UNSURE, export_labels

    frames = FolderDataset(FolderConfig(root=dataset, split=split), (), labelled=False)
    with progress_bar('export', 'frames') as update:
        counts = export_labels(
            *(frames, out, to.value),
            points=not without_points,
            unsure=not without_unsure,
            on_frame=update,
        )
    boxes = sum(counts.boxes.values())
    print_lines(
        [f'{out}: {boxes} boxes of {counts.frames} frames for {to.value}'], json_target=None
    )
    if counts.without_labels:
        print_note(f'{counts.without_labels} frames have no labels')
    if counts.unsure:
        print_note(
            f'{counts.unsure} boxes are unsure: their classes end with {UNSURE}; rename them to '
            'confirm, or delete them; what keeps this name comes back as unsure'
        )
    if counts.left_out:
        print_note(
            f'{counts.left_out} unsure boxes were left out; training will take what is '
            'there as background unless they are labelled'
        )
    for what, count in (+counts.lost).items():
        print_note(f'not held by {to.value}: {count} {what}')


@labels_app.command('import')
def import_labels_command(
    dataset: Annotated[Path, typer.Argument(help='Dataset folder.')],
    source: Annotated[
        Path,
        typer.Argument(
            metavar='SOURCE', help='Folder of the tool or of its label files; or BAG[:TOPIC].'
        ),
    ],
    *,
    tool: Annotated[Source, typer.Option('--from', help='What wrote it.')],
    replace: Annotated[
        bool, typer.Option('--replace', help='Replace labels of people, too.')
    ] = False,
    class_map: ClassMapOption = None,
    label_names: Annotated[
        list[str] | None,
        typer.Option(
            '--class', help='A class that numbers in a bag index, as in label; repeatable.'
        ),
    ] = None,
) -> None:
    """Import labels from an annotation tool, KITTI's files or a bag; those of detectors go.

    Example: `pointdistiller labels import data/own annotate --from sustech`

    Example: `pointdistiller labels import data/own drive_1:/ground_truth/boxes --from bag`
    """
    from pointdistiller_core.datasets.class_tally import ClassTally
    from pointdistiller_core.datasets.folder import FolderDataset
    from pointdistiller_core.pipelines.exchange_labels import import_labels, import_recorded
    from pointdistiller_core.pipelines.teachers import split_topic

    tally = ClassTally(parse_class_map(class_map or ()))
    if tool.value == BAG:
        frames = FolderDataset(FolderConfig(root=dataset, split='all'), (), labelled=False)
        counts = import_recorded(
            *(frames, *split_topic(str(source))),
            replace=replace,
            tally=tally,
            label_names=label_names or (),
        )
    else:
        counts = import_labels(dataset, source, tool.value, replace=replace, tally=tally)
    classes = ', '.join(f'{count} {name}' for name, count in counts.boxes.most_common())
    print_lines([f'{dataset}: labels of {counts.frames} frames: {classes}'], json_target=None)
    for note in (*tally.notes(), *counts.notes):
        print_note(note)
    if counts.unsure:
        print_note(f'{counts.unsure} boxes are unsure, as before, and are ignored')
    if counts.tilted:
        print_note(
            f'{counts.tilted} boxes were tilted by more than {TILT:g} rad; boxes are upright here'
        )
    if counts.others:
        print_note(f'{counts.others} objects are no boxes and were left out')
    for what, count in (+counts.lost).items():
        print_note(f'{count} {what}')
    if counts.unknown:
        print_note(
            f'{len(counts.unknown)} label files are of no frame of the dataset, '
            f'{counts.unknown[0]} first; they were left out'
        )


@labels_app.command('split')
def split_labels_command(
    dataset: Annotated[Path, typer.Argument(help='Dataset folder.')],
    *,
    val_drive: Annotated[
        list[str] | None, typer.Option(help='A drive for validation; repeatable.')
    ] = None,
    val_part: Annotated[
        float,
        typer.Option(
            min=0, max=1, help='Part of the frames of each drive for validation, its end.'
        ),
    ] = 0.3,
    val_gap: Annotated[
        float, typer.Option(min=0, help='Gap between training and validation, in neither [s].')
    ] = 2.0,
    name: Annotated[str, typer.Option(help='Of the splits.')] = 'corrected',
) -> None:
    """Make splits of the frames that people have labelled, by drive and time, never shuffled.

    They are `corrected` (all of them), `corrected_train` and `corrected_val`.

    Example: `pointdistiller labels split data/own --val-part 0.3`
    """
    from pointdistiller_core.pipelines.corrected_split import split_corrected

    config = SplitConfig(val_drives=tuple(val_drive or ()), val_part=val_part, gap_s=val_gap)
    found = split_corrected(dataset, config, name=name)
    parts = [(each.drive or '-', each.train, each.val, each.between) for each in found.drives]
    print_table(
        f'{dataset}: frames with labels of people',
        ['drive', *found.names[1:], 'in neither'],
        [[drive, *(str(len(part)) for part in own)] for drive, *own in parts],
        json_target=None,
    )
    for note in found.notes:
        print_note(note)
