# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The backend that every bundle has: the network in torch, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.deploy.backends.backend import Stopwatch
from pointdistiller_core.deploy.bundle import load_detector_model
from pointdistiller_core.deploy.device import find_device
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import AnyDetector
from pointdistiller_core.models.layer import Rows
from pointdistiller_core.records import Detections, LiveImportance, Places

if TYPE_CHECKING:
    from pointdistiller_core.deploy.backends.backend import FloatArray


@dataclass(frozen=True)
class Precision:
    """The numbers that convolutions compute in.

    Attributes:
        dtype: of their input and output.
        tf32: whether a GPU may round float32 to ten bits of mantissa while it multiplies.
    """

    dtype: torch.dtype
    tf32: bool = False


PRECISIONS: Mapping[str, Precision] = {
    'fp32': Precision(torch.float32),
    'tf32': Precision(torch.float32, tf32=True),
    'bf16': Precision(torch.bfloat16),
    'fp16': Precision(torch.float16),
}


class TorchBackend:
    """Runs the network itself. Calls change nothing in it."""

    name = 'torch'

    def __init__(self, model: AnyDetector, precision: Precision = PRECISIONS['fp32']) -> None:
        """Wrap a network that is in evaluation mode and on its device.

        Args:
            model: its weights stay in float32.
            precision: of the convolutions; pillars and boxes are computed in float32.
        """
        self.model = model
        self.precision = precision
        self.device = next(model.parameters()).device

    def __del__(self) -> None:
        """Give memory back to the GPU, which torch would keep for its next network.

        Only here no thread is in a call any more.
        """
        if self.device.type == 'cuda' and not sys.is_finalizing():
            del self.model
            torch.cuda.empty_cache()

    def __call__(
        self,
        points: FloatArray,
        watch: Stopwatch,
        *,
        importance: LiveImportance | None,
        detection: DetectionConfig,
    ) -> tuple[Detections, Places | None]:
        """Detect objects; see `Backend`."""
        with torch.inference_mode():
            prepared = self.model.prepare([torch.from_numpy(points).to(self.device)])
            self._lap(watch, 'prepare')
            if not len(prepared):  # nothing seen, so whatever a network finds is no object
                nothing = replace(Detections.empty(), cuts=prepared.cuts)
                return nothing, self._places(prepared, None, importance)
            output = self._run(prepared)
            self._lap(watch, 'network')
            (found,) = self.model.detect(output, detection)
            self._lap(watch, 'decode')
            speeds = found.velocities
            detections = Detections(
                boxes=found.boxes.cpu().numpy(),
                scores=found.scores.cpu().numpy(),
                labels=found.labels.cpu().numpy(),
                velocities=None if speeds is None else speeds.cpu().numpy(),
                counts={'boxes_refused': found.num_refused},
                cuts=prepared.cuts,
            )
            return detections, self._places(prepared, output, importance)

    def _places(
        self, prepared: Any, output: Any | None, importance: LiveImportance | None
    ) -> Places | None:
        if importance is None:
            return None
        (places,) = self.model.places(prepared, output)
        if importance == 'own':
            return places
        values = np.zeros(len(places.centers), np.float32)
        if output is not None:
            centers = torch.from_numpy(places.centers).to(self.device)
            rows = Rows(centers, (len(centers),), centers, torch.ones(len(centers)))
            values = self.model.confidences(output, rows).amax(dim=1).cpu().numpy()
        return replace(places, values=values, highest=1.0)

    def _run(self, prepared: Any) -> Any:
        if self.precision.dtype == torch.float32:
            with _tf32(self.device, allowed=self.precision.tf32):
                return self.model(prepared)
        with torch.autocast(self.device.type, self.precision.dtype):
            return self.model(prepared)

    def _lap(self, watch: Stopwatch, stage: str) -> None:
        if self.device.type == 'cuda':  # kernels go on after the call that starts them
            torch.cuda.synchronize(self.device)
        watch.lap(stage)


def load_torch(
    folder: Path, *, device: str, num_threads: int | None, precision: str = 'fp32'
) -> TorchBackend:
    """The torch backend of a bundle.

    Args:
        folder: the bundle.
        device: `cpu`, `cuda`, `cuda:1`, ...; `auto` is a GPU if there is one.
        num_threads: torch's setting for the whole process; None leaves it as it is.
        precision: a key of `PRECISIONS`.

    Raises:
        ConfigError: the device does not exist, or cannot compute in this precision.
    """
    found = find_precision(precision, find_device(device))
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    return TorchBackend(load_detector_model(folder, device), found)


@contextmanager
def _tf32(device: torch.device, *, allowed: bool) -> Iterator[None]:
    """Whether cuDNN may use TF32 within the block; torch allows it by default."""
    if device.type != 'cuda':
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def find_precision(name: str, device: torch.device) -> Precision:
    """The precision of a name.

    Raises:
        ConfigError: unknown, or this device cannot compute in it.
    """
    if name not in PRECISIONS:
        raise ConfigError(f'precision {name!r}: unknown; choose from {[*PRECISIONS]}')
    precision = PRECISIONS[name]
    if (precision.dtype == torch.float16 or precision.tf32) and device.type != 'cuda':
        raise ConfigError(f'precision {name!r}: only on a GPU, not on {device}; use bf16 or fp32')
    if (
        precision.dtype == torch.bfloat16
        and device.type == 'cuda'
        and not torch.cuda.is_bf16_supported()
    ):
        raise ConfigError(f"precision 'bf16': {device} has no such numbers; use fp16 or fp32")
    return precision
