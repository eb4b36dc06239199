# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `export`: a bundle for other backends than torch, checked against torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from pointdistiller_core.cli.detection_run import Source
from pointdistiller_core.cli.intensity import IntensityScaleOption
from pointdistiller_core.cli.output import (
    JsonOption,
    print_note,
    print_table,
    progress_bar,
    write_json,
)
from pointdistiller_core.config import SimulationConfig
from pointdistiller_core.errors import BackendError, ConfigError
from pointdistiller_core.files import temporary_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pointdistiller_core.config import DetectorConfig
    from pointdistiller_core.datasets import FrameDataset, Frames
    from pointdistiller_core.deploy.bundle_format import BundleInfo
    from pointdistiller_core.pipelines.verify_export import ApLoss, Limits, Verification

SIMULATED = 'simulated scenes'
SIMULATED_FRAMES, SIMULATION_SEED = 8, 20_220_511  # no study trains on this seed
MOST_CHECKED = 50
LEAST_HELD_OUT = 10  # clouds; fewer say little
LEAST_BOXES = 10  # of fewer, int8 may not lose one


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
            help='A dataset, or a bag, whose clouds are like those that the '
            'detector will see; int8 needs it. Without --check its boxes are compared with '
            "torch's, too.",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help='Split of the calibration dataset; train is the default.')
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help='Clouds to calibrate with.')] = 100,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar='ROOT|BAG',
            help='A dataset, or a bag, to compare with torch on, beside simulated scenes. Only a '
            'dataset, or a bag with boxes on /ground_truth/boxes, has labels, and so an AP.',
        ),
    ] = None,
    check_split: Annotated[
        str | None, typer.Option(help='Split of that dataset; val is the default.')
    ] = None,
    intensity_scale: IntensityScaleOption = None,
    json_file: JsonOption = None,
) -> None:
    """Add the files of another backend to a bundle, if it finds what torch finds.

    Example: `pointdistiller export runs/student --to openvino-int8 --calibration data/kitti
    --check data/kitti`
    """
    from pointdistiller_core.deploy.bundle_format import find_bundle, read_info
    from pointdistiller_core.deploy.export.split import check_family

    learns = to is Target.OPENVINO_INT8
    if learns and calibration is None:
        raise ConfigError(
            f'{to.value} learns the range of every feature map from real clouds: give '
            '--calibration with a dataset or a bag'
        )
    folder = find_bundle(bundle)
    info = read_info(folder)
    check_family(info.model.name)
    known = None
    if calibration is not None:
        source = Source(
            *(calibration, split),
            intensity_scale=intensity_scale,
            usual_split='train',
            whole=True,
        )
        known = open_calibration(source, info, num_learned=frames if learns else 0)
        if learns and info.model.sweeps > 1:
            print_note(
                f'{known.name}: int8 learns from {len(known.learned)} clouds of up to '
                f'{info.model.sweeps} merged sweeps each, as the bundle was trained (model.sweeps)'
            )
    files = export_files(folder, to, known, info)
    if check is not None:
        real = check_clouds(Source(check, check_split, intensity_scale=intensity_scale), info)
    elif known is not None:
        real = held_out_clouds(*known)
    else:
        real = None
        print_note(
            'no real cloud is compared: give --check, or --calibration, with clouds like those '
            'that the detector will see'
        )
    add_verified(folder, to.value, files, real, json_file=json_file)


def add_verified(
    folder: Path,
    target: str,
    files: Mapping[str, bytes],
    real: CheckedClouds | None,
    *,
    json_file: str | None,
) -> None:
    """Add the files of a backend to a bundle, if it finds what torch finds; says what it finds.

    Raises:
        BackendError: it does not; the bundle is left as it was.
    """
    from pointdistiller_core.deploy.bundle_format import add_files

    verifications = verify_files(folder, target, files, real)
    problems = find_problems(verifications)
    print_verifications(verifications, target, problems, json_file=json_file)
    if problems:
        raise BackendError(
            f'{folder} is left as it was, for {target} {describe_refusal(verifications)}: '
            + '; '.join(problems)
        )
    add_files(folder, files)
    size = sum(map(len, files.values())) / 1e6
    print_note(f'{folder}: added {", ".join(files)} ({size:.1f} MB)')


@dataclass(frozen=True)
class CheckedClouds:
    """Clouds to compare a backend with torch on.

    Attributes:
        name: where they come from.
        frames: hold them.
        indices: of the frames that are compared.
        labels: the same frames with labels, or None.
    """

    name: str
    frames: Frames
    indices: Sequence[int]
    labels: FrameDataset | None


class Calibration(NamedTuple):
    """Clouds without labels: where they come from, and which of them int8 learns from."""

    name: str
    frames: Frames
    learned: Sequence[int]


def open_calibration(source: Source, info: BundleInfo, *, num_learned: int) -> Calibration:
    """The clouds of a source, of which some that are evenly spread are learned from."""
    from pointdistiller_core.records import spread_indices

    frames = source.open((), {'': info}, labelled=False)
    learned = spread_indices(len(frames), num_learned) if num_learned else []
    return Calibration(source.name, frames, learned)


def export_files(
    folder: Path, to: Target, known: Calibration | None, info: BundleInfo
) -> dict[str, bytes]:
    """Files of a backend for a bundle, by name."""
    from pointdistiller_core.deploy.bundle import load_detector_model
    from pointdistiller_core.deploy.export.exporters import export_detector

    clouds: Iterable[NDArray[np.float32]] = ()
    if known is not None and known.learned:
        clouds = calibration_clouds(known, info)
    with redirect_stdout(sys.stderr):  # where the converters' own notes belong
        return export_detector(load_detector_model(folder), to.value, clouds)


def calibration_clouds(known: Calibration, info: BundleInfo) -> Iterator[NDArray[np.float32]]:
    """(N, F) points to learn from as a network sees them: levelled, intensities in the range."""
    from pointdistiller_core.datasets.levelling import level
    from pointdistiller_core.geometry.intensity import clip_intensity

    with progress_bar('calibrate', 'clouds') as update:
        for done, index in enumerate(known.learned, start=1):
            points = level(known.frames[index], info.level_at).points
            yield clip_intensity(points, info.intensity_range)
            update(done, len(known.learned))


def check_clouds(source: Source, info: BundleInfo) -> CheckedClouds:
    """Evenly spread frames, with labels where there are any."""
    from pointdistiller_core.records import spread_indices

    frames = source.open(info.model.class_names, {'': info}, labelled=source.is_labelled)
    indices = spread_indices(len(frames), MOST_CHECKED)
    return CheckedClouds(source.name, frames, indices, frames if source.is_labelled else None)


def held_out_clouds(name: str, frames: Frames, learned: Sequence[int]) -> CheckedClouds:
    """Evenly spread clouds of the calibration's source that int8 has not learned from.

    Where these are too few, all are compared, and a note says so.
    """
    from pointdistiller_core.records import spread_indices

    candidates = sorted(set(range(len(frames))) - set(learned))
    if learned and len(candidates) < LEAST_HELD_OUT:
        print_note(
            f'{name}: calibration leaves {len(candidates)} of {len(frames)} clouds to compare '
            'on, so those that it has learned from are compared, too; use fewer --frames, or give '
            '--check'
        )
        candidates = list(range(len(frames)))
    elif learned:
        name += ', held out from calibration'
    chosen = [candidates[index] for index in spread_indices(len(candidates), MOST_CHECKED)]
    return CheckedClouds(name, frames, chosen, None)


def verify_files(
    folder: Path, target: str, files: Mapping[str, bytes], real: CheckedClouds | None
) -> dict[str, Verification]:
    """Compare a backend with torch, on each set of clouds, before its files are in the bundle."""
    from pointdistiller_core.deploy.bundle_format import add_files, read_info, write_info
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.pipelines.verify_export import LIMITS, verify_backend

    verifications = {}
    with temporary_folder() as trial, temporary_folder() as simulated:
        write_info(trial, read_info(folder).model_copy(update={'sha256': {}}))
        add_files(trial, files)
        reference = Detector.load(folder, backend='torch')
        detector = Detector.load(trial, backend=target)
        scenes = simulate_clouds(simulated, reference.info.model)
        for clouds in (scenes,) if real is None else (real, scenes):
            with progress_bar(f'compare on {clouds.name}', 'clouds') as update:
                verifications[clouds.name] = verify_backend(
                    reference,
                    detector,
                    clouds.frames,
                    clouds.indices,
                    limits=LIMITS[target],
                    labels=clouds.labels,
                    on_frame=update,
                )
    return verifications


def simulate_clouds(folder: Path, model: DetectorConfig) -> CheckedClouds:
    """Simulated scenes of one sweep, which every detector is compared on."""
    from pointdistiller_core.datasets import open_dataset, with_sweeps
    from pointdistiller_core.datasets.simulated import simulate_dataset

    simulate_dataset(
        folder,
        SimulationConfig(),
        splits={'val': SIMULATED_FRAMES},
        seed=SIMULATION_SEED,
        num_workers=1,
    )
    scenes = open_dataset(folder, split='val', class_names=model.class_names)
    dataset = with_sweeps(scenes, model, folder, alone=True)
    return CheckedClouds(SIMULATED, dataset, range(len(dataset)), dataset)


def find_problems(verifications: Mapping[str, Verification]) -> list[str]:
    """Why the backend must not be used, dataset by dataset.

    A detector of another sensor may find hardly anything in simulated scenes. That is a reason to
    refuse only where there is nothing else to compare on; a note says so.
    """
    problems = []
    for name, verification in verifications.items():
        found = [f'{problem} ({name})' for problem in verification.problems]
        num_boxes = verification.agreement.num_boxes
        if name == SIMULATED and len(verifications) > 1 and num_boxes < LEAST_BOXES:
            if found:
                print_note(f'not judged by, for {num_boxes} boxes say little: {"; ".join(found)}')
            continue
        problems += found
    return problems


def describe_refusal(verifications: Mapping[str, Verification]) -> str:
    """What is wrong with a backend that is refused."""
    if any(each.agreement.num_boxes for each in verifications.values()):
        return 'disagrees with torch'
    return 'cannot be compared with torch'


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
    """Name, value and limit of each measure; no limit is one that could not be exceeded."""
    agreement, limits = verification.agreement, verification.limits
    rows = [
        ['boxes of torch', str(agreement.num_boxes), '-'],
        [f'boxes of {target}', str(agreement.num_other_boxes), '-'],
        [
            f'in both (BEV IoU > {limits.min_iou})',
            f'{agreement.fraction:.2%}' if agreement.num_boxes else '-',
            f'{limits.min_fraction:.0%}',
        ],
        [
            'mean difference of scores',
            f'{agreement.mean_score_difference:.5f}' if agreement.num_boxes else '-',
            f'{limits.max_score_difference}',
        ],
    ]
    return rows + [
        [
            f'loss of {loss.metric} AP, {loss.class_name} ({loss.num_labels} labels)',
            f'{loss.torch:.2f} - {loss.backend:.2f} = {loss.loss:.2f}',
            _limit_of(loss, limits),
        ]
        for loss in verification.losses
    ]


def _limit_of(loss: ApLoss, limits: Limits) -> str:
    """The largest loss that is allowed, or why none could be exceeded."""
    if loss.can_fail(limits):
        return f'{loss.allowed(limits):.2f}'
    return 'too few labels' if loss.torch else 'torch finds none of them'
