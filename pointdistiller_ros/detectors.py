# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What the nodes need of a detector, and how they load one."""

from __future__ import annotations

from collections.abc import Sequence
import os
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.detector import Mounting
from pointdistiller_core.records import Detections

if TYPE_CHECKING:
    from pointdistiller_core.detector import BundleInfo


class PointDetector(Protocol):
    """What a node needs of a `pointdistiller_core.detector.Detector`."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names that the labels index."""
        ...

    @property
    def info(self) -> BundleInfo:
        """What the bundle says about itself."""
        ...

    @property
    def backend(self) -> str:
        """What the network runs in."""
        ...

    def __call__(
        self,
        points: NDArray[np.float32],
        *,
        importance: bool = False,
        detection: DetectionConfig | None = None,
        mounting: Mounting | None = None,
    ) -> Detections:
        """Detect objects in (N, 4) points."""
        ...

    def close(self) -> None:
        """Free its memory."""
        ...


def load_bundle(bundle: str, *, backend: str, device: str, num_threads: int) -> PointDetector:
    """The detector of a bundle.

    Args:
        bundle: folder of the bundle, or of the run that holds it.
        backend: what the network runs in.
        device: where it runs.
        num_threads: CPU threads; 0 is the backend's own choice.

    Raises:
        BackendError: the backend's package or files are missing.
        CheckpointError: the bundle cannot be loaded.
        ConfigError: no such backend or device on this machine.
    """
    # torch's idle threads would spin and starve the executor; it reads this when imported.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from pointdistiller_core.detector import Detector  # late, for it may bring torch

    return Detector.load(bundle, backend=backend, device=device, num_threads=num_threads or None)
