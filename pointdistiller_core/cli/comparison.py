# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Verbs that hold models against one another: `compare` and `compare-features`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistiller_core.cli.intensity import (
    IntensityScaleOption,
    expectations,
    settle_dataset,
)
from pointdistiller_core.cli.output import (
    JsonOption,
    check_folder,
    print_cuts,
    print_note,
    print_table,
    progress_bar,
    write_json,
)
from pointdistiller_core.config import KittiConfig
from pointdistiller_core.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pointdistiller_core.datasets import KittiDataset
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.distill.feature_similarity import Similarity
    from pointdistiller_core.evaluation.kitti.equal_recall import EqualRecall
    from pointdistiller_core.records import Detections, Frame, Importance

PICTURES = 3
SHOWN_SCORE = 0.3  # in the pictures, of a class that some detector hardly finds

DatasetOption = Annotated[Path, typer.Option(metavar='ROOT', help='A dataset in KITTI layout.')]
SplitOption = Annotated[
    str, typer.Option(metavar='NAME', help='A file of ImageSets, without .txt.')
]
CameraViewOption = Annotated[
    bool,
    typer.Option(
        '--camera-view/--no-camera-view', help="Drop points outside the camera's image, or not."
    ),
]
DeviceOption = Annotated[str, typer.Option(help='cpu or cuda.')]


class Metric(str, Enum):
    """Which overlap makes a hit."""

    bev = 'bev'
    box = '3d'


class Difficulty(str, Enum):
    """KITTI's, of the labels that count."""

    easy = 'easy'
    moderate = 'moderate'
    hard = 'hard'


MetricOption = Annotated[Metric, typer.Option(help='Overlap from above, or of volumes.')]
DifficultyOption = Annotated[Difficulty, typer.Option(help='Of the labels that count.')]
PictureOption = Annotated[
    Path | None,
    typer.Option(
        metavar='DIR', help='Folder for pictures of frames, side by side.', callback=check_folder
    ),
]
FrameOption = Annotated[
    list[str] | None,
    typer.Option(metavar='ID', help='Draw this frame, not the three of most labels; repeatable.'),
]


def compare_command(
    bundles: Annotated[list[Path], typer.Argument(help='Bundles, or folders of runs.')],
    *,
    dataset: DatasetOption,
    split: SplitOption = 'val',
    metric: MetricOption = Metric.box,
    difficulty: DifficultyOption = Difficulty.moderate,
    picture: PictureOption = None,
    frame: FrameOption = None,
    camera_view: CameraViewOption = True,
    device: DeviceOption = 'cpu',
    intensity_scale: IntensityScaleOption = None,
    json_file: JsonOption = None,
) -> None:
    """False positives per frame of detectors where they find equally much.

    For each class, at every tenth of the labels that all of them find.

    Example: `pointdistiller compare runs/student runs/distilled --dataset data/simulated
    --split val --picture pictures`
    """
    from pointdistiller_core.datasets import KittiDataset

    detectors = load_detectors(bundles, device)
    config = KittiConfig(root=dataset, split=split, camera_view=camera_view)
    expected = expectations({name: each.info for name, each in detectors.items()})
    config = settle_dataset(intensity_scale, config, expected)
    frames = KittiDataset(config, common_classes(detectors))
    if frame and picture is None:
        raise ConfigError(f'--frame {", ".join(frame)}: give --picture DIR, too')
    drawn = choose_frames(frames, frame or []) if picture else []
    found = detect_all(detectors, frames)
    rows = compare_found(found, frames, metric=metric, difficulty=difficulty)
    title = f'{metric.value}, {difficulty.value}, {dataset} ({split}, {len(frames)} frames)'
    print_false_positives(rows, list(detectors), title, json_file=json_file)
    settings = {'metric': metric.value, 'difficulty': difficulty.value, 'num_frames': len(frames)}
    classes = {name: [asdict(row) for row in of_class] for name, of_class in rows.items()}
    write_json(json_file, {**settings, 'classes': classes})
    if picture is not None:
        first = next(iter(detectors.values()))
        for index in drawn:
            importance = first(frames[index].points, importance=True).importance
            draw_importance(picture, frames[index], importance, frames.class_names)
            of_frame = {name: items[index] for name, items in found.items()}
            draw_found_at_recall(picture, frames[index], of_frame, frames.class_names, rows)


def load_detectors(bundles: Sequence[Path], device: str) -> dict[str, Detector]:
    """Detectors by short name."""
    # torch takes seconds to import, and `--help` should not wait for it
    from pointdistiller_core.detector import Detector

    return {
        name: Detector.load(path, backend='torch', device=device)
        for name, path in zip(name_bundles(bundles), bundles, strict=True)
    }


def detect_all(
    detectors: Mapping[str, Detector], frames: KittiDataset
) -> dict[str, list[Detections]]:
    """Detections of every frame, by detector; says what the caps of its pillars left out."""
    from pointdistiller_core.pipelines.evaluate import detect_clouds

    found = {}
    for name, detector in detectors.items():
        with progress_bar(name, 'frames') as update:
            found[name] = detect_clouds(detector, frames, range(len(frames)), update)
        print_cuts(found[name], name=name)
    return found


def compare_found(
    found: Mapping[str, Sequence[Detections]],
    frames: KittiDataset,
    *,
    metric: Metric,
    difficulty: Difficulty,
) -> dict[str, list[EqualRecall]]:
    """False positives of all detectors at the recalls that all of them reach.

    Says of each class how many labels count, which decides what can be reached.
    """
    from pointdistiller_core.evaluation.kitti.equal_recall import compare_at_equal_recall
    from pointdistiller_core.evaluation.kitti.metric import count_labels
    from pointdistiller_core.pipelines.evaluate import to_objects

    indices = range(len(frames))
    truth = [frames.objects(index) for index in indices]
    numbers = {
        name: levels[difficulty.value]
        for name, levels in count_labels(truth, frames.class_names).items()
    }
    counts = ', '.join(f'{number} of {name}' for name, number in numbers.items())
    print_note(f'labels that count ({difficulty.value}): {counts}')
    return compare_at_equal_recall(
        truth,
        {
            name: to_objects(items, frames, indices, frames.class_names)
            for name, items in found.items()
        },
        frames.class_names,
        metric=metric.value,
        difficulty=difficulty.value,
    )


def name_bundles(bundles: Sequence[Path]) -> list[str]:
    """Short names of bundles, the whole paths where those are not unique.

    Raises:
        ConfigError: the same bundle twice.
    """
    if len(set(bundles)) < len(bundles):
        given = ', '.join(map(str, bundles))
        raise ConfigError(f'to compare, give each bundle once; got {given}')
    names = [path.resolve().name for path in bundles]
    return names if len(set(names)) == len(names) else [str(path) for path in bundles]


def common_classes(detectors: Mapping[str, Detector]) -> tuple[str, ...]:
    """The classes of all detectors, which must be the same and of KITTI's metric.

    Raises:
        ConfigError: they differ, or the metric has no least overlap for one.
    """
    from pointdistiller_core.evaluation.kitti.metric import MIN_OVERLAPS

    (first, classes), *others = ((name, item.class_names) for name, item in detectors.items())
    for name, names in others:
        if names != classes:
            raise ConfigError(
                f'detectors of other classes cannot be compared: {first} has {classes}, '
                f'{name} has {names}'
            )
    if unknown := [name for name in classes if name not in MIN_OVERLAPS]:
        raise ConfigError(f'classes {unknown} have no least overlap; known are {[*MIN_OVERLAPS]}')
    return classes


def choose_frames(frames: KittiDataset, wanted: Sequence[str]) -> list[int]:
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
        sum(name in frames.class_names for name in frames.objects(index).names)
        for index in range(len(ids))
    ]
    return sorted(range(len(ids)), key=lambda index: -num_labels[index])[:PICTURES]


def print_false_positives(
    rows: Mapping[str, Sequence[EqualRecall]],
    names: Sequence[str],
    title: str,
    *,
    json_file: str | None,
) -> None:
    """A row for each class and recall, or a dash where not all detectors reach any."""
    cells = [
        [class_name, f'{row.recall:.0%}', *(f'{row.false_positives[name]:.2f}' for name in names)]
        for class_name, of_class in rows.items()
        for row in of_class
    ]
    cells += [[class_name, *['-'] * (1 + len(names))] for class_name, of in rows.items() if not of]
    columns = ['class', 'recall', *names]
    print_table(f'False positives per frame: {title}', columns, cells, json_target=json_file)


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
    """A picture of what detectors find where they find equally much of the whole split.

    Args:
        folder: for the picture.
        frame: with labels.
        found: by detector: the detections that `rows` were made of, since a box computed anew
            may end just below the score that it set.
        class_names: names that labels index.
        rows: class, and `ALL_CLASSES`, -> recalls that all detectors reach, ascending.
    """
    from pointdistiller_core.evaluation.kitti.equal_recall import ALL_CLASSES
    from pointdistiller_core.evaluation.kitti.metric import MIN_OVERLAPS
    from pointdistiller_core.evaluation.pictures.scenes import draw_found

    common = rows[ALL_CLASSES]
    recall = f'{common[-1].recall:.0%} of' if common else 'equally much of each class in'
    path = folder / f'{frame.frame_id}_comparison.png'
    draw_found(
        path,
        frame,
        {name: item[shown(item, name, class_names, rows)] for name, item in found.items()},
        [MIN_OVERLAPS[class_name] for class_name in class_names],
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

    Where the classes have none in common, each is cut at its own last, and at `SHOWN_SCORE` where
    it has none either.
    """
    import numpy as np

    from pointdistiller_core.evaluation.kitti.equal_recall import ALL_CLASSES

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
    split: SplitOption = 'val',
    max_frames: Annotated[int, typer.Option(min=1, help='Evenly spread over the split.')] = 100,
    camera_view: CameraViewOption = True,
    device: DeviceOption = 'cpu',
    intensity_scale: IntensityScaleOption = None,
    json_file: JsonOption = None,
) -> None:
    """How alike the features of a student are to its teacher's, layer by layer.

    A distillation loss may fall without any learning; these numbers may not. A random, untrained
    student of the same shape is measured along, as what they are worth without training.

    Example: `pointdistiller compare-features runs/teacher runs/student --dataset data/simulated
    --split val`
    """
    # torch takes seconds to import, and `--help` should not wait for it
    from pointdistiller_core.datasets import build_dataset
    from pointdistiller_core.deploy.bundle import find_bundle, load_detector_model, read_info
    from pointdistiller_core.distill.distiller import check_same_input
    from pointdistiller_core.distill.feature_similarity import compare_features, untrained_twin
    from pointdistiller_core.pipelines.evaluate import spread_clouds

    both = {'teacher': teacher, 'student': student}
    networks = [load_detector_model(path, device=device) for path in both.values()]
    infos = {name: read_info(find_bundle(path)) for name, path in both.items()}
    check_same_input(*networks)
    config = KittiConfig(root=dataset, split=split, camera_view=camera_view)
    config = settle_dataset(intensity_scale, config, expectations(infos))
    frames = build_dataset(config, networks[0].config.class_names)
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
                intensity_range=infos['student'].intensity_range,
            ),
        )
    title = f'{student} and {teacher} on {dataset} ({split}, {num_frames} frames)'
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
    """A row for each tap."""
    columns = ['tap', 'CKA', 'probe R2', 'CKA, untrained', 'probe R2, untrained']
    rows = [
        [
            tap,
            *(f'{value:.3f}' for item in students.values() for value in (item.cka, item.probe_r2)),
        ]
        for tap, students in similarities.items()
    ]
    print_table(f'Features: {title}', columns, rows, json_target=json_file)
