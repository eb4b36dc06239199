# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Backends whose convolutions run in an inference library, and all else in NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from pointdistiller_core.config import DetectionConfig, ModelConfig
from pointdistiller_core.deploy.backends.array_model import ModelArrays, scatter_features
from pointdistiller_core.deploy.backends.backend import Found, PillarImportance, Stopwatch
from pointdistiller_core.errors import CheckpointError
from pointdistiller_core.geometry.detection import detect_frame
from pointdistiller_core.pointcloud.pillar_arrays import PillarArrays, group_points

if TYPE_CHECKING:
    from pointdistiller_core.deploy.backends.backend import FloatArray, IntArray

INPUT, OUTPUTS = 'canvas', ('class_logits', 'box_residuals', 'direction_logits')
Shape = tuple[int, ...]


class Network(Protocol):
    """The network from the backbone on, in some library; several threads may call it at once."""

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of the input and of each output."""
        ...

    def __call__(self, canvas: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Raw outputs of one frame.

        Args:
            canvas: (1, C, H, W) float32 pillar features as a map.

        Returns:
            (1, num_anchors, K) class logits, (1, num_anchors, 7) box residuals and
            (1, num_anchors, 2) direction logits, which the next call does not change.
        """
        ...


class ArrayBackend:
    """Pillars, their encoder, decoding and suppression in NumPy around a network."""

    def __init__(
        self, name: str, config: ModelConfig, arrays: ModelArrays, network: Network
    ) -> None:
        """Join the parts.

        Raises:
            CheckpointError: the network is of another architecture than the configuration.
        """
        self.name = name
        self._config = config
        self._arrays = arrays
        self._network = network
        if network.shapes != (expected := network_shapes(config, arrays)):
            raise CheckpointError(
                f'the network for {name} is of another architecture: {network.shapes}, '
                f'not {expected}; export the bundle again'
            )

    def __call__(
        self,
        points: FloatArray,
        watch: Stopwatch,
        *,
        importance: bool,
        detection: DetectionConfig,
    ) -> Found:
        """Detect objects; see `Backend`."""
        pillars = group_points(
            points,
            self._config.grid,
            max_points_per_pillar=self._config.pillars.max_points_per_pillar,
            max_pillars=self._config.pillars.max_pillars,
        )
        watch.lap('pillars')
        # an intensity of 1e38 may become infinite; boxes that are not finite are dropped
        with np.errstate(over='ignore', invalid='ignore'):
            boxes, scores, labels = self._detect(pillars, watch, detection)
        return Found(
            boxes,
            scores,
            labels,
            counts={'pillars': len(pillars), **pillars.counts},
            importance=_importance(pillars) if importance else None,
        )

    def canvas(self, pillars: PillarArrays) -> FloatArray:
        """(1, C, H, W) input of the network."""
        grid = self._config.grid
        return scatter_features(self._arrays.encode(pillars, grid), pillars.cells, grid)

    def _detect(
        self, pillars: PillarArrays, watch: Stopwatch, detection: DetectionConfig
    ) -> tuple[FloatArray, FloatArray, IntArray]:
        if not len(pillars):  # nothing seen: whatever a network makes of it is no object
            return np.zeros((0, 7), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        outputs = self._network(self.canvas(pillars))
        watch.lap('network')
        class_logits, box_residuals, direction_logits = (output[0] for output in outputs)
        found = detect_frame(
            class_logits,
            box_residuals,
            direction_logits,
            self._arrays.anchors_at,
            detection,
            direction_offset=self._config.head.direction_offset,
        )
        watch.lap('decode')
        return found


def network_shapes(config: ModelConfig, arrays: ModelArrays) -> dict[str, Shape]:
    """Shape of the network's input and outputs."""
    sizes = len(config.class_names), 7, 2
    outputs = {
        name: (1, arrays.num_anchors, size) for name, size in zip(OUTPUTS, sizes, strict=True)
    }
    return {INPUT: (1, len(arrays.shift), *config.grid.bev_shape), **outputs}


def _importance(pillars: PillarArrays) -> PillarImportance:
    if not len(pillars):
        none = np.zeros((0, 3), np.float32)
        return PillarImportance(none, pillars.num_points, pillars.point_pillars)
    sums = np.add.reduceat(pillars.points[:, :3], pillars.starts, axis=0)
    centers = (sums / pillars.num_points[:, None]).astype(np.float32)
    return PillarImportance(centers, pillars.num_points, pillars.point_pillars)
