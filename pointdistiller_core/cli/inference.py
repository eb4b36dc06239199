# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Verbs that use trained weights: `detect` and `import-checkpoint`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointdistiller_core.cli.intensity import (
    IntensityScaleOption,
    expectations,
    given_scale,
    settle_scale,
)
from pointdistiller_core.cli.output import (
    JsonOption,
    check_folder,
    print_cuts,
    print_note,
    print_table,
    write_json,
)
from pointdistiller_core.deploy.bundle_format import DEFAULT_BUNDLE
from pointdistiller_core.errors import DatasetError, PointDistillerError
from pointdistiller_core.geometry.intensity import JUDGED_CLOUDS, IntensityJudge, scale_intensity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pointdistiller_core.deploy.bundle_format import BundleInfo
    from pointdistiller_core.records import Detections, LiveImportance

BackendOption = Annotated[
    str,
    typer.Option(
        help='openvino-int8, openvino, onnx or torch; auto is the first that can run here.'
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads of the network; by default the library's own."),
]
PrecisionOption = Annotated[
    str, typer.Option(help='Precision of the network in torch: fp32, bf16, or on a GPU fp16.')
]
BundleArgument = Annotated[Path, typer.Argument(help='A bundle, or the folder of a run.')]


POINT_SUFFIXES = ('.bin', '.npy', '.pcd')


class MissingIntensity(str, Enum):
    """What to do with a cloud without intensities, as the node's parameter."""

    error = 'error'
    zero = 'zero'


class Shown(str, Enum):
    """By what places are important; see `Detector`."""

    own = 'own'
    confidence = 'confidence'

    @property
    def kind(self) -> LiveImportance:
        """The value, for `Detector`."""
        return 'confidence' if self is Shown.confidence else 'own'


def detect_command(
    bundle: Annotated[
        Path,
        typer.Argument(help='A bundle, the folder of a run or a shipped name; may be left out.'),
    ],
    clouds: Annotated[
        list[Path] | None,
        typer.Argument(help='Point clouds: .bin of float32 x, y, z, intensity, .npy or .pcd.'),
    ] = None,
    *,
    bundle_option: Annotated[
        Path | None,
        typer.Option('--bundle', help='The bundle; all arguments are then point clouds.'),
    ] = None,
    score_threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Lowest score; by default the bundle's.")
    ] = None,
    device: Annotated[str, typer.Option(help='cpu or cuda.')] = 'cpu',
    backend: BackendOption = 'auto',
    num_threads: ThreadsOption = None,
    precision: PrecisionOption = 'fp32',
    intensity_scale: IntensityScaleOption = None,
    missing_intensity: Annotated[
        MissingIntensity, typer.Option(help='Refuse clouds without intensities, or use zero.')
    ] = MissingIntensity.error,
    pictures: Annotated[
        Path | None,
        typer.Option(help='Folder for a picture from above of each cloud.', callback=check_folder),
    ] = None,
    importance: Annotated[
        Shown,
        typer.Option(
            help="What the pictures color: the detector's own measure of each place (number of "
            'points of a voxel, largest feature of a point), or the scores there.'
        ),
    ] = Shown.own,
    json_file: JsonOption = None,
) -> None:
    """Detect objects in point cloud files.

    Example: `pointdistiller detect runs/student data/kitti/training/velodyne/000008.bin
    --pictures pictures --json -`
    """
    from pointdistiller_core.datasets.point_files import read_points
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.pointcloud.sweeps import one_sweep

    clouds = list(clouds or ())
    if bundle_option is not None or bundle.is_file():  # as in `run detect`
        bundle, clouds = bundle_option or Path(DEFAULT_BUNDLE), [bundle, *clouds]
    if not clouds:
        raise typer.BadParameter('there is no point cloud after the bundle', param_hint='CLOUDS')
    _refuse_datasets(clouds, bundle)
    scale = given_scale(intensity_scale) or 1.0
    detector = Detector.load(
        bundle, backend=backend, device=device, num_threads=num_threads, precision=precision
    )
    zeros = missing_intensity is MissingIntensity.zero
    read = partial(read_points, needs_intensity=not zeros)
    first = _read_first(clouds, read)
    judged = {
        path.name: points
        for path, points in zip(clouds, first, strict=False)
        if points[:, 3].any() or not zeros
    }
    scale = settle_scale(
        intensity_scale,
        (scale_intensity(points, scale) for points in judged.values()),
        expectations({'': detector.info}),
        scale=scale,
        where=clouds[0] if len(clouds) == 1 else '',
    )
    _warn_of_odd_clouds(judged, detector.info, scale)
    detection = detector.info.model.detection
    if score_threshold is not None:
        lowest = {'score_threshold': score_threshold, 'score_thresholds': ()}
        detection = detection.model_copy(update=lowest)
    if (model := detector.info.model).sweeps > 1:
        print_note(f'the bundle merges {model.sweeps} sweeps; each file is taken as a single one')
    results = []
    shown = False if pictures is None else importance.kind
    try:
        for index, path in enumerate(clouds):
            points = first[index] if index < len(first) else read(path)
            points = one_sweep(scale_intensity(points, scale), detector.info.model)
            detections = detector(points, detection=detection, importance=shown)
            results.append((path, detections))
            if pictures is not None:
                _draw(pictures / f'{path.stem}.png', points, detections, detector.class_names)
    finally:  # a broken cloud loses none of the results before it
        if results:
            _print_detections(results, detector.class_names, json_file=json_file)


def _refuse_datasets(clouds: Sequence[Path], bundle: Path) -> None:
    """Refuse bags and datasets.

    Raises:
        DatasetError: there is one; names the verb for it.
    """
    from pointdistiller_core.datasets import DATASETS

    for path in clouds:
        if path.suffix.lower() in POINT_SUFFIXES:  # whose content may be anything
            continue
        kinds = [name for name, kind in DATASETS.items() if kind.lies_at(path)]
        if kinds == ['bag']:
            raise DatasetError(
                f'{path}: a bag, and detect takes files of points; to record what is found in a '
                f'bag: pointdistiller run detect {bundle} --bag {path} --record OUT --lockstep; '
                f'to score it: pointdistiller evaluate {bundle} --dataset {path}'
            )
        if kinds:
            raise DatasetError(
                f'{path}: {DATASETS[kinds[0]].layout}, and detect takes its files of points, '
                f'*.bin; to score all: pointdistiller evaluate {bundle} --dataset {path}'
            )


def _read_first(
    clouds: Sequence[Path], read: Callable[[Path], NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """(N, 4) points of the first clouds, up to one that cannot be read (reported later)."""
    first = []
    for path in clouds[:JUDGED_CLOUDS]:
        try:
            first.append(read(path))
        except PointDistillerError:
            break
    return first


def _warn_of_odd_clouds(
    clouds: Mapping[str, NDArray[np.float32]], info: BundleInfo, scale: float
) -> None:
    """Say which of several clouds are not on the scale that the others are on.

    Args:
        clouds: (N, 4) points by their name, as the files have them.
        info: of the bundle.
        scale: that was decided for all.
    """
    findings = {}
    for name, points in clouds.items():
        ((text, limits),) = expectations({'': info}).items()
        remedy = '(run it by itself with --intensity-scale auto or {:.6g})'.format
        judge = IntensityJudge(limits, expected=text, remedy=remedy)
        if finding := judge.add(scale_intensity(points, scale), scale=scale):
            findings[name] = finding
    if len(findings) < len(clouds):  # what all have was said of all
        for name, finding in findings.items():
            print_note(f'warning: {name} is unlike other clouds: {finding}')


def _draw(path: Path, points: Any, detections: Detections, class_names: Sequence[str]) -> None:
    from pointdistiller_core.evaluation.pictures.scenes import draw_scene

    importance = detections.importance
    draw_scene(
        path,
        points,
        importance=importance.point_scores if importance else None,
        student=detections,
        class_names=class_names,
        title=path.stem,
        student_name='detections',
    )
    print_note(f'wrote {path}')


def _print_detections(
    results: Sequence[tuple[Path, Detections]],
    class_names: Sequence[str],
    *,
    json_file: str | None,
) -> None:
    rows = [
        [path.name, class_names[label], f'{score:.3f}', *(f'{value:.2f}' for value in box)]
        for path, found in results
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
    ]
    columns = ['cloud', 'class', 'score', 'x', 'y', 'z', 'dx', 'dy', 'dz', 'yaw']
    print_table('Detections, LiDAR frame [m, rad]', columns, rows, json_target=json_file)
    if not rows:
        print_note('no box reaches the score threshold')
    print_cuts(found for _, found in results)
    if missing := [path.name for path, found in results if found.counts.get('no_ground')]:
        print_note(
            f'no ground found in {len(missing)} of {len(results)} clouds, which are taken as they '
            f'are: {", ".join(missing[:5])}{", ..." if len(missing) > 5 else ""}'
        )
    write_json(
        json_file,
        [
            {
                'cloud': str(path),
                'classes': [class_names[label] for label in found.labels],
                'scores': found.scores.tolist(),
                'boxes': found.boxes.tolist(),
                'counts': dict(found.counts),
                'cuts': {kind: cut._asdict() for kind, cut in found.cuts.items()},
                'latency_ms': dict(found.latency_ms),
            }
            for path, found in results
        ],
    )


def import_checkpoint_command(
    checkpoint: Annotated[Path, typer.Argument(help="OpenPCDet's checkpoint (.pth).")],
    config: Annotated[
        Path, typer.Argument(help='The configuration that it was trained with, complete (.yaml).')
    ],
    output: Annotated[Path, typer.Argument(help='Bundle folder to write.')],
    *,
    intensity_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar='LOW HIGH',
            help='Range of the clouds that it was trained on; 0 to 1 is assumed. Intensities are '
            'clipped to it.',
        ),
    ] = None,
) -> None:
    """Turn a checkpoint of OpenPCDet or mmdetection3d into a bundle.

    PointPillars and SECOND of OpenPCDet; PointPillars with a feature pyramid, as for nuScenes, of
    mmdetection3d 1.0 and later.

    Example: `pointdistiller import-checkpoint pointpillar_7728.pth pointpillar.yaml teacher`
    """
    from pointdistiller_core.deploy.bundle import save_imported_bundle
    from pointdistiller_core.deploy.importers import import_checkpoint

    if output.exists():
        raise DatasetError(f'{output} exists already; choose another folder or remove it')
    imported = import_checkpoint(checkpoint, config)
    model_config = imported.config
    save_imported_bundle(
        output, model_config, imported.state, source=checkpoint, intensity_range=intensity_range
    )
    for note in imported.notes:
        print_note(f'{output}: {note}')
    print_note(f'{output}: {model_config.name}, classes {", ".join(model_config.class_names)}')
