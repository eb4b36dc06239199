# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Detectors, loaded from bundles for the nodes."""

from __future__ import annotations

import os

from pointdistiller_core.detector import Detector


def load_bundle(bundle: str, *, backend: str, device: str, num_threads: int) -> Detector:
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
    return Detector.load(bundle, backend=backend, device=device, num_threads=num_threads or None)
