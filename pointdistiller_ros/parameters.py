# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Node parameters: declared, read and checked from one table, with type, range and description."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
import dataclasses
from dataclasses import dataclass
from functools import partial
from math import pi
import re
from typing import Any, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from pointdistiller_core.config import MAX_SWEEPS, DetectionConfig, TrackingConfig
from pointdistiller_core.detector import AUTO, BACKENDS, DEFAULT_BUNDLE
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.messages.cloud_reader import CloudReading
from pointdistiller_core.pointcloud.sensors import EgoBox

TF_TOPICS = ('/tf', '/tf_static')
ParametersT = TypeVar('ParametersT')


def parameter(
    default: Any,
    description: str,
    *,
    range: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    required: bool = False,
    changeable: bool = False,
    or_text: bool = False,
    or_default: bool = False,
) -> Any:
    """A field of a parameter table.

    Args:
        default: default value; its type is the parameter's.
        description: what `ros2 param describe` shows.
        range: smallest and largest value of a number.
        choices: the values that a text may have.
        required: an empty text is an error.
        changeable: may be set while the node runs.
        or_text: a list of texts that may also be given as one text.
        or_default: -1 stands for a value from elsewhere, and other negative numbers for nothing.
    """
    metadata = {
        'description': description,
        'range': range,
        'choices': choices,
        'required': required,
        'changeable': changeable,
        'or_text': or_text,
        'or_default': or_default,
    }
    return dataclasses.field(default=default, metadata=metadata)


changeable = partial(parameter, changeable=True)
ANGLE, FRACTION, SECONDS = (-pi, pi), (0.0, 1.0), (0.0, 10.0)  # ranges
NO_BOX = (0.0,) * 6


@dataclass(frozen=True)
class OutputParameters:
    """Which results `detector_node` builds for their subscribers; `~/boxes` cannot be off."""

    detections: bool = changeable(True, 'build ~/detections when subscribed to')
    objects: bool = changeable(
        True, 'build ~/objects, for Autoware, when subscribed to and its messages are installed'
    )
    markers: bool = changeable(True, 'build ~/markers when subscribed to')
    importance: bool = changeable(True, 'build ~/importance when subscribed to')
    importance_markers: bool = changeable(True, 'build ~/importance_markers when subscribed to')
    tracks: bool = changeable(
        False,
        'track objects: build ~/tracks and ~/track_markers when subscribed to, and give ~/boxes '
        'the columns track, vx, vy',
    )


@dataclass(frozen=True)
class TrackingParameters:
    """How `detector_node` tracks objects where `outputs.tracks` is on."""

    fixed_frame: str = changeable(
        '',
        'frame of TF that does not move, e.g. odom or map: velocities are then over ground; empty '
        'tracks in the frame of the clouds',
    )
    birth_score: float = changeable(
        TrackingConfig().birth_score, 'from which a detection begins a track', range=FRACTION
    )
    min_hits: int = changeable(
        TrackingConfig().min_hits, 'detections that make a track worth showing', range=(1, 1000)
    )
    max_gap: float = changeable(
        TrackingConfig().max_gap_s,
        'time without a detection that ends a track [s]',
        range=(0.001, 60.0),
    )


@dataclass(frozen=True)
class SweepParameters:
    """How `detector_node` merges past sweeps into the newest."""

    count: int = changeable(
        0, "sweeps in a cloud, the newest included; 0 is the bundle's own", range=(0, MAX_SWEEPS)
    )
    max_age_s: float = changeable(
        0.0, "older sweeps are left out [s]; 0 is the bundle's own", range=(0.0, 60.0)
    )
    fixed_frame: str = changeable(
        '', 'frame of TF that does not move, e.g. odom or map: it says where the sensor was'
    )
    odometry: str = parameter(
        '', 'topic of nav_msgs/Odometry that says so instead of TF; empty uses fixed_frame'
    )


@dataclass(frozen=True)
class MountingParameters:
    """Where the sensor of a node's clouds is."""

    auto: bool = changeable(
        True,
        'without a frame, a height, a roll or a pitch: find these in the ground of the last '
        'clouds; false, or no ground: those of the training sensor, unless the detector is one of '
        'levelled clouds, which looks for the ground itself',
    )
    frame: str = changeable(
        '',
        'frame of TF with x forward, z up and the ground at z = 0, e.g. base_footprint: the '
        'mounting then comes from TF instead of the numbers here; empty does not use TF',
    )
    height: float = changeable(
        0.0, "of the sensor above the ground [m]; 0 is the training sensor's", range=(0.0, 100.0)
    )
    roll: float = changeable(0.0, 'of the sensor, left side up [rad]', range=ANGLE)
    pitch: float = changeable(0.0, 'of the sensor, front down [rad]', range=ANGLE)
    yaw: float = changeable(0.0, 'of the sensor, to the left [rad]', range=ANGLE)


@dataclass(frozen=True)
class SensorParameters:
    """How the clouds of several sensors become one."""

    frame: str = changeable(
        '', 'frame that clouds are moved to, by TF; empty is that of the first topic'
    )
    tolerance: float = parameter(
        0.05, 'largest difference of the stamps of clouds that belong together [s]', range=SECONDS
    )
    max_wait: float = parameter(
        0.1, 'that a cloud of the first topic waits for those of the others [s]', range=SECONDS
    )
    keep_incomplete: bool = changeable(
        True, 'detect in what there is if a sensor or its transform is missing; false refuses it'
    )


@dataclass(frozen=True)
class Limits:
    """Limits of a level of the diagnostics: a value above any of these reaches it."""

    max_latency_ms: float = changeable(
        100.0, 'of a cloud, from its arrival to its last result', range=(0.0, 1e6)
    )
    stale_after_s: float = changeable(1.0, 'without any cloud', range=(0.0, 1e6))
    max_drop_fraction: float = changeable(
        0.1, 'of the clouds, replaced by newer ones or lost on their way', range=FRACTION
    )
    max_cut_fraction: float = changeable(
        0.1, 'of the points or voxels, by the caps of the bundle', range=FRACTION
    )
    max_intensity_outside: float = changeable(
        0.01,
        'fraction of points whose intensity is outside of the range of the training clouds',
        range=FRACTION,
    )


@dataclass(frozen=True)
class DiagnosticParameters:
    """Limits of the diagnostics of `detector_node`."""

    warn: Limits = Limits()
    error: Limits = Limits(
        max_latency_ms=1000.0,
        stale_after_s=5.0,
        max_drop_fraction=0.9,
        max_cut_fraction=0.5,
        max_intensity_outside=0.5,
    )


@dataclass(frozen=True)
class InputParameters(CloudReading):
    """How a node receives and reads its clouds, and where their sensor is."""

    points: Sequence[str] = parameter(
        ('points',),
        'topic of the clouds, or topics of several sensors, whose clouds are merged into those of '
        'the first',
        or_text=True,
    )
    sensors: SensorParameters = SensorParameters()
    ego_box: Sequence[float] = changeable(
        NO_BOX,
        'low x, y, z and high x, y, z [m] in the frame of the cloud: points inside, which are of '
        'the vehicle itself, are dropped; all 0 drops none',
    )
    intensity_field: str = changeable(
        '', 'field of the intensity; empty is the first of intensity, reflectivity, signal, i'
    )
    missing_intensity: str = changeable(
        'error',
        'what to do with a cloud without intensity: refuse it, or take it as zero or constant',
        choices=('error', 'zero', 'constant'),
    )
    constant_intensity: float = changeable(
        0.0, 'intensity of a cloud without, where missing_intensity is constant', range=(-1e9, 1e9)
    )
    intensity_scale: float = changeable(
        0.0,
        'factor on the raw intensity; 0 is 1 for floating point and 1 / largest for integers',
        range=(0.0, 1e9),
    )
    intensity_auto: bool = changeable(
        False,
        'judge the first 10 clouds, and multiply by the scale that is likely instead of a warning',
    )
    reliability: str = parameter(
        'best_effort',
        'quality of service of the subscription to points; reliable suits bags of big clouds',
        choices=('best_effort', 'reliable'),
    )
    mounting: MountingParameters = MountingParameters()


@dataclass(frozen=True)
class DetectorParameters(InputParameters):
    """Parameters of `detector_node`; -1, and 0 of a count, stand for the bundle's own value."""

    autostart: bool = parameter(
        True, 'configure and activate at the start; false waits for a manager of lifecycles'
    )
    bundle: str = changeable(
        DEFAULT_BUNDLE, 'bundle, run folder that holds one, or name of a shipped bundle'
    )
    device: str = changeable('cpu', 'where the network runs: cpu, cuda, cuda:1, ...')
    backend: str = changeable(
        AUTO,
        'what the network runs in; auto is the first of the others that is installed and in the '
        'bundle',
        choices=(AUTO, *BACKENDS),
    )
    num_threads: int = changeable(0, 'CPU threads of the network; 0 is its own', range=(0, 1024))
    score_threshold: float = changeable(
        -1.0,
        "lowest score to publish; -1 is the bundle's own",
        range=(-1.0, 1.0),
        or_default=True,
    )
    nms_iou_threshold: float = changeable(
        -1.0,
        "overlap from above from which the lower score goes; -1 is the bundle's own",
        range=(-1.0, 1.0),
        or_default=True,
    )
    max_detections: int = changeable(
        0,
        "most detections to publish per cloud, best first; 0 is the bundle's own",
        range=(0, 100_000),
    )
    importance: str = changeable(
        'own',
        "what makes a place important: the detector's own measure (number of points of a voxel, "
        'largest feature of a point), or its scores there',
        choices=('own', 'confidence'),
    )
    max_importance_markers: int = changeable(
        1000, 'most places in ~/importance_markers', range=(0, 100_000)
    )
    outputs: OutputParameters = OutputParameters()
    sweeps: SweepParameters = SweepParameters()
    tracking: TrackingParameters = TrackingParameters()
    diagnostics: DiagnosticParameters = DiagnosticParameters()


@dataclass(frozen=True)
class BagPlayerParameters:
    """Parameters of `bag_player_node`."""

    bag: str = parameter(
        '', 'bag folder, its metadata.yaml, .mcap, .db3 or ROS 1 .bag', required=True
    )
    topic: Sequence[str] = parameter(
        ('',),
        'PointCloud2 topic to play, or those of several sensors; empty is the only one of the '
        'bag, or the only one with the fields of a sensor',
        or_text=True,
    )
    rate: float = parameter(1.0, 'speed relative to the recording', range=(0.001, 1000.0))
    start: float = parameter(0.0, 'where to begin [s from the start]', range=(0.0, 1e9))
    duration: float = parameter(
        0.0, 'how much to play from there [s of the bag]; 0 is all', range=(0.0, 1e9)
    )
    loop: bool = parameter(False, 'begin again at the end; /clock then jumps back')
    extra_topics: Sequence[str] = parameter(
        TF_TOPICS,
        'further topics to play along, of any installed message type; those that the bag does not '
        'have are left out',
    )
    acknowledgment: str = parameter(
        '',
        'PointCloud2 topic to wait for (same stamp) before the next cloud, for example '
        "/detector/boxes: lock-step, as fast as the detector; empty plays in the bag's time",
    )
    timeout: float = parameter(30.0, 'longest wait for an acknowledgment [s]', range=(0.1, 3600.0))
    wait_for: str = parameter(
        '', 'topic that somebody must publish before playing begins, e.g. /detector/boxes'
    )


@dataclass(frozen=True)
class BagRecorderParameters:
    """Parameters of `bag_recorder_node`."""

    output: str = parameter('', 'bag folder to create', required=True)
    topics: Sequence[str] = parameter(('',), 'topics to record')


def parameter_defaults(table: type) -> dict[str, Any]:
    """The default of every parameter of a table, by its full name."""
    return {name: default for name, _, default in _leaves(table())}


def declare_parameters(
    node: Node, table: type[ParametersT], *, fixed: bool = False
) -> ParametersT:
    """Declare every field of a parameter table on a node and read its value.

    A field whose default is itself a table stands for parameters with a dot in their name.

    Args:
        node: node without these parameters.
        table: dataclass whose fields are made by `parameter`, or are such tables.
        fixed: none of them may be set while the node runs, not even changeable ones.

    Raises:
        ConfigError: a value has the wrong type or is out of range, or a required one is missing.
    """
    values = {}
    for name, field, default in _leaves(table()):
        default = list(default) if isinstance(default, tuple) else default
        descriptor = _descriptor(name, field)
        descriptor.read_only |= fixed
        with _naming(node, name, field):
            declared = node.declare_parameter(name, default, descriptor)
        values[name] = _in_table(field, declared.value)
        if problem := _problem(name, field, values[name]):
            raise ConfigError(f'{node.get_name()}: {problem}')
    return _replaced(table(), values)


def changed_parameters(
    current: ParametersT, changes: Sequence[Parameter]
) -> tuple[ParametersT, SetParametersResult]:
    """The table after a request to set parameters, and the answer to it.

    The middleware checks types and ranges; parameters of other tables pass.
    """
    fields = {name: field for name, field, _ in _leaves(current)}
    ours = {
        change.name: _in_table(fields[change.name], change.value)
        for change in changes
        if change.name in fields
    }
    problems = [problem for name in ours if (problem := _problem(name, fields[name], ours[name]))]
    if problems:
        return current, SetParametersResult(successful=False, reason='; '.join(problems))
    return _replaced(current, ours), SetParametersResult(successful=True)


class ClassThresholds:
    """The parameters `score_thresholds.<class>` of a node, one for each class of its bundle."""

    PREFIX = 'score_thresholds.'
    FIELD = changeable(
        -1.0,
        'lowest score to publish of this class; -1 is that of all classes',
        range=(-1.0, 1.0),
        or_default=True,
    )

    def __init__(self, node: Node) -> None:
        self._node = node
        self._names: set[str] = set()

    def declare(
        self, class_names: Sequence[str], changes: Sequence[Parameter] = ()
    ) -> list[float]:
        """Declare one for each class, and undeclare those of other classes.

        Args:
            class_names: names of the classes.
            changes: request that is about to be granted.

        Returns:
            Threshold of each class after the changes; -1 is none.

        Raises:
            ConfigError: a given value has the wrong type or is out of range, or a change is of
                another class; then nothing new is declared.
        """
        names = [f'{self.PREFIX}{name}' for name in class_names]
        changed = {change.name: change.value for change in changes}
        # Otherwise rclpy would store it without a range, and could not declare it again.
        if strangers := sorted(self._names.intersection(changed).difference(names)):
            raise ConfigError(f'no such class: {strangers}; the bundle has {list(class_names)}')
        self._check({name: changed[name] for name in names if name in changed})
        self._declare(set(names) - self._names)
        for gone in self._names.difference(names):
            self._node.undeclare_parameter(gone)
        self._names = set(names)
        return [changed.get(name, self._node.get_parameter(name).value) for name in names]

    def concern(self, changes: Sequence[Parameter]) -> bool:
        """Whether any of these changes concerns one of them."""
        return any(change.name in self._names for change in changes)

    def _declare(self, names: Set[str]) -> None:
        """Declare all of these or none."""
        with ExitStack() as undo:
            for name in sorted(names):
                descriptor = _descriptor(name, self.FIELD)
                with _naming(self._node, name, self.FIELD):
                    given = self._node.declare_parameter(name, self.FIELD.default, descriptor)
                undo.callback(self._node.undeclare_parameter, name)
                self._check({name: given.value})
            undo.pop_all()

    def _check(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if problem := _problem(name, self.FIELD, value):
                raise ConfigError(f'{self._node.get_name()}: {problem}')


def to_ego_box(values: Sequence[float]) -> EgoBox | None:
    """The box that the parameter `ego_box` gives; None for no box.

    Raises:
        ConfigError: these are not six numbers, the low ones below the high ones.
    """
    low, high = tuple(values[:3]), tuple(values[3:])
    if tuple(values) == NO_BOX:
        return None
    if len(values) != 6 or not all(a < b for a, b in zip(low, high, strict=True)):
        raise ConfigError(
            f'parameter ego_box is {list(values)}; give low x, y, z, then high x, y, z [m], or '
            'six zeros for no box'
        )
    return EgoBox((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def to_detection_config(
    own: DetectionConfig, parameters: DetectorParameters, class_thresholds: Sequence[float]
) -> DetectionConfig:
    """Thresholds and caps that parameters ask for.

    Args:
        own: the bundle's, for what the parameters leave open.
        parameters: of the node.
        class_thresholds: lowest score of each class; negative is that of all classes.
    """
    asked = parameters.score_threshold
    all_classes = (asked,) * len(class_thresholds) if asked >= 0 else own.score_thresholds
    all_classes = all_classes or (own.score_threshold,) * len(class_thresholds)
    thresholds = [
        threshold if threshold >= 0 else default
        for threshold, default in zip(class_thresholds, all_classes, strict=True)
    ]
    nms_iou_threshold, max_detections = parameters.nms_iou_threshold, parameters.max_detections
    return own.model_copy(
        update={
            'score_threshold': min(thresholds),
            'score_thresholds': tuple(thresholds) if len(set(thresholds)) > 1 else (),
            'nms_iou_threshold': (
                nms_iou_threshold if nms_iou_threshold >= 0 else own.nms_iou_threshold
            ),
            'max_detections': max_detections or own.max_detections,
        }
    )


def to_tracking_config(parameters: TrackingParameters) -> TrackingConfig:
    """What parameters ask for; the rest has its defaults."""
    return TrackingConfig(
        birth_score=parameters.birth_score,
        min_hits=parameters.min_hits,
        max_gap_s=parameters.max_gap,
    )


@contextmanager
def _naming(node: Node, name: str, field: dataclasses.Field[Any]) -> Iterator[None]:
    """Name the parameter that the middleware refuses."""
    try:
        yield
    except InvalidParameterTypeException as error:
        raise ConfigError(f'parameter {name} of {node.get_name()}: {error}') from error
    except InvalidParameterValueException as error:
        value = re.search(r'\((.+)\) for parameter', str(error))  # it is nowhere else
        if value is None or not field.metadata['range']:
            raise ConfigError(f'parameter {name} of {node.get_name()}: {error}') from error
        low, high = field.metadata['range']
        raise ConfigError(
            f'parameter {name} of {node.get_name()} is {value[1]}; give one from {low:g} to '
            f'{high:g}'
        ) from error


def _leaves(table: Any, prefix: str = '') -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Full name, field and value of every parameter of a table."""
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f'{prefix}{field.name}.')
        else:
            yield f'{prefix}{field.name}', field, value


def _replaced(table: ParametersT, values: Mapping[str, Any], prefix: str = '') -> ParametersT:
    """The table with other values, by full name."""
    changes = {}
    for field in dataclasses.fields(table):  # type: ignore[arg-type]
        name, value = f'{prefix}{field.name}', getattr(table, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _replaced(value, values, f'{name}.')
        elif name in values:
            changes[field.name] = values[name]
    return dataclasses.replace(table, **changes)  # type: ignore[type-var]


def _descriptor(name: str, field: dataclasses.Field[Any]) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        name=name,
        description=field.metadata['description'],
        read_only=not field.metadata['changeable'],
        dynamic_typing=field.metadata['or_text'],
    )
    if choices := field.metadata['choices']:
        descriptor.additional_constraints = f'one of {", ".join(choices)}'
    if limits := field.metadata['range']:
        low, high = limits
        if isinstance(field.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        else:
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    return descriptor


def _problem(name: str, field: dataclasses.Field[Any], value: Any) -> str | None:
    """Problems that a descriptor cannot express."""
    if field.metadata['required'] and not value:
        return f'parameter {name} is empty; give it: {field.metadata["description"]}'
    if field.metadata['or_default'] and -1 < value < 0:
        _, high = field.metadata['range']
        return f'parameter {name} is {value:g}; give one from 0 to {high:g}, or -1 for the usual'
    choices = field.metadata['choices']
    if choices and value not in choices:
        return f'parameter {name} is {value!r}; choose from {list(choices)}'
    if field.metadata['or_text']:
        return _topics_problem(name, value, may_be_empty='' in field.default)
    return None


def _topics_problem(name: str, topics: Any, *, may_be_empty: bool) -> str | None:
    """What is wrong with a topic or several."""
    if not isinstance(topics, Sequence) or not all(isinstance(topic, str) for topic in topics):
        return f'parameter {name} is {topics!r}; it must be a topic or a list of topics'
    if may_be_empty and not any(topics):
        return None
    if not topics or '' in topics or len(set(topics)) < len(topics):
        return f'parameter {name} is {list(topics)}; give one topic or several different ones'
    return None


def _in_table(field: dataclasses.Field[Any], value: Any) -> Any:
    """A parameter's value as tables hold it."""
    if field.metadata['or_text'] and isinstance(value, str):
        return [value]
    return list(value) if isinstance(value, array) else value
