# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From labelled frames through a detector to scores: a network in torch, or any backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
import logging
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.datasets import FrameDataset, Frames
from pointdistiller_core.datasets.levelling import level as level_frame
from pointdistiller_core.deploy.bundle_format import BundleInfo
from pointdistiller_core.detector import Detector, to_sensor
from pointdistiller_core.evaluation.metric import Metric, Scores, find_metric
from pointdistiller_core.geometry.intensity import clip_intensity
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.models import AnyDetector, BoxPredictions
from pointdistiller_core.records import Detections, Frame, spread_indices

logger = logging.getLogger(__name__)

OnFrame = Callable[[int, int], None]  # frames done, and frames in all
BATCH_SIZE = 4  # frames that go through a network together


class Evaluation(NamedTuple):
    """Scores of some frames, and their detections in order."""

    scores: Scores
    found: list[Detections]


def evaluate(
    detector: AnyDetector | Detector,
    dataset: FrameDataset,
    metric: Metric | None = None,
    *,
    indices: Sequence[int] | None = None,
    on_frame: OnFrame | None = None,
    info: BundleInfo | None = None,
) -> Evaluation:
    """Run a detector on labelled frames and score what it finds.

    Args:
        detector: a network, or a detector of any backend; see `detect`.
        dataset: labelled frames, with the detector's classes.
        metric: None is the dataset's own.
        indices: of the frames; None is all.
        on_frame: see `OnFrame`.
        info: see `detect`.

    Raises:
        DatasetError: a frame cannot be read, or lacks what the metric needs.
        ConfigError: there is no metric of the dataset's name for it.
    """
    metric = metric or find_metric(dataset.metric)()
    indices = range(len(dataset)) if indices is None else indices
    found = detect(detector, dataset, indices, on_frame=on_frame, info=info)
    return Evaluation(metric.evaluate(dataset, indices, found), found)


def detect(
    detector: AnyDetector | Detector,
    frames: Frames,
    indices: Sequence[int],
    *,
    on_frame: OnFrame | None = None,
    info: BundleInfo | None = None,
    level: bool = False,
    detection: DetectionConfig | None = None,
) -> list[Detections]:
    """Detections of some frames.

    Args:
        detector: a network on any device and in any mode, which gets several frames at a time and
            keeps its mode; or a detector of any backend, which gets one frame after another, as it
            does live.
        frames: with points.
        indices: of the frames.
        on_frame: see `OnFrame`.
        info: for a network: intensity, thresholds and bounds of its future bundle. None clips
            nothing, and takes the rest from the network.
        level: level each cloud by the ground that is found in it, as is always done for a
            detector of levelled clouds.
        detection: thresholds and caps; None is the bundle's. Not for a network.
    """
    found: list[Detections] = []
    not_level = 0
    if isinstance(detector, nn.Module):
        expected, at_once = info or BundleInfo(model=detector.config), BATCH_SIZE
    else:
        expected, at_once = detector.info, 1
    height = expected.sensor_height if level else expected.level_at
    if not isinstance(detector, nn.Module) and expected.level_at is not None:
        height = None  # it levels clouds itself
    for start in range(0, len(indices), at_once):
        batch = [frames[index] for index in indices[start : start + at_once]]
        mountings = [
            None if height is None else Mounting.found_in(frame.points, height) for frame in batch
        ]
        not_level += 0 if height is None else mountings.count(None)
        if isinstance(detector, nn.Module):
            seen = [*map(_moved, batch, mountings)]
            predictions = map(_to_detections, detect_frames(detector, seen, info))
            found += map(to_sensor, predictions, mountings)
        else:
            answers = [
                detector(frame.points, mounting=mounting, detection=detection)
                for frame, mounting in zip(batch, mountings, strict=True)
            ]
            not_level += sum(answer.counts.get('no_ground', 0) for answer in answers)
            found += answers
        if on_frame is not None:
            on_frame(len(found), len(indices))
    if not_level:
        logger.warning(
            'no ground found in %d of %d clouds, which are taken as they are',
            not_level,
            len(found),
        )
    return found


def spread_clouds(
    dataset: FrameDataset,
    num_frames: int,
    device: torch.device,
    on_frame: Callable[[int, int], None] | None = None,
    *,
    info: BundleInfo,
) -> Iterator[Tensor]:
    """(N, 4) points of evenly spread frames of a dataset.

    Args:
        dataset: of any frames.
        num_frames: wanted, at most all.
        device: of the points.
        on_frame: told how many frames are done, and how many there are.
        info: of a bundle, which levels clouds and clips intensities as in `Detector`.
    """
    indices = spread_indices(len(dataset), num_frames)
    for done, index in enumerate(indices, 1):
        frame = level_frame(dataset[index], info.level_at)
        yield torch.from_numpy(clip_intensity(frame.points, info.intensity_range)).to(device)
        if on_frame is not None:
            on_frame(done, len(indices))


def detect_frames(
    detector: AnyDetector, frames: Sequence[Frame], info: BundleInfo | None = None
) -> list[BoxPredictions]:
    """Detections of several frames in one pass, in evaluation mode; see `detect`."""
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


def _moved(frame: Frame, mounting: Mounting | None) -> Frame:
    """The points of a frame in the training frame, without labels."""
    points = frame.points if mounting is None else mounting.points_to_training(frame.points)
    return replace(frame, points=points, ground_truth=None)


def _to_detections(found: BoxPredictions) -> Detections:
    speeds = found.velocities
    return Detections(
        found.boxes.cpu().numpy(),
        found.scores.cpu().numpy(),
        found.labels.cpu().numpy(),
        velocities=None if speeds is None else speeds.cpu().numpy(),
    )
