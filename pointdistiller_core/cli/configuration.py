# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Verbs that show configurations: `models` and `dump-config`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
import sys
from typing import Annotated, Any, cast

import typer

from pointdistiller_core.cli.output import JsonOption, OverrideOption, print_table, write_json
from pointdistiller_core.config import (
    AnchorDetectorConfig,
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


class Kind(str, Enum):
    """What `dump-config` can print."""

    experiment = 'experiment'
    model = 'model'
    simulation = 'simulation'


def models_command(*, json_file: JsonOption = None) -> None:
    """List every shipped model configuration with its parameters and multiply-adds.

    Both numbers are counted on the network that the configuration builds.

    Example: `pointdistiller models --json models.json`
    """
    rows = [describe_model(path) for path in shipped_configs('models')]
    print_table(
        'Shipped model configurations (config/models)',
        ['model', 'detector', 'width', 'BEV grid', 'parameters', 'multiply-adds'],
        [
            [
                row['name'],
                row['detector'],
                f'{row["width"]:g}',
                f'{row["bev_shape"][0]} x {row["bev_shape"][1]}',
                f'{row["parameters"] / 1e6:.2f} M',
                f'{row["multiply_adds"] / 1e9:.1f} G',
            ]
            for row in rows
        ],
        json_target=json_file,
    )
    write_json(json_file, rows)


def describe_model(path: Path) -> dict[str, Any]:
    """Size of the network of one model configuration, derived from the network itself."""
    # torch takes a second to import, and `--help` should not wait for it
    from pointdistiller_core.evaluation.efficiency import (
        count_detector_multiply_adds,
        count_parameters,
    )
    from pointdistiller_core.models import build_detector

    config = cast(AnchorDetectorConfig, load_config(DetectorConfig, path))
    detector = build_detector(config)
    return {
        'name': path.stem,
        'detector': config.name,
        'width': config.width,
        'bev_shape': list(config.grid.bev_shape),
        'parameters': count_parameters(detector),
        'multiply_adds': count_detector_multiply_adds(detector),
    }


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
