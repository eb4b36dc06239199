# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Running a bundle on a labelled dataset, whatever metric comes after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pointdistiller_core.cli.output import print_cuts, print_note, progress_bar
from pointdistiller_core.errors import PointDistillerError

if TYPE_CHECKING:
    from pointdistiller_core.config import DatasetConfig
    from pointdistiller_core.datasets import KittiDataset
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.records import Detections

LeastT = TypeVar('LeastT')  # overlap of a hit, or several


@dataclass(frozen=True)
class Engine:
    """What a bundle runs in: cpu or cuda, a backend, and the precision of torch."""

    device: str
    backend: str
    precision: str

    def load(self, bundle: Path) -> Detector:
        """The detector of a bundle, or of the folder of a run."""
        from pointdistiller_core.detector import Detector

        return Detector.load(
            bundle, backend=self.backend, device=self.device, precision=self.precision
        )


def evaluated_classes(
    bundle: Path, names: Sequence[str], min_overlaps: Mapping[str, LeastT]
) -> dict[str, LeastT]:
    """The least overlaps of a bundle's classes that have any; says which have none.

    Says also which classes the bundle does not know.

    Raises:
        PointDistillerError: no class has.
    """
    evaluated = {name: min_overlaps[name] for name in names if name in min_overlaps}
    if not evaluated:
        raise PointDistillerError(
            f'{bundle} knows {list(names)}, which have no least overlap; '
            f'give --min-overlap {names[0]}=0.5'
        )
    if others := [name for name in names if name not in evaluated]:
        print_note(f'not evaluated, without a least overlap: {", ".join(others)}; --min-overlap')
    if unknown := [name for name in min_overlaps if name not in names]:
        print_note(f'not evaluated, unknown to the bundle: {", ".join(unknown)}')
    return evaluated


def detect_all(detector: Detector, dataset: KittiDataset) -> list[Detections]:
    """Detections of every frame, under a progress bar; says what the caps of the pillars cut."""
    from pointdistiller_core.pipelines.evaluate import detect_clouds

    with progress_bar('evaluate', 'frames') as update:
        found = detect_clouds(detector, dataset, range(len(dataset)), update)
    print_cuts(found)
    return found


def title_of(bundle: Path, config: DatasetConfig, dataset: KittiDataset) -> str:
    """What was evaluated on what."""
    return f'{bundle} on {config.root} ({config.split}, {len(dataset)} frames)'
