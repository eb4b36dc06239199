# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics on the command line: `--metric`, `--min-overlap`, and tables of scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pointdistiller_core.cli.output import print_lines, print_note, print_table
from pointdistiller_core.errors import ConfigError, PointDistillerError
from pointdistiller_core.formats.nuscenes.names import CLASS_NAMES

if TYPE_CHECKING:
    from pointdistiller_core.evaluation.kitti.metric import KittiResult
    from pointdistiller_core.evaluation.lidar import Overlaps
    from pointdistiller_core.evaluation.metric import Metric, Scores
    from pointdistiller_core.evaluation.nuscenes.scores import NuScenesScores

LeastT = TypeVar('LeastT')  # overlap of a hit, or several

METRIC_NAMES = {'bbox': '2D', 'bev': 'BEV', '3d': '3D', 'aos': 'AOS'}
SPLITS = {'by_distance': 'by distance from above', 'by_points': 'by points in the box'}


def parse_min_overlap(metric: str, texts: Sequence[str]) -> Mapping[str, Any]:
    """Least overlaps by class in the form of a metric; empty without texts.

    Raises:
        ConfigError: there is no such metric, or it has no least overlaps.
        PointDistillerError: a text is malformed, or names a class again.
    """
    # it imports several libraries; `--help` should not wait for them
    from pointdistiller_core.evaluation.metric import find_metric

    find_metric(metric)
    if texts and metric not in OVERLAPS:
        raise ConfigError(f'--min-overlap: the metric {metric} has no least overlaps')
    return OVERLAPS[metric](texts) if texts else {}


def build_metric(
    name: str, bundle: Path, class_names: Sequence[str], asked: Mapping[str, Any]
) -> Metric:
    """The metric of a name, for the classes of a bundle; says which classes it leaves out.

    Args:
        name: of the metric.
        bundle: for what is said.
        class_names: of the bundle.
        asked: class -> least overlaps, as the user gave them.

    Raises:
        ConfigError: there is no such metric.
        PointDistillerError: no class has a least overlap.
    """
    from pointdistiller_core.evaluation.metric import find_metric

    kind = find_metric(name)
    if name not in OVERLAPS:
        return kind()
    return kind(evaluated_classes(bundle, class_names, asked, kind().min_overlaps))


def parse_overlaps(texts: Sequence[str]) -> dict[str, float]:
    """Least overlaps from texts like `Car=0.5`.

    Raises:
        PointDistillerError: a text is not of this form, or names a class again.
    """
    form = 'CLASS=IOU with an overlap of 0 to below 1, e.g. Car=0.5'
    return {name: least for name, (least,) in read_overlaps(texts, form=form).items()}


def parse_overlap_pairs(texts: Sequence[str]) -> dict[str, Overlaps]:
    """Least overlaps, from above and in 3D, from texts like `Car=0.5` or `Car=0.7/0.5`.

    Raises:
        PointDistillerError: a text is not of this form, or names a class again.
    """
    form = (
        'CLASS=IOU, or CLASS=IOU/IOU from above and in 3D, with overlaps of 0 to below 1, e.g. '
        'Car=0.7/0.5'
    )
    overlaps = read_overlaps(texts, form=form, most=2)
    return {name: (least[0], least[-1]) for name, least in overlaps.items()}


OVERLAPS: Mapping[str, Callable[[Sequence[str]], Mapping[str, Any]]] = {
    'kitti': parse_overlaps,
    'lidar': parse_overlap_pairs,
}


def read_overlaps(texts: Sequence[str], *, form: str, most: int = 1) -> dict[str, list[float]]:
    """Least overlaps by class from texts like `Car=0.5` or `Car=0.7/0.5`.

    Args:
        texts: values of the options.
        form: the expected form, for messages.
        most: largest number of overlaps of a class.

    Raises:
        PointDistillerError: a text is not of this form, or names a class again.
    """
    overlaps: dict[str, list[float]] = {}
    for text in texts:
        name, _, value = text.partition('=')
        try:
            least = [float(part) for part in value.split('/')]
        except ValueError:
            least = []
        if not name or not 0 < len(least) <= most or not all(0 <= each < 1 for each in least):
            raise PointDistillerError(f'--min-overlap {text}: expected {form}')
        if name in overlaps:
            raise PointDistillerError(f'--min-overlap {text}: {name} is given twice; give it once')
        overlaps[name] = least
    return overlaps


def evaluated_classes(
    bundle: Path,
    names: Sequence[str],
    asked: Mapping[str, LeastT],
    usual: Mapping[str, LeastT],
) -> dict[str, LeastT]:
    """The least overlaps of a bundle's classes that have any; says which are left out.

    Args:
        bundle: for what is said.
        names: of its classes.
        asked: class -> least overlap, as the user gave them.
        usual: overlaps by default.

    Raises:
        PointDistillerError: no class has any.
    """
    least = asked or usual
    evaluated = {name: least[name] for name in names if name in least}
    if not evaluated:
        raise PointDistillerError(
            f'{bundle} knows {list(names)}, which have no least overlap; '
            f'give --min-overlap {names[0]}=0.5'
        )
    if unknown := [name for name in asked if name not in names]:
        print_note(
            f'not evaluated, unknown to {bundle}: {", ".join(unknown)}; it knows '
            f'{", ".join(names)}; --min-overlap'
        )
    if others := [name for name in names if name not in evaluated]:
        print_note(f'not evaluated, without a least overlap: {", ".join(others)}; --min-overlap')
    return evaluated


# --- tables ----------------------------------------------------------------------------------


def print_scores(scores: Scores, title: str, *, json_target: str | None) -> None:
    """Print everything about some scores.

    Args:
        scores: of any metric.
        title: what was evaluated on what.
        json_target: of `print_table`.
    """
    from pointdistiller_core.evaluation.kitti.scores import KittiScores
    from pointdistiller_core.evaluation.nuscenes.scores import NuScenesScores

    if isinstance(scores, KittiScores):
        _print_kitti(scores.result, title, json_target=json_target)
        return
    if isinstance(scores, NuScenesScores):
        _print_nuscenes(scores, title, json_target=json_target)
        return
    print_lines([title], json_target=json_target)
    _print_classes(scores, json_target=json_target)
    if 'num_found' in scores.details:
        _print_alarms(scores, json_target=json_target)
    for split, text in SPLITS.items():
        if split in scores.details:
            _print_bins(f'AP|R40 [%], {text}', scores.details[split], json_target=json_target)
    _print_what_counts(scores)


def _print_classes(scores: Scores, *, json_target: str | None) -> None:
    """Print a row for each class and the means, each in its column if there is one of its name."""
    least = scores.details.get('min_overlaps', {})
    columns = list(next(iter(scores.by_class.values()), {}))
    mean_of = {column: column.replace('AP', 'mAP') for column in columns}
    overlaps = ['IoU BEV/3D'] if 'BEV AP' in columns else []
    rows = [
        [
            name,
            *['/'.join(f'{value:g}' for value in least.get(name, {}).values()) for _ in overlaps],
            *map(_percent, values.values()),
            f'{scores.num_labels[name]}',
        ]
        for name, values in scores.by_class.items()
    ]
    means = [
        _percent(scores.means[mean]) if mean in scores.means else '' for mean in mean_of.values()
    ]
    rows.append(['mean', *['' for _ in overlaps], *means, ''])
    title = 'AP|R40 [%]' if overlaps else 'AP [%]'
    print_table(title, ['class', *overlaps, *columns, 'labels'], rows, json_target=json_target)
    others = {name: mean for name, mean in scores.means.items() if name not in mean_of.values()}
    if others:
        line = ', '.join(f'{name} {_percent(mean)} %' for name, mean in others.items())
        print_lines([line], json_target=json_target)


def _print_alarms(scores: Scores, *, json_target: str | None) -> None:
    """Print a row for each class: what a user of the detector would see, at its thresholds."""
    found, false = scores.details['num_found'], scores.details['num_false']
    kinds = list(next(iter(found.values()), {}))
    columns = [f'{what} {kind}' for kind in kinds for what in ('found', 'false')]
    rows = [
        [
            name,
            f'{number}',
            *(f'{of[name][kind]}' for kind in kinds for of in (found, false)),
        ]
        for name, number in scores.num_labels.items()
    ]
    frames = scores.details['num_frames']
    print_table(
        f'found and false, {frames} frames, scores as set',
        ['class', 'labels', *columns],
        rows,
        json_target=json_target,
    )


def _print_kitti(result: KittiResult, title: str, *, json_target: str | None) -> None:
    """Print a row for each metric and class: AP|R40 and AP|R11, or dashes without detections."""
    rows, measured = [], result.to_dict()
    for metric, classes in measured.items():
        for name in result.min_overlaps:
            values = classes.get(name, {'ap40': [], 'ap11': []})
            cells = [f'{value:.2f}' for value in [*values['ap40'], *values['ap11']]] or ['-'] * 6
            rows.append([f'{METRIC_NAMES[metric]} {name}', *cells])
    levels = ['easy', 'moderate', 'hard']
    columns = [f'{kind} {level}' for kind in ('R40', 'R11') for level in levels]
    print_table(f'AP [%], {title}', ['metric', *columns], rows, json_target=json_target)
    detected = {name for classes in measured.values() for name in classes}
    if blind := [name for name in result.min_overlaps if name not in detected]:
        print_note(f'no AP, as in the benchmark, without detections: {", ".join(blind)}')
    _print_ceilings(result)


def _print_ceilings(result: KittiResult) -> None:
    """Print what a perfect detector would have in each class, and what the metric leaves out."""
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
            print_note(f'{name}: labels that never count: {reasons}')
        if unjudged := result.num_unjudged[name]:
            print_note(
                f'{name}: {unjudged} detections have no place in the image (no 2D box): '
                'neither hits nor false alarms'
            )


def _print_nuscenes(scores: NuScenesScores, title: str, *, json_target: str | None) -> None:
    """Print a row for each class: AP [%] by distance, and the errors of hits within 2 m."""
    result = scores.result
    assert result is not None
    rows = [
        [
            name,
            *map(_percent, scores.by_class[name].values()),
            *(('-' if math.isnan(error) else f'{error:.3f}') for error in errors.tolist()),
            f'{scores.num_labels[name]}',
        ]
        for name, errors in zip(result.class_names, result.errors, strict=True)
    ]
    means = [f'{error:.3f}' for error in result.mean_errors.values()]
    columns = list(next(iter(scores.by_class.values())))
    blank = [''] * (len(columns) - 1)
    total = f'{sum(scores.num_labels.values())}'
    rows.append(['mean', *blank, _percent(scores.means['mAP']), *means, total])
    errors_of = ('ATE [m]', 'ASE', 'AOE [rad]', 'AVE [m/s]', 'AAE')
    print_table(
        f'AP [%] and errors, {title}',
        ['class', *columns, *errors_of, 'labels'],
        rows,
        json_target=json_target,
    )
    line = f'mAP {scores.means["mAP"]:.2f} %, NDS {scores.means["NDS"]:.2f} %'
    print_lines([line], json_target=json_target)
    for kind, what in (('truth', 'labels'), ('found', 'detections')):
        loaded, in_range, with_points, counting = (
            sum(own.values()) for own in result.counts[kind].values()
        )
        print_note(
            f'{counting} of {loaded} {what} count; {loaded - in_range} are out of range, '
            f'{in_range - with_points} without a point, {with_points - counting} in bicycle racks'
        )
    if set(result.class_names) != set(CLASS_NAMES):
        number = len(result.class_names)
        print_note(f"means of {number} classes, where published ones are of nuScenes' ten")


def _print_bins(
    title: str,
    classes: Mapping[str, Mapping[str, Mapping[str, float]]],
    *,
    json_target: str | None,
) -> None:
    bins = list(next(iter(classes.values())))
    rows = []
    for name, cells in classes.items():
        for column in ('BEV AP', '3D AP'):
            values = [_percent(cells[each][column]) for each in bins]
            rows.append([f'{column.removesuffix(" AP")} {name}', *values])
        rows.append([f'labels {name}', *(f'{cells[each]["num_labels"]}' for each in bins)])
    print_table(title, ['class', *bins], rows, json_target=json_target)


def _print_what_counts(scores: Scores) -> None:
    details = scores.details
    for name, number in scores.num_labels.items() if 'num_excused' in details else ():
        empty = details['num_without_point'][name]
        excused = [f'{count} ({kind})' for kind, count in details['num_excused'][name].items()]
        print_note(
            f'{name}: {number} of {number + empty} labels count, {empty} have no point; '
            f'{", ".join(excused)} detections on ignored labels are ignored'
        )
    if ignored := details.get('num_ignored'):
        print_note(
            f'{ignored} labels of other classes, or out of view, are ignored, and so are '
            'detections on them'
        )


def _percent(value: float) -> str:
    return '-' if math.isnan(value) else f'{value:.2f}'
