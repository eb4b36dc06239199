# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `label`: labels of a dataset folder by detectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistiller_core.cli.output import (
    ClassMapOption,
    JsonOption,
    OverrideOption,
    print_note,
    print_table,
    progress_bar,
    repeat_to_go_on,
    write_json,
)
from pointdistiller_core.config import (
    FolderConfig,
    LabellingConfig,
    apply_overrides,
    parse_class_map,
    parse_config,
)
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.labelling.drives import DROP, IGNORE, LABEL
from pointdistiller_core.pipelines.label import MEASURED_IOU

if TYPE_CHECKING:
    from pointdistiller_core.pipelines.label import LabelCounts

QUALITY_COLUMNS = ['class', 'precision', 'recall', 'found', 'wrong', 'missed', 'out of range']
LABEL_COLUMNS = ['class', 'tracks', 'sure', 'unsure', 'dropped', 'labels', 'ignored boxes']


def label_command(
    dataset: Annotated[Path, typer.Argument(help='Dataset folder, as `bag convert` makes it.')],
    *,
    bundle: Annotated[
        list[str] | None,
        typer.Option(
            metavar='BUNDLE[=CLASS,...]',
            help='Bundle or run of a teacher, and the classes that it labels, by default all of '
            'its own; repeatable.',
        ),
    ] = None,
    detections: Annotated[
        list[str] | None,
        typer.Option(
            metavar='BAG[:TOPIC][=CLASS,...]',
            help='Boxes that any detector left in a bag: Detection3DArray, DetectedObjects of '
            'Autoware, or ~/boxes; repeatable.',
        ),
    ] = None,
    class_map: ClassMapOption = None,
    label_names: Annotated[
        list[str] | None,
        typer.Option(
            '--class',
            help='A class that the numbers of recorded boxes index, in order; by default what the '
            "bag says, or KITTI's three; repeatable.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help='Frames to label.')] = 'all',
    device: Annotated[str, typer.Option(help='cpu, cuda or auto.')] = 'auto',
    overrides: OverrideOption = None,
    json_file: JsonOption = None,
) -> None:
    """Label frames that people have not labelled, by tracking what teachers find.

    Example: `pointdistiller label data/own --bundle runs/teacher --set trust.accept=0.7`

    Example: `pointdistiller label data/own --detections drive_1:/objects --class-map autoware`

    Sure tracks become labels, unsure ones ignored boxes. Labels of people are kept, and the new
    ones are compared with them. Repeat with other settings to make the labels again.
    """
    values = apply_overrides({}, tuple(overrides or ()))
    config = parse_config(LabellingConfig, values, where='--set')
    renamed = parse_class_map(class_map or ())
    folder = FolderConfig(root=dataset, split=split, class_map=renamed)
    counts = label_folder(
        folder,
        config,
        bundles=bundle or (),
        detections=detections or (),
        label_names=label_names or (),
        device=device,
    )
    print_labels(counts, dataset, json_file)


def label_folder(
    folder: FolderConfig,
    config: LabellingConfig,
    *,
    bundles: Sequence[str],
    detections: Sequence[str],
    label_names: Sequence[str],
    device: str,
) -> LabelCounts:
    """Label the frames of a folder that people have not, with a progress bar.

    Args:
        folder: frames, and new names of classes.
        config: how to label.
        bundles: of teachers, `BUNDLE[=CLASS,...]`.
        detections: in bags, `BAG[:TOPIC][=CLASS,...]`.
        label_names: classes that numbers index, of recorded boxes without names.
        device: of the bundles.

    Raises:
        ConfigError: as `load_teachers`, or trust is given for a class that nobody labels.
        DatasetError, BundleError: as `load_teachers` and `label_dataset`.
    """
    from pointdistiller_core.datasets.folder import FolderDataset
    from pointdistiller_core.pipelines.label import label_dataset
    from pointdistiller_core.pipelines.teachers import labelled_classes, load_teachers

    teachers = load_teachers(
        FolderDataset(folder, (), labelled=False),
        config,
        bundles=bundles,
        detections=detections,
        class_map=folder.class_map,
        label_names=label_names,
        device=device,
        on_note=print_note,
    )
    names = labelled_classes(teachers)
    if unknown := [name for name in config.trust_by_class if name not in names]:
        raise ConfigError(f'trust_by_class: {unknown} are not labelled; choose from {list(names)}')
    frames = FolderDataset(folder, names, labelled=False)
    with progress_bar('label', 'frames', when_stopped=repeat_to_go_on(folder.root)) as update:
        return label_dataset(frames, teachers, config, update)


def label_rows(counts: LabelCounts) -> list[list[str]]:
    """A row of `LABEL_COLUMNS` for each class."""
    return [
        [
            name,
            *map(str, (tracks.total(), *(tracks[key] for key in (LABEL, IGNORE, DROP)))),
            *map(str, (counts.labels[name]['labels'], counts.labels[name]['ignored'])),
        ]
        for name, tracks in counts.tracks.items()
    ]


def print_labels(counts: LabelCounts, dataset: Path, json_file: str | None) -> None:
    """Print tracks and labels of each class, and how good they are where people have labelled."""
    from pointdistiller_core.pipelines.bag_conversion.truth import label_makers

    for note in counts.notes:
        print_note(note)
    makers = label_makers(dataset)
    print_table(
        f'{dataset}: {counts.frames["labelled"]} frames labelled, {counts.frames["kept"]} with '
        f'labels of {makers} kept',
        LABEL_COLUMNS,
        label_rows(counts),
        json_target=json_file,
    )
    if rows := quality_rows(counts):
        print_table(quality_title(counts, makers), QUALITY_COLUMNS, rows, json_target=json_file)
    write_json(
        json_file,
        {
            'frames': dict(counts.frames),
            'tracks': {name: dict(tracks) for name, tracks in counts.tracks.items()},
            'labels': {name: dict(labels) for name, labels in counts.labels.items()},
            'against_people': _measured(counts),
            'notes': counts.notes,
        },
    )


def quality_title(counts: LabelCounts, makers: str) -> str:
    """What `quality_rows` are, beside labels that these have made."""
    return (
        f'Against the labels of {makers} in {counts.frames["kept"]} frames (BEV IoU '
        f'{MEASURED_IOU:g}; ignored boxes do not count)'
    )


def quality_rows(counts: LabelCounts) -> list[list[str]]:
    """A row of `QUALITY_COLUMNS` for each class; none where people have labelled nothing."""
    return [
        [name, *(_percent(each[key]) for key in ('precision', 'recall'))]
        + [str(each[key]) for key in ('found', 'wrong', 'missed', 'unseen')]
        for name, each in _measured(counts).items()
    ]


def _measured(counts: LabelCounts) -> dict[str, dict[str, float | None]]:
    if not counts.frames['kept']:
        return {}
    return {name: _quality(counts, name) for name in counts.tracks}


def _quality(counts: LabelCounts, name: str) -> dict[str, float | None]:
    """Precision and recall of one class, None if there is nothing to divide by."""
    found, wrong, missed = (part[name] for part in (counts.found, counts.wrong, counts.missed))
    return {
        'precision': found / (found + wrong) if found + wrong else None,
        'recall': found / (found + missed) if found + missed else None,
        **{'found': found, 'wrong': wrong, 'missed': missed, 'unseen': counts.unseen[name]},
    }


def _percent(value: float | None) -> str:
    return '-' if value is None else f'{100 * value:.1f} %'
