# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Backends whose convolutions run in an inference library, and all else in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pointdistiller_core.config import DetectionConfig, PointPillarsConfig
from pointdistiller_core.deploy.backends.array_model import ModelArrays
from pointdistiller_core.deploy.backends.backend import (
    Found,
    PillarImportance,
    Stopwatch,
    count_cuts,
)
from pointdistiller_core.errors import CheckpointError
from pointdistiller_core.geometry.detection import box_limits, detect_frame
from pointdistiller_core.pointcloud.voxel_arrays import VoxelArrays, group_points

if TYPE_CHECKING:
    from pointdistiller_core.deploy.backends.backend import FloatArray, IntArray

INPUT, OUTPUTS = 'canvas', ('class_logits', 'boxes_and_directions')
# Where an int8 network says what one level of its input is worth.
INPUT_SCALE = 'pointdistiller_input_scale'
Shape = tuple[int, ...]
Select = Callable[['FloatArray'], 'IntArray']


class Network(Protocol):
    """The network from the backbone on, in some library; several threads may call it at once."""

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of the input and of each output."""
        ...

    def __call__(
        self, features: FloatArray, cells: IntArray, select: Select
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Raw outputs of the cells of one frame that are worth a look; see `BevNetwork`.

        Args:
            features: (P, C) float32 of the pillars.
            cells: (P,) `row * columns + column` of each pillar.
            select: (A * K, H, W) class logits to the cells (n,) of the head's map to look at.

        Returns:
            (n,) these cells, their (n, A * K) class logits and their (n, A * 9) box residuals and
            direction logits, which the next call does not change.
        """
        ...


class ArrayBackend:
    """Pillars, their encoder, decoding and suppression in NumPy around a network."""

    def __init__(
        self, name: str, config: PointPillarsConfig, arrays: ModelArrays, network: Network
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
                f'the network for {name} is of another architecture, or of another version of '
                f'pointdistiller: {network.shapes}, not {expected}; run: '
                f'pointdistiller export BUNDLE --to {name}'
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
            max_points=self._config.voxels.max_points,
            max_voxels=self._config.voxels.max_voxels,
        )
        watch.lap('pillars')
        # an intensity of 1e38 may become infinite; boxes that are not finite are dropped
        with np.errstate(over='ignore', invalid='ignore'):
            boxes, scores, labels, num_refused = self._detect(pillars, watch, detection)
        return Found(
            boxes,
            scores,
            labels,
            counts={**count_cuts(pillars.cuts), 'boxes_refused': num_refused},
            importance=_importance(pillars) if importance else None,
        )

    def _detect(
        self, pillars: VoxelArrays, watch: Stopwatch, detection: DetectionConfig
    ) -> tuple[FloatArray, FloatArray, IntArray, int]:
        if not len(pillars):  # nothing seen: whatever a network makes of it is no object
            return np.zeros((0, 7), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), 0
        features = self._arrays.encode(pillars, self._config.grid)
        promising = partial(find_promising, detection=detection)
        outputs = self._network(features, pillars.cells, promising)
        watch.lap('network')
        found = self._decode(*outputs, detection)
        watch.lap('decode')
        return found

    def _decode(
        self,
        cells: IntArray,
        logits: FloatArray,
        others: FloatArray,
        detection: DetectionConfig,
    ) -> tuple[FloatArray, FloatArray, IntArray, int]:
        """What `detect_frame` makes of the raw outputs of some cells; see `Network`."""
        kinds = len(self._arrays.anchor_shapes)
        anchors = (cells[:, None] * kinds + np.arange(kinds)).ravel()
        residuals, directions = others[:, : 7 * kinds], others[:, 7 * kinds :]
        return detect_frame(
            logits.reshape(-1, len(self._config.class_names)),
            residuals.reshape(-1, 7),
            directions.reshape(-1, 2),
            lambda indices: self._arrays.anchors_at(anchors[indices]),
            detection,
            direction_offset=self._config.head.direction_offset,
            limits=box_limits(self._config, detection),
        )


def find_promising(logits: FloatArray, detection: DetectionConfig) -> IntArray:
    """Cells where any of the logits (A * K, H, W) may pass a threshold, and few others."""
    # A hair below it, for the scores of float32 are rounded; then the decoding decides.
    lowest = min(detection.score_thresholds, default=detection.score_threshold) * (1 - 1e-5)
    limit = math.log(lowest / (1 - lowest)) if lowest else -math.inf
    return np.flatnonzero((logits >= np.float32(limit)).any(axis=0))


def pick_cells(
    logits: FloatArray, others: FloatArray, select: Select
) -> tuple[IntArray, FloatArray, FloatArray]:
    """What `Network` returns, of its outputs (A * K, H, W) and (H, W, A * 9)."""
    cells = select(logits)
    by_cell = others.reshape(-1, others.shape[-1])
    return cells, logits.reshape(len(logits), -1)[:, cells].T, by_cell[cells]


def network_shapes(config: PointPillarsConfig, arrays: ModelArrays) -> dict[str, Shape]:
    """Shape of the network's input and outputs."""
    kinds, (rows, columns) = len(arrays.anchor_shapes), config.grid.bev_shape
    height, width = len(arrays.anchor_ys), len(arrays.anchor_xs)
    class_logits, others = OUTPUTS
    return {
        INPUT: (1, rows, columns, len(arrays.shift)),
        class_logits: (1, kinds * len(config.class_names), height, width),
        others: (1, height, width, kinds * 9),
    }


def _importance(pillars: VoxelArrays) -> PillarImportance:
    if not len(pillars):
        none = np.zeros((0, 3), np.float32)
        return PillarImportance(none, pillars.num_points, pillars.owners)
    sums = np.add.reduceat(pillars.points[:, :3], pillars.starts, axis=0)
    centers = (sums / pillars.num_points[:, None]).astype(np.float32)
    return PillarImportance(centers, pillars.num_points, pillars.owners)
