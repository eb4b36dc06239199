# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `from-bag`: from recordings to a student that is ready to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointdistiller_core.cli.output import (
    OverrideOption,
    StageTeller,
    noted_when_stopped,
    print_note,
    print_table,
    repeat_to_go_on,
)
from pointdistiller_core.config import (
    FromBagConfig,
    apply_overrides,
    dump_config,
    find_config,
    parse_config,
    read_yaml,
)
from pointdistiller_core.files import only_writer, write_text
from pointdistiller_core.pipelines.stages import (
    Facts,
    Stage,
    StageResult,
    run_stages,
)

if TYPE_CHECKING:
    from pointdistiller_core.cli.road import Road
    from pointdistiller_core.evaluation.stages_page import Picture

PAGE_FILE, CONFIG_FILE = 'index.html', 'config.yaml'
SHOWN_SCORE = 0.3  # in the pictures


def from_bag_command(
    config: Annotated[
        str,
        typer.Argument(
            metavar='NAME|FILE', help='A YAML file, or a shipped configuration: default.'
        ),
    ] = 'default',
    *,
    bag: Annotated[
        list[Path] | None, typer.Option(help='A recording, beside those of the file; repeatable.')
    ] = None,
    output: Annotated[
        Path | None, typer.Option('--output', '-o', help='Folder for everything.')
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(metavar='BUNDLE', help='Bundle or run of a trained detector.')
    ] = None,
    device: Annotated[str | None, typer.Option(help='auto, cpu or cuda.')] = None,
    overrides: OverrideOption = None,
) -> None:
    """Turn recordings into a dataset, labels, a teacher, a student, its export and a comparison.

    Repeat the command to go on after an interruption, or with other settings: a stage is done
    again only if something that it depends on has changed.

    Example: `pointdistiller from-bag --bag drive_1 --bag drive_2 --teacher weights/teacher-seed0
    --output own`
    """
    given = {'bags': bag, 'output': output, 'teacher': teacher, 'device': device}
    settings = read_settings(config, tuple(overrides or ()), given)
    from pointdistiller_core.cli.road import Road  # torch takes a second to import

    road = Road(settings)
    with only_writer(road.output):
        write_text(road.output / CONFIG_FILE, dump_config(settings))
        with noted_when_stopped(lambda: repeat_to_go_on(settings.output)):
            results = walk(road)
    print_summary(settings, results)


def read_settings(
    name: str, overrides: tuple[str, ...], given: Mapping[str, Any]
) -> FromBagConfig:
    """The configuration of a file, changed by the options.

    Args:
        name: of a shipped configuration, or a file.
        overrides: of `--set`.
        given: values of the other options; None is none.

    Raises:
        ConfigError: there is no such file, or it lacks something, or has unknown keys.
    """
    path = find_config('from_bag', name)
    values = apply_overrides(read_yaml(path), overrides)
    if given['bags']:
        values['bags'] = [*(values.get('bags') or ()), *map(str, given['bags'])]
    if given['teacher'] is not None:
        values['teacher'] = {**(values.get('teacher') or {}), 'bundle': str(given['teacher'])}
    for key in ('output', 'device'):
        if given[key] is not None:
            values[key] = str(given[key])
    return parse_config(FromBagConfig, values, where=str(path), overrides=overrides)


def walk(road: Road) -> list[StageResult]:
    """Bring all stages up to date."""
    results: list[StageResult] = []
    stages = road.stages()
    page = road.output / PAGE_FILE
    last = Stage(
        'page',
        lambda _begun: write_page(road, results),
        lambda: {'page': road.config.page.model_dump()},
        after=[stage.name for stage in stages],
        results=(page,),
        title='what happened, and pictures of what was learned',
    )
    for result in run_stages(road.output, [*stages, last], StageTeller()):
        if result.reason:
            print_note(f'{result.name}: {result.facts["summary"]} ({result.seconds:.0f} s)')
        results.append(result)
    return results


def print_summary(config: FromBagConfig, results: Sequence[StageResult]) -> None:
    """A row for each stage, and what to do next."""
    rows = [
        [
            result.name,
            'done' if result.reason else 'current',
            f'{result.seconds:.0f} s',
            str(result.facts['summary']),
        ]
        for result in results
    ]
    print_table(str(config.output), ['stage', '', 'time', 'result'], rows, json_target=None)
    print_note(f'what happened, with pictures: {config.output / PAGE_FILE}')
    compared = next((result.facts for result in results if result.name == 'compare'), {})
    if compared.get('student_boxes') == 0:
        print_note(
            'warning: the student finds nothing on the held-out frames; train longer: '
            f'--set student.training.epochs={2 * config.student.training.epochs}'
        )
        return
    print_note(
        f'run it: pointdistiller run detect --bundle {config.output / "student"} '
        f'--bag {config.bags[0]} --record out --lockstep'
    )


# --- page ------------------------------------------------------------------------------------


def write_page(road: Road, results: Sequence[StageResult]) -> Facts:
    """Write the page of all stages so far."""
    from pointdistiller_core.evaluation.stages_page import (
        Section,
        build_stages_page,
        plot_losses,
    )

    sections = []
    for number, result in enumerate(results, start=1):
        facts = result.facts
        pictures = []
        if losses := facts.get('losses'):
            pictures.append(plot_losses(losses, f'Training of the {result.name}'))
        if result.name == 'compare':
            pictures += draw_sweeps(road)
        sections.append(
            Section(
                f'{number}. {result.name}: {result.title}',
                f'{facts["summary"]}. {result.seconds:.0f} s.',
                facts.get('tables', ()),
                facts.get('notes', ()),
                pictures,
            )
        )
    title = f'From recordings to a student: {road.output.name}'
    subtitle = f'{", ".join(map(str, road.config.bags))}; teacher {road.config.teacher.bundle}'
    page = build_stages_page(title, subtitle, key_numbers(results), sections)
    write_text(road.output / PAGE_FILE, page)
    return {'summary': f'{road.config.output / PAGE_FILE}'}


def key_numbers(results: Sequence[StageResult]) -> dict[str, str]:
    """The numbers that stand large at the top."""
    from pointdistiller_core.evaluation.comparison.report import speed

    facts = {result.name: result.facts for result in results}
    frames, compared = facts['dataset']['frames'], facts['compare']
    ratio, faster = speed(compared['times faster'])
    return {
        'frames to train on': str(frames['train']),
        'frames held out': str(frames['val']),
        "recall of the teacher's boxes": _format(compared['recall'], '.2f'),
        'precision': _format(compared['precision'], '.2f'),
        f"student's median ({compared.get('student_backend', '?')})": _format(
            compared['student_ms'], '.0f'
        )
        + ' ms',
        faster: ratio,
    }


def draw_sweeps(road: Road) -> list[Picture]:
    """Held-out sweeps with their labels and the boxes of teacher and student."""
    from pointdistiller_core.datasets import build_dataset
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.evaluation.pictures.scenes import draw_scene
    from pointdistiller_core.evaluation.stages_page import Picture
    from pointdistiller_core.records import spread_indices

    detectors = {
        'teacher': Detector.load(road.teacher),
        'student': Detector.load(road.student),
    }
    names = detectors['teacher'].class_names
    frames = build_dataset(road.held_out, names)
    pictures = []
    for index in spread_indices(len(frames), road.config.page.pictures):
        frame = frames[index]
        found: dict[str, Any] = {}
        for name, detector in detectors.items():
            boxes = detector(frame.points)
            found[name] = boxes[boxes.scores >= SHOWN_SCORE]
        target, title = BytesIO(), f'{frame.frame_id}: labels, teacher, student'
        draw_scene(
            target,
            frame.points,
            truth=frame.ground_truth,
            title=title,
            class_names=names,
            truth_name='label',
            **found,
        )
        pictures.append(Picture(target.getvalue(), 'png', title))
    return pictures


def _format(value: float | None, form: str) -> str:
    return '-' if value is None else format(value, form)
