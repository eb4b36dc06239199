# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets and augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from pointdistiller_core.config.base import Choice, Config, Positive, Probability
from pointdistiller_core.config.class_maps import ClassMap


class DatasetConfig(Choice):
    """Where frames come from."""

    name: str
    root: Path = Field(description='folder of the dataset')
    split: str = 'train'
    cache: Path | None = Field(
        None, description='folder for what is derived from the frames; None: .cache in the root'
    )
    intensity_scale: Positive = Field(1.0, description='factor on the intensity of the files')
    sensor_height: Positive = Field(1.73, description='above the ground [m]; kept in the bundle')
    class_map: ClassMap = Field(
        default_factory=dict,
        description='class by name in the labels; the others keep theirs; or nuscenes, ...',
    )


class KittiConfig(DatasetConfig):
    """KITTI's layout, which simulated datasets have, too."""

    name: Literal['kitti'] = 'kitti'
    root: Path = Field(description='folder that holds training/ and ImageSets/')
    split: str = Field(
        'train', description='a file of ImageSets/, without .txt; several as train+val'
    )
    cache_frames: bool = Field(
        False, description='keep every frame as it was read; 0.3 MB each with camera_view'
    )
    camera_view: bool = Field(True, description="drop points outside the camera's image")


class FolderConfig(DatasetConfig):
    """The open layout of a dataset."""

    name: Literal['folder'] = 'folder'
    root: Path = Field(description='folder that holds dataset.yaml')
    split: str = Field(
        'train', description='a file of splits/, without .txt; several as train+val; all is all'
    )


class NuScenesConfig(DatasetConfig):
    """nuScenes, and other datasets in its format."""

    name: Literal['nuscenes'] = 'nuscenes'
    root: Path = Field(
        description='folder that holds samples/, sweeps/ and tables, as in v1.0-trainval/'
    )
    split: str = Field(
        'train',
        description='a published one (train, val, mini_train, ...) or one of splits.json; several '
        'as train+val; all is all',
    )
    version: str = Field('', description='folder of the tables; empty: the one with the split')
    channel: str = Field('LIDAR_TOP', description='name of the LiDAR')
    sweeps: int | None = Field(
        None,
        ge=1,
        le=100,
        description='clouds that are merged, the newest included; more than one have a column '
        'age [s]; None: as many as the model merges, 1 without a model',
    )
    max_sweep_age_s: Positive | None = Field(
        None,
        description='older sweeps are not merged [s]; None: as the model says, or any without one',
    )
    min_distance: float = Field(
        1.0,
        ge=0.0,
        description='of a point along x or y [m]; nearer ones are the vehicle itself',
    )
    axes: Literal['forward', 'sensor'] = Field(
        'forward', description="x ahead and y left; or the sensor's own, x right and y ahead"
    )
    intensity_scale: Positive = Field(1 / 255, description='factor on the intensity of the files')
    sensor_height: Positive = Field(1.84, description='above the ground [m]; kept in the bundle')


def has_splits(config: type[DatasetConfig]) -> bool:
    """Whether datasets of such a configuration have a choice of splits."""
    return config.model_fields['split'].annotation is str


class BagConfig(DatasetConfig):
    """Clouds of a ROS bag, with boxes where they are labelled; to evaluate on, not to train."""

    name: Literal['bag'] = 'bag'
    root: Path = Field(description='the bag')
    split: Literal['all'] = 'all'
    topic: str = Field('', description='of the clouds; empty: the only one of a sensor')
    ground_truth: str = Field('', description='topic of the boxes; empty: /ground_truth/boxes')
    label_names: tuple[str, ...] = Field(
        (),
        description="that the boxes' labels index; empty: as the bag says, or the detector's",
    )
    intensity_scale: Positive | None = Field(  # type: ignore[assignment]  # may be the clouds' own
        None, description='factor on the intensity; None: 1, of integers 1 / (largest value)'
    )


class SampledClassConfig(Config):
    """Objects of one class that are pasted into a frame."""

    count: int = Field(15, ge=0, description='of the class in a frame, its own ones included')
    min_points: int = Field(5, ge=1, description='inside the box of an object worth pasting')


class GroundTruthSamplingConfig(Config):
    """Objects of other frames pasted into a frame (SECOND); by default as for PointPillars."""

    classes: dict[str, SampledClassConfig] | None = Field(
        None, description='that are pasted; None: all classes of the model'
    )
    difficulties: tuple[Literal['easy', 'moderate', 'hard', 'none'], ...] = Field(
        ('easy', 'moderate', 'hard'), description="KITTI's, of the objects that are pasted"
    )

    def of_classes(self, class_names: Sequence[str]) -> dict[str, SampledClassConfig]:
        """What is pasted of which class, for a model of these classes."""
        if self.classes is None:
            return dict.fromkeys(class_names, SampledClassConfig())
        return self.classes


class ObjectNoiseConfig(Config):
    """Each object turned and shifted by itself (VoxelNet, SECOND); by default as for SECOND."""

    translation: tuple[float, float, float] = Field(
        (1.0, 1.0, 0.5), description='standard deviation along x, y, z [m]'
    )
    rotation: tuple[float, float] = Field((-0.78539816, 0.78539816), description='[rad]')
    num_tries: int = Field(100, ge=1, description='until the object collides with no other')


class AugmentationConfig(Config):
    """Augmentation of the published KITTI schedules, in this order.

    In a file, `ground_truth_sampling: {}` turns that step on as it was published.
    """

    ground_truth_sampling: GroundTruthSamplingConfig | None = None
    object_noise: ObjectNoiseConfig | None = None
    flip_probability: Probability = Field(0.5, description='left and right change places')
    flip_x_probability: Probability = Field(
        0.0, description='ahead and behind do, for clouds all round (nuScenes)'
    )
    rotation: tuple[float, float] = Field((-0.78539816, 0.78539816), description='[rad]')
    scaling: tuple[Positive, Positive] = (0.95, 1.05)
    shuffle_points: bool = True
