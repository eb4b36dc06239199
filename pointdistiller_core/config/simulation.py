# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated sensors and scenes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from pointdistiller_core.config.base import Config, Positive, Probability
from pointdistiller_core.config.sensor_presets import SENSOR_PRESETS

PLAIN_AHEAD = 34.0  # [m] of a plain street that its road users need


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError('the lower end is above the upper one')
    return span


Span = Annotated[tuple[float, float], AfterValidator(_ordered)]
Parts = Annotated[tuple[Probability, Probability], AfterValidator(_ordered)]
Whole = Annotated[int, Field(ge=0)]
Numbers = Annotated[tuple[Whole, Whole], AfterValidator(_ordered)]
Elevation = Annotated[float, Field(ge=-90.0, le=90.0)]  # [deg]
Tilt = Annotated[float, Field(ge=-20.0, le=20.0)]  # [deg]; labels are upright for the sensor
Tilts = Annotated[tuple[Tilt, Tilt], AfterValidator(_ordered)]
HaloWidth = Annotated[float, Field(ge=0.0, le=5.0)]  # [deg]
Pixels = Annotated[int, Field(ge=1)]
SceneKind = Literal[
    'plain', 'residential', 'city', 'road', 'country', 'junction', 'courtyard', 'car_park'
]
IntensityCurve = Literal['as_is', 'gamma', 'clipped', 'constant', 'zero']


class RoofConfig(Config):
    """The roof of the sensor's own vehicle: a level rectangle that takes the beams below it."""

    ahead: Positive = Field(1.05, description='of the sensor [m]')
    behind: Positive = Field(1.15, description='[m]')
    half_width: Positive = Field(0.65, description='[m]')
    below: Positive = Field(0.45, description='the sensor [m]')


class SensorConfig(Config):
    """A LiDAR; the defaults are a Velodyne HDL-64E as KITTI mounts it.

    A name alone, as in `sensor: VLP-16`, is a preset; `sensor: {preset: VLP-16, height: 1.2}`
    changes one. A preset sets what its data sheet tells: beams, columns, ranges and noise.
    """

    preset: str | None = Field(None, description=f'one of {", ".join(SENSOR_PRESETS)}')
    pattern: Literal['spinning', 'rosette'] = Field(
        'spinning', description='rosette: never the same twice; one block of beams, its limits'
    )
    beams: tuple[tuple[Elevation, Elevation, Annotated[int, Field(ge=1)]], ...] = Field(
        ((2.0, -8.33, 32), (-8.83, -24.33, 32)),
        min_length=1,
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
    ring_gain: float = Field(
        0.0, ge=0.0, le=1.0, description='deviation of the intensity from beam to beam, as a part'
    )
    silent_range: Positive | None = Field(
        None,
        description='where half of the echoes of a wall are too weak for an intensity and are '
        'reported with 0 [m]; null: as often at any range',
    )
    weak_range: Positive = Field(
        80.0, description='grazed road fades before half of it; larger: a stronger sensor [m]'
    )
    roof: RoofConfig | None = Field(None, description="the vehicle's own; null: none")

    @model_validator(mode='before')
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        if isinstance(values, str):
            values = {'preset': values}
        if not isinstance(values, Mapping) or values.get('preset') is None:
            return values
        name = values['preset']
        if name not in SENSOR_PRESETS:
            raise ValueError(f'no preset {name!r}; choose from {", ".join(SENSOR_PRESETS)}')
        return {**SENSOR_PRESETS[name], **values}

    @model_validator(mode='after')
    def _check(self) -> SensorConfig:
        if self.min_range >= self.max_range:
            raise ValueError(
                f'min_range {self.min_range:g} is not below max_range {self.max_range:g}'
            )
        if self.pattern == 'rosette' and len(self.beams) != 1:
            raise ValueError(f'a rosette has one block of beams, not {len(self.beams)}')
        return self


class SurfacesConfig(Config):
    """What surfaces do to beams beside returning them; nothing by default.

    Parts of road users are drawn for each of them.
    """

    holes: Numbers = Field(
        (0, 0), description='spheres of 0.2 to 0.5 m in a car, from which no beam comes back'
    )
    lost_roofs: Probability = Field(0.0, description='cars whose roof returns nothing')
    lost_sills: Probability = Field(0.0, description='cars whose lowest part returns nothing')
    dark: Probability = Field(0.0, description='cars of whose paint most echoes are too weak')
    rain: Parts = Field((0.0, 0.0), description='range of the part of all returns that is lost')
    spray: Parts = Field(
        (0.0, 0.0),
        description='range of the part of the rays that come back from drops within 8 m',
    )
    blooming: Annotated[tuple[HaloWidth, HaloWidth], AfterValidator(_ordered)] = Field(
        (0.0, 0.0),
        description='range of the width of the halo around plates and signs: rays beside them get '
        'their light, more seldom towards its end [deg]',
    )


class CrowdConfig(Config):
    """Road users of one sort in a scene; small numbers are more frequent than large ones."""

    chance: Probability = Field(description='that there are any')
    count: Numbers = Field(description='how many there are then')


class StreetsConfig(Config):
    """Streets of all kinds but `plain`; each kind has more of some things and less of others."""

    background: Annotated[tuple[Positive, Positive], AfterValidator(_ordered)] = Field(
        (48.0, 76.0), description='distance of what closes the view [m]'
    )
    empty: Probability = Field(0.04, description='chance of a scene without any road user')
    parked: Parts = Field((0.0, 0.5), description='range of the part of the places that is taken')
    cars: CrowdConfig = CrowdConfig(chance=1.0, count=(2, 6))
    trucks: CrowdConfig = CrowdConfig(chance=0.25, count=(1, 2))
    trailers: CrowdConfig = CrowdConfig(chance=0.06, count=(1, 2))
    cyclists: CrowdConfig = CrowdConfig(chance=0.4, count=(1, 4))
    pedestrians: CrowdConfig = CrowdConfig(chance=0.5, count=(1, 9))
    bicycles: CrowdConfig = Field(
        CrowdConfig(chance=0.35, count=(1, 10)), description='without riders, not labelled'
    )
    furniture: Numbers = Field(
        (10, 120), description='posts, signs, bins, trees, shelters along 100 m'
    )
    bend: float = Field(0.005, ge=0.0, le=0.006, description='largest curvature [1/m]')


class SceneConfig(Config):
    """What stands around the sensor.

    `kinds` are weights; each scene is of one kind. The numbers of things per scene (inclusive)
    are those of a plain street, `streets` describes all others.
    """

    kinds: dict[SceneKind, Positive] = Field({'plain': 1.0}, min_length=1)
    extent: Positive = Field(60.0, description='half length of the populated street [m]')
    ego_speed: float = Field(7.0, ge=0.0, description='of the sensor in a drive [m/s]')
    cars: Numbers = (6, 14)
    pedestrians: Numbers = (4, 12)
    cyclists: Numbers = (3, 8)
    trucks: Numbers = (0, 3)
    poles: Numbers = (6, 20)
    bushes: Numbers = (4, 14)
    walls: Numbers = (2, 6)
    fences: Numbers = (1, 4)
    streets: StreetsConfig = StreetsConfig()

    @model_validator(mode='after')
    def _check_extent(self) -> SceneConfig:
        if 'plain' in self.kinds and self.extent < PLAIN_AHEAD:
            raise ValueError(
                f'extent {self.extent:g}: a plain street is at least {PLAIN_AHEAD:g} m long '
                'either way; choose more, or other kinds'
            )
        return self


class VariationConfig(Config):
    """Ranges from which the sensor of each frame is drawn; nothing varies by default.

    A drive keeps one draw. What was drawn is written beside the labels.
    """

    sensors: dict[str, Positive] = Field(
        {}, description='weights of presets that take the place of `sensor`, at its height'
    )
    mounting: Annotated[tuple[Positive, Positive], AfterValidator(_ordered)] | None = Field(
        None,
        description='range of heights above the ground [m]; clouds and labels are then moved to '
        "the sensor's `height`, as the nodes move clouds of other sensors",
    )
    pitch: Tilts = Field((0.0, 0.0), description='front down [deg]')
    roll: Tilts = Field((0.0, 0.0), description='left side up [deg]')
    height: Span = Field((0.0, 0.0), description='added to the height of the sensor [m]')
    beam_steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1,), min_length=1, description='one is drawn: 2 keeps every second beam'
    )
    beam_noise: Parts = Field((0.0, 0.0), description='deviation of elevations [deg]')
    columns: Annotated[tuple[Positive, Positive], AfterValidator(_ordered)] = Field(
        (1.0, 1.0), description='factor on the columns'
    )
    range_noise: Annotated[tuple[Positive, Positive], AfterValidator(_ordered)] = Field(
        (1.0, 1.0), description='factor on the noise of ranges'
    )
    dropout: Parts = Field((0.0, 0.0), description='added to the returns lost at random')
    intensity: dict[IntensityCurve, Positive] = Field(
        {'as_is': 1.0}, min_length=1, description='weights of curves'
    )
    speed: Span = Field((0.0, 0.0), description='of the sensor, which shears a turn [m/s]')
    turn_rate: Span = Field((0.0, 0.0), description='of the sensor, to the left [deg/s]')

    @field_validator('sensors')
    @classmethod
    def _check_sensors(cls, sensors: dict[str, float]) -> dict[str, float]:
        if unknown := sorted(set(sensors) - set(SENSOR_PRESETS)):
            raise ValueError(f'no preset {unknown[0]!r}; choose from {", ".join(SENSOR_PRESETS)}')
        return sensors


class AnnotationConfig(Config):
    """How labels are made of exact boxes; `training/objects` always holds the exact ones."""

    shrink: Probability = Field(
        0.0,
        description='part of the gap between box and visible points that annotators close at the '
        'far ends',
    )
    all_round: bool = Field(
        False, description='label what the camera does not see, too; such labels have no 2D box'
    )


class CameraConfig(Config):
    """The camera that KITTI's labels refer to: at the LiDAR, looking ahead, wider than KITTI's.

    With KITTI's focal length the heights in the image, and so the difficulties, are KITTI's.
    """

    focal_length: Positive = Field(721.5, description='[pixels]')
    image_size: tuple[Pixels, Pixels] = Field((2500, 375), description='width, height [pixels]')


class SimulationConfig(Config):
    """A simulated dataset: frames of independent scenes, or one drive through one scene."""

    sensor: SensorConfig = SensorConfig()
    surfaces: SurfacesConfig = SurfacesConfig()
    variation: VariationConfig = VariationConfig()
    labels: AnnotationConfig = AnnotationConfig()
    camera: CameraConfig = CameraConfig()
    scene: SceneConfig = SceneConfig()

    @model_validator(mode='after')
    def _check_beams(self) -> SimulationConfig:
        num_beams = min(
            sum(count for *_, count in sensor.beams)
            for sensor in (
                [SensorConfig(preset=name) for name in self.variation.sensors] or [self.sensor]
            )
        )
        if (step := max(self.variation.beam_steps)) > num_beams:
            raise ValueError(f'variation.beam_steps: {step} of {num_beams} beams leaves none')
        mounted = self.variation.mounting[0] if self.variation.mounting else self.sensor.height
        if mounted + self.variation.height[0] <= 0:
            raise ValueError(
                f'variation.height: {self.variation.height[0]:g} puts a sensor at '
                f'{mounted:g} m below the ground'
            )
        return self
