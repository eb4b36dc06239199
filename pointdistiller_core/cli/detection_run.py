# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Running bundles on labelled frames, for any metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistiller_core.cli.intensity import expectations, name_of, settle_dataset
from pointdistiller_core.cli.output import print_cuts, progress_bar
from pointdistiller_core.config import has_splits
from pointdistiller_core.errors import ConfigError

if TYPE_CHECKING:
    from pointdistiller_core.config import DatasetConfig, DetectionConfig, DetectorConfig
    from pointdistiller_core.datasets import FrameDataset, Frames
    from pointdistiller_core.deploy.bundle_format import BundleInfo
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.records import Detections


OF_BAG = 'Of a bag'  # panel of the help

TopicOption = Annotated[
    str | None,
    typer.Option(help='Topic of the clouds, if the bag has several.', rich_help_panel=OF_BAG),
]
GroundTruthOption = Annotated[
    str | None,
    typer.Option(
        metavar='TOPIC',
        help='Topic of labelled boxes, like ~/boxes; /ground_truth/boxes is the default.',
        rich_help_panel=OF_BAG,
    ),
]
LabelNamesOption = Annotated[
    list[str] | None,
    typer.Option(
        '--class',
        help='A class that the labels of the boxes index, in order; by default those that the bag '
        "names, or the detector's; repeatable.",
        rich_help_panel=OF_BAG,
    ),
]


@dataclass(frozen=True)
class Engine:
    """What a bundle runs in: cpu or cuda, a backend, and the precision of torch."""

    device: str
    backend: str
    precision: str
    level: bool = False  # each cloud by the ground that is found in it

    def load(self, bundle: Path) -> Detector:
        """The detector of a bundle, or of the folder of a run."""
        from pointdistiller_core.detector import Detector

        return Detector.load(
            bundle, backend=self.backend, device=self.device, precision=self.precision
        )


@dataclass(frozen=True)
class Source:
    """Frames as the options of a verb name them; None is the default.

    Attributes:
        path: of a dataset or a bag.
        split: of a dataset.
        camera_view: of a dataset in KITTI layout.
        topic: of the clouds of a bag.
        ground_truth: topic of its boxes.
        label_names: classes that the labels of its boxes index.
        intensity_scale: `auto` or a factor.
        usual_split: of a dataset.
        whole: also points that no camera sees, whatever the dataset.
        class_map: new names of the labels' classes.
    """

    path: Path
    split: str | None = None
    camera_view: bool | None = None
    topic: str | None = None
    ground_truth: str | None = None
    label_names: Sequence[str] | None = None
    intensity_scale: str | None = None
    usual_split: str = 'val'
    whole: bool = False
    class_map: Mapping[str, str] | None = None

    @cached_property
    def config(self) -> DatasetConfig:
        """Configuration of the dataset there.

        Raises:
            DatasetError: no dataset.
            ConfigError: the dataset has no such options.
        """
        from pointdistiller_core.datasets import find_dataset

        names = ('split', 'camera_view', 'topic', 'ground_truth', 'class_map')
        options = {name: getattr(self, name) for name in names}
        label_names = tuple(self.label_names or ()) or None
        config = find_dataset(
            self.path, usual_split=self.usual_split, label_names=label_names, **options
        )
        if self.whole and 'camera_view' in type(config).model_fields:
            config = config.model_copy(update={'camera_view': False})
        return config

    @property
    def name(self) -> str:
        """Place of the frames, for messages."""
        return name_of(self.config)

    @property
    def is_labelled(self) -> bool:
        """Whether there are labels."""
        from pointdistiller_core.datasets import DATASETS

        return DATASETS[self.config.name].is_labelled(self.config)

    @property
    def metric(self) -> str:
        """Name of the usual metric there."""
        from pointdistiller_core.datasets import DATASETS

        return DATASETS[self.config.name].metric

    def open(
        self, class_names: Sequence[str], infos: Mapping[str, BundleInfo], *, labelled: bool = True
    ) -> FrameDataset:
        """The frames, with intensities as bundles expect them.

        Args:
            class_names: labels are indices into these.
            infos: of the bundles, by name.
            labelled: whether to read labels.
        """
        from pointdistiller_core.datasets import build_dataset

        config = settle_dataset(self.intensity_scale, self.config, expectations(infos))
        return build_dataset(config, class_names, labelled=labelled, model=_shared_input(infos))

    def describe(self, num_frames: int) -> str:
        """Place and number of the frames, for messages."""
        split = f'{self.config.split}, ' if has_splits(type(self.config)) else ''
        return f'{self.path} ({split}{num_frames} frames)'


def _shared_input(infos: Mapping[str, BundleInfo]) -> DetectorConfig | None:
    """A detector whose sweeps and columns all bundles expect.

    Raises:
        ConfigError: they expect different ones.
    """
    models = {name: info.model for name, info in infos.items()}
    inputs = {
        name: (list(model.point_features), model.sweeps, model.max_sweep_age_s)
        for name, model in models.items()
    }
    if len(set(map(repr, inputs.values()))) > 1:
        said = ', '.join(
            f'{name} {columns} of {n} sweeps' for name, (columns, n, _) in inputs.items()
        )
        raise ConfigError(f'these expect different clouds: {said}; run them one by one')
    return next(iter(models.values()), None)


def detect_all(
    detector: Detector,
    dataset: Frames,
    *,
    title: str = 'evaluate',
    name: str = '',
    level: bool = False,
    detection: DetectionConfig | None = None,
) -> list[Detections]:
    """Detections of every frame, under a progress bar; says what the caps left out.

    Args:
        detector: what runs.
        dataset: the frames.
        title: of the bar.
        name: of the detector, if there are several.
        level: each cloud by the ground that is found in it.
        detection: thresholds and caps; None is the bundle's.
    """
    from pointdistiller_core.pipelines.evaluate import detect

    with progress_bar(title, 'frames') as update:
        found = detect(
            detector,
            dataset,
            range(len(dataset)),
            on_frame=update,
            level=level,
            detection=detection,
        )
    print_cuts(found, name=name)
    return found
