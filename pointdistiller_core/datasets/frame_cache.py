# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Frames kept ready to use: reading them again takes a small part of the time."""

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
    """A frame from a file; where there is none, it is read and kept there.

    A file is there whole or not at all, whatever interrupts the writing; one that was damaged
    later is made again.

    Args:
        file: its name must change with what the frame is made from.
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
