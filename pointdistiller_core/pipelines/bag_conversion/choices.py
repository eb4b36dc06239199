# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Choose sensors, poses and height from the beginning of a recording, and say why."""

from __future__ import annotations

from collections.abc import Sequence
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pointdistiller_core.config import ConversionConfig
from pointdistiller_core.errors import ConfigError, DatasetError
from pointdistiller_core.geometry.ground import Ground, fit_ground, join_grounds
from pointdistiller_core.geometry.intensity import (
    AUTO,
    JUDGED_CLOUDS,
    IntensityJudge,
    scale_intensity,
)
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.geometry.poses import NANOSECONDS, TransformError, TransformTree
from pointdistiller_core.messages.bags import CLOUD_TYPE, BagSummary, choose_cloud_topic
from pointdistiller_core.messages.point_cloud2 import own_intensity_scale
from pointdistiller_core.pipelines.bag_conversion.findings import Findings
from pointdistiller_core.pipelines.bag_conversion.pose_sources import (
    ICP_DRIFT,
    ICP_PACKAGE,
    IcpPoses,
    KnownPoses,
    NoPoses,
    OdometryPoses,
    PoseSource,
    TfPoses,
    icp_version,
    is_icp_installed,
)
from pointdistiller_core.pipelines.bag_conversion.stream import (
    CloudReader,
    CloudStream,
    SensorCloud,
    odometry_topics,
)
from pointdistiller_core.pipelines.bag_conversion.truth import Truth
from pointdistiller_core.pointcloud.sensors import CloudSet

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    Matrix: TypeAlias = NDArray[np.float64]
    CloudSetList: TypeAlias = list[CloudSet[SensorCloud]]

SURVEYED_EVERY_S, SURVEYED_S = 0.5, 20.0  # of the recording's beginning
USUAL_INTENSITY = (0.0, 1.0)
GROUND_FRAME = 'base_footprint'  # REP 120: on the ground, below the vehicle
LEAST_FITTED, LEAST_TOLD = 0.1, 0.001  # [m]: smallest corrections, of a fit and of TF
LEAST_TILT = math.radians(2)  # that is not the road's
SURPRISING_HEIGHT = 0.3  # [m] between TF and the points


class _Choice(BaseModel):
    model_config = ConfigDict(extra='ignore', frozen=True)


class SensorChoice(_Choice):
    """A sensor.

    Attributes:
        topic: topic of its clouds.
        frame: frame of its first cloud.
        frame_from_sensor: 4 x 4 matrix to the frame of the recording, at its first cloud; None if
            it has none.
        intensity_scale: factor on its intensity; None takes the default for its number type.
        intensity: the reason for that factor.
    """

    topic: str
    frame: str
    frame_from_sensor: list[list[float]] | None = None
    intensity_scale: float | None = None
    intensity: str = ''


class HeightChoice(_Choice):
    """Where the dataset's frame lies.

    Attributes:
        training_from_sensor: 4 x 4 matrix from the frame of the recording to that of the dataset.
        height: height of the sensor above the ground [m]; None if unknown.
        evidence: reason for this height.
    """

    training_from_sensor: list[list[float]]
    height: float | None
    evidence: str

    @property
    def mounting(self) -> Mounting:
        """The transform of points and boxes."""
        return Mounting(np.array(self.training_from_sensor))


class PoseChoice(_Choice):
    """Where poses come from.

    Attributes:
        source: kind of source.
        fixed_frame: fixed frame of TF.
        topic: topic of the odometry.
        child_frame: frame that the odometry moves; empty means the sensor itself.
        evidence: reason for this source.
    """

    source: Literal['tf', 'odometry', 'icp', 'simulation', 'none']
    fixed_frame: str = ''
    topic: str = ''
    child_frame: str = ''
    evidence: str = ''

    def build(
        self, stream: CloudStream, frame: str, truth: Truth | None, height: float | None
    ) -> PoseSource:
        """Make the source, which reads from a stream.

        Args:
            stream: stream of the recording.
            frame: frame of its points.
            truth: ground truth of a simulated drive.
            height: height of the sensor above the ground [m], if known.
        """
        if self.source == 'tf':
            return TfPoses(stream.tree, self.fixed_frame, frame)
        if self.source == 'odometry':
            return OdometryPoses(stream.track, stream.tree, self.child_frame, frame)
        if self.source == 'icp':
            return IcpPoses(height)
        if self.source == 'simulation' and truth is not None:
            return KnownPoses(truth.poses)
        return NoPoses()


class Choices(_Choice):
    """All that is decided about a recording.

    Attributes:
        sensors: sensors to read; frames follow the clouds of the first one.
        frame: frame of points, ego box and poses before the height is corrected.
        poses: source of the poses.
        height: where the dataset's frame lies.
    """

    sensors: list[SensorChoice]
    frame: str
    poses: PoseChoice
    height: HeightChoice

    @property
    def scales(self) -> dict[str, float | None]:
        """Intensity factors by topic."""
        return {sensor.topic: sensor.intensity_scale for sensor in self.sensors}


def choose_topics(bag: Path, summary: BagSummary, config: ConversionConfig) -> tuple[str, ...]:
    """Topics of the clouds.

    Raises:
        DatasetError: a topic is missing or has another type, or there are several to choose from.
    """
    if not config.topics:
        return (choose_cloud_topic(bag),)
    for topic in config.topics:
        found = summary.topics.get(topic)
        if found is None or found.message_type != CLOUD_TYPE or not found.readable:
            clouds = sorted(
                name for name, item in summary.topics.items() if item.message_type == CLOUD_TYPE
            )
            what = 'has no such topic' if found is None else f'has {found.message_type} there'
            raise DatasetError(
                f'{bag}: topic {topic!r}: the bag {what}; its PointCloud2 topics are {clouds}'
            )
    return config.topics


def survey(
    bag: Path,
    summary: BagSummary,
    config: ConversionConfig,
    truth: Truth | None,
    findings: Findings,
) -> Choices:
    """Look at the first seconds of a recording and decide.

    Args:
        bag: folder or file.
        summary: its summary.
        config: settings that name the topics.
        truth: ground truth of a simulated drive.
        findings: collects notes.

    Raises:
        ConfigError: the bag lacks something that the settings ask for.
        DatasetError: there is no usable cloud.
    """
    topic = _odometry_topic(bag, summary, config)
    unheard = Findings(bag, strict=False)  # the conversion reads the same clouds again
    stream = CloudStream(bag, summary, config, unheard, odometry_topic=topic)
    sets = _look(stream)
    if not sets:
        why = '; '.join(unheard.notes) or 'there is none in the time that was asked for'
        raise DatasetError(f'{bag}: no cloud can be used: {why}')
    firsts = _first_clouds(sets)
    frame = config.frame.lstrip('/') or firsts[config.topics[0]].frame
    config = config.model_copy(update={'frame': frame})
    _check_frames(bag, stream, firsts, frame)
    sensors = [
        _judge(topic, sets, config, stream.tree) for topic in config.topics if topic in firsts
    ]
    for missing in set(config.topics) - set(firsts):
        findings.note(f'{missing} has no cloud near those of {config.topics[0]} at the beginning')
        sensors.append(SensorChoice(topic=missing, frame=''))
    scales = {sensor.topic: sensor.intensity_scale for sensor in sensors}
    reader = CloudReader(config, scales, stream.tree, unheard)
    sweeps = [points for item in sets if (points := reader.read(item)) is not None]
    if not sweeps:
        raise DatasetError(f'{bag}: no cloud can be used; {"; ".join(unheard.notes)}')
    stamp_ns = sets[-1].stamp_ns
    return Choices(
        sensors=sensors,
        frame=frame,
        poses=_choose_poses(bag, stream, config, truth, topic),
        height=_choose_height(
            stream,
            config,
            sweeps,
            eye=_frame_from_sensor(stream.tree, firsts[config.topics[0]], frame)[:3, 3].tolist(),
            stamp_ns=stamp_ns,
            findings=findings,
        ),
    )


def _look(stream: CloudStream) -> CloudSetList:
    """Sets of clouds spread over the first seconds."""
    found: CloudSetList = []
    next_ns = last_ns = 0
    for item in stream:
        last_ns = last_ns or item.stamp_ns + round(SURVEYED_S * NANOSECONDS)
        if item.stamp_ns >= next_ns:
            found.append(item)
            next_ns = item.stamp_ns + round(SURVEYED_EVERY_S * NANOSECONDS)
        if len(found) >= JUDGED_CLOUDS or item.stamp_ns > last_ns:
            break
    return found


def _first_clouds(found: CloudSetList) -> dict[str, SensorCloud]:
    firsts: dict[str, SensorCloud] = {}
    for item in found:
        for cloud in item.clouds:
            if cloud is not None:
                firsts.setdefault(cloud.topic, cloud)
    return firsts


def _check_frames(
    bag: Path, stream: CloudStream, firsts: dict[str, SensorCloud], frame: str
) -> None:
    """Reject sensors that TF never connects."""
    for cloud in firsts.values():
        if cloud.frame != frame:
            try:
                stream.tree.lookup(frame, cloud.frame, cloud.stamp_ns)
            except TransformError as error:
                raise ConfigError(
                    f'{bag}: clouds of {cloud.topic} are in {cloud.frame!r}, the dataset is to be '
                    f'in {frame!r}: {error}; record /tf_static, too, or leave the topic out'
                ) from error


def _odometry_topic(bag: Path, summary: BagSummary, config: ConversionConfig) -> str:
    topics = odometry_topics(summary)
    if config.odometry_topic and config.odometry_topic not in topics:
        raise ConfigError(
            f'{bag}: no nav_msgs/Odometry on {config.odometry_topic!r}, only on {list(topics)}'
        )
    if config.poses == 'odometry' and not topics:
        raise ConfigError(f"{bag}: poses 'odometry': the bag has no nav_msgs/Odometry")
    if config.poses in ('auto', 'odometry'):
        return config.odometry_topic or next(iter(topics), '')
    return ''


# --- intensity -------------------------------------------------------------------------------


def _judge(
    topic: str, found: CloudSetList, config: ConversionConfig, tree: TransformTree
) -> SensorChoice:
    clouds = [
        cloud
        for item in found
        for cloud in item.clouds
        if cloud is not None and cloud.topic == topic
    ]
    own = own_intensity_scale(clouds[0].message)
    choice = SensorChoice(
        topic=topic,
        frame=clouds[0].frame,
        frame_from_sensor=_frame_from_sensor(tree, clouds[0], config.frame).tolist(),
    )
    if own is None:
        return choice.model_copy(update={'intensity': 'the clouds have none: 0'})
    if config.intensity_scale != AUTO:
        update = {'intensity_scale': config.intensity_scale, 'intensity': 'as asked for'}
        return choice.model_copy(update=update)
    judge = IntensityJudge(USUAL_INTENSITY, expected='usual is 0 to 1', auto=True)
    reader = CloudReader(config, {topic: 1.0}, tree, Findings(Path(topic), strict=False))
    highest = []
    for cloud in clouds:
        points = reader.read_one(SensorCloud(topic, 0, config.frame, cloud.message))
        if points is not None and len(points):
            judge.add(scale_intensity(points, own), scale=own)
            highest.append(float(np.quantile(points[:, 3], 0.999)) * own)
    scale = judge.scale or own
    top = f'{max(highest, default=0.0):.4g}'
    evidence = judge.finding or f'reaches {top} as it is read, usual is 0 to 1: nothing to scale'
    text = f'{evidence} (from {len(highest)} clouds)'
    return choice.model_copy(update={'intensity_scale': scale, 'intensity': text})


# --- poses -----------------------------------------------------------------------------------


def _choose_poses(
    bag: Path, stream: CloudStream, config: ConversionConfig, truth: Truth | None, topic: str
) -> PoseChoice:
    frame, wanted = config.frame, config.poses
    if wanted == 'none':
        return PoseChoice(source='none', evidence='as asked for')
    if wanted in ('auto', 'tf'):
        fixed = config.fixed_frame.lstrip('/') or stream.tree.find_fixed_frame(frame)
        if fixed and stream.tree.is_moving(fixed, frame):
            return PoseChoice(
                source='tf', fixed_frame=fixed, evidence=f'TF moves {frame!r} in {fixed!r}'
            )
        if wanted == 'tf' or config.fixed_frame:
            raise ConfigError(
                f'{bag}: TF moves {frame!r} in no frame {fixed or "odom, map or world"}; known '
                f'are {sorted(stream.tree.frames)}; choose other poses or another fixed_frame'
            )
    if truth is not None and wanted == 'auto':
        return PoseChoice(source='simulation', evidence='exact, from the simulation')
    if topic and stream.odometry is not None:
        return _odometry_choice(stream, frame, topic)
    if wanted == 'odometry':
        raise ConfigError(f'{bag}: {topic} has no message near the first clouds')
    if wanted == 'icp' or is_icp_installed():
        IcpPoses(None)  # refuses where it is not installed
        return PoseChoice(
            source='icp',
            evidence=f'{ICP_PACKAGE} {icp_version()} aligns each cloud to those before; it '
            f'drifts: {ICP_DRIFT:.1%} of the way is published for KITTI',
        )
    return PoseChoice(
        source='none',
        evidence='the bag has neither a moving TF of the sensor nor nav_msgs/Odometry; '
        f"{ICP_PACKAGE} (pip install 'pointdistiller_ros[odometry]') finds them in the clouds",
    )


def _odometry_choice(stream: CloudStream, frame: str, topic: str) -> PoseChoice:
    assert stream.odometry is not None
    child, of = stream.odometry.child_frame, stream.odometry.frame
    evidence = f'{topic} moves {child!r} in {of!r}'
    try:
        stream.tree.lookup(child, frame, stream.odometry.stamp_ns)
    except TransformError as error:
        evidence += f"; its poses are taken as the sensor's own, for {error}"
        child = ''
    return PoseChoice(source='odometry', topic=topic, child_frame=child, evidence=evidence)


# --- height ----------------------------------------------------------------------------------


def _choose_height(
    stream: CloudStream,
    config: ConversionConfig,
    sweeps: Sequence[FloatArray],
    *,
    eye: Sequence[float],
    stamp_ns: int,
    findings: Findings,
) -> HeightChoice:
    if config.height == 'keep':
        return _height(None, config, None, 'kept as it is')
    if not isinstance(config.height, str):
        pose = np.eye(4)
        pose[2, 3] = config.height
        return _height(pose, config, config.height, 'as asked for')
    grounds = [fit_ground(points, eye=eye) for points in sweeps]
    fits = [ground for ground in grounds if ground is not None]
    fitted = join_grounds(fits) if len(fits) > len(sweeps) / 2 else None
    by_tf = _ground_by_tf(stream, config, stamp_ns)
    if by_tf is not None:
        frame, pose = by_tf
        height = float(pose[2, 3])
        if fitted is not None and abs(fitted.height - height) > SURPRISING_HEIGHT:
            findings.note(
                f'TF has {config.frame!r} {height:.2f} m above {frame!r}, but in its points the '
                f'ground is {fitted.height:.2f} m below it; TF is taken, --height overrules it'
            )
        return _height(pose, config, height, f'TF: above {frame!r}')
    if fitted is None:
        findings.note(
            'the ground is not found in the points, and no frame of TF tells it: heights are kept '
            'as they are; --height or --ground-frame tell it'
        )
        return _height(None, config, None, 'not found; kept as it is')
    evidence = _describe(fitted, len(fits))
    return _height(_pose_on(fitted), config, fitted.height, evidence, least=LEAST_FITTED)


def _frame_from_sensor(tree: TransformTree, cloud: SensorCloud, frame: str) -> Matrix:
    """(4, 4) matrix to the frame of the recording."""
    return np.eye(4) if cloud.frame == frame else tree.lookup(frame, cloud.frame, cloud.stamp_ns)


def _pose_on(ground: Ground) -> Matrix:
    """(4, 4) pose of the sensor, without a small tilt, which may be that of the road."""
    if ground.tilt >= LEAST_TILT:
        return ground.ground_from_sensor
    pose = np.eye(4)
    pose[2, 3] = ground.height
    return pose


def _describe(ground: Ground, num_clouds: int) -> str:
    tilt, below = math.degrees(ground.tilt), round(ground.height, 2) + 0.0  # never -0.00
    what = 'levelled' if ground.tilt >= LEAST_TILT else 'which may be of the road: not levelled'
    return (
        f'fitted to {num_clouds} clouds: {ground.part:.0%} of the points below the sensor lie on '
        f'a plane {below:.2f} m below the origin, tilted by {tilt:.1f} degrees, {what}'
    )


def _ground_by_tf(
    stream: CloudStream, config: ConversionConfig, stamp_ns: int
) -> tuple[str, Matrix] | None:
    frame = config.ground_frame.lstrip('/') or GROUND_FRAME
    if not config.ground_frame and frame not in stream.tree.frames:
        return None
    try:
        return frame, stream.tree.lookup(frame, config.frame, stamp_ns)
    except TransformError as error:
        if config.ground_frame:
            raise ConfigError(f'ground_frame: {error}') from error
        return None


def _height(
    ground_from_sensor: Matrix | None,
    config: ConversionConfig,
    height: float | None,
    evidence: str,
    *,
    least: float = LEAST_TOLD,
) -> HeightChoice:
    moved = np.eye(4)
    if ground_from_sensor is not None:
        mounting = Mounting.above_ground(ground_from_sensor, config.sensor_height)
        moved = mounting.training_from_sensor
        turned = not np.allclose(moved[:3, :3], np.eye(3), atol=1e-3)
        if abs(moved[2, 3]) < least and not turned:
            moved = np.eye(4)
    shift = float(moved[2, 3])
    text = f'{evidence}; points are moved by {shift:+.3f} m' if shift else f'{evidence}; not moved'
    return HeightChoice(
        training_from_sensor=np.asarray(moved).tolist(), height=height, evidence=text
    )


def plain(choices: Choices) -> dict[str, Any]:
    """The choices as `dataset.yaml` holds them."""
    return choices.model_dump(mode='json')
