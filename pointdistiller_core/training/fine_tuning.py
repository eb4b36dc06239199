# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning: a training that begins with the weights of a trained detector.

The network must be the same; classes, anchors and range may differ. Each channel of the head
belongs to an anchor of a class, and a class logit also to the class that it scores. A channel is
taken over if both detectors have all its classes, with the same anchors; other channels begin
anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import logging
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import JsonValue
import torch

from pointdistiller_core.config import AnchorDetectorConfig, DetectorConfig, ExperimentConfig
from pointdistiller_core.deploy.bundle import (
    WEIGHTS_FILE,
    BundleInfo,
    build_with_weights,
    find_bundle,
    load_bundle,
)
from pointdistiller_core.distill.compatibility import list_differences
from pointdistiller_core.distill.initialization import stage_facts, stage_widths
from pointdistiller_core.errors import CheckpointError, ConfigError
from pointdistiller_core.models import AnyDetector
from pointdistiller_core.training.checkpoint import list_checkpoints
from pointdistiller_core.training.processes import is_first_process
from pointdistiller_core.training.run import RUN_FILE, read_facts

logger = logging.getLogger(__name__)

SOURCE_FACT = 'from_sha256'  # in `run.json`: checksum of the weights that a run began with
HEAD = 'head.conv.'  # names of the weights whose rows are channels of the head


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
    shared = _Shared(*(cast(AnchorDetectorConfig, each.config) for each in (trained, detector)))
    rows = torch.tensor(shared.channels, dtype=torch.int64).reshape(-1, 2)
    state, new, made_anew = dict(trained.state_dict()), detector.state_dict(), 0
    for name in (f'{HEAD}weight', f'{HEAD}bias'):
        mixed = new[name].clone()
        mixed[rows[:, 0]] = state[name][rows[:, 1]]
        made_anew += (len(mixed) - len(rows)) * mixed[0].numel()
        state[name] = mixed
    detector.load_state_dict(state)
    total = sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point())
    return Start(
        info.sha256[WEIGHTS_FILE], shared.describe(folder, total=total, made_anew=made_anew)
    )


class _Shared:
    """What the heads of two detectors have in common.

    Attributes:
        taken: classes that both have, with the same anchors.
        changed: classes that both have, with other anchors.
        added, dropped: classes that only the target, or only the source, has.
        same_directions: whether bins of the direction mean the same.
        same_velocities: whether the source has the velocities that the target gives.
        channels: [(channel of the target's head, channel of the source's), ...].
        num_channels: of the target's head.
    """

    def __init__(self, source: AnchorDetectorConfig, target: AnchorDetectorConfig) -> None:
        theirs, ours = _anchors(source), _anchors(target)
        same = {name for name in ours if theirs.get(name) == ours[name]}
        known = source.class_names
        per_class = target.head.assignment == 'per_class'
        classes = [name for name in target.class_names if name in known]
        self.taken = [name for name in classes if (name in same if per_class else same)]
        self.changed = [name for name in classes if name not in self.taken]
        self.added = [name for name in target.class_names if name not in known]
        self.dropped = [name for name in known if name not in target.class_names]
        self.same_directions = source.head.direction_offset == target.head.direction_offset
        of_source, of_target = _head_channels(source), _head_channels(target)
        self.num_channels = len(of_target)
        taken = set(self.taken)
        self.same_velocities = source.head.velocities or not target.head.velocities
        self.channels = [
            (channel, of_source[meaning])
            for meaning, channel in of_target.items()
            if meaning.anchor in same
            and meaning in of_source
            and (meaning.kind != 'class' or meaning.value in taken)
            and (meaning.kind != 'direction' or self.same_directions)
        ]

    def describe(self, folder: Path, *, total: int, made_anew: int) -> str:
        """One line: counts of numbers and of channels of the head, and names of classes."""
        anew = {
            'new classes': self.added,
            'classes with other anchors': self.changed,
            'directions, because of another head.direction_offset': (
                [] if self.same_directions else self.taken
            ),
            'velocities': [] if self.same_velocities else self.taken,
        }
        parts = [
            f'{folder}: fine-tuning: {total - made_anew} of {total} weights taken over, batch '
            f'norm statistics included; of the head {len(self.channels)} of {self.num_channels} '
            f'channels ({_listed(self.taken) or "no class is the same"})',
            *(f'made anew: {what} ({_listed(names)})' for what, names in anew.items() if names),
        ]
        if self.dropped:
            parts.append(f'left out: {_listed(self.dropped)}')
        return '; '.join(parts)


class _Meaning(NamedTuple):
    """Meaning of a channel of the head."""

    kind: str
    anchor: str  # its class, or the name of a shared one
    yaw: int
    value: str | int  # class of a logit, or number


def _head_channels(config: AnchorDetectorConfig) -> dict[_Meaning, int]:
    """Channels of `AnchorHead` by their meaning."""
    values: dict[str, Sequence[str | int]] = {
        'class': config.class_names,
        'box': range(7),
        'direction': range(2),
        'velocity': range(2 if config.head.velocities else 0),
    }
    meanings = (
        _Meaning(kind, name, yaw, value)
        for kind in values
        for name in config.anchor_names
        for yaw in range(len(config.head.anchors[name].yaws))
        for value in values[kind]
    )
    return {meaning: channel for channel, meaning in enumerate(meanings)}


def _anchors(config: AnchorDetectorConfig) -> dict[str, tuple[Any, ...]]:
    """What the outputs of a class refer to; how labels are matched does not matter."""
    anchors = dict(zip(config.anchor_names, config.anchor_configs, strict=True))
    head = config.head
    return {
        name: (anchor.size, anchor.bottom, anchor.yaws, head.assignment, head.scales)
        for name, anchor in anchors.items()
    }


def _listed(names: list[str]) -> str:
    return ', '.join(names)


def _check_same_network(source: Path, info: BundleInfo, config: DetectorConfig) -> None:
    """Check that all weights but the head's mean the same.

    Raises:
        ConfigError: lists every difference, with both values.
    """
    theirs = info.model
    alike = theirs.name == config.name
    if not (
        alike
        and isinstance(theirs, AnchorDetectorConfig)
        and isinstance(config, AnchorDetectorConfig)
    ):
        raise ConfigError(
            f'{source}: {theirs.name} for {config.name}: only detectors with anchors can be '
            'fine-tuned, from the same'
        )
    differences = list_differences(
        _network_facts(theirs), _network_facts(config), sides=('source', 'configuration')
    )
    if differences:
        raise ConfigError(
            f'{source}: its weights do not fit this configuration; make these equal (a narrower '
            'student begins with slices of its teacher: distill, distillation.initialization):\n'
            + '\n'.join(differences)
        )


def _network_facts(model: AnchorDetectorConfig) -> dict[str, Any]:
    """All that the weights before the head depend on; widths appear as channels."""
    return {
        **stage_facts(model),
        **stage_widths(model),
        'grid.voxel_size, x and y [m]': model.grid.voxel_size[:2],
        'point_features': model.point_features,
    }


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
    """Warn if the middle of the cells along z differs, because points are measured from it."""
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
