# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`bag info`, `bag convert`, `bag merge`: from recordings to datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointdistiller_core.cli.output import (
    ClassMapOption,
    JsonOption,
    check_folder,
    print_lines,
    print_note,
    print_table,
    progress_bar,
    repeat_to_go_on,
    write_json,
)
from pointdistiller_core.config import (
    ConversionConfig,
    SplitConfig,
    parse_class_map,
    parse_config,
)
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.geometry.intensity import AUTO, parse_scale

if TYPE_CHECKING:
    from pointdistiller_core.pipelines.bag_conversion import BagInspection, ConvertedDrive

DRIVE_COLUMNS = ['drive', 'clouds', 'frames', 'new', 'points a frame', 'poses']

bag_app = typer.Typer(no_args_is_help=True, help='Inspect recordings and make datasets of them.')


@bag_app.command('info')
def info_command(
    bag: Annotated[Path, typer.Argument(help='Folder or file.')],
    *,
    full: Annotated[
        bool, typer.Option('--full', help='Read every message: counts, gaps, damage.')
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Show what a bag holds, and what `bag convert` would do with it.

    Example: `pointdistiller bag info drive_1`
    """
    from pointdistiller_core.pipelines.bag_conversion import inspect_bag

    with progress_bar('read', 's') as update:
        found = inspect_bag(
            bag, full=full, on_progress=lambda done, total: update(round(done), round(total) or 1)
        )
    print_inspection(found, bag, json_target=json_file)
    write_json(json_file, found.to_dict())


def print_inspection(found: BagInspection, bag: Path, *, json_target: str | None) -> None:
    """Print topics, clouds and notes."""
    rows = []
    for name, topic in sorted(found.summary.topics.items()):
        count, gap = found.count_of(name), found.times.get(name)
        rate = (count - 1) / found.duration_s if count and found.duration_s else 0.0
        rows.append(
            [
                name,
                topic.message_type + ('' if topic.readable else ' (not of ROS)'),
                '?' if count is None else str(count),
                f'{rate:.1f}' if rate else '-',
                f'{gap.longest_gap_s:.2f}' if gap and gap.count > 1 else '-',
            ]
        )
    title = f'{bag}: {found.duration_s:.1f} s from {found.summary.start_ns / 1e9:.3f} s'
    columns = ['topic', 'type', 'messages', 'Hz', 'longest gap, s']
    print_table(title, columns, rows, json_target=json_target)
    lines = []
    for name, cloud in found.clouds.items():
        lines.append(
            f'{name}: {cloud.num_points} points in {cloud.frame!r}: {" ".join(cloud.fields)}'
        )
        if cloud.survey is None:
            lines.append(f'{name}: cannot be converted: {cloud.problem}')
            continue
        choices = cloud.survey
        lines.append(f'{name}: intensity: {choices.sensors[0].intensity}')
        lines.append(f'{name}: height: {choices.height.evidence}')
        lines.append(f'{name}: poses: {choices.poses.evidence}')
    print_lines([*lines, *found.notes], json_target=json_target)


TopicOption = Annotated[
    list[str] | None,
    typer.Option(help='PointCloud2 topic; repeat it to merge sensors into the first one.'),
]
StartOption = Annotated[float, typer.Option(min=0, help='Seconds of each bag to skip.')]
DurationOption = Annotated[float | None, typer.Option(help='Seconds from there to read.')]
StrideOption = Annotated[int, typer.Option(min=1, help='Keep every n-th cloud.')]
MinPeriodOption = Annotated[
    float | None, typer.Option(help='Shortest time between two frames [s].')
]
MinDistanceOption = Annotated[
    float | None, typer.Option(help='Least motion between two frames [m].')
]
MinTurnOption = Annotated[
    float | None, typer.Option(help='Turn that counts as motion, too [degrees].')
]
StampsOption = Annotated[str, typer.Option(help='Time of a cloud: `header` or `recorded`.')]
PosesOption = Annotated[
    str, typer.Option(help='`auto`, `tf`, `odometry`, `icp` (KISS-ICP) or `none`.')
]
FixedFrameOption = Annotated[
    str, typer.Option(help='Fixed frame of TF; by default odom, map or world.')
]
OdometryTopicOption = Annotated[str, typer.Option(help='Topic with nav_msgs/Odometry.')]
FrameOption = Annotated[
    str, typer.Option(help='Frame of the merged clouds; by default that of the first topic.')
]
ToleranceOption = Annotated[
    float, typer.Option(min=0, help='Largest time between the clouds of several sensors [s].')
]
KeepIncompleteOption = Annotated[
    bool, typer.Option('--keep-incomplete', help='Keep frames that lack a sensor.')
]
EgoBoxOption = Annotated[
    str | None,
    typer.Option(
        metavar='X,Y,Z,X,Y,Z', help='Drop points between these corners: the vehicle [m].'
    ),
]
IntensityScaleOption = Annotated[
    str, typer.Option(metavar='auto|FACTOR', help='auto judges the first clouds.')
]
WithoutIntensityOption = Annotated[
    bool, typer.Option('--without-intensity', help='Accept clouds without intensities.')
]
HeightOption = Annotated[
    str,
    typer.Option(
        metavar='auto|keep|METRES',
        help='Height of the sensor above the ground; auto asks TF, then fits the ground.',
    ),
]
GroundFrameOption = Annotated[
    str, typer.Option(help='Frame of TF on the ground; by default base_footprint.')
]
SensorHeightOption = Annotated[
    float, typer.Option(help='Height of the training sensor, to which points are moved [m].')
]
DriveOption = Annotated[str, typer.Option(help="Name of the drive; by default the bag's.")]
ValDriveOption = Annotated[
    list[str] | None, typer.Option(help='A drive for validation; repeatable.')
]
ValPartOption = Annotated[
    float,
    typer.Option(min=0, max=1, help='Part of the time of each drive for validation.'),
]
ValGapOption = Annotated[
    float, typer.Option(min=0, help='Gap between training and validation, in neither [s].')
]
StrictOption = Annotated[
    bool, typer.Option('--strict', help='Refuse a bag with a problem instead of skipping it.')
]


@bag_app.command('convert')
def convert_command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar='BAG... DATASET', help='Bags, then a folder to write.'),
    ],
    *,
    topic: TopicOption = None,
    start: StartOption = 0.0,
    duration: DurationOption = None,
    stride: StrideOption = 1,
    min_period: MinPeriodOption = None,
    min_distance: MinDistanceOption = None,
    min_turn: MinTurnOption = None,
    stamps: StampsOption = 'header',
    poses: PosesOption = 'auto',
    fixed_frame: FixedFrameOption = '',
    odometry_topic: OdometryTopicOption = '',
    frame: FrameOption = '',
    tolerance: ToleranceOption = 0.05,
    keep_incomplete: KeepIncompleteOption = False,
    ego_box: EgoBoxOption = None,
    intensity_scale: IntensityScaleOption = AUTO,
    without_intensity: WithoutIntensityOption = False,
    height: HeightOption = AUTO,
    ground_frame: GroundFrameOption = '',
    sensor_height: SensorHeightOption = 1.73,
    drive: DriveOption = '',
    val_drive: ValDriveOption = None,
    val_part: ValPartOption = 0.2,
    val_gap: ValGapOption = 2.0,
    strict: StrictOption = False,
    json_file: JsonOption = None,
) -> None:
    """Convert recordings to an open dataset folder; repeat to continue or to add bags.

    Example: `pointdistiller bag convert drive_1 drive_2.bag data/own --min-distance 1`
    """
    from pointdistiller_core.pipelines.bag_conversion import convert_bags

    *bags, dataset = paths
    if not bags:
        raise ConfigError(f'{dataset}: give one bag or several, then the folder to write')
    check_folder(dataset)
    values: dict[str, Any] = {
        'topics': tuple(topic or ()),
        'start_s': start,
        'duration_s': duration,
        'stamps': stamps,
        'stride': stride,
        'min_period_s': min_period,
        'min_distance': min_distance,
        'min_turn': None if min_turn is None else math.radians(min_turn),
        'tolerance_s': tolerance,
        'keep_incomplete': keep_incomplete,
        'frame': frame,
        'poses': poses,
        'fixed_frame': fixed_frame,
        'odometry_topic': odometry_topic,
        'height': read_height(height),
        'ground_frame': ground_frame,
        'sensor_height': sensor_height,
        'intensity_scale': parse_scale(intensity_scale) or AUTO,
        'without_intensity': without_intensity,
        'ego_box': None if ego_box is None else read_corners(ego_box),
    }
    config = parse_config(ConversionConfig, values, where='options')
    splits = SplitConfig(val_drives=tuple(val_drive or ()), val_part=val_part, gap_s=val_gap)
    names = name_drives(bags, drive)
    with progress_bar('convert', 's', when_stopped=repeat_to_go_on(dataset)) as update:
        converted = convert_bags(
            names,
            dataset,
            config,
            splits,
            strict=strict,
            on_progress=lambda name: tell_progress(update, name),
        )
    print_drives(converted, dataset, json_target=json_file)
    print_splits(dataset)
    write_json(json_file, {item.name: item.info.model_dump(mode='json') for item in converted})


@bag_app.command('merge')
def merge_command(
    paths: Annotated[
        list[Path], typer.Argument(metavar='DATASET... TARGET', help='Datasets, then a folder.')
    ],
) -> None:
    """Join converted datasets into one, byte for byte; splits are joined, too.

    Example: `pointdistiller bag merge data/monday data/tuesday data/own`
    """
    from pointdistiller_core.pipelines.convert_dataset import merge_folders

    *sources, target = paths
    if not sources:
        raise ConfigError(f'{target}: give datasets, then the folder to write')
    check_folder(target)
    with progress_bar('merge', 'frames', when_stopped=repeat_to_go_on(target)) as update:
        prefixes = merge_folders(sources, target, on_frame=update)
    for source, prefix in prefixes.items():
        if prefix:
            print_note(f'{source}: names of its frames begin with {prefix}, for others had them')
    print_note(f'{target}: {len(sources)} datasets joined')


def convert_dataset_command(
    source: Annotated[
        Path, typer.Argument(help='A dataset in KITTI layout, or a folder with dataset.yaml.')
    ],
    target: Annotated[Path, typer.Argument(help='Folder to write.')],
    *,
    to: Annotated[
        str, typer.Option(metavar='kitti|folder', help='Layout; by default the other one.')
    ] = '',
    class_map: ClassMapOption = None,
) -> None:
    """Convert a dataset: KITTI's layout, also of simulated scenes, to the open folder, and back.

    What the new layout cannot hold is named and counted. For bags there is `bag convert`.

    Example: `pointdistiller convert data/kitti data/open --to folder`
    """
    from pointdistiller_core.datasets.class_tally import ClassTally
    from pointdistiller_core.pipelines.convert_dataset import (
        KITTI,
        folder_to_kitti,
        kind_of,
        kitti_to_folder,
    )

    kind = kind_of(source)
    to = to or ('folder' if kind == KITTI else KITTI)
    if to not in (KITTI, 'folder') or to == kind:
        raise ConfigError(f'--to {to}: {source} is of the layout {kind}; choose the other one')
    check_folder(target)
    tally = ClassTally(parse_class_map(class_map or ()))
    convert = folder_to_kitti if to == KITTI else kitti_to_folder
    with progress_bar('convert', 'frames', when_stopped=repeat_to_go_on(target)) as update:
        lost = convert(source, target, tally=tally, on_frame=update)
    for note in tally.notes():
        print_note(note)
    for what, count in lost.items():
        print_note(f'not held by the layout {to}: {count} {what}')
    print_note(f'{target}: {source} in the layout {to}')


def tell_progress(update: Callable[..., None], name: str) -> Callable[[float, float, str], None]:
    """A function that moves a bar to the seconds of a drive that are converted."""
    told = -1

    def tell(done_s: float, total_s: float, note: str) -> None:
        nonlocal told
        if round(done_s) != told or done_s >= total_s:
            told = round(done_s)
            update(min(told, round(total_s)), max(round(total_s), 1), f'{name}: {note}')

    return tell


def name_drives(bags: Sequence[Path], drive: str) -> dict[str, Path]:
    """The bags by the names of their drives.

    Args:
        bags: one or more.
        drive: name of the only one; empty is the bag's.

    Raises:
        ConfigError: there are several for the name.
    """
    from pointdistiller_core.pipelines.bag_conversion import drive_names

    names = drive_names(bags)
    if not drive:
        return names
    if len(names) > 1:
        raise ConfigError(f'--drive {drive} names one bag, not {len(names)}')
    return {drive: next(iter(names.values()))}


def print_splits(dataset: Path) -> None:
    """Say how many frames each split of a dataset has."""
    from pointdistiller_core.formats.folder import count_unsplit, split_sizes

    sizes = [f'{name} {count} frames' for name, count in split_sizes(dataset).items()]
    if sizes and (rest := count_unsplit(dataset)):
        sizes.append(f'{rest} in none, as the gap between them (--val-gap)')
    print_note(f'{dataset}: splits: {", ".join(sizes) or "none"}')


def read_height(text: str) -> str | float:
    """`auto`, `keep`, or metres.

    Raises:
        ConfigError: it is something else.
    """
    if text in (AUTO, 'keep'):
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f'--height {text!r}: expected auto, keep, or metres') from None


def read_corners(text: str) -> tuple[float, ...]:
    """Six numbers.

    Raises:
        ConfigError: they are not.
    """
    try:
        corners = tuple(map(float, text.split(',')))
    except ValueError:
        corners = ()
    if len(corners) != 6:
        raise ConfigError(
            f'--ego-box {text!r}: expected six numbers, low x, y, z, then high x, y, z, such as '
            '--ego-box=-2.5,-1,-2,2.5,1,1'
        )
    return corners


def print_drives(
    converted: Sequence[ConvertedDrive], dataset: Path, *, json_target: str | None
) -> None:
    """Print the result, choices and problems of each bag."""
    print_table(str(dataset), DRIVE_COLUMNS, drive_rows(converted), json_target=json_target)
    for item in converted:
        print_lines(describe_drive(item), json_target=json_target)
    print_note(f'{dataset}: {sum(item.num_frames for item in converted)} frames of these bags')


def drive_rows(converted: Sequence[ConvertedDrive]) -> list[list[str]]:
    """A row of `DRIVE_COLUMNS` for each drive."""
    return [
        [
            item.name,
            str(item.info.counts.get('clouds', 0)),
            str(item.num_frames),
            str(item.num_new),
            f'{item.info.counts.get("points", 0) / max(item.num_frames, 1):.0f}',
            item.info.choices['poses']['source'],
        ]
        for item in converted
    ]


def describe_drive(item: ConvertedDrive) -> list[str]:
    """Choices with their evidence, and problems, of one drive."""
    choices = item.info.choices
    lines = [f'intensity of {each["topic"]}: {each["intensity"]}' for each in choices['sensors']]
    lines.append(f'height: {choices["height"]["evidence"]}')
    lines.append(f'poses: {choices["poses"]["evidence"]}')
    lines += item.info.notes
    if not item.num_new:
        lines.append('was converted before; nothing is new')
    return [f'{item.name}: {line}' for line in lines]
