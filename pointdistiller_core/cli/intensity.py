# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`--intensity-scale`, and messages about the intensity of a verb's clouds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pointdistiller_core.cli.output import print_note
from pointdistiller_core.config import has_splits
from pointdistiller_core.geometry.intensity import (
    AUTO,
    JUDGED_CLOUDS,
    IntensityJudge,
    parse_scale,
    scale_intensity,
)
from pointdistiller_core.records import spread_indices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pointdistiller_core.config import DatasetConfig
    from pointdistiller_core.datasets import Frames
    from pointdistiller_core.deploy.bundle_format import BundleInfo
    from pointdistiller_core.geometry.intensity import Range

DatasetT = TypeVar('DatasetT', bound='DatasetConfig')

IntensityScaleOption = Annotated[
    str | None,
    typer.Option(
        '--intensity-scale',
        metavar='auto|FACTOR',
        help='Factor on the intensity, e.g. 0.00392157 (1/255) for 0 to 255; auto judges the '
        'first 10 clouds.',
    ),
]
# what is expected of clouds if no bundle says it
USUAL: Mapping[str, Range] = {'usual is 0 to 1': (0.0, 1.0)}


def given_scale(option: str | None) -> float | None:
    """The factor that the option names, or None.

    Raises:
        ConfigError: neither `auto` nor a positive number.
    """
    return None if option is None else parse_scale(option)


def expectations(infos: Mapping[str, BundleInfo]) -> dict[str, Range]:
    """What bundles of these names expect, in the form for `settle_scale`."""
    return {
        f'{name or "the bundle"} was trained on {info.intensity_text}': info.intensity_range
        for name, info in infos.items()
    }


def settle_scale(
    option: str | None,
    clouds: Iterable[NDArray[np.float32]],
    expected: Mapping[str, Range],
    *,
    scale: float = 1.0,
    where: object = '',
    say: Callable[[str], None] = print_note,
) -> float:
    """The factor on the intensity, after a look at the first clouds; says what is wrong.

    Args:
        option: `--intensity-scale`.
        clouds: (N, 4) points each; the first `JUDGED_CLOUDS` are looked at.
        expected: description -> range; `auto` goes by the first.
        scale: factor that was applied to the clouds already.
        where: where the clouds come from; messages begin with it.
        say: told what is wrong, or what was decided.

    Returns:
        What `auto` decides, if that was asked for; otherwise `scale`.
    """
    looked_at, decided = list(islice(clouds, JUDGED_CLOUDS)), scale
    for text, limits in expected.items():
        auto = option == AUTO and text == next(iter(expected))
        judge = IntensityJudge(
            limits, expected=text, remedy='(--intensity-scale auto or {:.6g})'.format, auto=auto
        )
        for points in looked_at:
            judge.add(scale_intensity(points, decided / scale), scale=decided)
        if judge.finding:
            kind = 'warning: ' if judge.scale is None else ''
            say(f'{kind}{where}{": " if where else ""}{judge.finding}')
        elif auto:
            say(f'--intensity-scale auto: nothing to scale, {text}')
        decided = judge.scale or decided
    return decided


def settle_dataset(
    option: str | None,
    config: DatasetT,
    expected: Mapping[str, Range],
    *,
    say: Callable[[str], None] = print_note,
) -> DatasetT:
    """A dataset with the scale that `settle_scale` finds for its clouds.

    Raises:
        ConfigError: the option is neither `auto` nor a positive number.
        DatasetError: the dataset, or one of the clouds, cannot be read.
    """
    from pointdistiller_core.datasets import build_dataset

    if given := given_scale(option):
        config = config.model_copy(update={'intensity_scale': given})
    unkept = config.model_copy(update={'cache_frames': False})
    frames = build_dataset(unkept, (), labelled=False)
    scale = settle_scale(
        option,
        spread_clouds(frames),
        expected,
        scale=frames.intensity_scale,
        where=name_of(config),
        say=say,
    )
    if scale == frames.intensity_scale:  # which may be that of the clouds' own type
        return config
    return config.model_copy(update={'intensity_scale': scale})


def name_of(config: DatasetConfig) -> str:
    """Where frames are, in words."""
    return f'{config.root} ({config.split})' if has_splits(type(config)) else str(config.root)


def spread_clouds(frames: Frames) -> Iterator[NDArray[np.float32]]:
    """(N, 4) points of frames that are evenly spread, as many as are looked at."""
    return (frames[index].points for index in spread_indices(len(frames), JUDGED_CLOUDS))
