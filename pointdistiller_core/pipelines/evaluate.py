# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The KITTI metric of a detector on labelled frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pointdistiller_core.datasets import FrameDataset, Frames
from pointdistiller_core.deploy.bundle_format import BundleInfo
from pointdistiller_core.evaluation.kitti.metric import MIN_OVERLAPS, KittiResult, evaluate_kitti
from pointdistiller_core.formats.kitti import KittiObjects, objects_from_boxes
from pointdistiller_core.geometry.intensity import Range, clip_intensity
from pointdistiller_core.models import AnyDetector, BoxPredictions
from pointdistiller_core.records import Detections, Frame

if TYPE_CHECKING:
    from pointdistiller_core.detector import Detector


def evaluate_detector(
    detector: AnyDetector,
    dataset: FrameDataset,
    *,
    batch_size: int = 4,
    on_frame: Callable[[int, int], None] | None = None,
    info: BundleInfo | None = None,
) -> tuple[KittiResult, list[KittiObjects]]:
    """Average precision of a detector on a dataset, for the classes that KITTI evaluates.

    Args:
        detector: on any device, in any mode; keeps its mode.
        dataset: labelled frames; their calibrations turn boxes into KITTI's objects.
        batch_size: frames that go through the network together.
        on_frame: hears how many frames are done, and how many there are.
        info: what its bundle will say: range of the intensity, thresholds and bounds. None clips
            nothing, and takes the rest from the detector.

    Returns:
        The metric, and the detections of every frame.
    """
    detections = detect_dataset(
        detector, dataset, batch_size=batch_size, on_frame=on_frame, info=info
    )
    truth = [dataset.objects(index) for index in range(len(dataset))]
    evaluated = [name for name in detector.config.class_names if name in MIN_OVERLAPS]
    return evaluate_kitti(truth, detections, evaluated), detections


def detect_dataset(
    detector: AnyDetector,
    dataset: FrameDataset,
    *,
    batch_size: int = 4,
    on_frame: Callable[[int, int], None] | None = None,
    info: BundleInfo | None = None,
) -> list[KittiObjects]:
    """Detections of every frame as KITTI's objects; the arguments are `evaluate_detector`'s."""
    names = detector.config.class_names
    detections: list[KittiObjects] = []
    for start in range(0, len(dataset), batch_size):
        indices = range(start, min(start + batch_size, len(dataset)))
        predictions = detect_frames(detector, [dataset[index] for index in indices], info)
        detections += [
            _to_objects(found, dataset, index, names)
            for index, found in zip(indices, predictions, strict=True)
        ]
        if on_frame is not None:
            on_frame(len(detections), len(dataset))
    return detections


def detect_clouds(
    detector: Detector,
    frames: Frames,
    indices: Sequence[int],
    on_frame: Callable[[int, int], None] | None = None,
) -> list[Detections]:
    """Detections of some frames, one after another: any backend, as it runs live."""
    found = []
    for done, index in enumerate(indices, start=1):
        found.append(detector(frames[index].points))
        if on_frame is not None:
            on_frame(done, len(indices))
    return found


def to_objects(
    found: Sequence[Detections],
    dataset: FrameDataset,
    indices: Sequence[int],
    class_names: Sequence[str],
) -> list[KittiObjects]:
    """Detections of some frames as KITTI's objects."""
    return [
        objects_from_boxes(
            frame.boxes,
            [class_names[label] for label in frame.labels],
            dataset.calibration(index),
            dataset.image_size(index),
            frame.scores,
        )
        for index, frame in zip(indices, found, strict=True)
    ]


def spread_indices(num_frames: int, wanted: int) -> list[int]:
    """Frames that are evenly spread over a dataset: as many as wanted, at most all."""
    count = min(wanted, num_frames)
    return [index * num_frames // count for index in range(count)]


def spread_clouds(
    dataset: FrameDataset,
    num_frames: int,
    device: torch.device,
    on_frame: Callable[[int, int], None] | None = None,
    *,
    intensity_range: Range,
) -> Iterator[Tensor]:
    """(N, 4) points of frames that are evenly spread over a dataset.

    Args:
        dataset: of any frames.
        num_frames: wanted, at most all.
        device: of the points.
        on_frame: hears how many frames are done, and how many there are.
        intensity_range: that intensities are clipped to, as `Detector` does.
    """
    for index in range(num_frames):
        frame = dataset[index * len(dataset) // num_frames]
        yield torch.from_numpy(clip_intensity(frame.points, intensity_range)).to(device)
        if on_frame is not None:
            on_frame(index + 1, num_frames)


def detect_frames(
    detector: AnyDetector, frames: Sequence[Frame], info: BundleInfo | None = None
) -> list[BoxPredictions]:
    """Detections of several frames in one pass, in evaluation mode; see `evaluate_detector`."""
    device = next(detector.parameters()).device
    was_training = detector.training
    detector.eval()
    try:
        with torch.inference_mode():
            clouds = [
                clip_intensity(frame.points, info.intensity_range) if info else frame.points
                for frame in frames
            ]
            points = [torch.from_numpy(cloud).to(device) for cloud in clouds]
            detection = info.model.detection if info else None
            return detector.detect(detector(detector.prepare(points)), detection)
    finally:
        detector.train(was_training)


def _to_objects(
    found: BoxPredictions, dataset: FrameDataset, index: int, class_names: Sequence[str]
) -> KittiObjects:
    return objects_from_boxes(
        found.boxes.cpu().numpy(),
        [class_names[label] for label in found.labels.tolist()],
        dataset.calibration(index),
        dataset.image_size(index),
        found.scores.cpu().numpy(),
    )
