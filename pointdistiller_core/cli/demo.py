# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `demo`: from nothing to live distilled detections, on simulated data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
import shutil
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointdistiller_core.cli.data import simulate_drive_bag, simulate_frames
from pointdistiller_core.cli.demo_shipped import NAME as SHIPPED
from pointdistiller_core.cli.demo_shipped import print_shipped, shipped_stage
from pointdistiller_core.cli.output import (
    StageTeller,
    noted_when_stopped,
    print_note,
    print_table,
    repeat_to_go_on,
    write_json,
)
from pointdistiller_core.cli.training import run_with_progress
from pointdistiller_core.config import (
    ExperimentConfig,
    SceneConfig,
    SimulationConfig,
    load_experiment,
    shipped_configs,
)
from pointdistiller_core.deploy.bundle_format import read_info
from pointdistiller_core.files import only_writer
from pointdistiller_core.pipelines.stages import Facts, Stage, run_stages

if TYPE_CHECKING:
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.records import Detections, Frame

TITLES = {
    'teacher': 'teacher',
    'student': '4x student, labels alone',
    'distilled': '4x student, distilled',
}
TIMED_CLOUDS = 20
PICTURES = 3
EXTENT = 45.0  # extent of the scenes [m]: the range of the small models
SHOWN_SCORE = 0.3  # only in the pictures


def demo_command(
    output: Annotated[Path, typer.Option(help='Folder for everything.')] = Path('demo_output'),
    *,
    train: Annotated[int, typer.Option(min=1, help='Number of training frames.')] = 200,
    val: Annotated[int, typer.Option(min=1, help='Number of validation frames.')] = 60,
    drive: Annotated[int, typer.Option(min=1, help='Number of clouds of the drive.')] = 60,
    seed: Annotated[int, typer.Option(min=0, help='Seed of the scenes and of the training.')] = 1,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help='Epochs of every training, instead of the configured ones.'),
    ] = None,
) -> None:
    """Simulate, try what ships, train a teacher and distil a student, run it as a ROS 2 node.

    Stages that an earlier or interrupted demo has finished in the same folder are not repeated,
    unless something that they depend on has changed.

    Example: `pointdistiller demo --output demo_output --seed 1`
    """
    with noted_when_stopped(lambda: repeat_to_go_on(output)):
        run_demo(output, train=train, val=val, drive=drive, seed=seed, epochs=epochs)


def run_demo(
    output: Path, *, train: int, val: int, drive: int, seed: int, epochs: int | None
) -> None:
    """Do all of it; arguments are those of the verb."""
    start = perf_counter()
    experiments = demo_experiments(output, seed=seed, epochs=epochs)
    shipped = output / 'pictures' / 'shipped.png'
    stages = [
        *simulation_stages(output, train=train, val=val, drive=drive, seed=seed),
        shipped_stage(output / 'drive', shipped),
        *training_stages(output, experiments),
    ]
    with only_writer(output):
        for result in run_stages(output, stages, StageTeller()):
            if result.name == SHIPPED:
                print_shipped(result.facts, shipped)
    bundles = {name: output / 'runs' / name / 'bundle' for name in experiments}
    table = measure_demo(output, bundles)
    print_demo_table(table)
    write_json(str(output / 'table.json'), {'seed': seed, 'models': table})
    pictures = draw_demo(output, bundles)
    recording = play_demo(output, bundles['distilled'])
    print_note(f'\nDone in {perf_counter() - start:.0f} s with seed {seed}. What to open:')
    print_note(f'  {pictures}: pictures from above')
    print_note(f'  {output / "table.json"}: the table above')
    print_note(f'  {recording}: clouds, detections and markers, for Foxglove, RViz or ros2 bag')
    print_note(f'  {output / "runs"}: tensorboard --logdir {output / "runs"}')


def simulation_stages(output: Path, *, train: int, val: int, drive: int, seed: int) -> list[Stage]:
    """Labelled scenes in `data`, a drive as a bag in `drive`."""
    simulation = SimulationConfig(scene=SceneConfig(extent=EXTENT))
    splits = {'train': train, 'val': val}
    settings = {'seed': seed, 'simulation': simulation.model_dump(mode='json')}

    def simulate_scenes(_begun: bool) -> Facts:
        simulate_frames(output / 'data', simulation, splits, seed=seed, workers=2)
        return {}

    def simulate_drive(_begun: bool) -> Facts:
        simulate_drive_bag(output / 'drive', simulation, drive, seed=seed)
        return {}

    return [
        Stage(
            'data',
            simulate_scenes,
            lambda: {**settings, 'frames': splits},
            results=(output / 'data',),
            title='labelled scenes',
        ),
        Stage(
            'drive',
            simulate_drive,
            lambda: {**settings, 'clouds': drive},
            after=(),
            results=(output / 'drive',),
            title='a drive as a bag',
        ),
    ]


def demo_experiments(
    output: Path, *, seed: int, epochs: int | None
) -> dict[str, ExperimentConfig]:
    """The teacher, and the same student twice: without and with distillation."""
    shipped = {path.stem: path for path in shipped_configs('experiments')}
    changes = [f'training.seed={seed}', *([f'training.epochs={epochs}'] if epochs else [])]
    changes += [f'{part}.root={output / "data"}' for part in ('dataset', 'validation')]
    teacher = load_experiment(shipped['demo_teacher'], tuple(changes))
    distilled = load_experiment(shipped['demo_student'], tuple(changes))
    student = distilled.model_copy(update={'distillation': None})
    return {'teacher': teacher, 'student': student, 'distilled': distilled}


def training_stages(output: Path, experiments: Mapping[str, ExperimentConfig]) -> list[Stage]:
    """A run for each experiment; those with distillation learn from the teacher."""
    runs = output / 'runs'

    def train(name: str) -> Facts:
        taught = experiments[name].distillation is not None
        bundle = run_with_progress(
            experiments[name],
            runs / name,
            label=name,
            teacher=runs / 'teacher' if taught else None,
            resume=(runs / name / 'config.yaml').exists(),
            again='repeat it',
        )
        return {'sha256': read_info(bundle).sha256}

    return [
        Stage(
            name,
            lambda _begun, name=name: train(name),  # type: ignore[misc]
            lambda name=name: experiments[name].model_dump(mode='json'),  # type: ignore[misc]
            after=('data',) if experiment.distillation is None else ('data', 'teacher'),
            results=(runs / name,),
            title=f'a training: {TITLES[name]}',
            defaults=ExperimentConfig(dataset=experiment.dataset).model_dump(mode='json'),
        )
        for name, experiment in experiments.items()
    ]


def measure_demo(output: Path, bundles: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Size, latency and AP of every model, measured on this machine."""
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.evaluation.efficiency import (
        count_detector_multiply_adds,
        count_parameters,
    )
    from pointdistiller_core.training.run import read_scores

    detectors = {name: Detector.load(path, backend='torch') for name, path in bundles.items()}
    latencies = time_detectors(output / 'drive', detectors)
    rows = []
    for name, detector in detectors.items():
        _, scores = read_scores(output / 'runs' / name, detector.class_names)
        rows.append(
            {
                'name': name,
                'title': TITLES[name],
                'parameters': count_parameters(detector.model),
                'multiply_adds': count_detector_multiply_adds(detector.model),
                'latency_ms': latencies[name],
                'ap': scores.details,
                'means': scores.means,
                'scores': scores.row,
            }
        )
    return rows


def time_detectors(bag: Path, detectors: Mapping[str, Detector]) -> dict[str, float]:
    """Median time from points to boxes [ms], the models taking turns on the same clouds."""
    from pointdistiller_core.messages.bags import read_clouds
    from pointdistiller_core.messages.point_cloud2 import points_from_cloud

    times: dict[str, list[float]] = {name: [] for name in detectors}
    for cloud in islice(read_clouds(bag), TIMED_CLOUDS):
        points = points_from_cloud(cloud.message)
        for name, detector in detectors.items():
            times[name].append(detector(points).latency_ms['total'])
    return {name: median(values) for name, values in times.items()}


def print_demo_table(table: Sequence[Mapping[str, Any]]) -> None:
    """One row for each model, with the scores of its validation."""
    means = list(table[0]['means'])
    columns = means + sorted(column for column in table[0]['scores'] if column not in means)
    rows = [
        [
            row['title'],
            f'{row["parameters"] / 1e6:.2f} M',
            f'{row["multiply_adds"] / 1e9:.2f} G',
            f'{row["latency_ms"]:.0f} ms',
            *(f'{row["scores"][column]:.1f}' for column in columns),
        ]
        for row in table
    ]
    print_table(
        'On simulated validation frames: latency, points to boxes; AP|R40, moderate [%]',
        ['model', 'parameters', 'mult-adds', 'latency', *columns],
        rows,
        json_target=None,
    )


def draw_demo(output: Path, bundles: Mapping[str, Path]) -> Path:
    """Pictures from above of the validation frames that hold the most objects."""
    from pointdistiller_core.datasets import open_dataset
    from pointdistiller_core.detector import Detector

    folder = output / 'pictures'
    folder.mkdir(parents=True, exist_ok=True)
    detectors = {name: Detector.load(path) for name, path in bundles.items()}
    names = detectors['teacher'].class_names
    dataset = open_dataset(output / 'data', split='val', class_names=names)
    frames = [dataset[index] for index in range(len(dataset))]
    for frame in sorted(frames, key=lambda frame: -len(frame.ground_truth or ()))[:PICTURES]:
        found = {
            name: detector(frame.points, importance=name == 'distilled')
            for name, detector in detectors.items()
        }
        _draw_frame(folder, frame, found, names)
    return folder


def _draw_frame(
    folder: Path, frame: Frame, found: Mapping[str, Detections], class_names: Sequence[str]
) -> None:
    from pointdistiller_core.evaluation.matching import default_overlaps
    from pointdistiller_core.evaluation.pictures.scenes import draw_found, draw_scene

    importance = found['distilled'].importance
    shown = {name: item[item.scores >= SHOWN_SCORE] for name, item in found.items()}
    draw_scene(
        folder / f'{frame.frame_id}_importance.png',
        frame.points,
        importance=importance.point_scores if importance else None,
        truth=frame.ground_truth,
        teacher=shown['teacher'],
        student=shown['distilled'],
        title=f'Frame {frame.frame_id}: importance, truth, teacher and distilled student',
        class_names=class_names,
    )
    draw_found(
        folder / f'{frame.frame_id}_comparison.png',
        frame,
        {TITLES[name]: item for name, item in shown.items()},
        default_overlaps(class_names),
        title=f'Frame {frame.frame_id}',
    )


def play_demo(output: Path, bundle: Path) -> Path:
    """Play the drive through the ROS 2 node and record what goes in and out."""
    recording = output / 'recording'
    shutil.rmtree(recording, ignore_errors=True)
    nodes = import_module('pointdistiller_ros.run')
    arguments = ['detect', '--bundle', bundle, '--bag', output / 'drive', '--record', recording]
    status = nodes.main([*map(str, arguments), '--lockstep'])
    if status:
        raise typer.Exit(status)
    return recording
