# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Verbs that show configurations: `models` and `dump-config`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointdistiller_core.cli.output import (
    JsonOption,
    OverrideOption,
    print_note,
    print_table,
    write_json,
)
from pointdistiller_core.config import (
    DetectorConfig,
    ExperimentConfig,
    SimulationConfig,
    apply_overrides,
    dump_config,
    load_config,
    load_experiment,
    parse_config,
    shipped_configs,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Kind(str, Enum):
    """What `dump-config` can print."""

    experiment = 'experiment'
    model = 'model'
    simulation = 'simulation'


def models_command(
    *,
    sweep: Annotated[
        Path | None,
        typer.Option(
            metavar='CLOUD',
            help='Also count what the voxels of this cloud cost (.bin, .npy, .pcd): the pillar '
            "encoder, or SECOND's sparse convolutions.",
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """List every shipped model configuration with its parameters and multiply-adds.

    Both numbers are counted on the network that the configuration builds; without a cloud if it
    has a map, and with all of its points and proposals if it has none.

    Example: `pointdistiller models --sweep 000008.bin --json models.json`
    """
    from pointdistiller_core.datasets.point_files import read_points

    points = None if sweep is None else read_points(sweep)
    rows = [describe_model(path, points) for path in shipped_configs('models')]
    columns = ['model', 'detector', 'width', 'input', 'parameters', 'multiply-adds']
    more = [] if sweep is None else ['voxels of the cloud', 'multiply-adds for them']
    print_table(
        'Shipped model configurations (config/models)',
        [*columns, *more],
        [_row_of(row, with_cloud=sweep is not None) for row in rows],
        json_target=json_file,
    )
    for row in rows:
        if dropped := row.get('cloud', {}).get('voxels_dropped'):
            total = row['cloud']['voxels'] + dropped
            print_note(f'{row["name"]}: cut off by its cap: {dropped} of {total} voxels in range')
    write_json(json_file, rows)


def _row_of(row: Mapping[str, Any], *, with_cloud: bool) -> list[str]:
    """A row of the table."""
    cells = [
        row['name'],
        row['detector'],
        f'{row["width"]:g}',
        row['input'],
        f'{row["parameters"] / 1e6:.2f} M',
        f'{row["multiply_adds"] / 1e9:.1f} G',
    ]
    if 'cloud' in row:
        cells += [str(row['cloud']['voxels']), f'{row["cloud"]["multiply_adds"] / 1e9:.2f} G']
    elif with_cloud:
        cells += ['-', '-']
    return cells


def describe_model(path: Path, points: NDArray[np.float32] | None = None) -> dict[str, Any]:
    """Size of the network of one model configuration, derived from the network itself.

    Args:
        path: of the configuration.
        points: (N, 4) a cloud; what its voxels cost is added as `cloud`. A detector of merged
            sweeps sees this one alone.
    """
    # torch takes a second to import, and `--help` should not wait for it
    import numpy as np
    import torch

    from pointdistiller_core.evaluation.efficiency import (
        count_detector_multiply_adds,
        count_encoder_multiply_adds,
        count_parameters,
    )
    from pointdistiller_core.models import AnchorDetector, build_detector

    config = load_config(DetectorConfig, path)
    detector = build_detector(config)
    row = {
        'name': path.stem,
        'detector': config.name,
        'width': config.width,
        'input': config.input_size,
        'parameters': count_parameters(detector),
        'multiply_adds': count_detector_multiply_adds(detector),
    }
    if points is None or not isinstance(detector, AnchorDetector):
        return row
    ages = np.zeros((len(points), len(config.point_features) - points.shape[1]), np.float32)
    cloud_points = torch.from_numpy(np.concatenate([points, ages], axis=1))
    prepared = detector.eval().prepare([cloud_points])  # training has other caps
    cut = prepared.cuts['voxels']
    cloud = {
        'voxels': cut.kept,
        'voxels_dropped': cut.dropped,
        'multiply_adds': count_encoder_multiply_adds(detector, prepared),
    }
    return {**row, 'cloud': cloud}


def dump_config_command(
    kind: Annotated[Kind, typer.Argument(help='Which configuration.')] = Kind.experiment,
    config: Annotated[
        Path | None, typer.Argument(help='A YAML file to complete with the defaults.')
    ] = None,
    overrides: OverrideOption = None,
) -> None:
    """Print a complete configuration as YAML: the defaults, or a file with its defaults filled in.

    Example: `pointdistiller dump-config model config/models/pointpillars_4x.yaml`
    """
    changes = tuple(overrides or ())
    if kind is not Kind.experiment:
        cls = DetectorConfig if kind is Kind.model else SimulationConfig
        values = apply_overrides({}, changes)
        result = (
            load_config(cls, config, changes)
            if config
            else parse_config(cls, values, where='--set')
        )
    elif config is None:
        values = apply_overrides({'dataset': {'root': 'data/kitti'}}, changes)
        result = parse_config(ExperimentConfig, values, where='--set')
    else:
        result = load_experiment(config, changes)
    sys.stdout.write(dump_config(result))
