# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `compare`: a student beside its teacher on every cloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from pointdistiller_core.cli.detection_run import (
    OF_BAG,
    GroundTruthOption,
    LabelNamesOption,
    Source,
    TopicOption,
)
from pointdistiller_core.cli.intensity import (
    USUAL,
    IntensityScaleOption,
    given_scale,
    settle_dataset,
)
from pointdistiller_core.cli.output import (
    JsonOption,
    check_folder,
    noted_when_stopped,
    print_error,
    print_lines,
    print_note,
    progress_bar,
    write_json,
)
from pointdistiller_core.config import BagConfig
from pointdistiller_core.deploy.bundle_format import DEFAULT_BUNDLE, DEFAULT_TEACHER
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.evaluation.comparison.same_boxes import SURE_SCORE
from pointdistiller_core.geometry.intensity import AUTO

if TYPE_CHECKING:
    from pointdistiller_core.pipelines.comparison import (
        BagSelection,
        ComparisonConfig,
        DatasetSelection,
    )

OF_DATASET, WHAT_COUNTS, RUNNING = 'Of a dataset', 'What counts', 'How the networks run'
OLD_OPTION = '--dataset'  # of the verb that was called so before

BundleOption = Annotated[
    str, typer.Option(help='A bundle, the folder of a run, or the name of a shipped bundle.')
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        metavar='DIR',
        help='Folder to create for the report: a page, JSON, and CSV with a row for each cloud.',
        callback=check_folder,
    ),
]
CheckOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar='NAME>=NUMBER',
        help="A limit such as 'recall>=0.8' or 'latency.median_ratio>=3': exit code 1 where it "
        'does not hold; repeatable.',
    ),
]
StrideOption = Annotated[int, typer.Option(min=1, help='Compare every n-th cloud.')]
StartOption = Annotated[
    float, typer.Option(min=0, help='Seconds of the bag to skip.', rich_help_panel=OF_BAG)
]
DurationOption = Annotated[
    float | None, typer.Option(min=0, help='Seconds from there to read.', rich_help_panel=OF_BAG)
]
ToleranceOption = Annotated[
    float,
    typer.Option(
        min=0,
        help='Most that the stamps of a cloud and its labels may differ [s].',
        rich_help_panel=OF_BAG,
    ),
]
HeightOption = Annotated[
    float | None,
    typer.Option(
        metavar='METRES',
        help='Height of the sensor above the ground, if it is not that of the training; detectors '
        'of levelled clouds (model.levelled) find the ground themselves.',
        rich_help_panel=OF_BAG,
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option(metavar='NAME', help='val is the default.', rich_help_panel=OF_DATASET),
]
CameraViewOption = Annotated[
    bool | None,
    typer.Option(
        '--camera-view/--no-camera-view',
        help="In KITTI layout: drop points outside the camera's image (the default), or not.",
        rich_help_panel=OF_DATASET,
    ),
]
ScoreOption = Annotated[
    float,
    typer.Option(
        min=0, max=1, help='Lowest score of a box that counts.', rich_help_panel=WHAT_COUNTS
    ),
]
OverlapOption = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Least IoU from above of boxes that agree; 0 is KITTI's least overlap: 0.7 for cars, "
        '0.5 for all others.',
        rich_help_panel=WHAT_COUNTS,
    ),
]
BackendOption = Annotated[
    str,
    typer.Option(
        help='openvino-int8, openvino, onnx, torch, or auto: the first that is installed and in '
        'the bundle.',
        rich_help_panel=RUNNING,
    ),
]
DeviceOption = Annotated[str, typer.Option(help='cpu, cuda, cuda:1, ...', rich_help_panel=RUNNING)]
ThreadsOption = Annotated[
    int,
    typer.Option(
        min=0, help='CPU threads of each network; 0 is its own choice.', rich_help_panel=RUNNING
    ),
]


class CompareCommand(TyperCommand):
    """Names the new verb to who uses this one as it was."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words after the verb.

        Raises:
            ConfigError: they are those of `compare-at-recall`.
        """
        if any(word.partition('=')[0] == OLD_OPTION for word in args):
            raise ConfigError(
                'false positives at equal recall are now: pointdistiller compare-at-recall '
                f'{" ".join(args)}; compare takes one bag or dataset, --teacher and --student'
            )
        return super().parse_args(ctx, args)


def compare_command(
    source: Annotated[Path, typer.Argument(metavar='BAG|DATASET', help='The clouds.')],
    *,
    teacher: BundleOption = DEFAULT_TEACHER,
    student: BundleOption = DEFAULT_BUNDLE,
    output: OutputOption = None,
    check: CheckOption = None,
    stride: StrideOption = 1,
    topic: TopicOption = None,
    ground_truth: GroundTruthOption = None,
    label_names: LabelNamesOption = None,
    start: StartOption = 0.0,
    duration: DurationOption = None,
    stamp_tolerance: ToleranceOption = 0.0,
    height: HeightOption = None,
    split: SplitOption = None,
    camera_view: CameraViewOption = None,
    teacher_score_threshold: ScoreOption = SURE_SCORE,
    student_score_threshold: ScoreOption = SURE_SCORE,
    min_iou: OverlapOption = 0.0,
    teacher_backend: BackendOption = AUTO,
    student_backend: BackendOption = AUTO,
    device: DeviceOption = 'cpu',
    num_threads: ThreadsOption = 0,
    intensity_scale: IntensityScaleOption = None,
    json_file: JsonOption = None,
) -> None:
    """Compare a student with its teacher on every cloud of a bag or a dataset, without ROS.

    The numbers are those of `run compare`; where there are labels, both are compared with them,
    too. Without `--teacher` and `--student` it takes the bundles that ship.

    Example: `pointdistiller compare drive --teacher runs/teacher --student runs/student --output
    report --check 'recall>=0.8'`
    """
    from pointdistiller_core.pipelines.comparison import ComparisonConfig

    config = ComparisonConfig(
        teacher,
        student,
        device=device,
        teacher_backend=teacher_backend,
        student_backend=student_backend,
        num_threads=num_threads,
        teacher_score_threshold=teacher_score_threshold,
        student_score_threshold=student_score_threshold,
        min_iou=min_iou,
    )
    frames = Source(source, split, camera_view, topic, ground_truth, label_names, intensity_scale)
    of_bag = {
        'start_s': start,
        'duration_s': duration,
        'stamp_tolerance_s': stamp_tolerance,
        'height': height,
    }
    run_comparison(
        config,
        select(frames, of_bag, stride),
        checks=check or [],
        output=output,
        json_file=json_file,
    )


def select(
    frames: Source, of_bag: Mapping[str, float | None], stride: int
) -> BagSelection | DatasetSelection:
    """The clouds that the options name.

    Args:
        frames: where, and how to read them.
        of_bag: further fields of `BagSelection`; 0 and None are none.
        stride: every n-th cloud is compared.

    Raises:
        ConfigError: an option does not fit to what lies there.
        DatasetError: nothing lies there.
    """
    from pointdistiller_core.messages.cloud_reader import CloudReading
    from pointdistiller_core.pipelines.comparison import BagSelection, DatasetSelection

    scale = given_scale(frames.intensity_scale)
    if isinstance(frames.config, BagConfig):
        return BagSelection(
            frames.path,
            topic=frames.topic or '',
            ground_truth=frames.ground_truth,
            label_names=tuple(frames.label_names or ()),
            stride=stride,
            reading=CloudReading(
                intensity_scale=scale or 0.0, intensity_auto=frames.intensity_scale == AUTO
            ),
            **of_bag,  # type: ignore[arg-type]
        )
    if given := [f'--{name.removesuffix("_s")}' for name, value in of_bag.items() if value]:
        options = ', '.join(given).replace('_', '-')
        raise ConfigError(f'{frames.path} is no bag: leave out {options}')
    config = frames.config
    if scale is not None:
        config = config.model_copy(update={'intensity_scale': scale})
    elif frames.intensity_scale == AUTO:
        config = settle_dataset(AUTO, config, USUAL)
    return DatasetSelection(config, stride)


def run_comparison(
    config: ComparisonConfig,
    selection: BagSelection | DatasetSelection,
    *,
    checks: Sequence[str],
    output: Path | None,
    json_file: str | None,
) -> None:
    """Compare under a progress bar, and print a table.

    Raises:
        typer.Exit: with code 1 if no cloud could be compared, or a check does not hold.
    """
    from pointdistiller_core.evaluation.comparison.report import (
        JSON_FILE,
        PAGE_FILE,
        Check,
        failures,
        format_table,
    )
    from pointdistiller_core.pipelines.comparison import compare

    def what_is_kept() -> str:
        if output is None or not (output / JSON_FILE).exists():
            return 'stopped; nothing is kept: repeat the command'
        return (
            f'{output}: stopped; the report tells of the clouds until then ("complete": false in '
            f'{JSON_FILE}); for all clouds, remove it and repeat the command'
        )

    limits = [Check.parse(text) for text in checks]
    with (
        noted_when_stopped(what_is_kept),
        progress_bar('compare', 'clouds', when_stopped=None) as update,
    ):
        summary = compare(
            config,
            selection,
            output=output,
            checks=limits,
            on_cloud=lambda done, total: update(done, total or done),
            warn=lambda text: print_note(f'warning: {text}'),
        )
    print_lines(format_table(summary).splitlines(), json_target=json_file)
    write_json(json_file, summary)
    if output is not None:
        print_note(f'wrote {output / PAGE_FILE}')
    problems = failures(limits, summary)
    if not summary['clouds']['compared']:
        problems = ['no cloud could be compared']
    for text in problems:
        print_error(text)
    if problems:
        raise typer.Exit(1)
