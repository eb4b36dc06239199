# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Verbs that make data: `simulate` and `make-bag`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pointdistiller_core.cli.output import OverrideOption, print_note, progress_bar
from pointdistiller_core.config import (
    SimulationConfig,
    apply_overrides,
    load_config,
    parse_config,
)


def simulate_command(
    output: Annotated[Path, typer.Argument(help='Folder to write, in KITTI layout.')],
    *,
    train: Annotated[int, typer.Option(min=0, help='Frames of the training split.')] = 200,
    val: Annotated[int, typer.Option(min=0, help='Frames of the validation split.')] = 50,
    drive: Annotated[int, typer.Option(min=0, help='Frames of a drive, written as a bag.')] = 0,
    seed: Annotated[int, typer.Option(min=0, help='The same seed gives the same bytes.')] = 0,
    workers: Annotated[int, typer.Option(min=1, help='Processes.')] = 2,
    config: Annotated[Path | None, typer.Option(help='Simulation YAML.')] = None,
    overrides: OverrideOption = None,
) -> None:
    """Simulate labelled LiDAR scenes, and a drive as an MCAP bag.

    Example: `pointdistiller simulate data/simulated --train 200 --val 50 --drive 100 --seed 1`
    """
    changes = tuple(overrides or ())
    simulation = (
        load_config(SimulationConfig, config, changes)
        if config
        else parse_config(SimulationConfig, apply_overrides({}, changes), where='--set')
    )
    splits = {name: count for name, count in (('train', train), ('val', val)) if count}
    if splits:
        simulate_frames(output, simulation, splits, seed=seed, workers=workers)
    if drive:
        simulate_drive_bag(output / 'drive', simulation, drive, seed=seed)


def simulate_frames(
    root: Path, simulation: SimulationConfig, splits: dict[str, int], *, seed: int, workers: int
) -> None:
    """Write independent labelled scenes, with a progress bar."""
    from pointdistiller_core.datasets.simulated import simulate_dataset

    with progress_bar('simulate scenes', 'frames') as update:
        simulate_dataset(
            root, simulation, splits=splits, seed=seed, num_workers=workers, on_frame=update
        )
    counts = ', '.join(f'{count} {name}' for name, count in splits.items())
    print_note(f'{root}: {counts} frames, seed {seed}')


def simulate_drive_bag(
    path: Path, simulation: SimulationConfig, num_frames: int, *, seed: int
) -> None:
    """Write a drive as an MCAP bag, with a progress bar."""
    from pointdistiller_core.datasets.simulated import write_drive_bag

    with progress_bar('simulate drive', 'frames') as update:
        write_drive_bag(path, simulation, num_frames=num_frames, seed=seed, on_frame=update)
    print_note(f'{path}: {num_frames} clouds, seed {seed}')


def make_bag_command(
    dataset: Annotated[Path, typer.Argument(help='A dataset in KITTI layout.')],
    output: Annotated[Path, typer.Argument(help='Bag to write (an MCAP folder).')],
    *,
    rate: Annotated[float, typer.Option(min=0.01, help='Clouds per second [Hz].')] = 10.0,
    frame: Annotated[
        list[str] | None, typer.Option(help='A frame to take, e.g. 000008; repeatable.')
    ] = None,
) -> None:
    """Turn the sweeps of a KITTI folder into a ROS 2 bag of PointCloud2 messages.

    Example: `pointdistiller make-bag data/kitti kitti_bag --frame 000008 --frame 000010`
    """
    from pointdistiller_core.datasets.bags import write_kitti_bag

    count = write_kitti_bag(dataset, output, rate=rate, frames=frame)
    print_note(f'{output}: {count} clouds at {rate:g} Hz')
