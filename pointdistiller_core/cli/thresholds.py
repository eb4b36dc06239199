# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `choose-thresholds`: score thresholds of a bundle by what they find and what not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistiller_core.cli.detection_run import Engine, Source, detect_all
from pointdistiller_core.cli.output import JsonOption, print_note, print_table, write_json
from pointdistiller_core.cli.scores import build_metric, parse_min_overlap
from pointdistiller_core.deploy.bundle_format import find_bundle, write_info
from pointdistiller_core.errors import DatasetError

if TYPE_CHECKING:
    from pointdistiller_core.config import DetectionConfig
    from pointdistiller_core.evaluation.lidar import OperatingPoint

LOWEST = 0.02  # score of the detections among which thresholds are chosen


def choose_thresholds_command(
    bundle: Annotated[Path, typer.Argument(help='A bundle, or the folder of a run.')],
    *,
    dataset: Annotated[
        Path, typer.Option(metavar='ROOT|BAG', help='A labelled dataset, or a bag.')
    ],
    split: Annotated[str, typer.Option(help='Of a dataset.')] = 'val',
    min_overlap: Annotated[
        list[str] | None,
        typer.Option(
            metavar='CLASS=IOU',
            help='Least overlaps from above of these classes, and no others; repeatable.',
        ),
    ] = None,
    beta: Annotated[
        float,
        typer.Option(
            metavar='BETA',
            min=0.1,
            max=10.0,
            help='How much recall weighs: 1 is F1; 0.5, for fewer false alarms, weighs precision '
            'more (F-beta).',
        ),
    ] = 1.0,
    backend: Annotated[str, typer.Option(help='As in evaluate.')] = 'auto',
    level: Annotated[bool, typer.Option('--level', help='As in evaluate.')] = False,
    write: Annotated[
        bool, typer.Option('--write', help="Put them into the bundle's bundle.json.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Choose the score threshold of each class with the best F score, from above.

    Use frames that the detector has not learned from, and that are not its test.

    Example: `pointdistiller choose-thresholds runs/student --dataset data/own --split val --write`
    """
    from pointdistiller_core.evaluation.lidar import LidarMetric

    engine, source = Engine('cpu', backend, 'fp32', level), Source(dataset, split)
    detector = engine.load(bundle)
    names, info = detector.class_names, detector.info
    frames = source.open(names, {'': info})
    metric = build_metric('lidar', bundle, names, parse_min_overlap('lidar', min_overlap or ()))
    assert isinstance(metric, LidarMetric)
    before = info.model.detection
    low = before.model_copy(update={'score_threshold': LOWEST, 'score_thresholds': ()})
    found = detect_all(detector, frames, title='detect', level=level, detection=low)
    points = metric.best_thresholds(frames, range(len(frames)), found, beta=beta)
    if not any(points.values()):
        raise DatasetError(
            f'{source.describe(len(frames))}: no label of {list(names)} is found at all, so there '
            'is nothing to choose; give frames with such labels, or a lower --min-overlap'
        )
    old = dict(zip(names, _thresholds_of(before, len(names)), strict=True))
    new = {
        name: math.floor(point.threshold * 100) / 100 if (point := points.get(name)) else old[name]
        for name in names
    }
    title = f'{bundle} on {source.describe(len(frames))}'
    _print(title, points, old, new, beta=beta, json_file=json_file)
    if write:
        folder = find_bundle(bundle)
        chosen = before.model_copy(update={'score_thresholds': tuple(new.values())})
        model = info.model.model_copy(update={'detection': chosen})
        write_info(folder, info.model_copy(update={'model': model}))
        print_note(f'wrote them into {folder}')
    write_json(
        json_file,
        {
            name: {'before': old[name], 'chosen': new[name], **(asdict(point) if point else {})}
            for name, point in ((name, points.get(name)) for name in names)
        },
    )


def _thresholds_of(detection: DetectionConfig, num_classes: int) -> tuple[float, ...]:
    return detection.score_thresholds or (detection.score_threshold,) * num_classes


def _print(
    title: str,
    points: Mapping[str, OperatingPoint | None],
    old: Mapping[str, float],
    new: Mapping[str, float],
    *,
    beta: float,
    json_file: str | None,
) -> None:
    rows = []
    for name, threshold in new.items():
        row = [name, f'{old[name]:.2f}', f'{threshold:.2f}', '-', '-', 'kept: nothing is found']
        if point := points.get(name):
            shares = (point.recall, point.precision, point.f_score(beta))
            row[3:] = [f'{100 * share:.1f}' for share in shares]
        rows.append(row)
    columns = ['class', 'before', 'chosen', 'recall [%]', 'precision [%]', f'F{beta:g} [%]']
    print_table(title, columns, rows, json_target=json_file)
