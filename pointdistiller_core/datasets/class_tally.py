# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Names of classes: what is renamed, what counts for a model, and what does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pointdistiller_core.config import CLASS_MAPS
from pointdistiller_core.datasets import FrameDataset


@dataclass
class ClassTally:
    """Renames classes, and counts them.

    Attributes:
        class_map: new names, e.g. `{'Van': 'Car'}`.
        met: labels by their old name.
    """

    class_map: Mapping[str, str]
    met: Counter[str] = field(default_factory=Counter)

    def renamed(self, name: str) -> str:
        """The new name of a class."""
        self.met[name] += 1
        return self.class_map.get(name, name)

    def add(self, names: Iterable[str]) -> None:
        """Count labels by their old names."""
        self.met.update(names)

    def others(self, class_names: Collection[str]) -> Counter[str]:
        """Labels of classes that are none of these even by their new name, by the old one."""
        named = ((name, self.class_map.get(name, name)) for name in self.met)
        return Counter({name: self.met[name] for name, new in named if new not in class_names})

    def unmet(self) -> list[str]:
        """What is to be renamed but was not met; not the names of a shipped map."""
        usual = {name for each in CLASS_MAPS.values() for name in each}
        unmet = [name for name in self.class_map if name not in usual and not self.met[name]]
        has = ', '.join(sorted(name for name in self.met if self.met[name])) or 'none'
        missing = f'class map: nothing is called {", ".join(unmet)}; the classes are {has}'
        return [missing] if unmet else []

    def notes(self) -> list[str]:
        """What was renamed, and what is to be but was not met."""
        renamed = [
            f'{self.met[name]} {name} are {new}'
            for name, new in self.class_map.items()
            if self.met[name] and new != name
        ]
        return ([f'class map: {", ".join(renamed)}'] if renamed else []) + self.unmet()


def tally_labels(dataset: FrameDataset) -> ClassTally:
    """The names of all labels of a dataset.

    Raises:
        DatasetError: labels are missing or malformed.
    """
    tally = ClassTally(dataset.class_map)
    for index in range(len(dataset)):
        tally.add(dataset.label_names(index))
    return tally


def count_names(counts: Mapping[str, int]) -> str:
    """Counts by name as text, the most first."""
    return ', '.join(f'{count} {name}' for name, count in Counter(counts).most_common())
