# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `label`: labels of a dataset folder by trained detectors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistiller_core.cli.output import (
    JsonOption,
    OverrideOption,
    print_note,
    print_table,
    progress_bar,
    write_json,
)
from pointdistiller_core.config import (
    FolderConfig,
    LabellingConfig,
    apply_overrides,
    parse_config,
)
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.formats.folder import read_info
from pointdistiller_core.labelling.drives import DROP, IGNORE, LABEL
from pointdistiller_core.pipelines.label import MEASURED_IOU

if TYPE_CHECKING:
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.geometry.mounting import Mounting
    from pointdistiller_core.pipelines.label import LabelCounts, Teachers


def label_command(
    dataset: Annotated[Path, typer.Argument(help='Dataset folder, as `bag convert` makes it.')],
    *,
    bundle: Annotated[
        list[str],
        typer.Option(
            metavar='BUNDLE[=CLASS,...]',
            help='Bundle or run of a teacher, and the classes that it labels, by default all of '
            'its own; repeatable.',
        ),
    ],
    split: Annotated[str, typer.Option(help='Frames to label.')] = 'all',
    device: Annotated[str, typer.Option(help='cpu, cuda or auto.')] = 'auto',
    overrides: OverrideOption = None,
    json_file: JsonOption = None,
) -> None:
    """Label frames that people have not labelled, by tracking what teachers find.

    Example: `pointdistiller label data/own --bundle runs/teacher --set trust.accept=0.7`

    Sure tracks become labels, unsure ones ignored boxes. Labels of people are kept, and the new
    ones are compared with them. Repeat with other settings to make the labels again.
    """
    from pointdistiller_core.datasets.folder import FolderDataset
    from pointdistiller_core.pipelines.label import label_dataset

    values = apply_overrides({}, tuple(overrides or ()))
    config = parse_config(LabellingConfig, values, where='--set')
    height = read_info(dataset).sensor.height
    teachers = _load_teachers(bundle, device, config, height)
    names = tuple(dict.fromkeys(name for each in teachers.teachers for name in each.classes))
    if unknown := [name for name in config.trust_by_class if name not in names]:
        raise ConfigError(f'trust_by_class: {unknown} are not labelled; choose from {list(names)}')
    frames = FolderDataset(FolderConfig(root=dataset, split=split), names, labelled=False)
    with progress_bar('label', 'frames') as update:
        counts = label_dataset(frames, teachers, config, update)
    _report(counts, dataset, json_file)


def _load_teachers(
    bundles: list[str], device: str, config: LabellingConfig, height: float | None
) -> Teachers:
    """The detectors, with thresholds low enough for tracks to continue with unsure detections."""
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.labelling.views import Teacher
    from pointdistiller_core.pipelines.label import Teachers

    loaded: list[Teacher] = []
    facts = []
    for text in bundles:
        path, _, chosen = text.partition('=')
        detector = Detector.load(path, device=device)
        names = detector.class_names
        classes = tuple(chosen.split(',')) if chosen else names
        if unknown := [name for name in classes if name not in names]:
            raise ConfigError(
                f'--bundle {text}: {unknown} are not among its classes {list(names)}'
            )
        low = detector.info.model.detection.model_copy(
            update={'score_threshold': config.tracking.min_score, 'score_thresholds': ()}
        )
        detect = partial(detector, detection=low, mounting=_mounting(detector, height))
        looks_at = detector.info.model.point_cloud_range
        loaded.append(Teacher(detect, names, classes, looks_at))
        facts.append((detector.info.sha256, classes, config.tracking.min_score, height))
    return Teachers(loaded, repr(facts), ', '.join(bundles))


def _mounting(detector: Detector, height: float | None) -> Mounting | None:
    """From the dataset's sensor to that of the training; None if they are equally high."""
    from pointdistiller_core.geometry.mounting import Mounting

    trained = detector.info.sensor_height
    mounting = Mounting.at_height(trained, height)
    if mounting is not None:
        print_note(
            f'points are moved from a height of {height:g} m to the {trained:g} m of training'
        )
    return mounting


def _report(counts: LabelCounts, dataset: Path, json_file: str | None) -> None:
    for note in counts.notes:
        print_note(note)
    print_table(
        f'{dataset}: {counts.frames["labelled"]} frames labelled, {counts.frames["kept"]} with '
        'labels of people kept',
        ['class', 'tracks', 'sure', 'unsure', 'dropped', 'labels', 'ignored boxes'],
        [
            [
                name,
                *map(str, (tracks.total(), *(tracks[key] for key in (LABEL, IGNORE, DROP)))),
                *map(str, (counts.labels[name]['labels'], counts.labels[name]['ignored'])),
            ]
            for name, tracks in counts.tracks.items()
        ],
        json_target=json_file,
    )
    kept = counts.frames['kept']
    measured = {name: _quality(counts, name) for name in counts.tracks if kept}
    if measured:
        print_table(
            f'Against the labels of people in {kept} frames (BEV IoU '
            f'{MEASURED_IOU:g}; ignored boxes do not count)',
            ['class', 'precision', 'recall', 'found', 'wrong', 'missed', 'out of range'],
            [
                [name, *(_percent(each[key]) for key in ('precision', 'recall'))]
                + [str(each[key]) for key in ('found', 'wrong', 'missed', 'unseen')]
                for name, each in measured.items()
            ],
            json_target=json_file,
        )
    write_json(
        json_file,
        {
            'frames': dict(counts.frames),
            'tracks': {name: dict(tracks) for name, tracks in counts.tracks.items()},
            'labels': {name: dict(labels) for name, labels in counts.labels.items()},
            'against_people': measured,
            'notes': counts.notes,
        },
    )


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
