# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Count frames and problems while a recording is converted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pointdistiller_core.errors import DatasetError

# Problems of clouds. With `strict`, the first one ends the conversion.
PROBLEMS: Mapping[str, str] = {
    'unreadable': 'clouds cannot be read',
    'without_stamp': 'clouds have no stamp; the time of recording is taken',
    'backwards': 'clouds go back in time and are left out',
    'without_transform': 'clouds have no transform to the frame of the dataset and are left out',
    'incomplete': 'frames lack a cloud of another sensor',
    'broken_transforms': 'transforms are none: not finite, or without a rotation',
    'damaged': 'parts of the bag cannot be read',
}
# Clouds left out on request, or kept although something is missing.
REASONS: Mapping[str, str] = {
    'duplicates': 'clouds repeat the one before',
    'by_stride': 'left out by stride',
    'too_soon': 'left out by min_period_s',
    'too_near': 'left out by min_distance',
    'unposed': 'left out by min_distance, for nothing tells their pose',
    'without_pose': 'frames have no pose',
    'unpaired': 'clouds of other sensors are in no frame',
}


class Findings:
    """Counts, and the first problem of each kind.

    Args:
        bag: path that error messages begin with.
        strict: whether a problem is an error.
    """

    def __init__(self, bag: Path, *, strict: bool) -> None:
        self.counts: Counter[str] = Counter()
        self._bag, self._strict = bag, strict
        self._firsts: dict[str, str] = {}
        self._notes: dict[str, None] = {}

    def count(self, kind: str, number: int = 1) -> None:
        """Count something that is in order."""
        self.counts[kind] += number

    def problem(self, kind: str, text: str, number: int = 1) -> None:
        """Count a problem.

        Raises:
            DatasetError: always, if `strict`.
        """
        if self._strict:
            raise DatasetError(
                f'{self._bag}: {text}; without --strict this is counted and the rest converted'
            )
        self.counts[kind] += number
        self._firsts.setdefault(kind, text)

    def note(self, text: str) -> None:
        """Add a note."""
        self._notes.setdefault(text)

    @property
    def notes(self) -> list[str]:
        """Notes and problems as sentences."""
        told = [
            f'{PROBLEMS[kind]}: {self.counts[kind]}; the first: {first}'
            for kind, first in self._firsts.items()
        ]
        left_out = [
            f'{text}: {self.counts[kind]}' for kind, text in REASONS.items() if self.counts[kind]
        ]
        return [*self._notes, *told, *left_out]
