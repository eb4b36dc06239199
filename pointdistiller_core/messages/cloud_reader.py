# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Points of clouds, and a warning if a detector was trained on another intensity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pointdistiller_core.geometry.intensity import IntensityJudge
from pointdistiller_core.messages.point_cloud2 import (
    MissingIntensity,
    own_intensity_scale,
    points_from_cloud,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

REMEDY = (
    '(parameter intensity_auto, or intensity_scale {:.6g}; of pointdistiller run: '
    '--intensity-scale auto)'
)


@dataclass(frozen=True)
class CloudReading:
    """How clouds are read; a node has parameters of these names.

    Attributes:
        intensity_field: see `points_from_cloud`; empty is the first that it knows.
        missing_intensity: see `points_from_cloud`.
        constant_intensity: see `points_from_cloud`.
        intensity_scale: factor on the raw intensity; 0 is that of the number type.
        intensity_auto: whether to use the scale that the first clouds make likely.
    """

    intensity_field: str = ''
    missing_intensity: MissingIntensity = 'error'
    constant_intensity: float = 0.0
    intensity_scale: float = 0.0
    intensity_auto: bool = False


class Trained(Protocol):
    """What a bundle says of the intensity of its training clouds."""

    @property
    def intensity_range(self) -> tuple[float, float]:
        """Least and largest."""
        ...

    @property
    def intensity_text(self) -> str:
        """The same in words."""
        ...


class CloudReader:
    """Reads clouds; judges the intensity of the first ones, and says once what is wrong.

    With `intensity_auto`, the scale follows from the clouds so far; after the first ones it stays.

    Args:
        settings: how to read.
        infos: of the detectors by name; with several, `intensity_auto` goes by the first.
        logger: has the methods `warning` and `info`, as the loggers of Python and of nodes.
        remedy: what the user can do about a likely scale.
        topic: of the clouds, for messages; empty if there is no other.
    """

    def __init__(
        self,
        settings: CloudReading,
        infos: Mapping[str, Trained],
        logger: Any,
        remedy: str = REMEDY,
        topic: str = '',
    ) -> None:
        self.settings = settings
        self._logger = logger
        self._prefix = f'{topic}: ' if topic else ''
        self._judges = [
            IntensityJudge(
                info.intensity_range,
                expected=f'the {name} was trained on {info.intensity_text}',
                remedy=remedy.format,
                auto=settings.intensity_auto and index == 0,
            )
            for index, (name, info) in enumerate(infos.items())
        ]

    @property
    def scale(self) -> float | None:
        """The scale that `intensity_auto` has chosen."""
        return self._judges[0].scale

    @property
    def problem(self) -> str:
        """What is wrong with the intensity of the first clouds; empty if nothing is."""
        unsolved = (judge.finding for judge in self._judges if judge.scale is None)
        return '; '.join(self._prefix + finding for finding in unsolved if finding)

    def read(self, cloud: Any) -> NDArray[np.float32]:
        """Points of a cloud as the parameters ask for; see `points_from_cloud`.

        Returns:
            (N, 4) x, y, z [m], intensity, in the frame of the cloud.

        Raises:
            CloudError: a field is missing or the message contradicts itself.
        """
        points = self._points_of(cloud)
        if self._judges[0].decided:
            return points
        own = self.settings.intensity_scale or own_intensity_scale(
            cloud, self.settings.intensity_field
        )
        if own is None:  # without intensity, as the parameters allow
            return points
        for judge in self._judges:
            before = self.scale
            if news := judge.add(points, scale=before or own):
                if judge.scale is None:
                    self._logger.warning(self._prefix + news)
                else:  # on a line of its own: a line of rclpy's logs has one severity
                    self._logger.info(self._prefix + news)
            if self.scale != before:
                points = self._points_of(cloud)
        return points

    def _points_of(self, cloud: Any) -> NDArray[np.float32]:
        return points_from_cloud(
            cloud,
            intensity_field=self.settings.intensity_field,
            missing_intensity=self.settings.missing_intensity,
            constant_intensity=self.settings.constant_intensity,
            intensity_scale=self.scale or self.settings.intensity_scale or None,
        )
