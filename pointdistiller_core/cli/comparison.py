# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Verbs that hold models against one another: `compare-features`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistiller_core.cli.output import JsonOption, print_table, progress_bar, write_json
from pointdistiller_core.config import DatasetConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pointdistiller_core.datasets import FrameDataset
    from pointdistiller_core.distill.feature_similarity import Similarity

DatasetOption = Annotated[Path, typer.Option(metavar='ROOT', help='A dataset in KITTI layout.')]
SplitOption = Annotated[
    str, typer.Option(metavar='NAME', help='A file of ImageSets, without .txt.')
]
CameraViewOption = Annotated[
    bool,
    typer.Option(
        '--camera-view/--no-camera-view', help="Drop points outside the camera's image, or not."
    ),
]
DeviceOption = Annotated[str, typer.Option(help='cpu or cuda.')]


def compare_features_command(
    teacher: Annotated[Path, typer.Argument(help='A bundle, or the folder of a run.')],
    student: Annotated[Path, typer.Argument(help='A bundle, or the folder of a run.')],
    *,
    dataset: DatasetOption,
    split: SplitOption = 'val',
    max_frames: Annotated[int, typer.Option(min=1, help='Evenly spread over the split.')] = 100,
    camera_view: CameraViewOption = True,
    device: DeviceOption = 'cpu',
    json_file: JsonOption = None,
) -> None:
    """How alike the features of a student are to its teacher's, layer by layer.

    A distillation loss may fall without any learning; these numbers may not. A random, untrained
    student of the same shape is measured along, as what they are worth without training.

    Example: `pointdistiller compare-features runs/teacher runs/student --dataset data/simulated
    --split val`
    """
    # torch takes seconds to import, and `--help` should not wait for it
    from pointdistiller_core.datasets import build_dataset
    from pointdistiller_core.deploy.bundle import load_detector_model
    from pointdistiller_core.distill.distiller import check_same_input
    from pointdistiller_core.distill.feature_similarity import compare_features, untrained_twin

    networks = [load_detector_model(path, device=device) for path in (teacher, student)]
    check_same_input(*(network.config for network in networks))
    config = DatasetConfig(root=dataset, split=split, camera_view=camera_view)
    frames = build_dataset(config, networks[0].config.class_names)
    num_frames = min(max_frames, len(frames))
    with progress_bar('compare features', 'frames') as update:
        similarities = compare_features(
            networks[0],
            {'student': networks[1], 'untrained': untrained_twin(networks[1])},
            clouds_of(frames, num_frames, next(networks[0].parameters()).device, update),
        )
    title = f'{student} and {teacher} on {dataset} ({split}, {num_frames} frames)'
    print_similarities(similarities, title, json_file=json_file)
    write_json(
        json_file,
        {
            tap: {name: asdict(similarity) for name, similarity in students.items()}
            for tap, students in similarities.items()
        },
    )


def clouds_of(
    frames: FrameDataset,
    num_frames: int,
    device: torch.device,
    on_frame: Callable[[int, int], None],
) -> Iterator[Tensor]:
    """(N, 4) points of frames that are evenly spread over a dataset."""
    import torch

    for index in range(num_frames):
        frame = frames[index * len(frames) // num_frames]
        yield torch.from_numpy(frame.points).to(device)
        on_frame(index + 1, num_frames)


def print_similarities(
    similarities: Mapping[str, Mapping[str, Similarity]], title: str, *, json_file: str | None
) -> None:
    """A row for each tap."""
    columns = ['tap', 'CKA', 'probe R2', 'CKA, untrained', 'probe R2, untrained']
    rows = [
        [
            tap,
            *(f'{value:.3f}' for item in students.values() for value in (item.cka, item.probe_r2)),
        ]
        for tap, students in similarities.items()
    ]
    print_table(f'Features: {title}', columns, rows, json_target=json_file)
