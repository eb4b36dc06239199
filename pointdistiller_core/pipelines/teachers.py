# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The teachers that label a dataset folder: bundles, and detections that are in a bag."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pointdistiller_core.config import LabellingConfig
from pointdistiller_core.datasets.class_tally import ClassTally, count_names
from pointdistiller_core.datasets.folder import FolderDataset
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.labelling.views import AnyTeacher, RecordedTeacher, Teacher
from pointdistiller_core.pipelines.label import Teachers
from pointdistiller_core.pipelines.recorded import read_recorded
from pointdistiller_core.records import Detections

if TYPE_CHECKING:
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.formats.folder import Label


def load_teachers(
    dataset: FolderDataset,
    config: LabellingConfig,
    *,
    bundles: Sequence[str] = (),
    detections: Sequence[str] = (),
    class_map: Mapping[str, str] | None = None,
    label_names: Sequence[str] = (),
    device: str = 'auto',
    on_note: Callable[[str], None] = lambda _note: None,
) -> Teachers:
    """The teachers that texts name.

    Args:
        dataset: the frames that they label.
        config: how they label.
        bundles: `BUNDLE[=CLASS,...]`, a bundle or a run, and the classes that it labels.
        detections: `BAG[:TOPIC][=CLASS,...]`, boxes that some detector left in a bag.
        class_map: new names of the teachers' classes, e.g. `{'Van': 'Car'}`.
        label_names: classes that numbers index, of recorded boxes without names.
        device: of the bundles.
        on_note: told what was assumed or left out.

    Raises:
        ConfigError: there is no teacher, or one lacks a class that it is to label.
        DatasetError: a bag cannot be read, or has nothing for the frames.
        BundleError: a bundle cannot be read.
    """
    if not bundles and not detections:
        raise ConfigError('nobody to label: give --bundle or --detections')
    loader = _Loader(
        dataset=dataset,
        config=config,
        tally=ClassTally(class_map or {}),
        label_names=label_names,
        device=device,
        on_note=on_note,
    )
    loaded = [*map(loader.bundle, bundles), *map(loader.recorded, detections)]
    for note in loader.tally.unmet():
        loader.on_note(note)
    facts = repr([facts for _, facts in loaded])
    source = ', '.join([*bundles, *detections])
    return Teachers([teacher for teacher, _ in loaded], facts, source)


def labelled_classes(teachers: Teachers) -> tuple[str, ...]:
    """The classes that some teacher labels."""
    return tuple(dict.fromkeys(name for each in teachers.teachers for name in each.classes))


@dataclass(frozen=True)
class _Loader:
    """Loads teachers; each comes with the facts that `Teachers.fingerprint` is made of."""

    dataset: FolderDataset
    config: LabellingConfig
    tally: ClassTally
    label_names: Sequence[str]
    device: str
    on_note: Callable[[str], None]

    def bundle(self, text: str) -> tuple[AnyTeacher, object]:
        """A detector, with thresholds low enough for tracks to continue with unsure detections."""
        from pointdistiller_core.detector import Detector

        path, _, chosen = text.partition('=')
        detector = Detector.load(path, device=self.device)
        detector.info.model.check_one_sweep(f'--bundle {text}')
        names, classes = self._choose(f'--bundle {text}', detector.class_names, chosen)
        least = self.config.tracking.min_score
        low = detector.info.model.detection.model_copy(
            update={'score_threshold': least, 'score_thresholds': ()}
        )
        # A height says nothing of a tilt: who was trained on levelled clouds finds the ground.
        levelled = detector.info.model.levelled
        height = None if levelled else self.dataset.info.sensor.height
        detect = partial(detector, detection=low, mounting=self._mounting(detector, height))
        looks_at = detector.info.model.point_cloud_range
        facts = (detector.info.sha256, classes, least, height)
        return Teacher(detect, names, classes, looks_at), (
            (*facts, names) if self.tally.class_map else facts
        )

    def recorded(self, text: str) -> tuple[AnyTeacher, object]:
        """Detections that are in a bag."""
        place, _, chosen = text.partition('=')
        bag, topic = split_topic(place)
        config = self.config
        found = read_recorded(
            *(self.dataset, bag, topic),
            tolerance_s=config.tolerance_s,
            label_names=self.label_names,
        )
        for note in found.notes:
            self.on_note(f'{bag}: {found.topic}: {note}')
        own = tuple(name for name, _ in found.classes.most_common())
        names, classes = self._choose(f'--detections {text}', own, chosen)
        left = {name: found.classes[name] for name, new in zip(own, names, strict=True) if not new}
        if left:
            self.on_note(f'{bag}: {found.topic}: not asked for: {count_names(left)}')
        by_frame = {
            frame: _as_detections(labels, own, config.tracking.min_score)
            for frame, labels in found.by_frame.items()
        }
        tolerances = (config.tolerance_s, config.tracking.min_score)
        files = [bag] if bag.is_file() else sorted(bag.iterdir())
        states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        facts = (str(bag), states, found.topic, names, classes, self.label_names, tolerances)
        return RecordedTeacher(by_frame, names, classes), facts

    def _mounting(self, detector: Detector, height: float | None) -> Mounting | None:
        """From the dataset's sensor to that of the training; None if they are equally high."""
        trained = detector.info.sensor_height
        mounting = Mounting.at_height(trained, height)
        if mounting is not None:
            self.on_note(
                f'points are moved from a height of {height:g} m to the {trained:g} m of training'
            )
        return mounting

    def _choose(
        self, where: str, names: Sequence[str], chosen: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """New names of a teacher's classes, and those that it labels.

        Args:
            where: for messages.
            names: of its classes.
            chosen: of them, by their old or new names; empty is all.
        """
        new = tuple(map(self.tally.renamed, names))
        if not chosen:
            return new, tuple(dict.fromkeys(new))
        wanted = chosen.split(',')
        if unknown := [name for name in wanted if name not in (*names, *new)]:
            raise ConfigError(f'{where}: {unknown} are not among its classes {list(names)}')
        pairs = zip(names, new, strict=True)
        # Without a name, a class that is not chosen cannot come in by the new name of another.
        own = tuple(each if name in wanted or each in wanted else '' for name, each in pairs)
        return own, tuple(dict.fromkeys(self.tally.class_map.get(name, name) for name in wanted))


def split_topic(text: str) -> tuple[Path, str]:
    """A bag and a topic of it, maybe empty, from `BAG[:TOPIC]`; a topic begins with a slash."""
    bag, separator, topic = text.rpartition(':/')
    return (Path(bag), f'/{topic}') if separator else (Path(text), '')


def _as_detections(labels: Sequence[Label], names: Sequence[str], least: float) -> Detections:
    """The boxes of a frame that may be part of a track, surest first."""
    sure = [label for label in labels if (label.score or 0.0) >= least]
    found = Detections(
        np.array([label.box for label in sure], np.float32).reshape(-1, 7),
        np.array([label.score for label in sure], np.float32),
        np.array([names.index(label.name) for label in sure], np.int64),
    )
    return found[np.argsort(-found.scores, kind='stable')]
