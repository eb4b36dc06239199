# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From the raw outputs of an anchor head to boxes, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pointdistiller_core.config import AnchorDetectorConfig, DetectionConfig
from pointdistiller_core.geometry.detection import RawOutputs, box_limits, detect_frame
from pointdistiller_core.records import Detections, Places

if TYPE_CHECKING:
    from pointdistiller_core.deploy.hosts.host import Arrays, FloatArray, IntArray, Shape

BLOCK = 1 << 19  # logits that are compared at once, so that the result stays in the cache
_OUTPUTS = ('class_logits', 'boxes_and_directions')
_ARRAYS = ('anchor_xs', 'anchor_ys', 'anchor_shapes')


def output_names(level: int) -> tuple[str, str]:
    """Names of a network's outputs of one of the head's maps."""
    logits, others = _with_level(_OUTPUTS, level)
    return logits, others


def anchor_names(level: int) -> tuple[str, ...]:
    """Names of the arrays of one of the head's maps."""
    return _with_level(_ARRAYS, level)


def _with_level(names: Sequence[str], level: int) -> tuple[str, ...]:
    return tuple(f'{name}.{level}' if level else name for name in names)


class Picked(NamedTuple):
    """Raw outputs of the promising cells of one map.

    Attributes:
        cells: (n,) `row * W + column`.
        logits: (n, A * K) class logits.
        others: (n, A * 9) box residuals and direction logits, and velocities if there are any.
    """

    cells: IntArray
    logits: FloatArray
    others: FloatArray


@dataclass(frozen=True)
class AnchorGrid:
    """The anchors of one map, all float32.

    Attributes:
        xs: (W,) x [m] of the anchors in each column of the map.
        ys: (H,) y [m] of those in each row.
        shapes: (A, 5) z, dx, dy, dz [m], yaw [rad] of the anchors of each cell.
    """

    xs: FloatArray
    ys: FloatArray
    shapes: FloatArray

    def anchors_at(self, indices: IntArray) -> FloatArray:
        """(N, 7) the anchors of these indices, numbered as the head does."""
        cells, kinds = np.divmod(indices, len(self.shapes))
        rows, columns = np.divmod(cells, len(self.xs))
        positions = [self.xs[columns, None], self.ys[rows, None]]
        return np.concatenate([*positions, self.shapes[kinds]], axis=1)


class AnchorDecoder:
    """Anchors, thresholds and suppression.

    Its arrays are an `AnchorGrid` for each map of the head, by `anchor_names`.
    """

    def __init__(self, config: AnchorDetectorConfig, arrays: Arrays) -> None:
        self._config = config
        self.grids = [
            AnchorGrid(*(arrays[name] for name in anchor_names(level)))
            for level in range(len(config.head_strides))
        ]

    @staticmethod
    def shapes(config: AnchorDetectorConfig) -> dict[str, Shape]:
        """Name and shape of the arrays."""
        shapes: dict[str, Shape] = {}
        for level, (height, width) in enumerate(config.head_shapes):
            own = ((width,), (height,), (config.anchors_per_cell, 5))
            shapes |= zip(anchor_names(level), own, strict=True)
        return shapes

    @property
    def output_shapes(self) -> dict[str, Shape]:
        """Shape of each output of the network."""
        kinds, num_classes = self._config.anchors_per_cell, len(self._config.class_names)
        shapes: dict[str, Shape] = {}
        for level, (height, width) in enumerate(self._config.head_shapes):
            class_logits, others = output_names(level)
            logits = kinds * num_classes
            shapes[class_logits] = (
                (1, height, width, logits)
                if logits_by_cell(self._config)
                else (1, logits, height, width)
            )
            shapes[others] = (1, height, width, kinds * self._values_per_anchor)
        return shapes

    @property
    def _values_per_anchor(self) -> int:
        return 11 if self._config.head.velocities else 9

    def select(self, detection: DetectionConfig, *, keeps_best: bool = False) -> Selection:
        """What finds the cells to decode in the outputs of one frame."""
        return Selection(self._config, detection, keeps_best=keeps_best)

    def __call__(self, picked: Sequence[Picked], detection: DetectionConfig) -> Detections:
        """Boxes by `detect_frame` from the raw outputs of some cells of each map."""
        kinds = self._config.anchors_per_cell
        cells = [own.cells for own in picked]
        anchors = [(own[:, None] * kinds + np.arange(kinds)).ravel() for own in cells]
        others = np.concatenate([own.others for own in picked])
        parts = np.split(others, np.array([7, 9]) * kinds, axis=1)
        velocities = parts[2].reshape(-1, 2) if self._config.head.velocities else None
        raw = RawOutputs(
            np.concatenate([own.logits for own in picked]).reshape(
                -1, len(self._config.class_names)
            ),
            parts[0].reshape(-1, 7),
            parts[1].reshape(-1, 2),
            velocities,
            tuple(map(len, anchors)),
        )
        found = detect_frame(
            raw,
            lambda indices: self._anchors_at(anchors, indices),
            detection,
            direction_offset=self._config.head.direction_offset,
            limits=box_limits(self._config, detection),
        )
        return Detections(
            found.boxes,
            found.scores,
            found.labels,
            velocities=found.velocities,
            counts={'boxes_refused': found.num_refused},
        )

    def _anchors_at(self, anchors: Sequence[IntArray], indices: IntArray) -> FloatArray:
        """(N, 7) the anchors at these places in the anchors (n,) of all maps."""
        starts = np.cumsum([0, *map(len, anchors)])
        found = np.empty((len(indices), 7), np.float32)
        for grid, own, start, stop in zip(self.grids, anchors, starts, starts[1:], strict=False):
            here = (indices >= start) & (indices < stop)
            found[here] = grid.anchors_at(own[indices[here] - start])
        return found

    def with_confidences(self, places: Places, best: Sequence[FloatArray]) -> Places:
        """The places with the best score of any class in the head's cells that each is in.

        Args:
            places: of the frame.
            best: of each map (H, W) the largest class logit of each cell; empty if the network
                did not run.
        """
        values = np.zeros(len(places.centers), np.float32)
        low, high = np.split(np.array(self._config.grid.point_cloud_range), 2)
        for of_map in best:
            sizes = np.array(of_map.shape[::-1])  # along x, then y
            cells = ((places.centers[:, :2] - low[:2]) / ((high - low)[:2] / sizes)).astype(int)
            columns, rows = cells.clip(0, sizes - 1).T
            values = np.maximum(values, np.exp(-np.logaddexp(0, -of_map[rows, columns])))
        return replace(places, values=values, highest=1.0)


def logits_by_cell(config: AnchorDetectorConfig) -> bool:
    """Whether a network gives the class logits of a cell together, and not as maps.

    A pyramid has so many that bringing them into the order of maps takes a quarter of its time.
    """
    return config.neck.kind == 'fpn'


class Selection:
    """Finds the promising cells of a map, and may keep the best logit of each cell.

    Attributes:
        best: of each map (H, W) largest class logits; empty if they are not kept or the network
            did not run.
    """

    def __init__(
        self, config: AnchorDetectorConfig, detection: DetectionConfig, *, keeps_best: bool = False
    ) -> None:
        # Slightly below it, because scores in float32 are rounded; the decoding then decides.
        lowest = min(detection.score_thresholds, default=detection.score_threshold) * (1 - 1e-5)
        self._limit = np.float32(math.log(lowest / (1 - lowest)) if lowest else -math.inf)
        self._by_cell = logits_by_cell(config)
        self._keeps_best = keeps_best
        self.best: list[FloatArray] = []

    def __call__(self, logits: FloatArray) -> tuple[IntArray, FloatArray]:
        """Cells where any logit may pass a threshold, and few others.

        Args:
            logits: (A * K, H, W) of a map, or (H, W, A * K), see `logits_by_cell`.

        Returns:
            (n,) `row * W + column`, and (n, A * K) their logits.
        """
        if self._keeps_best:
            self.best.append(logits.max(axis=-1 if self._by_cell else 0))
        if not self._by_cell:
            cells = np.flatnonzero((logits >= self._limit).any(axis=0))
            return cells, logits.reshape(len(logits), -1)[:, cells].T
        flat, width = logits.reshape(-1), logits.shape[-1]
        blocks = range(0, len(flat), BLOCK)
        passing = [np.flatnonzero(flat[i : i + BLOCK] >= self._limit) + i for i in blocks]
        cells = np.concatenate(passing) // width
        cells = cells[np.diff(cells, prepend=-1) > 0]
        return cells, logits.reshape(-1, width).take(cells, axis=0)
