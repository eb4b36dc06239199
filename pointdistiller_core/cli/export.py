# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `export`: a bundle for other backends than torch, checked against torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import asdict
from enum import Enum
from pathlib import Path
import sys
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistiller_core.cli.output import (
    JsonOption,
    print_note,
    print_table,
    progress_bar,
    write_json,
)
from pointdistiller_core.config import DatasetConfig, SimulationConfig
from pointdistiller_core.errors import BackendError, ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pointdistiller_core.datasets import KittiDataset
    from pointdistiller_core.training.verification import Verification

SIMULATED = 'simulated scenes'
SIMULATED_FRAMES, SIMULATION_SEED = 8, 20_220_511  # no study trains on this seed
MOST_CHECKED = 50


class Target(str, Enum):
    """What a bundle can be exported to; the names of `deploy.backends`."""

    OPENVINO_INT8 = 'openvino-int8'
    OPENVINO = 'openvino'
    ONNX = 'onnx'


def export_command(
    bundle: Annotated[Path, typer.Argument(help='A bundle, or the folder of a run.')],
    *,
    to: Annotated[Target, typer.Option(help='The backend that shall run it.')],
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar='ROOT|BAG',
            help='A dataset in KITTI layout, or a bag, whose clouds are like those that the '
            'detector will see; int8 needs it.',
        ),
    ] = None,
    split: Annotated[str, typer.Option(help='Split of the calibration dataset.')] = 'train',
    frames: Annotated[int, typer.Option(min=1, help='Clouds to calibrate with.')] = 100,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar='ROOT',
            help='A dataset in KITTI layout to compare with torch on, beside simulated scenes.',
        ),
    ] = None,
    check_split: Annotated[str, typer.Option(help='Split of that dataset.')] = 'val',
    json_file: JsonOption = None,
) -> None:
    """Add the files of another backend to a bundle, if it finds what torch finds.

    Example: `pointdistiller export runs/student --to openvino-int8 --calibration data/kitti
    --check data/kitti`
    """
    from pointdistiller_core.deploy.bundle import find_bundle, load_detector_model
    from pointdistiller_core.deploy.bundle_format import add_files
    from pointdistiller_core.deploy.exporters import export_detector

    if to is Target.OPENVINO_INT8 and calibration is None:
        raise ConfigError(
            f'{to.value} learns the range of every feature map from real clouds: give '
            '--calibration with a dataset or a bag'
        )
    folder = find_bundle(bundle)
    clouds = (
        calibration_clouds(calibration, split, frames)
        if calibration and to is Target.OPENVINO_INT8
        else ()
    )
    with redirect_stdout(sys.stderr):  # where the converters' own notes belong
        files = export_detector(load_detector_model(folder), to.value, clouds)
    verifications = verify_files(folder, to.value, files, check=check, split=check_split)
    problems = find_problems(verifications)
    print_verifications(verifications, to.value, problems, json_file=json_file)
    if problems:
        raise BackendError(
            f'{folder} is left as it was, for {to.value} disagrees with torch: '
            + '; '.join(problems)
        )
    add_files(folder, files)
    size = sum(map(len, files.values())) / 1e6
    print_note(f'{folder}: added {", ".join(files)} ({size:.1f} MB)')


def calibration_clouds(source: Path, split: str, wanted: int) -> Iterator[NDArray[np.float32]]:
    """Clouds (N, 4) that are evenly spread over a dataset or a bag."""
    if is_bag(source):
        yield from bag_clouds(source, wanted)
        return
    from pointdistiller_core.datasets import KittiDataset
    from pointdistiller_core.training.validate import spread_indices

    dataset = KittiDataset(
        DatasetConfig(root=source, split=split, camera_view=False), (), labelled=False
    )
    indices = spread_indices(len(dataset), wanted)
    with progress_bar('calibrate', 'clouds') as update:
        for done, index in enumerate(indices, start=1):
            yield dataset[index].points
            update(done, len(indices))


def is_bag(source: Path) -> bool:
    """Whether a path looks like a bag, not like a dataset."""
    return source.suffix in {'.mcap', '.db3', '.bag'} or (source / 'metadata.yaml').is_file()


def bag_clouds(bag: Path, wanted: int) -> Iterator[NDArray[np.float32]]:
    """Returns (N, 4) of clouds that are evenly spread over a bag's only PointCloud2 topic."""
    from pointdistiller_core.datasets.bags import read_clouds
    from pointdistiller_core.datasets.point_cloud2 import drop_no_returns, points_from_cloud
    from pointdistiller_core.training.validate import spread_indices

    chosen = set(spread_indices(sum(1 for _ in read_clouds(bag)), wanted))
    for index, cloud in enumerate(read_clouds(bag)):
        if index in chosen:
            yield drop_no_returns(points_from_cloud(cloud.message))


def verify_files(
    folder: Path, target: str, files: Mapping[str, bytes], *, check: Path | None, split: str
) -> dict[str, Verification]:
    """Compare a backend with torch, on each dataset, before its files come into the bundle."""
    from pointdistiller_core.deploy.bundle_format import add_files, read_info, write_info
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.training.validate import spread_indices
    from pointdistiller_core.training.verification import LIMITS, verify_backend

    verifications = {}
    with TemporaryDirectory() as trial:
        write_info(Path(trial), read_info(folder).model_copy(update={'sha256': {}}))
        add_files(Path(trial), files)
        reference = Detector.load(folder, backend='torch')
        detector = Detector.load(trial, backend=target)
        for name, dataset in check_datasets(folder, check, split):
            with progress_bar(f'compare on {name}', 'clouds') as update:
                verifications[name] = verify_backend(
                    reference,
                    detector,
                    dataset,
                    spread_indices(len(dataset), MOST_CHECKED),
                    limits=LIMITS[target],
                    on_frame=update,
                )
    return verifications


def check_datasets(
    folder: Path, root: Path | None, split: str
) -> Iterator[tuple[str, KittiDataset]]:
    """Labelled frames to compare on: those of a dataset, and simulated ones."""
    from pointdistiller_core.datasets import KittiDataset
    from pointdistiller_core.datasets.simulated import simulate_dataset
    from pointdistiller_core.deploy.bundle_format import read_info

    names = read_info(folder).model.class_names
    if root is not None:
        yield f'{root} ({split})', KittiDataset(DatasetConfig(root=root, split=split), names)
    with TemporaryDirectory() as simulated:
        simulate_dataset(
            Path(simulated),
            SimulationConfig(),
            splits={'val': SIMULATED_FRAMES},
            seed=SIMULATION_SEED,
            num_workers=1,
        )
        yield SIMULATED, KittiDataset(DatasetConfig(root=Path(simulated), split='val'), names)


def find_problems(verifications: Mapping[str, Verification]) -> list[str]:
    """Why the backend must not be used, dataset by dataset.

    A detector of another sensor may find nothing in simulated scenes. That is a reason to refuse
    only where there is nothing else to compare on.
    """
    return [
        f'{problem} ({name})'
        for name, verification in verifications.items()
        for problem in verification.problems
        if verification.agreement.num_boxes or name != SIMULATED or len(verifications) == 1
    ]


def print_verifications(
    verifications: Mapping[str, Verification],
    target: str,
    problems: list[str],
    *,
    json_file: str | None,
) -> None:
    """What was measured beside what is allowed."""
    for name, each in verifications.items():
        title = f'{target} against torch, {each.num_clouds} clouds of {name}'
        columns = ['measure', 'value', 'limit']
        print_table(title, columns, verification_rows(each, target), json_target=json_file)
    checks = [
        {'clouds': name, **asdict(each), 'fraction': each.agreement.fraction}
        for name, each in verifications.items()
    ]
    write_json(json_file, {'target': target, 'problems': problems, 'checks': checks})


def verification_rows(verification: Verification, target: str) -> list[list[str]]:
    """Name, value and limit of each measure."""
    agreement, limits = verification.agreement, verification.limits
    rows = [
        ['boxes of torch', str(agreement.num_boxes), '-'],
        [f'boxes of {target}', str(agreement.num_other_boxes), '-'],
        [
            f'in both (BEV IoU > {limits.min_iou})',
            f'{agreement.fraction:.2%}',
            f'{limits.min_fraction:.0%}',
        ],
        [
            'mean difference of scores',
            f'{agreement.mean_score_difference:.5f}',
            f'{limits.max_score_difference}',
        ],
    ]
    return rows + [
        [
            f'loss of {loss.metric} AP, {loss.class_name} ({loss.num_labels} labels)',
            f'{loss.torch:.2f} - {loss.backend:.2f} = {loss.loss:.2f}',
            f'{loss.allowed(limits):.2f}',
        ]
        for loss in verification.losses
    ]
