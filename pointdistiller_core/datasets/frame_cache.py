# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frames cached ready to use, so that reading them again is fast."""

from __future__ import annotations

from collections.abc import Callable
import logging
from pathlib import Path

import numpy as np

from pointdistiller_core.datasets.packed_arrays import pack_arrays, unpack_arrays
from pointdistiller_core.files import write_file
from pointdistiller_core.records import Frame, GroundTruth

logger = logging.getLogger(__name__)


def keep_frame(file: Path, frame_id: str, read: Callable[[], Frame]) -> Frame:
    """A frame from a file; if there is none, the frame is read and stored there.

    The file is written whole or not at all. A file that was damaged later is made again.

    Args:
        file: its name must change whenever the frame does.
        frame_id: of the frame.
        read: the frame itself.

    Raises:
        WriteError: the file cannot be written.
    """
    if file.exists():
        try:
            kept = unpack_arrays(file.read_bytes())
            columns = {name: np.array(value) for name, value in kept.items()}
            points = columns.pop('points')
            return Frame(points, frame_id, GroundTruth(**columns) if columns else None)
        except (KeyError, TypeError, ValueError) as error:
            logger.warning('%s: damaged (%s); it is made again', file, error)
    frame = read()
    truth = frame.ground_truth
    labels = {} if truth is None else {'boxes': truth.boxes, **truth.columns()}
    write_file(file, pack_arrays({'points': frame.points, **labels}))
    return frame
