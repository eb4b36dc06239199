# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate --metric lidar`: a bundle, from points and boxes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math
from pathlib import Path
from typing import TYPE_CHECKING

from pointdistiller_core.cli.detection_run import (
    Engine,
    detect_all,
    evaluated_classes,
    open_both,
    read_overlaps,
)
from pointdistiller_core.cli.output import print_lines, print_note, print_table, write_json

if TYPE_CHECKING:
    from pointdistiller_core.config import KittiConfig
    from pointdistiller_core.evaluation.lidar import Overlaps, Scores

SPLITS = {'by_distance': 'by distance from above', 'by_points': 'by points in the box'}


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


def evaluate_lidar(
    bundle: Path,
    config: KittiConfig,
    min_overlaps: Mapping[str, Overlaps],
    engine: Engine,
    *,
    intensity_scale: str | None = None,
    json_file: str | None = None,
) -> None:
    """Run a bundle on a labelled dataset, evaluate it from boxes and points alone, and say so.

    Args:
        bundle: or the folder of a run.
        config: the dataset, in KITTI layout.
        min_overlaps: class -> least overlaps of a hit, of the classes that were asked for; empty
            is the usual ones.
        engine: what the network runs in.
        intensity_scale: `auto`, a factor or None.
        json_file: where to write all numbers.
    """
    from pointdistiller_core.evaluation.lidar import MIN_OVERLAPS, LidarMetric

    detector, dataset, title = open_both(bundle, config, engine, intensity_scale)
    evaluated = evaluated_classes(bundle, detector.class_names, min_overlaps, MIN_OVERLAPS)
    metric = LidarMetric(evaluated)
    found = detect_all(detector, dataset)
    scores = metric.evaluate(dataset, range(len(dataset)), found)
    print_scores(scores, title, json_target=json_file)
    write_json(json_file, scores.to_dict())


def print_scores(scores: Scores, title: str, *, json_target: str | None) -> None:
    """The table of the classes, those by distance and by points, and what does not count."""
    rows = [
        [
            name,
            '/'.join(f'{least:g}' for least in scores.details['min_overlaps'][name].values()),
            *map(_percent, columns.values()),
            f'{scores.num_labels[name]}',
        ]
        for name, columns in scores.by_class.items()
    ]
    rows.append(['mean', '', *map(_percent, scores.means.values()), ''])
    columns = ['class', 'IoU BEV/3D', 'BEV AP', '3D AP', 'labels']
    print_lines([title], json_target=json_target)
    print_table('AP|R40 [%]', columns, rows, json_target=json_target)
    for split, text in SPLITS.items():
        _print_bins(f'AP|R40 [%], {text}', scores.details[split], json_target=json_target)
    _print_what_counts(scores)


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
    for name, number in scores.num_labels.items():
        empty = details['num_without_point'][name]
        excused = [f'{count} ({kind})' for kind, count in details['num_excused'][name].items()]
        print_note(
            f'{name}: {number} of {number + empty} labels count, {empty} have no point; '
            f'{", ".join(excused)} detections are excused, for they lie on what does not count'
        )
    if ignored := details['num_ignored']:
        print_note(
            f'{ignored} labels of other classes, or out of view, count neither way, and neither '
            'do detections on them'
        )


def _percent(value: float) -> str:
    return '-' if math.isnan(value) else f'{value:.2f}'
