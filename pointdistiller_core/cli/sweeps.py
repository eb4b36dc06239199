# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `compare-sweeps`: statistics of the sweeps of two datasets, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
import typer

from pointdistiller_core.cli.output import JsonOption, print_table, progress_bar, write_json
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.formats.kitti import CLASS_NAMES

if TYPE_CHECKING:
    from pointdistiller_core.config import DatasetConfig
    from pointdistiller_core.datasets import FrameDataset
    from pointdistiller_core.records import Frame


def compare_sweeps_command(
    first: Annotated[Path, typer.Argument(help='A folder of frames, or a bag.')],
    second: Annotated[Path, typer.Argument(help='Another one.')],
    *,
    split: Annotated[
        list[str] | None,
        typer.Option(
            metavar='NAME',
            help='A split of both, as a file of ImageSets without .txt; given twice, of one each. '
            'By default train.',
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

    If a simulation differs from recordings, change the settings of its scenes and its sensor.
    Recordings need no labels; without labels there are no rows of classes.
    """
    from pointdistiller_core.datasets import DATASETS, build_dataset
    from pointdistiller_core.evaluation.sweeps import to_json

    classes = tuple(class_name or CLASS_NAMES)
    configs = [
        _find(root, name, camera_view=camera_view)
        for root, name in zip((first, second), _splits_of_both(split), strict=True)
    ]
    datasets = [
        build_dataset(config, classes, labelled=DATASETS[config.name].is_labelled(config))
        for config in configs
    ]
    counts = [min(len(frames), max_frames or len(frames)) for frames in datasets]
    measured = _measure(datasets, counts, classes)
    names = [
        f'{root}: {count} {getattr(config, "split", "")} frames'.replace('  ', ' ')
        for root, count, config in zip((first, second), counts, configs, strict=True)
    ]
    print_table(
        f'{"; ".join(names)} (means over frames or boxes; points in boxes: medians)',
        ['', str(first), str(second)],
        [[escape(name), *(_text(rows[name]) for rows in measured)] for name in measured[0]],
        json_target=json_file,
    )
    values = [
        {
            'dataset': str(root),
            'split': getattr(config, 'split', None),
            'frames': count,
            'rows': to_json(rows),
        }
        for root, config, count, rows in zip(
            (first, second), configs, counts, measured, strict=True
        )
    ]
    write_json(json_file, values)


def _find(root: Path, split: str | None, *, camera_view: bool) -> DatasetConfig:
    """The configuration of a dataset, whole sweeps unless the camera's view is asked for.

    Raises:
        ConfigError: datasets of this kind have no split, or no camera.
        DatasetError: there is no dataset.
    """
    from pointdistiller_core.datasets import find_dataset

    config = find_dataset(root, split=split)
    if camera_view or 'camera_view' in type(config).model_fields:
        config = find_dataset(root, split=split, camera_view=camera_view)
    return config


def _measure(
    datasets: Sequence[FrameDataset], counts: Sequence[int], classes: Sequence[str]
) -> list[dict[str, float]]:
    """Rows of the first frames of each dataset, with a progress bar."""
    from pointdistiller_core.evaluation.sweeps import measure_sweeps

    with progress_bar('measure', 'frames') as update:
        seen = _watched(update, sum(counts))
        return [
            measure_sweeps((seen(frames[index]) for index in range(count)), classes)
            for frames, count in zip(datasets, counts, strict=True)
        ]


def _splits_of_both(names: Sequence[str] | None) -> tuple[str | None, str | None]:
    """The split of each dataset; None is the usual one.

    Raises:
        ConfigError: three or more are named.
    """
    chosen = names or (None,)
    if len(chosen) > 2:
        raise ConfigError(
            f'--split {", ".join(map(str, chosen))}: name one for both, or one for each'
        )
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
