# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What importers of all projects share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
import yaml

from pointdistiller_core.config import DetectorConfig, parse_yaml
from pointdistiller_core.deploy.torch_files import load_torch_file
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.files import read_text


@dataclass(frozen=True)
class Imported:
    """A checkpoint of another project in our words.

    Attributes:
        config: of the detector.
        state: the weights under our names.
        notes: what was assumed, for people.
    """

    config: DetectorConfig
    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def read_settings(config_yaml: Path) -> Any:
    """What the YAML file of another project says.

    Raises:
        ConfigError: missing or not YAML.
    """
    try:
        return parse_yaml(read_text(config_yaml, ConfigError))
    except yaml.YAMLError as error:
        raise ConfigError(f'{config_yaml}: not valid YAML: {error}') from error


def load_checkpoint(checkpoint: Path) -> Any:
    """The content of a checkpoint, read as data: nothing in it is executed.

    Raises:
        CheckpointError: missing or damaged.
    """
    try:
        if checkpoint.exists() and not checkpoint.is_file():
            raise CheckpointError(f'{checkpoint}: not a file')
        return load_torch_file(checkpoint.read_bytes(), where=checkpoint)
    except FileNotFoundError as error:
        raise CheckpointError(f'{checkpoint}: no such checkpoint') from error
    except OSError as error:
        raise CheckpointError(f'{checkpoint}: cannot be read: {error.strerror}') from error
