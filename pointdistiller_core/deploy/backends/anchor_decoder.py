# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From the raw outputs of an anchor head to boxes, in NumPy."""

from __future__ import annotations

from dataclasses import replace
import math
from typing import TYPE_CHECKING

import numpy as np

from pointdistiller_core.config import AnchorDetectorConfig, DetectionConfig
from pointdistiller_core.geometry.detection import RawOutputs, box_limits, detect_frame
from pointdistiller_core.records import Detections, Places

if TYPE_CHECKING:
    from pointdistiller_core.deploy.hosts.host import Arrays, FloatArray, IntArray, Shape

OUTPUTS = ('class_logits', 'boxes_and_directions')


class AnchorDecoder:
    """Anchors, thresholds and suppression.

    Its arrays are the anchors, all float32:

    * `anchor_xs` (W,) x [m] of the anchors in each column of the head's map;
    * `anchor_ys` (H,) y [m] of those in each row;
    * `anchor_shapes` (A, 5) z, dx, dy, dz [m], yaw [rad] of the anchors of each cell.
    """

    def __init__(self, config: AnchorDetectorConfig, arrays: Arrays) -> None:
        self._config = config
        self._xs = arrays['anchor_xs']
        self._ys = arrays['anchor_ys']
        self._shapes = arrays['anchor_shapes']

    @staticmethod
    def shapes(config: AnchorDetectorConfig) -> dict[str, Shape]:
        """Name and shape of the arrays."""
        ((height, width),) = config.head_shapes
        kinds = config.anchors_per_cell
        return {'anchor_xs': (width,), 'anchor_ys': (height,), 'anchor_shapes': (kinds, 5)}

    @property
    def output_shapes(self) -> dict[str, Shape]:
        """Shape of each output of the network."""
        kinds, height, width = len(self._shapes), len(self._ys), len(self._xs)
        class_logits, others = OUTPUTS
        return {
            class_logits: (1, kinds * len(self._config.class_names), height, width),
            others: (1, height, width, kinds * 9),
        }

    def __call__(
        self,
        cells: IntArray,
        logits: FloatArray,
        others: FloatArray,
        detection: DetectionConfig,
    ) -> Detections:
        """Boxes by `detect_frame` from the raw outputs of some cells; see `Network`."""
        kinds = len(self._shapes)
        anchors = (cells[:, None] * kinds + np.arange(kinds)).ravel()
        residuals, directions = others[:, : 7 * kinds], others[:, 7 * kinds :]
        raw = RawOutputs(
            logits.reshape(-1, len(self._config.class_names)),
            residuals.reshape(-1, 7),
            directions.reshape(-1, 2),
        )
        found = detect_frame(
            raw,
            lambda indices: self.anchors_at(anchors[indices]),
            detection,
            direction_offset=self._config.head.direction_offset,
            limits=box_limits(self._config, detection),
        )
        counts = {'boxes_refused': found.num_refused}
        return Detections(found.boxes, found.scores, found.labels, counts=counts)

    def with_confidences(self, places: Places, best: FloatArray | None) -> Places:
        """The places with the best score of any class in the head's cell that each is in.

        Args:
            places: of the frame.
            best: (H, W) largest class logit of each cell; None if the network did not run.
        """
        values = np.zeros(len(places.centers), np.float32)
        if best is not None:
            low, high = np.split(np.array(self._config.grid.point_cloud_range), 2)
            sizes = np.array(best.shape[::-1])  # along x, then y
            cells = ((places.centers[:, :2] - low[:2]) / ((high - low)[:2] / sizes)).astype(int)
            columns, rows = cells.clip(0, sizes - 1).T
            values = np.exp(-np.logaddexp(0, -best[rows, columns]))
        return replace(places, values=values, highest=1.0)

    def anchors_at(self, indices: IntArray) -> FloatArray:
        """(N, 7) the anchors of these indices, numbered as the head does."""
        cells, kinds = np.divmod(indices, len(self._shapes))
        rows, columns = np.divmod(cells, len(self._xs))
        positions = [self._xs[columns, None], self._ys[rows, None]]
        return np.concatenate([*positions, self._shapes[kinds]], axis=1)


def find_promising(logits: FloatArray, detection: DetectionConfig) -> IntArray:
    """Cells where any of the logits (A * K, H, W) may pass a threshold, and few others."""
    # Slightly below it, because scores in float32 are rounded; the decoding then decides.
    lowest = min(detection.score_thresholds, default=detection.score_threshold) * (1 - 1e-5)
    limit = math.log(lowest / (1 - lowest)) if lowest else -math.inf
    return np.flatnonzero((logits >= np.float32(limit)).any(axis=0))
