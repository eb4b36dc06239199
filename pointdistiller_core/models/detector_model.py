# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The interface of detectors of all families for training, distillation and deployment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from pointdistiller_core.config import DetectionConfig, DetectorConfig
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.geometry.detection import box_limits, choose_boxes
from pointdistiller_core.models.layer import Layer, Rows, read_layers
from pointdistiller_core.records import Batch, Cut, Places


class Prepared(Protocol):
    """The points as a network's input, before any weight; its length is its number of places."""

    @property
    def batch_size(self) -> int:
        """Frames, including those without a place."""
        ...

    @property
    def owners(self) -> tuple[Tensor, ...]:
        """Per frame (N,) int64 place of each input point, as an index into all; -1 for none."""
        ...

    @property
    def cuts(self) -> Mapping[str, Cut]:
        """Numbers of what the caps cut off."""
        ...

    def __len__(self) -> int:
        """Places: voxels, pillars or points."""
        ...


PreparedT = TypeVar('PreparedT', bound=Prepared)
OutputT = TypeVar('OutputT')


@dataclass(frozen=True)
class BoxPredictions:
    """Boxes of one frame, by descending score.

    Attributes:
        boxes: (N, 7) float32 x, y, z, dx, dy, dz [m], yaw [rad], LiDAR frame.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64 index into the class names.
        num_refused: candidates refused because no object can be like that; see `detect_frame`.
        velocities: (N, 2) float32 along x and y [m/s]; None if the detector gives none.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    num_refused: int = 0
    velocities: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, keep: Tensor) -> BoxPredictions:
        return replace(
            self,
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            labels=self.labels[keep],
            velocities=None if self.velocities is None else self.velocities[keep],
        )


class DetectorModel(nn.Module, ABC, Generic[PreparedT, OutputT]):
    """A detector with weights.

    `prepare` (points to places) and `detect` (raw outputs to boxes) have no weights.

    Attributes:
        config: what it was built from.
        smooth_l1_beta: where its box loss changes from square to absolute.
    """

    smooth_l1_beta: float = 1 / 9

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def prepare(self, points: Sequence[Tensor]) -> PreparedT:
        """The network's input of B clouds (N, F); in training the caps may be lower."""

    @abstractmethod
    def forward(self, prepared: PreparedT, batch: Batch | None = None) -> OutputT:
        """Raw outputs.

        Args:
            prepared: of B frames.
            batch: the same frames with the labels that a second stage samples by, while training.
        """

    @abstractmethod
    def losses(self, output: OutputT, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of the detection loss; their sum is to be minimized.

        They are means over all frames, in which those without labels (`Batch.unlabelled`) are 0.
        """

    @abstractmethod
    def candidates(self, output: OutputT, detection: DetectionConfig) -> list[BoxPredictions]:
        """Boxes of each frame before suppression, with gradients.

        All are finite; yaws may be half a turn off, which `detect` resolves.
        """

    @abstractmethod
    def layers(self) -> Mapping[str, Layer]:
        """By name, the layers that can be read, in the order in which they run."""

    @abstractmethod
    def places(self, prepared: PreparedT, output: OutputT | None) -> list[Places]:
        """Where the detector looked in each frame, for display.

        Args:
            prepared: of the frames.
            output: of the same frames; None if the network did not run.
        """

    def confidences(self, output: OutputT, rows: Rows) -> Tensor:
        """(R, K) how sure the detector is of each class where the rows are, in [0, 1].

        By default the best score of the detections that a row is in, seen from above.

        Args:
            output: of B frames.
            rows: of any layer, of the same frames.
        """
        found, parts = self.detect(output), []
        for boxes, positions in zip(found, rows.split(rows.positions), strict=True):
            flat = boxes.boxes * boxes.boxes.new_tensor([1, 1, 0, 1, 1, 1, 1])
            inside = points_in_boxes(positions * positions.new_tensor([1, 1, 0]), flat)
            scores = inside * boxes.scores
            classes = scores.new_zeros(len(positions), len(self.config.class_names))
            labels = boxes.labels.expand_as(scores)
            parts.append(classes.scatter_reduce(1, labels, scores, 'amax'))
        return torch.cat(parts)

    def fixed_work(self) -> Sequence[tuple[nn.Module, Any]]:
        """Parts that cost the same for every cloud, each with its input for one frame.

        An input on the device `meta` has a shape and no values: its part can be counted without
        being run. By default all of the detector, with a cloud without points.
        """
        cloud = torch.zeros(0, len(self.config.point_features))
        return [(self, self.prepare([cloud.to(next(self.parameters()).device)]))]

    @abstractmethod
    def input_facts(self) -> Mapping[str, Any]:
        """All settings that `prepare` depends on, by their keys, and the class names."""

    def detect(
        self, output: OutputT, detection: DetectionConfig | None = None
    ) -> list[BoxPredictions]:
        """Boxes of each frame after non-maximum suppression.

        Args:
            output: of the frames.
            detection: thresholds, caps and bounds; None is the configuration's.
        """
        detection = detection or self.config.detection
        limits, detections = box_limits(self.config, detection), []
        for found in self.candidates(output, detection):
            bounds = None if limits is None else torch.from_numpy(limits).to(found.boxes.device)
            chosen, kept, num_refused = choose_boxes(
                found.boxes, found.scores, found.labels, detection, limits=bounds
            )
            detections.append(replace(found[kept], boxes=chosen, num_refused=num_refused))
        return detections

    def run_until(self, prepared: PreparedT, names: Collection[str]) -> dict[str, Any]:
        """Outputs of some layers by name; what follows the last of them does not run."""
        layers = {name: layer for name, layer in self.layers().items() if name in names}
        last = list(layers.values())[-1:]
        with read_layers(layers) as outputs:
            handles = [layer.module.register_forward_hook(_stop) for layer in last]
            try:
                if last:
                    self(prepared)
            except _Reached:
                pass
            finally:
                for handle in handles:
                    handle.remove()
        return outputs


class _Reached(Exception):
    """The last needed layer has run."""


def _stop(*_: object) -> None:
    raise _Reached
