# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Split recordings by drive and by time, because neighboring sweeps are nearly the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import SplitConfig
from pointdistiller_core.formats.folder import FrameRange
from pointdistiller_core.geometry.poses import NANOSECONDS

LEAST_FRAMES = 5  # of a drive that is split
MOST_GAP = 0.05  # of the time of a drive


def split_drive(
    drive: str, names: Sequence[str], stamps_ns: NDArray[np.int64], config: SplitConfig
) -> dict[str, list[FrameRange]]:
    """Split a drive into ranges of frames, by split name.

    Args:
        drive: name of the drive.
        names: (F,) names of its frames.
        stamps_ns: (F,) their times [ns], increasing.
        config: which drives, or which part of each, are for validation.
    """
    if not names:
        return {}
    whole = [FrameRange(names[0], names[-1])]
    if config.val_drives:
        return {'val' if drive in config.val_drives else 'train': whole}
    if len(names) < LEAST_FRAMES or config.val_part in (0, 1):
        return {'val' if config.val_part == 1 else 'train': whole}
    duration_ns = int(stamps_ns[-1] - stamps_ns[0])
    val_ns = stamps_ns[0] + round((1 - config.val_part) * duration_ns)
    gap_ns = min(round(config.gap_s * NANOSECONDS), round(MOST_GAP * duration_ns))
    num_train = int(np.searchsorted(stamps_ns, val_ns - gap_ns))
    val = int(np.searchsorted(stamps_ns, val_ns))
    parts = {'train': names[:num_train], 'val': names[val:]}
    return {split: [FrameRange(part[0], part[-1])] for split, part in parts.items() if part}
