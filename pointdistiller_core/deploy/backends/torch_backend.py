# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The backend that every bundle has: the network in torch, on a CPU or a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.deploy.backends.backend import Found, PillarImportance, Stopwatch
from pointdistiller_core.deploy.bundle import load_detector_model
from pointdistiller_core.models import BoxPredictions, PointPillars
from pointdistiller_core.pointcloud.pillars import Pillars

if TYPE_CHECKING:
    from pointdistiller_core.deploy.backends.backend import FloatArray


class TorchBackend:
    """Runs the network itself. Calls change nothing in it."""

    name = 'torch'

    def __init__(self, model: PointPillars) -> None:
        """Wrap a network that is in evaluation mode on the device that it shall run on."""
        self.model = model
        self.device = next(model.parameters()).device

    def __call__(
        self,
        points: FloatArray,
        watch: Stopwatch,
        *,
        importance: bool,
        detection: DetectionConfig,
    ) -> Found:
        """Detect objects; see `Backend`."""
        with torch.inference_mode():
            pillars = self.model.group([torch.from_numpy(points).to(self.device)])
            self._lap(watch, 'pillars')
            found = self._detect(pillars, watch, detection)
            return Found(
                boxes=found.boxes.cpu().numpy(),
                scores=found.scores.cpu().numpy(),
                labels=found.labels.cpu().numpy(),
                counts={'pillars': len(pillars), **pillars.counts},
                importance=_importance(pillars) if importance else None,
            )

    def _detect(
        self, pillars: Pillars, watch: Stopwatch, detection: DetectionConfig
    ) -> BoxPredictions:
        if not len(pillars):  # nothing seen: whatever a network makes of it is no object
            none = pillars.points.new_zeros(0, 7)
            return BoxPredictions(none, none[:, 0], none[:, 0].long())
        output = self.model(pillars)
        self._lap(watch, 'network')
        (found,) = self.model.detect(output, detection)
        self._lap(watch, 'decode')
        return found

    def _lap(self, watch: Stopwatch, stage: str) -> None:
        if self.device.type == 'cuda':  # kernels run on after the call that starts them
            torch.cuda.synchronize(self.device)
        watch.lap(stage)


def load_torch(folder: Path, *, device: str, num_threads: int | None) -> TorchBackend:
    """The torch backend of a bundle.

    Args:
        folder: the bundle.
        device: `cpu`, `cuda`, `cuda:1`, ...; `auto` is a GPU where there is one.
        num_threads: torch's setting for the whole process; None leaves it as it is.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    return TorchBackend(load_detector_model(folder, device))


def _importance(pillars: Pillars) -> PillarImportance:
    centers = pillars.points[..., :3].sum(dim=1) / pillars.num_points[:, None]
    (point_pillars,) = pillars.point_pillars
    return PillarImportance(
        centers.cpu().numpy(), pillars.num_points.cpu().numpy(), point_pillars.cpu().numpy()
    )
