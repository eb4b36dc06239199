# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Verbs that compare models further: `compare-at-recall` and `compare-features`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistiller_core.cli.detection_run import (
    GroundTruthOption,
    LabelNamesOption,
    Source,
    TopicOption,
    detect_all,
)
from pointdistiller_core.cli.intensity import IntensityScaleOption
from pointdistiller_core.cli.output import (
    JsonOption,
    check_folder,
    print_note,
    print_table,
    progress_bar,
    write_json,
)
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.records import IGNORE_LABEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pointdistiller_core.datasets import FrameDataset
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.distill.feature_similarity import Similarity
    from pointdistiller_core.evaluation.equal_recall import EqualRecall
    from pointdistiller_core.evaluation.metric import AlarmMetric
    from pointdistiller_core.records import Detections, Frame, Importance

PICTURES = 3
SHOWN_SCORE = 0.3  # in the pictures, for a class that some detector hardly finds

DatasetOption = Annotated[
    Path, typer.Option(metavar='ROOT|BAG', help='A labelled dataset, or a bag.')
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        metavar='NAME',
        help='Split of a dataset: a file of ImageSets, without .txt; val is the default.',
    ),
]
CameraViewOption = Annotated[
    bool | None,
    typer.Option(
        '--camera-view/--no-camera-view',
        help="In KITTI layout: drop points outside the camera's image (the default), or not.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help='cpu or cuda.')]


class Overlap(str, Enum):
    """Which overlap makes a hit."""

    bev = 'bev'
    box = '3d'


OverlapOption = Annotated[Overlap, typer.Option('--metric', help='Overlap from above, or in 3D.')]
DifficultyOption = Annotated[
    str | None,
    typer.Option(
        metavar='LEVEL',
        help='In KITTI layout, the labels that count: easy, moderate (the default) or hard.',
    ),
]
PictureOption = Annotated[
    Path | None,
    typer.Option(
        metavar='DIR', help='Folder for pictures of frames, side by side.', callback=check_folder
    ),
]
FrameOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar='ID', help='Draw this frame, not the three with most labels; repeatable.'
    ),
]


def compare_at_recall_command(
    bundles: Annotated[list[Path], typer.Argument(help='Bundles, or folders of runs.')],
    *,
    dataset: DatasetOption,
    split: SplitOption = None,
    overlap: OverlapOption = Overlap.box,
    difficulty: DifficultyOption = None,
    picture: PictureOption = None,
    frame: FrameOption = None,
    camera_view: CameraViewOption = None,
    topic: TopicOption = None,
    ground_truth: GroundTruthOption = None,
    label_names: LabelNamesOption = None,
    device: DeviceOption = 'cpu',
    intensity_scale: IntensityScaleOption = None,
    json_file: JsonOption = None,
) -> None:
    """False positives per frame of detectors at equal recall.

    For each class, at 10 %, 20 %, ... of its labels, as far as all detectors get.

    Example: `pointdistiller compare-at-recall runs/student runs/distilled --dataset data/simulated
    --split val --picture pictures`
    """
    detectors = load_detectors(bundles, device)
    source = Source(dataset, split, camera_view, topic, ground_truth, label_names, intensity_scale)
    infos = {name: each.info for name, each in detectors.items()}
    frames = source.open(common_classes(detectors), infos)
    if frame and picture is None:
        raise ConfigError(f'--frame {", ".join(frame)}: give --picture DIR, too')
    metric, level = find_alarm_metric(frames), check_level(frames, difficulty)
    drawn = choose_frames(frames, frame or []) if picture else []
    found = {
        name: detect_all(each, frames, title=name, name=name) for name, each in detectors.items()
    }
    rows = compare_found(found, frames, metric, overlap=overlap, level=level)
    title = ', '.join([overlap.value, *filter(None, [level]), source.describe(len(frames))])
    print_false_positives(rows, list(detectors), title, json_file=json_file)
    settings = {'metric': overlap.value, 'difficulty': level, 'num_frames': len(frames)}
    classes = {name: [asdict(row) for row in of_class] for name, of_class in rows.items()}
    write_json(json_file, {**settings, 'classes': classes})
    if picture is not None:
        first = next(iter(detectors.values()))
        draw_pictures(picture, frames, drawn, detector=first, found=found, rows=rows)


def draw_pictures(
    folder: Path,
    frames: FrameDataset,
    indices: Sequence[int],
    *,
    detector: Detector,
    found: Mapping[str, Sequence[Detections]],
    rows: Mapping[str, Sequence[EqualRecall]],
) -> None:
    """Draw pictures of some frames: importance to a detector, and what all detectors find."""
    for index in indices:
        frame = frames[index]
        importance = detector(frame.points, importance=True).importance
        draw_importance(folder, frame, importance, frames.class_names)
        of_frame = {name: items[index] for name, items in found.items()}
        draw_found_at_recall(folder, frame, of_frame, frames.class_names, rows)


def load_detectors(bundles: Sequence[Path], device: str) -> dict[str, Detector]:
    """Detectors by short name."""
    # torch takes seconds to import, and `--help` should not wait for it
    from pointdistiller_core.detector import Detector

    return {
        name: Detector.load(path, backend='torch', device=device)
        for name, path in zip(name_bundles(bundles), bundles, strict=True)
    }


def find_alarm_metric(frames: FrameDataset) -> AlarmMetric:
    """The usual metric of a dataset, which must be able to count false positives.

    Raises:
        ConfigError: it is not, or it has no least overlap for a class.
    """
    from pointdistiller_core.evaluation.metric import AlarmMetric, find_metric

    metric = find_metric(frames.metric)()
    if not isinstance(metric, AlarmMetric):
        raise ConfigError(f'by the metric {frames.metric} false positives cannot be compared')
    if unknown := [name for name in frames.class_names if name not in metric.min_overlaps]:
        known = [*metric.min_overlaps]
        raise ConfigError(f'classes {unknown} have no least overlap; known are {known}')
    return metric


def check_level(frames: FrameDataset, difficulty: str | None) -> str:
    """The level of difficulty whose labels count; empty if there are none.

    Raises:
        ConfigError: the dataset has no such level.
    """
    if difficulty is not None and difficulty not in frames.levels:
        levels = f'choose from {", ".join(frames.levels)}' if frames.levels else 'it has none'
        raise ConfigError(f'--difficulty {difficulty}: no such level in this dataset; {levels}')
    usual = 'moderate' if 'moderate' in frames.levels else ''
    return difficulty or usual


def compare_found(
    found: Mapping[str, Sequence[Detections]],
    frames: FrameDataset,
    metric: AlarmMetric,
    *,
    overlap: Overlap,
    level: str,
) -> dict[str, list[EqualRecall]]:
    """False positives of all detectors at the recalls that all of them reach.

    Says how many labels of each class count, which decides the recalls that can be reached.
    """
    from pointdistiller_core.evaluation.equal_recall import RECALLS, compare_at_equal_recall

    indices = range(len(frames))
    alarms = {
        name: metric.alarms(
            frames, indices, items, recalls=RECALLS, kind=overlap.value, level=level
        )
        for name, items in found.items()
    }
    first = next(iter(alarms.values()))
    counts = ', '.join(f'{of_class.num_truth} of {name}' for name, of_class in first.items())
    print_note(f'labels that count{f" ({level})" if level else ""}: {counts}')
    return compare_at_equal_recall(alarms, len(frames))


def name_bundles(bundles: Sequence[Path]) -> list[str]:
    """Short names of bundles, or their whole paths if those are not unique.

    Raises:
        ConfigError: the same bundle twice.
    """
    if len(set(bundles)) < len(bundles):
        given = ', '.join(map(str, bundles))
        raise ConfigError(f'to compare, give each bundle once; got {given}')
    names = [path.resolve().name for path in bundles]
    return names if len(set(names)) == len(names) else [str(path) for path in bundles]


def common_classes(detectors: Mapping[str, Detector]) -> tuple[str, ...]:
    """The classes of all detectors, which must be the same.

    Raises:
        ConfigError: they differ.
    """
    (first, classes), *others = ((name, item.class_names) for name, item in detectors.items())
    for name, names in others:
        if names != classes:
            raise ConfigError(
                f'detectors of different classes cannot be compared: {first} has {classes}, '
                f'{name} has {names}'
            )
    return classes


def choose_frames(frames: FrameDataset, wanted: Sequence[str]) -> list[int]:
    """Indices of the wanted frames, or of those with the most labels of the dataset's classes.

    Raises:
        DatasetError: no frame of this name.
    """
    ids = list(frames.frame_ids)
    if unknown := [name for name in wanted if name not in ids]:
        raise DatasetError(
            f'--frame {", ".join(unknown)}: not in the split; its {len(ids)} frames are '
            f'{ids[0]} to {ids[-1]}'
        )
    if wanted:
        return [ids.index(name) for name in wanted]
    num_labels = [
        int((frames.labels(index).labels != IGNORE_LABEL).sum()) for index in range(len(ids))
    ]
    return sorted(range(len(ids)), key=lambda index: -num_labels[index])[:PICTURES]


def print_false_positives(
    rows: Mapping[str, Sequence[EqualRecall]],
    names: Sequence[str],
    title: str,
    *,
    json_file: str | None,
) -> None:
    """Print a row for each class and recall, or a dash if not all detectors reach any."""
    from pointdistiller_core.evaluation.equal_recall import RECALLS

    cells = [
        [class_name, f'{row.recall:.0%}', *(f'{row.false_positives[name]:.2f}' for name in names)]
        for class_name, of_class in rows.items()
        for row in of_class
    ]
    cells += [[class_name, *['-'] * (1 + len(names))] for class_name, of in rows.items() if not of]
    columns = ['class', 'recall', *names]
    print_table(f'False positives per frame: {title}', columns, cells, json_target=json_file)
    if unreached := [class_name for class_name, of_class in rows.items() if not of_class]:
        print_note(
            f'{", ".join(unreached)}: nothing to compare; not every detector finds '
            f'{RECALLS[0]:.0%} of the labels'
        )


def draw_importance(
    folder: Path, frame: Frame, importance: Importance | None, class_names: Sequence[str]
) -> None:
    """A picture of a frame, its points colored by importance."""
    from pointdistiller_core.evaluation.pictures.scenes import draw_scene

    path = folder / f'{frame.frame_id}_importance.png'
    draw_scene(
        path,
        frame.points,
        importance=importance.point_scores if importance else None,
        truth=frame.ground_truth,
        title=f'Frame {frame.frame_id}: importance',
        class_names=class_names,
    )
    print_note(f'wrote {path}')


def draw_found_at_recall(
    folder: Path,
    frame: Frame,
    found: Mapping[str, Detections],
    class_names: Sequence[str],
    rows: Mapping[str, Sequence[EqualRecall]],
) -> None:
    """Draw what detectors find at equal recall of the whole split.

    Args:
        folder: for the picture.
        frame: with labels.
        found: by detector: the detections that `rows` were made from, because a box computed again
            may be just below the score that it set.
        class_names: names that labels index.
        rows: class, and `ALL_CLASSES`, -> recalls that all detectors reach, ascending.
    """
    from pointdistiller_core.evaluation.equal_recall import ALL_CLASSES
    from pointdistiller_core.evaluation.matching import default_overlaps
    from pointdistiller_core.evaluation.pictures.scenes import draw_found

    common = rows[ALL_CLASSES]
    recall = f'{common[-1].recall:.0%} of' if common else 'equally much of each class in'
    path = folder / f'{frame.frame_id}_comparison.png'
    draw_found(
        path,
        frame,
        {name: item[shown(item, name, class_names, rows)] for name, item in found.items()},
        default_overlaps(class_names),
        title=f'Frame {frame.frame_id}, cut where all find {recall} the whole split',
    )
    print_note(f'wrote {path}')


def shown(
    detections: Detections,
    name: str,
    class_names: Sequence[str],
    rows: Mapping[str, Sequence[EqualRecall]],
) -> NDArray[np.bool_]:
    """(N,) detections with at least their class's score at the last recall of all classes.

    If the classes have none in common, each is cut at its own last one, or at `SHOWN_SCORE` if it
    has none.
    """
    import numpy as np

    from pointdistiller_core.evaluation.equal_recall import ALL_CLASSES

    num_common = len(rows[ALL_CLASSES])
    thresholds = [
        of_class[(num_common or len(of_class)) - 1].score_thresholds[name]
        if of_class
        else SHOWN_SCORE
        for of_class in (rows[class_name] for class_name in class_names)
    ]
    keep: NDArray[np.bool_] = detections.scores >= np.array(thresholds)[detections.labels]
    return keep


def compare_features_command(
    teacher: Annotated[Path, typer.Argument(help='A bundle, or the folder of a run.')],
    student: Annotated[Path, typer.Argument(help='A bundle, or the folder of a run.')],
    *,
    dataset: DatasetOption,
    split: SplitOption = None,
    max_frames: Annotated[int, typer.Option(min=1, help='Evenly spread over the split.')] = 100,
    camera_view: CameraViewOption = None,
    topic: TopicOption = None,
    device: DeviceOption = 'cpu',
    intensity_scale: IntensityScaleOption = None,
    json_file: JsonOption = None,
) -> None:
    """How alike the features of a student are to its teacher's, layer by layer.

    A distillation loss may fall without any learning; these numbers cannot improve like that. An
    untrained student of the same shape is measured, too, for comparison.

    Example: `pointdistiller compare-features runs/teacher runs/student --dataset data/simulated
    --split val`
    """
    # torch takes seconds to import, and `--help` should not wait for it
    from pointdistiller_core.deploy.bundle import find_bundle, load_detector_model, read_info
    from pointdistiller_core.distill.distiller import check_same_input
    from pointdistiller_core.distill.feature_similarity import compare_features, untrained_twin
    from pointdistiller_core.pipelines.evaluate import spread_clouds

    both = {'teacher': teacher, 'student': student}
    networks = [load_detector_model(path, device=device) for path in both.values()]
    infos = {name: read_info(find_bundle(path)) for name, path in both.items()}
    check_same_input(*networks)
    source = Source(dataset, split, camera_view, topic, intensity_scale=intensity_scale)
    frames = source.open(networks[0].config.class_names, infos, labelled=False)
    num_frames = min(max_frames, len(frames))
    with progress_bar('compare features', 'frames') as update:
        similarities = compare_features(
            networks[0],
            {'student': networks[1], 'untrained': untrained_twin(networks[1])},
            spread_clouds(
                frames,
                num_frames,
                next(networks[0].parameters()).device,
                update,
                info=infos['student'],
            ),
        )
    title = f'{student} and {teacher} on {source.describe(num_frames)}'
    print_similarities(similarities, title, json_file=json_file)
    write_json(
        json_file,
        {
            tap: {name: asdict(similarity) for name, similarity in students.items()}
            for tap, students in similarities.items()
        },
    )


def print_similarities(
    similarities: Mapping[str, Mapping[str, Similarity]], title: str, *, json_file: str | None
) -> None:
    """Print a row for each tap."""
    columns = ['tap', 'CKA', 'probe R2', 'CKA, untrained', 'probe R2, untrained']
    rows = [
        [
            tap,
            *(f'{value:.3f}' for item in students.values() for value in (item.cka, item.probe_r2)),
        ]
        for tap, students in similarities.items()
    ]
    print_table(f'Features: {title}', columns, rows, json_target=json_file)
