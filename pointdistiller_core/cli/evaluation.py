# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `evaluate`: metrics of a bundle, or the KITTI metric of any result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistiller_core.cli.detection_run import (
    Engine,
    detect_all,
    evaluated_classes,
    open_both,
    read_overlaps,
)
from pointdistiller_core.cli.lidar_evaluation import evaluate_lidar, parse_overlap_pairs
from pointdistiller_core.cli.output import (
    JsonOption,
    check_file,
    check_folder,
    print_note,
    print_table,
    write_json,
)
from pointdistiller_core.config import KittiConfig
from pointdistiller_core.errors import PointDistillerError

if TYPE_CHECKING:
    from pointdistiller_core.evaluation.kitti.metric import KittiResult
    from pointdistiller_core.formats.kitti import KittiObjects

OF_BUNDLE, OF_FILES = 'Of a bundle', 'Of result files'  # panels of the help
METRIC_NAMES = {'bbox': '2D', 'bev': 'BEV', '3d': '3D', 'aos': 'AOS'}


class MetricName(str, Enum):
    """What is measured."""

    kitti = 'kitti'
    lidar = 'lidar'


MetricOption = Annotated[
    MetricName,
    typer.Option(
        help="kitti: the benchmark's, with its difficulties. lidar: of a bundle, from points and "
        'boxes alone, by distance and by points in the box.'
    ),
]
BundleArgument = Annotated[
    Path | None, typer.Argument(help='A bundle, or the folder of a run.', show_default=False)
]
DatasetOption = Annotated[
    Path | None,
    typer.Option(metavar='ROOT', help='A dataset in KITTI layout.', rich_help_panel=OF_BUNDLE),
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
        help="Drop points outside the camera's image, as KITTI's labels do; the default.",
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
        help='torch (the default), openvino-int8, openvino, onnx, or auto: the best one here.',
        rich_help_panel=OF_BUNDLE,
    ),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(
        '--intensity-scale',
        metavar='auto|FACTOR',
        help='As of detect.',
        rich_help_panel=OF_BUNDLE,
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help='Of torch: fp32 (the default), bf16, or on a GPU fp16.', rich_help_panel=OF_BUNDLE
    ),
]
PredictionsOption = Annotated[
    Path | None,
    typer.Option(metavar='DIR', help="Any detector's files.", rich_help_panel=OF_FILES),
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(metavar='DIR', help='E.g. training/label_2.', rich_help_panel=OF_FILES),
]
MinOverlapOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar='CLASS=IOU',
        help='Evaluate these classes, at these least overlaps, instead of Car=0.7, '
        'Pedestrian=0.5, Cyclist=0.5; repeatable. Of --metric lidar also CLASS=IOU/IOU '
        '(from above, in 3D).',
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        metavar='NAME|FILE',
        help='Of a bundle: a file of ImageSets, without .txt, or several (train+val); val is the '
        'default. '
        'Of result files: a file that lists frames; all that have a result is the default.',
    ),
]
CurvesOption = Annotated[
    Path | None,
    typer.Option(
        metavar='FILE', help='Draw precision over recall: .png or .svg.', callback=check_file
    ),
]

# What each form of the verb needs, and what it may have besides.
OF_RUNNING = {'--camera-view', '--device', '--backend', '--precision', '--intensity-scale'}
FORMS = {
    'result files': ({'--predictions', '--labels'}, {'--curves'}),
    'a bundle': ({'BUNDLE', '--dataset'}, {'--results', '--curves', *OF_RUNNING}),
    'a bundle by the lidar metric': ({'BUNDLE', '--dataset'}, OF_RUNNING),
}


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        result: the curves.
        min_overlaps: class -> least overlap of a hit, of all classes that were looked for.
        title: what was evaluated on what.
    """

    result: KittiResult
    min_overlaps: Mapping[str, float]
    title: str


def evaluate_command(
    bundle: BundleArgument = None,
    *,
    metric: MetricOption = MetricName.kitti,
    dataset: DatasetOption = None,
    results: ResultsOption = None,
    camera_view: CameraViewOption = None,
    device: DeviceOption = None,
    backend: BackendOption = None,
    precision: PrecisionOption = None,
    intensity_scale: ScaleOption = None,
    predictions: PredictionsOption = None,
    labels: LabelsOption = None,
    min_overlap: MinOverlapOption = None,
    split: SplitOption = None,
    json_file: JsonOption = None,
    curves: CurvesOption = None,
) -> None:
    """Average precision: of a bundle, or as the KITTI benchmark defines it of result files.

    Example: `pointdistiller evaluate runs/student --dataset data/simulated --split val`

    Example: `pointdistiller evaluate runs/student --dataset data/simulated --metric lidar`

    Example: `pointdistiller evaluate --predictions results --labels kitti/training/label_2
    --split kitti/ImageSets/val.txt --json ap.json --curves curves.png`
    """
    check_options(
        {
            **{'BUNDLE': bundle, '--dataset': dataset, '--results': results},
            **{'--camera-view': camera_view, '--device': device, '--backend': backend},
            **{'--precision': precision, '--intensity-scale': intensity_scale},
            **{'--predictions': predictions, '--labels': labels, '--curves': curves},
        },
        metric,
    )
    if curves is not None and curves.suffix.lower() not in {'.png', '.svg'}:
        raise PointDistillerError(f'--curves {curves}: choose a name that ends in .png or .svg')
    engine = Engine(device or 'cpu', backend or 'torch', precision or 'fp32')
    if predictions and labels:
        frames, overlaps = Path(split) if split else None, parse_overlaps(min_overlap or ())
        evaluation = evaluate_files(predictions, labels, frames, overlaps)
        report(evaluation, json_file=json_file, curves=curves)
    elif bundle and dataset:
        config = KittiConfig(
            root=dataset, split=split or 'val', camera_view=camera_view is not False
        )
        if metric is MetricName.lidar:
            pairs = parse_overlap_pairs(min_overlap or ())
            evaluate_lidar(
                *(bundle, config, pairs, engine),
                intensity_scale=intensity_scale,
                json_file=json_file,
            )
        else:
            overlaps = parse_overlaps(min_overlap or ())
            evaluation = evaluate_bundle(
                *(bundle, config, overlaps, engine),
                results=results,
                intensity_scale=intensity_scale,
            )
            report(evaluation, json_file=json_file, curves=curves)


def check_options(options: Mapping[str, object], metric: MetricName = MetricName.kitti) -> None:
    """Find out whether the options that were given make one of the forms of the verb.

    Raises:
        PointDistillerError: they do not; says which to give and which to leave out.
    """
    given = [name for name, value in options.items() if value is not None and value != []]
    if not {*given} - {'--curves'}:
        raise PointDistillerError('give BUNDLE and --dataset, or --predictions and --labels')
    if metric is MetricName.lidar:
        kind = 'a bundle by the lidar metric'
    else:
        kind = 'result files' if {*given} & FORMS['result files'][0] else 'a bundle'
    needed, besides = FORMS[kind]
    advice = {
        'give': [name for name in options if name in needed and name not in given],
        'leave out': [name for name in given if name not in needed | besides],
    }
    if steps := [f'{verb} {", ".join(names)}' for verb, names in advice.items() if names]:
        raise PointDistillerError(f'to evaluate {kind}, {" and ".join(steps)}')


def parse_overlaps(texts: Sequence[str]) -> dict[str, float]:
    """Least overlaps from texts like `Car=0.5`.

    Raises:
        PointDistillerError: a text is not of this form, or names a class again.
    """
    form = 'CLASS=IOU with an overlap of 0 to below 1, e.g. Car=0.5'
    return {name: least for name, (least,) in read_overlaps(texts, form=form).items()}


def evaluate_files(
    predictions: Path, labels: Path, split: Path | None, min_overlaps: Mapping[str, float]
) -> Evaluation:
    """Evaluate a folder of KITTI result files; needs no torch.

    Args:
        predictions: folder of the result files.
        labels: folder of the label files.
        split: a file that lists frames; None is all that have a result.
        min_overlaps: class -> least overlap of a hit; empty is the benchmark's.
    """
    from pointdistiller_core.evaluation.kitti.metric import (
        MIN_OVERLAPS,
        evaluate_kitti,
        list_frames,
        read_results_folder,
    )

    truth, detections = read_results_folder(labels, predictions, split)
    frames = list_frames(predictions, split)
    truth, detections = complete_boxes(labels, frames, truth, detections)
    least = min_overlaps or MIN_OVERLAPS
    result = evaluate_kitti(truth, detections, tuple(least), min_overlaps=least)
    return Evaluation(result, least, f'{predictions} ({len(truth)} frames)')


def complete_boxes(
    labels: Path,
    frames: Sequence[str],
    truth: Sequence[KittiObjects],
    detections: Sequence[KittiObjects],
) -> tuple[list[KittiObjects], list[KittiObjects]]:
    """Project the 3D boxes of what has no 2D box, where KITTI's layout has the calibration.

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
    config: KittiConfig,
    min_overlaps: Mapping[str, float],
    engine: Engine,
    *,
    results: Path | None = None,
    intensity_scale: str | None = None,
) -> Evaluation:
    """Run a bundle on a labelled dataset and evaluate it by the KITTI metric.

    Args:
        bundle: or the folder of a run.
        config: the dataset, in KITTI layout.
        min_overlaps: class -> least overlap of a hit, of the classes that were asked for; empty
            is the benchmark's.
        engine: what the network runs in.
        results: where to write the detections as KITTI's result files.
        intensity_scale: `auto`, a factor or None.
    """
    from pointdistiller_core.evaluation.kitti.metric import MIN_OVERLAPS, evaluate_kitti
    from pointdistiller_core.formats.kitti import check_results_folder, write_results
    from pointdistiller_core.pipelines.evaluate import to_objects

    detector, dataset, title = open_both(bundle, config, engine, intensity_scale)
    names = detector.class_names
    if results is not None:
        check_results_folder(results, dataset.frame_ids)  # before the long part
    evaluated = evaluated_classes(bundle, names, min_overlaps, MIN_OVERLAPS)
    found = detect_all(detector, dataset)
    indices = range(len(dataset))
    detections = to_objects(found, dataset, indices, names)
    truth = [dataset.objects(index) for index in indices]
    result = evaluate_kitti(truth, detections, tuple(evaluated), min_overlaps=evaluated)
    if results is not None:
        write_results(results, dict(zip(dataset.frame_ids, detections, strict=True)))
        print_note(f'wrote {len(detections)} result files to {results}')
    return Evaluation(result, evaluated, title)


def report(evaluation: Evaluation, *, json_file: str | None, curves: Path | None) -> None:
    """Print the table; write the numbers and draw the curves where these are wanted."""
    print_average_precision(evaluation, json_file=json_file)
    write_json(json_file, rounded(evaluation.result.to_dict()))
    if curves is not None:
        from pointdistiller_core.evaluation.kitti.curves import draw_curves

        draw_curves(curves, evaluation.result, evaluation.min_overlaps, title=evaluation.title)
        print_note(f'wrote {curves}')


def print_average_precision(evaluation: Evaluation, *, json_file: str | None) -> None:
    """A row for each metric and class: AP|R40 and AP|R11, or dashes without detections."""
    rows, measured = [], evaluation.result.to_dict()
    for metric, classes in measured.items():
        for name in evaluation.min_overlaps:
            values = classes.get(name, {'ap40': [], 'ap11': []})
            cells = [f'{value:.2f}' for value in [*values['ap40'], *values['ap11']]] or ['-'] * 6
            rows.append([f'{METRIC_NAMES[metric]} {name}', *cells])
    levels = ['easy', 'moderate', 'hard']
    columns = [f'{kind} {level}' for kind in ('R40', 'R11') for level in levels]
    title = f'AP [%], {evaluation.title}'
    print_table(title, ['metric', *columns], rows, json_target=json_file)
    blind = [
        name for name in evaluation.min_overlaps if not any(name in of for of in measured.values())
    ]
    if blind:
        print_note(f'no detections, hence no AP, as the benchmark has it: {", ".join(blind)}')
    print_ceilings(evaluation.result)


def print_ceilings(result: KittiResult) -> None:
    """What a perfect detector has in each class, and what the metric leaves out."""
    from pointdistiller_core.evaluation.kitti.metric import highest_ap11, highest_ap40

    for name, levels in result.num_labels.items():
        excluded = result.num_excluded[name]
        total = levels['hard'] + sum(excluded.values())
        r40, r11 = (
            ', '.join(f'{highest(number):.1f}' for number in levels.values())
            for highest in (highest_ap40, highest_ap11)
        )
        print_note(
            f'{name}: {", ".join(map(str, levels.values()))} of {total} labels count; '
            f'a perfect detector has AP|R40 {r40}, AP|R11 {r11}'
        )
        if excluded:
            reasons = ', '.join(f'{count} {reason}' for reason, count in excluded.items())
            print_note(f'{name}: labels that count nowhere: {reasons}')
        if unjudged := result.num_unjudged[name]:
            print_note(
                f'{name}: {unjudged} detections have no place in the image (no 2D box): '
                'neither hits nor false alarms'
            )


def rounded(
    average_precision: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """The same numbers to four decimals, as published tables of the benchmark hold them."""
    return {
        metric: {
            name: {key: [round(value, 4) for value in values] for key, values in kinds.items()}
            for name, kinds in classes.items()
        }
        for metric, classes in average_precision.items()
    }
