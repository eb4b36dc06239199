# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a backend says what torch says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pointdistiller_core.datasets import FrameDataset, Frames
from pointdistiller_core.deploy.backends import ONNX, OPENVINO, OPENVINO_INT8
from pointdistiller_core.detector import Detector
from pointdistiller_core.evaluation.comparison.same_boxes import (
    SURE_SCORE,
    Agreement,
    compare_detections,
)
from pointdistiller_core.evaluation.metric import find_metric
from pointdistiller_core.pipelines.evaluate import OnFrame, detect
from pointdistiller_core.records import Cut, Detections


@dataclass(frozen=True)
class Limits:
    """What a backend must keep.

    Attributes:
        min_iou: BEV IoU of the same box in torch and in the backend.
        min_fraction: least part of the boxes that both must have.
        max_score_difference: mean over these boxes.
        max_ap_loss: of any class, beside what a few hits are worth.
    """

    min_iou: float
    min_fraction: float
    max_score_difference: float
    max_ap_loss: float


# The same arithmetic in another order: boxes move by micrometres. One box in a hundred may be
# chosen otherwise, where two candidates have the same score up to rounding.
SAME_NUMBERS = Limits(0.99, 0.99, 1e-3, 0.1)
# Eight bits move boxes by centimetres and scores by hundredths, and of two good candidates the
# other may win; a box that is not there any more, or a new one, is what must stay rare. At most
# half a point of AP is the price that int8 is worth.
EIGHT_BITS = Limits(0.7, 0.9, 0.05, 0.5)
LIMITS: Mapping[str, Limits] = {
    OPENVINO_INT8: EIGHT_BITS,
    OPENVINO: SAME_NUMBERS,
    ONNX: SAME_NUMBERS,
}
# An AP of few labels jumps with every hit: this many may be lost by chance.
CHANCE_HITS = 2


@dataclass(frozen=True)
class ApLoss:
    """AP [%] of one class, seen from above (`bev`) or in 3D, in torch and in a backend."""

    metric: str
    class_name: str
    num_labels: int
    torch: float
    backend: float

    @property
    def loss(self) -> float:
        """How much less the backend has."""
        return self.torch - self.backend

    def allowed(self, limits: Limits) -> float:
        """The largest loss that is no reason to refuse."""
        return limits.max_ap_loss + 100 * CHANCE_HITS / max(self.num_labels, 1)

    def can_fail(self, limits: Limits) -> bool:
        """Whether the backend's AP could be so low; of few labels, even 0 may be chance."""
        return self.allowed(limits) < self.torch


@dataclass(frozen=True)
class Verification:
    """What was compared.

    Attributes:
        limits: what is asked for.
        num_clouds: that both saw.
        agreement: of the boxes.
        losses: of every class and metric that torch has an AP of; none without labels.
        same_counts: whether both cut off the same points and voxels.
    """

    limits: Limits
    num_clouds: int
    agreement: Agreement
    losses: tuple[ApLoss, ...]
    same_counts: bool

    @property
    def problems(self) -> list[str]:
        """Why the backend must not be used; empty where it may."""
        agreement, limits = self.agreement, self.limits
        if not agreement.num_boxes:
            return [
                f'torch finds no box of score {SURE_SCORE} or more in {self.num_clouds} clouds, '
                'so nothing can be compared; give --check with clouds like those of its training, '
                'or train it longer'
            ]
        problems = []
        if not self.same_counts:
            problems.append('points or voxels are cut off that torch keeps')
        if agreement.fraction < limits.min_fraction:
            problems.append(f'only {agreement.fraction:.1%} of the boxes are in both')
        if agreement.mean_score_difference > limits.max_score_difference:
            problems.append(f'scores differ by {agreement.mean_score_difference:.3f} on average')
        return problems + [
            f'{loss.metric} AP of {loss.class_name} falls by {loss.loss:.1f}'
            for loss in self.losses
            if loss.loss > loss.allowed(limits)
        ]


def verify_backend(
    reference: Detector,
    detector: Detector,
    frames: Frames,
    indices: Sequence[int],
    *,
    limits: Limits,
    labels: FrameDataset | None,
    on_frame: OnFrame | None = None,
) -> Verification:
    """Compare a backend with torch on the same frames.

    Args:
        reference: the bundle in torch.
        detector: the same bundle in the backend.
        frames: hold the clouds.
        indices: of the frames to compare on.
        limits: what is asked for.
        labels: what has the same frames with labels, and so an AP; None where nothing has.
        on_frame: hears how many frames the backend has done, and how many there are.
    """
    expected = detect(reference, frames, indices)
    found = detect(detector, frames, indices, on_frame=on_frame)
    return Verification(
        limits,
        len(indices),
        compare_detections(expected, found, min_iou=limits.min_iou),
        () if labels is None else _losses(expected, found, labels, indices),
        [_cuts(frame) for frame in expected] == [_cuts(frame) for frame in found],
    )


def _cuts(found: Detections) -> tuple[Mapping[str, Cut], dict[str, int]]:
    """What a network sees; how many boxes are refused depends on its rounding."""
    seen = {name: count for name, count in found.counts.items() if name != 'boxes_refused'}
    return found.cuts, seen


def _losses(
    expected: Sequence[Detections],
    found: Sequence[Detections],
    dataset: FrameDataset,
    indices: Sequence[int],
) -> tuple[ApLoss, ...]:
    metric = find_metric(dataset.metric)()
    torch, backend = (metric.evaluate(dataset, indices, each) for each in (expected, found))
    columns = next(iter(torch.by_class.values()), {})
    return tuple(
        ApLoss(
            column.removesuffix(' AP').lower(),
            *(name, number, torch.by_class[name][column], backend.by_class[name][column]),
        )
        for column in columns
        for name, number in torch.num_labels.items()
        if number
    )
