# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning: a training that begins with the weights of a trained detector.

The network must be the same; classes, anchors and range may differ. The channels of the head that
mean the same for both detectors are taken over; its other channels begin anew.
"""

from __future__ import annotations

from dataclasses import dataclass
import logging
from pathlib import Path
from typing import Any

from pydantic import JsonValue
import torch

from pointdistiller_core.config import (
    AnchorDetectorConfig,
    DetectorConfig,
    ExperimentConfig,
    PointPillarsConfig,
    PointRcnnConfig,
    SecondConfig,
)
from pointdistiller_core.deploy.bundle import (
    WEIGHTS_FILE,
    BundleInfo,
    build_with_weights,
    find_bundle,
    load_bundle,
)
from pointdistiller_core.distill.compatibility import list_differences
from pointdistiller_core.distill.initialization import stage_facts, stage_widths
from pointdistiller_core.distill.point_slices import point_widths
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.models import AnyDetector
from pointdistiller_core.training.checkpoint import list_checkpoints
from pointdistiller_core.training.head_channels import SharedChannels, of_anchors, of_points
from pointdistiller_core.training.processes import is_first_process
from pointdistiller_core.training.run import RUN_FILE, read_facts

logger = logging.getLogger(__name__)

SOURCE_FACT = 'from_sha256'  # in `run.json`: checksum of the weights that a run began with


@dataclass(frozen=True)
class Start:
    """The weights that a fine-tuning begins with.

    Attributes:
        sha256: checksum of the source's weights.
        summary: a line for people: what was taken over and what was made anew.
    """

    sha256: str
    summary: str


def start_from(source: Path, detector: AnyDetector, config: ExperimentConfig) -> Start:
    """Give a new detector the weights of a trained one, batch norm's statistics included.

    Warns of another height of the sensor or of the grid.

    Args:
        source: bundle or run folder.
        detector: with its first weights, which it keeps in channels of the head that the source
            lacks.
        config: of the training, with the detector's configuration.

    Raises:
        ConfigError: the source is another network or reads points in another way; lists every
            difference, with both values. The detector is not changed.
        CheckpointError: the source is missing or damaged.
    """
    folder = find_bundle(source)
    info, weights = load_bundle(folder)
    _check_same_network(source, info, config.model)
    trained = build_with_weights(info.model, weights, where=str(folder))
    warn_of_height(source, info, config)
    _warn_of_grid(source, info.model, config.model)
    head, shared = _shared_channels(trained.config, detector.config)
    rows = torch.tensor(shared.channels, dtype=torch.int64).reshape(-1, 2)
    state, new, made_anew = dict(trained.state_dict()), detector.state_dict(), 0
    for name in (f'{head}.weight', f'{head}.bias'):
        mixed = new[name].clone()
        mixed[rows[:, 0]] = state[name][rows[:, 1]]
        made_anew += (len(mixed) - len(rows)) * mixed[0].numel()
        state[name] = mixed
    detector.load_state_dict(state)
    total = sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point())
    return Start(
        info.sha256[WEIGHTS_FILE],
        f'{folder}: fine-tuning: {total - made_anew} of {total} weights taken over, batch norm '
        f'statistics included; {shared.describe()}',
    )


def _shared_channels(source: DetectorConfig, target: DetectorConfig) -> tuple[str, SharedChannels]:
    """Module whose rows of weights belong to classes, and which of its rows both have."""
    if isinstance(source, PointRcnnConfig) and isinstance(target, PointRcnnConfig):
        last = len(target.head.class_channels)
        return f'classifier.{last}.linear', of_points(source, target)
    assert isinstance(source, AnchorDetectorConfig)
    assert isinstance(target, AnchorDetectorConfig)
    return 'head.conv', of_anchors(source, target)


def _check_same_network(source: Path, info: BundleInfo, config: DetectorConfig) -> None:
    """Check that all weights but the head's mean the same.

    Raises:
        ConfigError: lists every difference, with both values.
    """
    theirs = info.model
    if theirs.name != config.name:
        raise ConfigError(
            f'{source}: {theirs.name} for {config.name}: a detector is fine-tuned from one of its '
            'own family'
        )
    differences = list_differences(
        *(_network_facts(ours, other) for ours, other in ((theirs, config), (config, theirs))),
        sides=('source', 'configuration'),
    )
    if differences:
        raise ConfigError(
            f'{source}: its weights do not fit this configuration; make these equal (a narrower '
            'student begins with slices of its teacher: distill, distillation.initialization):\n'
            + '\n'.join(differences)
        )


def _network_facts(model: DetectorConfig, other: DetectorConfig) -> dict[str, Any]:
    """All that the weights before the head depend on; widths appear as channels."""
    if isinstance(model, PointRcnnConfig):
        return {
            **point_widths(model),
            'backbone.radii': model.backbone.radii,
            'refinement.radii': model.refinement.radii,
            'refinement.depth_scale': model.refinement.depth_scale,
            # boxes of all classes share their channels, and are relative to these
            **{
                f'head.mean_sizes.{name}': model.usual_size(name)
                for name in model.class_names
                if name in other.class_names
            },
            'point_features': model.point_features,
        }
    assert isinstance(model, AnchorDetectorConfig)
    facts = {**stage_facts(model), **stage_widths(model), 'point_features': model.point_features}
    if isinstance(model, SecondConfig):  # its convolutions see the height, too
        layers = 'layers of the map (cells along z, len(middle.channels))'
        return facts | {'grid.voxel_size [m]': model.grid.voxel_size, layers: model.map_layers}
    return facts | {'grid.voxel_size, x and y [m]': model.grid.voxel_size[:2]}


# --- what is worth a warning -----------------------------------------------------------------


def warn_of_height(source: Path, info: BundleInfo, config: ExperimentConfig) -> None:
    """Warn if a detector was trained at another height above the ground than it will be used."""
    height = config.dataset.sensor_height
    if height != info.sensor_height and is_first_process():  # it may still see enough
        logger.warning(
            '%s was trained %.2f m above the ground, but dataset.sensor_height is %.2f m: it sees '
            'everything lower or higher than it has learned',
            source,
            info.sensor_height,
            height,
        )


def _warn_of_grid(source: Path, theirs: DetectorConfig, ours: DetectorConfig) -> None:
    """Warn if pillars measure heights from another middle of their cells along z."""
    if not (isinstance(ours, PointPillarsConfig) and 'z' in ours.encoder.center_axes):
        return
    middles = [sum(model.point_cloud_range[2::3]) / 2 for model in (theirs, ours)]
    if middles[0] != middles[1] and is_first_process():
        logger.warning(
            '%s: the middle of its range along z is %.2f m, here %.2f m: the first layer reads '
            'heights from there and has to learn them again',
            source,
            *middles,
        )


# --- resuming --------------------------------------------------------------------------------


def has_weights(run: Path) -> bool:
    """Whether a run has a checkpoint or is complete, so that it needs no first weights."""
    return bool(list_checkpoints(run)) or (run / 'bundle').exists()


def source_facts(run: Path) -> dict[str, JsonValue]:
    """What a run says about the weights that it began with; empty if they were new.

    Raises:
        CheckpointError: it began with trained ones and has no checkpoint yet, so they are needed.
    """
    if not (run / RUN_FILE).is_file():
        return {}
    facts = {name: value for name, value in read_facts(run).items() if name == SOURCE_FACT}
    if facts and not has_weights(run):
        raise CheckpointError(
            f'{run}: began with trained weights and has no checkpoint yet: to resume it, name '
            f'these again (source, --from); their {WEIGHTS_FILE} has the SHA-256 '
            f'{facts[SOURCE_FACT]}'
        )
    return facts
