# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated sensors and scenes."""

from __future__ import annotations

from pydantic import Field

from pointdistiller_core.config.base import Config, Positive, Probability


class SensorConfig(Config):
    """A spinning LiDAR; the defaults are a Velodyne HDL-64E as KITTI mounts it."""

    beams: tuple[tuple[float, float, int], ...] = Field(
        ((2.0, -8.33, 32), (-8.83, -24.33, 32)),
        description='blocks of beams: elevation of the first, of the last [deg], number of beams',
    )
    num_columns: int = Field(1875, ge=1, description='firings per turn; 64 x 1875 = 120,000 rays')
    max_range: Positive = 80.0  # where KITTI's clouds end
    min_range: Positive = 1.0
    height: Positive = Field(1.73, description='above the ground [m]')
    range_noise: float = Field(0.02, ge=0.0, description='standard deviation [m]')
    dropout: Probability = Field(
        0.02, description='returns lost at random, beside weak and distant ones'
    )
    rate: Positive = Field(10.0, description='turns per second [Hz]')


class SceneConfig(Config):
    """What stands around the sensor: inclusive numbers of things per scene."""

    extent: Positive = Field(60.0, description='half length of the populated street [m]')
    ego_speed: float = Field(7.0, ge=0.0, description='of the sensor in a drive [m/s]')
    cars: tuple[int, int] = (6, 14)
    pedestrians: tuple[int, int] = (4, 12)
    cyclists: tuple[int, int] = (3, 8)
    trucks: tuple[int, int] = (0, 3)
    poles: tuple[int, int] = (6, 20)
    bushes: tuple[int, int] = (4, 14)
    walls: tuple[int, int] = (2, 6)
    fences: tuple[int, int] = (1, 4)


class CameraConfig(Config):
    """The camera that KITTI's labels refer to: at the LiDAR, looking ahead, wider than KITTI's.

    With KITTI's focal length the heights in the image, and so the difficulties, are KITTI's.
    """

    focal_length: Positive = Field(721.5, description='[pixels]')
    image_size: tuple[int, int] = Field((2500, 375), description='width, height [pixels]')


class SimulationConfig(Config):
    """A simulated dataset: frames of independent scenes, or one drive through one scene."""

    sensor: SensorConfig = SensorConfig()
    camera: CameraConfig = CameraConfig()
    scene: SceneConfig = SceneConfig()
