# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Running a bundle on a labelled dataset, whatever metric comes after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pointdistiller_core.cli.intensity import expectations, settle_dataset
from pointdistiller_core.cli.output import print_cuts, print_note, progress_bar
from pointdistiller_core.errors import PointDistillerError

if TYPE_CHECKING:
    from pointdistiller_core.config import KittiConfig
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


def read_overlaps(texts: Sequence[str], *, form: str, most: int = 1) -> dict[str, list[float]]:
    """Least overlaps by class from texts like `Car=0.5` or `Car=0.7/0.5`.

    Args:
        texts: of the options.
        form: what is expected, in words.
        most: overlaps of a class.

    Raises:
        PointDistillerError: a text is not of this form, or names a class again.
    """
    overlaps: dict[str, list[float]] = {}
    for text in texts:
        name, _, value = text.partition('=')
        try:
            least = [float(part) for part in value.split('/')]
        except ValueError:
            least = []
        if not name or not 0 < len(least) <= most or not all(0 <= each < 1 for each in least):
            raise PointDistillerError(f'--min-overlap {text}: expected {form}')
        if name in overlaps:
            raise PointDistillerError(f'--min-overlap {text}: {name} is given twice; give it once')
        overlaps[name] = least
    return overlaps


def evaluated_classes(
    bundle: Path,
    names: Sequence[str],
    asked: Mapping[str, LeastT],
    usual: Mapping[str, LeastT],
) -> dict[str, LeastT]:
    """The least overlaps of a bundle's classes that have any; says what is left out.

    Args:
        bundle: for what is said.
        names: of its classes.
        asked: class -> least overlap, as the user gave them.
        usual: where none is given.

    Raises:
        PointDistillerError: no class has.
    """
    least = asked or usual
    evaluated = {name: least[name] for name in names if name in least}
    if not evaluated:
        raise PointDistillerError(
            f'{bundle} knows {list(names)}, which have no least overlap; '
            f'give --min-overlap {names[0]}=0.5'
        )
    if unknown := [name for name in asked if name not in names]:
        print_note(
            f'not evaluated, unknown to {bundle}: {", ".join(unknown)}; it knows '
            f'{", ".join(names)}; --min-overlap'
        )
    if others := [name for name in names if name not in evaluated]:
        print_note(f'not evaluated, without a least overlap: {", ".join(others)}; --min-overlap')
    return evaluated


def open_both(
    bundle: Path, config: KittiConfig, engine: Engine, intensity_scale: str | None
) -> tuple[Detector, KittiDataset, str]:
    """A bundle, a labelled dataset with intensities as it expects them, and both in words.

    Args:
        bundle: or the folder of a run.
        config: the dataset, in KITTI layout.
        engine: what the network runs in.
        intensity_scale: `auto`, a factor or None.
    """
    # torch takes seconds to import, and result files do not need it
    from pointdistiller_core.datasets import KittiDataset

    detector = engine.load(bundle)
    config = settle_dataset(intensity_scale, config, expectations({'': detector.info}))
    dataset = KittiDataset(config, detector.class_names)
    title = f'{bundle} on {config.root} ({config.split}, {len(dataset)} frames)'
    return detector, dataset, title


def detect_all(detector: Detector, dataset: KittiDataset) -> list[Detections]:
    """Detections of every frame, under a progress bar; says what the caps of the pillars cut."""
    from pointdistiller_core.pipelines.evaluate import detect_clouds

    with progress_bar('evaluate', 'frames') as update:
        found = detect_clouds(detector, dataset, range(len(dataset)), update)
    print_cuts(found)
    return found
