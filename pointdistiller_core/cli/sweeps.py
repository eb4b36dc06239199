# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `compare-sweeps`: what the sweeps of two datasets look like, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
import typer

from pointdistiller_core.cli.output import JsonOption, print_table, progress_bar, write_json
from pointdistiller_core.config import KittiConfig
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.formats.kitti import CLASS_NAMES

if TYPE_CHECKING:
    from pointdistiller_core.records import Frame

DEFAULT_SPLIT = 'train'


def compare_sweeps_command(
    first: Annotated[Path, typer.Argument(help='A dataset in KITTI layout.')],
    second: Annotated[Path, typer.Argument(help='Another dataset.')],
    *,
    split: Annotated[
        list[str] | None,
        typer.Option(
            metavar='NAME',
            help='A file of ImageSets, without .txt, of both; given twice, of one each. '
            f'By default {DEFAULT_SPLIT}.',
        ),
    ] = None,
    class_name: Annotated[
        list[str] | None,
        typer.Option('--class', help="A class to measure, by default KITTI's three; repeatable."),
    ] = None,
    max_frames: Annotated[
        int | None, typer.Option(min=1, help='Take at most this many of each, from the first.')
    ] = None,
    camera_view: Annotated[
        bool, typer.Option('--camera-view', help="Drop points outside the camera's image.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Compare two datasets: points, road, clutter, objects, intensities.

    Example: `pointdistiller compare-sweeps data/simulated data/kitti --json sweeps.json`

    Where a simulation differs from recordings, its scenes and its sensor can be set to match.
    """
    from pointdistiller_core.datasets import build_dataset
    from pointdistiller_core.evaluation.sweeps import measure_sweeps, to_json

    roots, splits = (first, second), _splits_of_both(split)
    classes = tuple(class_name or CLASS_NAMES)
    datasets = [
        build_dataset(KittiConfig(root=root, split=name, camera_view=camera_view), classes)
        for root, name in zip(roots, splits, strict=True)
    ]
    counts = [min(len(frames), max_frames or len(frames)) for frames in datasets]
    with progress_bar('measure', 'frames') as update:
        seen = _watched(update, sum(counts))
        measured = [
            measure_sweeps((seen(frames[index]) for index in range(count)), classes)
            for frames, count in zip(datasets, counts, strict=True)
        ]
    print_table(
        f'{first}: {counts[0]} {splits[0]} frames; {second}: {counts[1]} {splits[1]} frames '
        '(means over frames or boxes; points in boxes: medians)',
        ['', str(first), str(second)],
        [[escape(name), *(_text(rows[name]) for rows in measured)] for name in measured[0]],
        json_target=json_file,
    )
    sides = zip(roots, splits, counts, measured, strict=True)
    write_json(
        json_file,
        [
            {'dataset': str(root), 'split': name, 'frames': count, 'rows': to_json(rows)}
            for root, name, count, rows in sides
        ],
    )


def _splits_of_both(names: Sequence[str] | None) -> tuple[str, str]:
    """The split of each dataset.

    Raises:
        ConfigError: three or more are named.
    """
    chosen = tuple(names or (DEFAULT_SPLIT,))
    if len(chosen) > 2:
        raise ConfigError(f'--split {", ".join(chosen)}: name one for both, or one for each')
    return chosen[0], chosen[-1]


def _watched(update: Callable[..., None], total: int) -> Callable[[Frame], Frame]:
    """Passes frames on and counts them on a progress bar."""
    done = itertools.count(1)

    def pass_on(frame: Frame) -> Frame:
        update(next(done), total)
        return frame

    return pass_on


def _text(value: float) -> str:
    """A number with about four digits; `-` for none."""
    if math.isnan(value):
        return '-'
    return f'{value:.0f}' if abs(value) >= 1000 else f'{value:.4g}'
