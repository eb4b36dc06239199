# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`Detector`: from points to boxes, the same for command line, ROS nodes and notebooks."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from pointdistiller_core.deploy.bundle import (
    BundleInfo,
    find_bundle,
    load_detector_model,
    read_info,
)
from pointdistiller_core.errors import CloudError
from pointdistiller_core.records import Detections, Importance

if TYPE_CHECKING:
    from pointdistiller_core.models import PointPillars
    from pointdistiller_core.pointcloud.pillars import Pillars


class Detector:
    """A trained detector, ready to run.

    One detector may be called from several threads at once: a call changes nothing in it.
    """

    def __init__(self, model: PointPillars, info: BundleInfo) -> None:
        """Wrap a network that is in evaluation mode on the device that it shall run on."""
        self.model = model
        self.info = info
        self.device = next(model.parameters()).device

    @classmethod
    def load(
        cls,
        bundle: Path | str,
        *,
        device: torch.device | str = 'cpu',
        num_threads: int | None = None,
    ) -> Detector:
        """Load a bundle, or the bundle of a run folder.

        Args:
            bundle: folder of the bundle or of the run.
            device: `cpu`, `cuda`, `cuda:1`, ...; `auto` is a GPU where there is one.
            num_threads: CPU threads of the network. This is torch's setting for the whole
                process, so it also holds for other detectors; None leaves it as it is.

        Raises:
            CheckpointError: no bundle there, or it is damaged.
            ConfigError: no such device on this machine.
        """
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        folder = find_bundle(bundle)
        return cls(load_detector_model(folder, device), read_info(folder))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names that the labels of detections index."""
        return self.info.model.class_names

    def __call__(
        self, points: NDArray[np.floating[Any]], *, importance: bool = False
    ) -> Detections:
        """Detect objects in one sweep.

        Args:
            points: (N, 4) x, y, z [m], intensity, LiDAR frame; any floating type. The intensity
                must be in the range that the detector was trained with,
                `info.intensity_range`: another scale costs detections without any error, so
                `counts['intensity_outside']` says how many points are not in it.
            importance: also return the importance of the pillars (PointDistiller, section 3.1).

        Returns:
            Detections by descending score, with counts and with the time of the stages
            `pillars` (check, crop, group), `network`, `decode` (boxes and NMS) and `total`.
            Points that are not finite are dropped and counted.

        Raises:
            CloudError: not an (N, 4) array of floating type.
        """
        watch = _Stopwatch(self.device)
        checked = _check(points)
        finite = _finite_rows(checked)
        used = checked if finite.all() else checked[finite]
        with torch.inference_mode():
            pillars = self.model.group([torch.from_numpy(used).to(self.device)])
            watch.lap('pillars')
            boxes, scores, labels = self._detect(pillars, watch)
            found = importance_of(pillars, finite) if importance else None
        return Detections(
            boxes=boxes.cpu().numpy(),
            scores=scores.cpu().numpy(),
            labels=labels.cpu().numpy(),
            importance=found,
            counts=self._count(used, finite, pillars),
            latency_ms=watch.finish(),
        )

    def _detect(self, pillars: Pillars, watch: _Stopwatch) -> tuple[Tensor, Tensor, Tensor]:
        if len(pillars.coords) == 0:  # nothing seen: whatever a network makes of it is no object
            empty = Detections.empty()
            boxes, scores, labels = empty.boxes, empty.scores, empty.labels
            return torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(labels)
        output = self.model(pillars)
        watch.lap('network')
        (found,) = self.model.detect(output)
        watch.lap('decode')
        return found.boxes, found.scores, found.labels

    def _count(
        self, points: NDArray[np.float32], finite: NDArray[np.bool_], pillars: Pillars
    ) -> dict[str, int]:
        low, high = self.info.intensity_range
        intensity = points[:, 3]
        return {
            'points': len(finite),
            'points_not_finite': len(finite) - len(points),
            'intensity_outside': int(((intensity < low) | (intensity > high)).sum()),
            'pillars': len(pillars.coords),
            **pillars.counts,
        }


def importance_of(pillars: Pillars, finite: NDArray[np.bool_]) -> Importance:
    """Importance of the pillars of one frame: their points (PointDistiller, section 3.1).

    Counted are the points that the network sees, at most the cap of a pillar.

    Args:
        pillars: of one frame.
        finite: (N,) which of the input points were grouped.
    """
    num_points = pillars.num_points
    centers = pillars.points[..., :3].sum(dim=1) / num_points[:, None]
    scores = num_points.float() / num_points.max() if len(num_points) else num_points.float()
    (of_point,) = pillars.point_pillars
    scores_or_zero = torch.cat([scores, scores.new_zeros(1)])  # outside is -1: the last, a zero
    point_scores = np.zeros(len(finite), np.float32)
    point_scores[finite] = scores_or_zero[of_point].cpu().numpy()
    return Importance(
        centers=centers.cpu().numpy(), scores=scores.cpu().numpy(), point_scores=point_scores
    )


def _check(points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The points as a native, contiguous, writable float32 array: what torch can share."""
    if not isinstance(points, np.ndarray) or not np.issubdtype(points.dtype, np.floating):
        kind = getattr(points, 'dtype', type(points).__name__)
        raise CloudError(
            f'points must be an (N, 4) array of floating type (x, y, z, intensity), not {kind}'
        )
    if points.ndim != 2 or points.shape[1] != 4:
        raise CloudError(f'points must be (N, 4) x, y, z, intensity; got shape {points.shape}')
    with np.errstate(over='ignore'):  # a float64 beyond float32 becomes inf, and is counted
        return np.require(points, np.float32, ['C', 'W'])


def _finite_rows(points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N,) which points have four finite values."""
    # Four flags at a time, as one number: thirty times faster than `all` along so short an axis.
    flags: NDArray[np.bool_] = np.isfinite(points).view(np.uint32)[:, 0] == 0x01010101
    return flags


class _Stopwatch:
    """Times of successive stages [ms]."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = self._last = perf_counter()
        self._stages = {'pillars': 0.0, 'network': 0.0, 'decode': 0.0}

    def lap(self, stage: str) -> None:
        if self._device.type == 'cuda':  # kernels run on after the call that starts them
            torch.cuda.synchronize(self._device)
        now = perf_counter()
        self._stages[stage] = (now - self._last) * 1e3
        self._last = now

    def finish(self) -> dict[str, float]:
        return {**self._stages, 'total': (perf_counter() - self._start) * 1e3}
