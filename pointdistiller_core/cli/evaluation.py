# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `evaluate`: metrics of a bundle, or of any result files of KITTI or nuScenes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointdistiller_core.cli.detection_run import (
    Engine,
    GroundTruthOption,
    LabelNamesOption,
    Source,
    TopicOption,
    detect_all,
)
from pointdistiller_core.cli.output import (
    ClassMapOption,
    JsonOption,
    check_file,
    check_folder,
    print_note,
    write_json,
)
from pointdistiller_core.cli.scores import (
    build_metric,
    parse_min_overlap,
    parse_overlaps,
    print_scores,
)
from pointdistiller_core.config import KittiConfig, parse_class_map
from pointdistiller_core.errors import PointDistillerError
from pointdistiller_core.records import Detections

if TYPE_CHECKING:
    from pointdistiller_core.datasets.class_tally import ClassTally
    from pointdistiller_core.evaluation.metric import Scores
    from pointdistiller_core.formats.kitti import KittiObjects

OF_BUNDLE, OF_FILES = 'Of a bundle', 'Of result files'  # panels of the help

MetricOption = Annotated[
    str | None,
    typer.Option(
        metavar='NAME',
        help="kitti, nuscenes: the benchmarks' own; the defaults for their layouts. "
        'lidar: of a bundle, only from points and boxes, by distance and by points in the box; '
        'the default for other datasets.',
    ),
]
BundleArgument = Annotated[
    Path | None, typer.Argument(help='A bundle, or the folder of a run.', show_default=False)
]
DatasetOption = Annotated[
    Path | None,
    typer.Option(
        metavar='ROOT|BAG', help='A labelled dataset, or a bag.', rich_help_panel=OF_BUNDLE
    ),
]
ResultsOption = Annotated[
    Path | None,
    typer.Option(
        metavar='DIR',
        help='Write the detections as result files into this folder.',
        callback=check_folder,
        rich_help_panel=OF_BUNDLE,
    ),
]
CameraViewOption = Annotated[
    bool | None,
    typer.Option(
        '--camera-view/--no-camera-view',
        help="Drop points outside the camera's image, where KITTI has no labels; the default.",
        rich_help_panel=OF_BUNDLE,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(help='cpu (the default) or cuda.', rich_help_panel=OF_BUNDLE),
]
BackendOption = Annotated[
    str | None,
    typer.Option(
        help='torch (the default), openvino-int8, openvino, onnx, or auto: the best one.',
        rich_help_panel=OF_BUNDLE,
    ),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(
        '--intensity-scale',
        metavar='auto|FACTOR',
        help='As in detect.',
        rich_help_panel=OF_BUNDLE,
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help='Precision of torch: fp32 (the default), bf16, or on a GPU fp16.',
        rich_help_panel=OF_BUNDLE,
    ),
]
LevelOption = Annotated[
    bool | None,
    typer.Option(
        '--level',
        help="Level each cloud by the ground found in it, as the node's mounting.auto does.",
        rich_help_panel=OF_BUNDLE,
    ),
]
PredictionsOption = Annotated[
    Path | None,
    typer.Option(
        metavar='DIR|FILE',
        help="Result files of any detector, or a submission file of nuScenes' detection task.",
        rich_help_panel=OF_FILES,
    ),
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(
        metavar='DIR',
        help='Label files, e.g. training/label_2; for a submission the root of nuScenes.',
        rich_help_panel=OF_FILES,
    ),
]
MinOverlapOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar='CLASS=IOU',
        help='Evaluate these classes, at these least overlaps, instead of Car=0.7, '
        'Pedestrian=0.5, Cyclist=0.5; repeatable. With --metric lidar also CLASS=IOU/IOU '
        '(from above, in 3D).',
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        metavar='NAME|FILE',
        help='For a bundle: a file of ImageSets, without .txt, or several (train+val); val is the '
        'default. '
        'For result files: a file that lists frames; the default is all with a result. '
        'For a submission: its split, e.g. val, mini_val, or one of splits.json.',
    ),
]
CurvesOption = Annotated[
    Path | None,
    typer.Option(
        metavar='FILE', help='Draw precision over recall: .png or .svg.', callback=check_file
    ),
]

# Options that each form of the verb needs, and those that it may have.
OF_RUNNING = {
    *('--camera-view', '--device', '--backend', '--precision', '--intensity-scale', '--results'),
    *('--topic', '--ground-truth', '--class', '--class-map', '--level'),
}
FORMS = {
    'result files': ({'--predictions', '--labels'}, {'--curves', '--class-map'}),
    'a submission of nuScenes': ({'--predictions', '--labels', '--split'}, set()),
    'a bundle': ({'BUNDLE', '--dataset'}, {'--curves', *OF_RUNNING}),
    'a bundle by another metric than kitti': ({'BUNDLE', '--dataset'}, OF_RUNNING),
}


def evaluate_command(
    bundle: BundleArgument = None,
    *,
    metric: MetricOption = None,
    dataset: DatasetOption = None,
    results: ResultsOption = None,
    camera_view: CameraViewOption = None,
    topic: TopicOption = None,
    ground_truth: GroundTruthOption = None,
    label_names: LabelNamesOption = None,
    device: DeviceOption = None,
    backend: BackendOption = None,
    precision: PrecisionOption = None,
    intensity_scale: ScaleOption = None,
    level: LevelOption = None,
    predictions: PredictionsOption = None,
    labels: LabelsOption = None,
    min_overlap: MinOverlapOption = None,
    class_map: ClassMapOption = None,
    split: SplitOption = None,
    json_file: JsonOption = None,
    curves: CurvesOption = None,
) -> None:
    """Average precision of a bundle, or of result files of KITTI or nuScenes.

    Example: `pointdistiller evaluate runs/student --dataset data/simulated --split val`

    Example: `pointdistiller evaluate runs/student --dataset labelled_bag`

    Example: `pointdistiller evaluate --predictions results --labels kitti/training/label_2
    --split kitti/ImageSets/val.txt --json ap.json --curves curves.png`

    Example: `pointdistiller evaluate --predictions results_nusc.json --labels nuscenes
    --split val --json scores.json`
    """
    options = {
        **{'BUNDLE': bundle, '--dataset': dataset, '--results': results},
        **{'--camera-view': camera_view, '--topic': topic, '--ground-truth': ground_truth},
        **{
            '--class': label_names,
            '--class-map': class_map,
            '--device': device,
            '--backend': backend,
        },
        **{'--precision': precision, '--intensity-scale': intensity_scale, '--level': level},
        **{'--predictions': predictions, '--labels': labels, '--curves': curves},
    }
    if is_submission(predictions, metric):
        check_options({**options, '--split': split, '--min-overlap': min_overlap}, 'nuscenes')
    else:
        check_options(options, metric)
    if curves is not None and curves.suffix.lower() not in {'.png', '.svg'}:
        raise PointDistillerError(f'--curves {curves}: choose a name that ends in .png or .svg')
    renamed = parse_class_map(class_map or ())
    if predictions and labels and split and is_submission(predictions, metric):
        scores, title = evaluate_submission(predictions, labels, split)
    elif predictions and labels:
        frames, overlaps = Path(split) if split else None, parse_overlaps(min_overlap or ())
        scores, title = evaluate_files(predictions, labels, frames, overlaps, renamed)
    elif bundle and dataset:
        source = Source(
            *(dataset, split, camera_view, topic, ground_truth, label_names, intensity_scale),
            class_map=renamed or None,
        )
        engine = Engine(device or 'cpu', backend or 'torch', precision or 'fp32', bool(level))
        metric = metric or source.metric
        check_options(options, metric)
        asked = parse_min_overlap(metric, min_overlap or ())
        if metric == 'nuscenes' and results is not None and not source.is_labelled:
            write_submission(bundle, source, engine, results)
            return
        scores, title = evaluate_bundle(
            *(bundle, source, metric, engine), min_overlaps=asked, results=results
        )
    report(scores, title, json_file=json_file, curves=curves)


def is_submission(predictions: Path | None, metric: str | None) -> bool:
    """Whether the results are a submission file of nuScenes, not a folder of files."""
    if predictions is None or metric not in {None, 'nuscenes'}:
        return False
    return metric == 'nuscenes' or predictions.is_file() or predictions.suffix == '.json'


def check_options(options: Mapping[str, object], metric: str | None) -> None:
    """Check that the given options make one of the forms of the verb.

    Args:
        options: by name, None if not given.
        metric: None if it is not known yet.

    Raises:
        PointDistillerError: they do not; names those to give and those to leave out.
    """
    given = [name for name, value in options.items() if value is not None and value != []]
    if not {*given} - {'--curves'}:
        raise PointDistillerError('give BUNDLE and --dataset, or --predictions and --labels')
    if metric == 'nuscenes' and '--predictions' in given:
        kind = 'a submission of nuScenes'
    elif metric not in {None, 'kitti'}:
        kind = 'a bundle by another metric than kitti'
    else:
        kind = 'result files' if {*given} & FORMS['result files'][0] else 'a bundle'
    needed, besides = FORMS[kind]
    advice = {
        'give': [name for name in options if name in needed and name not in given],
        'leave out': [name for name in given if name not in needed | besides],
    }
    if steps := [f'{verb} {", ".join(names)}' for verb, names in advice.items() if names]:
        raise PointDistillerError(f'to evaluate {kind}, {" and ".join(steps)}')


def evaluate_files(
    predictions: Path,
    labels: Path,
    split: Path | None,
    min_overlaps: Mapping[str, float],
    class_map: Mapping[str, str],
) -> tuple[Scores, str]:
    """Evaluate a folder of KITTI result files; needs no torch.

    Args:
        predictions: folder of the result files.
        labels: folder of the label files.
        split: a file that lists frames; None is all with a result.
        min_overlaps: class -> least overlap of a hit; empty is the benchmark's.
        class_map: new names of classes, of labels and results.

    Returns:
        The scores, and what was evaluated.
    """
    from pointdistiller_core.datasets.class_tally import ClassTally
    from pointdistiller_core.evaluation.kitti.metric import (
        MIN_OVERLAPS,
        evaluate_kitti,
        list_frames,
        read_results_folder,
    )
    from pointdistiller_core.evaluation.kitti.scores import score_result

    truth, detections = read_results_folder(labels, predictions, split)
    frames = list_frames(predictions, split)
    truth, detections = complete_boxes(labels, frames, truth, detections)
    tally, of_results = ClassTally(class_map), ClassTally(class_map)
    truth = [rename_objects(objects, tally) for objects in truth]
    detections = [rename_objects(objects, of_results) for objects in detections]
    least = min_overlaps or MIN_OVERLAPS
    tell_classes(tally, least)
    result = evaluate_kitti(truth, detections, tuple(least), min_overlaps=least)
    return score_result(result), f'{predictions} ({len(truth)} frames)'


def rename_objects(objects: KittiObjects, tally: ClassTally) -> KittiObjects:
    """Objects of a frame by the new names of their classes."""
    import numpy as np

    renamed = list(map(tally.renamed, objects.names.tolist()))
    return replace(objects, names=np.array(renamed, np.str_)) if tally.class_map else objects


def tell_classes(tally: ClassTally, class_names: Collection[str]) -> None:
    """Say which labels were renamed, and which are of no class that is evaluated."""
    from pointdistiller_core.datasets.class_tally import count_names
    from pointdistiller_core.formats.kitti import DONT_CARE

    for note in tally.notes():
        print_note(note)
    others = tally.others((*class_names, DONT_CARE))
    if others:
        print_note(
            f'labels of other classes, which are ignored: {count_names(others)}; '
            '--class-map NAME=CLASS counts them'
        )


def evaluate_submission(predictions: Path, root: Path, split: str) -> tuple[Scores, str]:
    """Evaluate a submission file of nuScenes; needs no torch.

    Args:
        predictions: the file.
        root: of nuScenes.
        split: its name.

    Returns:
        The scores, and what was evaluated.
    """
    from pointdistiller_core.evaluation.nuscenes import files
    from pointdistiller_core.evaluation.nuscenes.scores import score_result

    result, num_samples = files.evaluate_submission(predictions, root, split)
    return score_result(result), f'{predictions} on {root} ({split}, {num_samples} samples)'


def complete_boxes(
    labels: Path,
    frames: Sequence[str],
    truth: Sequence[KittiObjects],
    detections: Sequence[KittiObjects],
) -> tuple[list[KittiObjects], list[KittiObjects]]:
    """Project the 3D boxes of objects without a 2D box, if KITTI's layout has the calibration.

    Args:
        labels: folder of the label files.
        frames: the names of F frames.
        truth: F frames of labels.
        detections: F frames of detections.
    """
    from pointdistiller_core.datasets.kitti import KittiDataset

    lacking = sum(int(objects.lacks_box_2d.sum()) for objects in (*truth, *detections))
    if not lacking:
        return list(truth), list(detections)
    training = labels.resolve().parent
    if labels.resolve() != training.parent / 'training' / 'label_2':
        print_note(
            f'{lacking} objects have no 2D box, whose height decides what the metric counts, in '
            'BEV and 3D, too; write the 2D boxes, or give --labels as training/label_2 beside '
            'training/calib: then the 3D boxes are projected'
        )
        return list(truth), list(detections)
    dataset = KittiDataset(KittiConfig(root=training.parent), (), frame_ids=frames)
    completed = [
        [dataset.complete(index, objects) for index, objects in enumerate(each)]
        for each in (truth, detections)
    ]
    left = sum(int(objects.lacks_box_2d.sum()) for each in completed for objects in each)
    print_note(
        f'{lacking} objects have no 2D box: {lacking - left} 3D boxes are projected; {left} are '
        'outside of the image, or have no 3D box or no calibration'
    )
    return completed[0], completed[1]


def evaluate_bundle(
    bundle: Path,
    source: Source,
    metric_name: str,
    engine: Engine,
    *,
    min_overlaps: Mapping[str, Any],
    results: Path | None = None,
) -> tuple[Scores, str]:
    """Run a bundle on labelled frames and evaluate it.

    Args:
        bundle: or the folder of a run.
        source: the frames.
        metric_name: of the metric.
        engine: what the network runs in.
        min_overlaps: class -> least overlaps, as the user gave them.
        results: where to write the detections, in the form of the metric.

    Returns:
        The scores, and what was evaluated on what.
    """
    from pointdistiller_core.datasets.class_tally import tally_labels

    detector = engine.load(bundle)
    dataset = source.open(detector.class_names, {'': detector.info})
    indices = range(len(dataset))
    metric = build_metric(metric_name, bundle, detector.class_names, min_overlaps)
    if results is not None:
        metric.check_results(results, dataset, indices)
    # Missing annotations are reported for the first frame, before the long part.
    metric.evaluate(dataset, indices[:1], [Detections.empty()])
    tell_classes(tally_labels(dataset), detector.class_names)
    found = detect_all(detector, dataset, level=engine.level)
    scores = metric.evaluate(dataset, indices, found)
    if results is not None:
        metric.write_results(results, dataset, indices, found)
        print_note(f'wrote the results of {len(found)} frames to {results}')
    return scores, f'{bundle} on {source.describe(len(dataset))}'


def write_submission(bundle: Path, source: Source, engine: Engine, results: Path) -> None:
    """Run a bundle on frames of nuScenes without labels, as of `test`, and write what it finds.

    Args:
        bundle: or the folder of a run.
        source: the frames.
        engine: what the network runs in.
        results: folder of the submission.
    """
    detector = engine.load(bundle)
    dataset = source.open(detector.class_names, {'': detector.info}, labelled=False)
    metric = build_metric('nuscenes', bundle, detector.class_names, {})
    metric.check_results(results, dataset, range(len(dataset)))
    found = detect_all(detector, dataset, level=engine.level)
    metric.write_results(results, dataset, range(len(dataset)), found)
    print_note(f'wrote the results of {len(found)} frames to {results}; without labels, no scores')


def report(scores: Scores, title: str, *, json_file: str | None, curves: Path | None) -> None:
    """Print the tables; write the numbers and draw the curves if wanted."""
    print_scores(scores, title, json_target=json_file)
    write_json(json_file, scores.to_dict())
    if curves is not None:
        from pointdistiller_core.evaluation.kitti.curves import draw_curves
        from pointdistiller_core.evaluation.kitti.scores import KittiScores

        assert isinstance(scores, KittiScores)  # `check_options` allows no others
        draw_curves(curves, scores.result, title=title)
        print_note(f'wrote {curves}')
