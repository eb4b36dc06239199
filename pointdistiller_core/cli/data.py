# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Verbs that make and check data: `simulate`, `make-bag` and `check-dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pointdistiller_core.cli.intensity import (
    USUAL,
    IntensityScaleOption,
    given_scale,
    settle_scale,
    spread_clouds,
)
from pointdistiller_core.cli.output import (
    JsonOption,
    OverrideOption,
    check_file,
    noted_when_stopped,
    print_lines,
    print_note,
    print_table,
    progress_bar,
    repeat_to_go_on,
    write_json,
)
from pointdistiller_core.config import (
    FolderConfig,
    KittiConfig,
    SimulationConfig,
    apply_overrides,
    find_config,
    load_config,
    parse_config,
)
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.formats.kitti import CLASS_NAMES

if TYPE_CHECKING:
    from pointdistiller_core.datasets.checks import DatasetReport

Layout = Literal['kitti', 'nuscenes']  # of simulated frames
MOST_FINDINGS = 30  # of each kind on the terminal; the JSON has all


def simulate_command(
    output: Annotated[Path, typer.Argument(help='Folder to write.')],
    *,
    train: Annotated[int, typer.Option(min=0, help='Number of training frames.')] = 200,
    val: Annotated[int, typer.Option(min=0, help='Number of validation frames.')] = 50,
    drive: Annotated[
        int, typer.Option(min=0, help='Number of frames of a drive, written as a bag.')
    ] = 0,
    layout: Annotated[
        Layout,
        typer.Option(
            '--format',
            help='kitti: independent frames. nuscenes: drives in its format, with sweeps, poses '
            'and velocities; frames are key frames, twice a second.',
        ),
    ] = 'kitti',
    seed: Annotated[int, typer.Option(min=0, help='The same seed gives the same bytes.')] = 0,
    workers: Annotated[int, typer.Option(min=1, help='Number of processes.')] = 2,
    config: Annotated[
        str | None,
        typer.Option(
            metavar='NAME|FILE', help='A shipped simulation, such as streets, or a YAML file.'
        ),
    ] = None,
    overrides: OverrideOption = None,
) -> None:
    """Simulate labelled LiDAR scenes, and a drive as an MCAP bag.

    Example: `pointdistiller simulate data/simulated --train 200 --val 50 --drive 100 --seed 1`

    `--config streets` simulates streets as corridors, closer to recordings than the default.

    Example: `pointdistiller simulate data/drives --format nuscenes --config all_round --train 100`
    """
    changes = tuple(overrides or ())
    simulation = (
        load_config(SimulationConfig, find_config('simulations', config), changes)
        if config
        else parse_config(SimulationConfig, apply_overrides({}, changes), where='--set')
    )
    splits = {name: count for name, count in (('train', train), ('val', val)) if count}
    with noted_when_stopped(lambda: repeat_to_go_on(output)):
        if splits:
            simulate_frames(output, simulation, splits, layout=layout, seed=seed, workers=workers)
        if drive:
            simulate_drive_bag(output / 'drive', simulation, drive, seed=seed)


def simulate_frames(
    root: Path,
    simulation: SimulationConfig,
    splits: dict[str, int],
    *,
    seed: int,
    workers: int,
    layout: Layout = 'kitti',
) -> None:
    """Write labelled scenes, with a progress bar."""
    from pointdistiller_core.datasets.simulated import simulate_dataset, simulate_nuscenes

    simulate = simulate_nuscenes if layout == 'nuscenes' else simulate_dataset
    with progress_bar('simulate scenes', 'frames', when_stopped=None) as update:
        simulate(root, simulation, splits=splits, seed=seed, num_workers=workers, on_frame=update)
    counts = ', '.join(f'{count} {name}' for name, count in splits.items())
    print_note(f'{root}: {counts} frames, seed {seed}')


def simulate_drive_bag(
    path: Path, simulation: SimulationConfig, num_frames: int, *, seed: int
) -> None:
    """Write a drive as an MCAP bag, with a progress bar."""
    from pointdistiller_core.datasets.simulated import write_drive_bag

    with progress_bar('simulate drive', 'frames', when_stopped=None) as update:
        write_drive_bag(path, simulation, num_frames=num_frames, seed=seed, on_frame=update)
    print_note(f'{path}: {num_frames} clouds, seed {seed}')


def make_bag_command(
    dataset: Annotated[
        Path, typer.Argument(help='A dataset in KITTI layout, or a folder with dataset.yaml.')
    ],
    output: Annotated[Path, typer.Argument(help='Bag to write (an MCAP folder).')],
    *,
    rate: Annotated[float, typer.Option(min=0.01, help='Clouds per second [Hz].')] = 10.0,
    frame: Annotated[
        list[str] | None, typer.Option(help='A frame to take, e.g. 000008; repeatable.')
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help='Take the frames of this file of ImageSets or splits, without .txt.'),
    ] = None,
    drive: Annotated[
        str, typer.Option(help='Take the frames of this drive, of a folder with several.')
    ] = '',
    max_frames: Annotated[
        int | None, typer.Option(min=1, help='Take at most this many, from the first.')
    ] = None,
    ground_truth: Annotated[
        bool, typer.Option('--ground-truth', help='Also write labelled boxes, on a second topic.')
    ] = False,
    class_name: Annotated[
        list[str] | None,
        typer.Option(
            '--class', help="A class of the boxes, by default KITTI's three; repeatable."
        ),
    ] = None,
    camera_view: Annotated[
        bool, typer.Option('--camera-view', help="Drop points outside the camera's image.")
    ] = False,
    intensity_scale: IntensityScaleOption = None,
) -> None:
    """Turn the sweeps of a dataset into a ROS 2 bag of PointCloud2 messages.

    Example: `pointdistiller make-bag data/kitti kitti_bag --frame 000008 --frame 000010`

    KITTI labels only what the camera sees: `--ground-truth` goes well with `--camera-view`.
    A drive of a folder keeps its times, and its poses are in `/tf`.
    """
    from pointdistiller_core.formats.folder import is_folder_dataset

    if is_folder_dataset(dataset):
        classes = tuple(class_name or CLASS_NAMES) if ground_truth else ()
        scale = given_scale(intensity_scale) or 1.0
        make_folder_bag(
            FolderConfig(root=dataset, split=split or 'all', intensity_scale=scale),
            output,
            rate=rate,
            frames=frame,
            drive=drive,
            max_frames=max_frames,
            ground_truth=classes,
        )
        return
    from pointdistiller_core.datasets import KittiDataset
    from pointdistiller_core.messages.boxes_cloud import TRUTH_TOPIC
    from pointdistiller_core.pipelines.make_bag import kitti_sweeps, write_kitti_bag

    classes = tuple(class_name or CLASS_NAMES) if ground_truth else ()
    names = (choose_bag_frames(dataset, frame, split) or kitti_sweeps(dataset))[:max_frames]
    scale = given_scale(intensity_scale) or 1.0
    config = KittiConfig(root=dataset, camera_view=camera_view, intensity_scale=scale)
    sweeps = KittiDataset(config, (), labelled=False, frame_ids=names)
    scale = settle_scale(intensity_scale, spread_clouds(sweeps), USUAL, scale=scale, where=dataset)
    count = write_kitti_bag(
        dataset,
        output,
        rate=rate,
        frames=names,
        ground_truth=classes,
        camera_view=camera_view,
        intensity_scale=scale,
    )
    if classes:
        print_note(f'{TRUTH_TOPIC}: boxes with the labels {", ".join(classes)}')
    print_note(f'{output}: {count} clouds at {rate:g} Hz')


def make_folder_bag(config: FolderConfig, output: Path, **options: Any) -> None:
    """Turn a drive of a folder into a bag, and say so."""
    from pointdistiller_core.messages.boxes_cloud import TRUTH_TOPIC
    from pointdistiller_core.pipelines.make_bag import write_folder_bag

    count = write_folder_bag(config, output, **options)
    if classes := options['ground_truth']:
        print_note(f'{TRUTH_TOPIC}: boxes with the labels {", ".join(classes)}')
    print_note(f'{output}: {count} clouds')


def choose_bag_frames(
    dataset: Path, frames: Sequence[str] | None, split: str | None
) -> Sequence[str] | None:
    """Names of the frames that options ask for; None is all.

    Raises:
        ConfigError: frames and a split.
        DatasetError: no such split.
    """
    from pointdistiller_core.datasets.kitti import KittiDataset

    if frames and split:
        raise ConfigError(f'--split {split} and --frame {", ".join(frames)}: give one of both')
    if split:
        frames = KittiDataset(KittiConfig(root=dataset, split=split), ()).frame_ids
    return frames


def check_dataset_command(
    dataset: Annotated[
        Path,
        typer.Argument(
            help='A dataset in KITTI layout, a folder with dataset.yaml, nuScenes, or a bag.'
        ),
    ],
    *,
    split: Annotated[
        str | None,
        typer.Option(
            help='A file of ImageSets or splits, without .txt, or a split of nuScenes; by default '
            'all but test.'
        ),
    ] = None,
    class_name: Annotated[
        list[str] | None,
        typer.Option('--class', help="A class that KITTI's labels do not have; repeatable."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            help='PNG or SVG file for histograms of what is labelled.', callback=check_file
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Read a whole dataset, count its content and report all problems.

    The exit code is 1 where something is broken: a file that is missing or cannot be read, an
    unknown class, a box without extent.

    Example: `pointdistiller check-dataset data/kitti --picture kitti.png --json kitti.json`
    """
    from pointdistiller_core.datasets import find_dataset
    from pointdistiller_core.datasets.checks import check_dataset
    from pointdistiller_core.datasets.folder_checks import check_folder
    from pointdistiller_core.datasets.frame_checks import check_frames
    from pointdistiller_core.datasets.nuscenes_checks import check_nuscenes

    checks = {'kitti': check_dataset, 'folder': check_folder, 'nuscenes': check_nuscenes}
    check = checks.get(find_dataset(dataset).name, check_frames)
    with progress_bar('check', 'frames') as update:
        report = check(dataset, split=split, class_names=tuple(class_name or ()), on_frame=update)
    print_report(report, title=str(dataset), json_file=json_file)
    write_json(json_file, report.to_dict())
    if picture is not None:
        draw_report(picture, report, title=str(dataset))
    if report.num_broken:
        raise typer.Exit(1)


def print_report(report: DatasetReport, *, title: str, json_file: str | None) -> None:
    """A row for each class, and what was found."""
    levels = ('easy', 'moderate', 'hard', 'none') if report.objects.rated else ()
    counts = ('objects', *levels, 'empty')
    rows = [
        [
            name,
            *(str(facts[count]) for count in counts),
            f'{facts["points"]["median"]:g}',
            f'{facts["distance"]["median"]:.1f}',
            ' '.join(f'{extent:.2f}' for extent in facts['mean_size']),
        ]
        for name, facts in report.to_dict()['classes'].items()
    ]
    splits = ', '.join(f'{count} {name}' for name, count in report.splits.items())
    print_table(
        f'{title}: {splits or "no"} frames (points, distance: median; size: mean)',
        ['class', 'all', *counts[1:], 'points', 'distance', 'size [m]'],
        rows,
        json_target=json_file,
    )
    for kind, broken in (('broken', True), ('note', False)):
        findings = [item for item in report.findings if item.broken is broken]
        lines = [f'{kind}: {item.where}: {item.what}' for item in findings[:MOST_FINDINGS]]
        if len(findings) > len(lines):
            lines.append(f'{kind}: {len(findings) - len(lines)} more; --json FILE has all')
        print_lines(lines, json_target=json_file)


def draw_report(picture: Path, report: DatasetReport, *, title: str) -> None:
    """Histograms of what is labelled."""
    from pointdistiller_core.evaluation.pictures.datasets import draw_objects

    objects = report.objects
    draw_objects(
        picture,
        objects.names,
        difficulties=objects.difficulties,
        distances=objects.distances,
        num_points=objects.num_points,
        title=title,
    )
    print_note(f'{picture}: histograms')
