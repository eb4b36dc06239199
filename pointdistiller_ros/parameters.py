# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Node parameters: declared, read and checked from one table, with type, range and description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from dataclasses import dataclass
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

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.errors import ConfigError

ParametersT = TypeVar('ParametersT')


def parameter(
    default: Any,
    description: str,
    *,
    range: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    required: bool = False,
    changeable: bool = False,
) -> Any:
    """A field of a parameter table.

    Args:
        default: value where nothing is given; its type is the parameter's.
        description: what `ros2 param describe` shows.
        range: smallest and largest value of a number.
        choices: the values that a text may have.
        required: an empty text is an error.
        changeable: may be set while the node runs.
    """
    metadata = {
        'description': description,
        'range': range,
        'choices': choices,
        'required': required,
        'changeable': changeable,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class DetectorParameters:
    """Parameters of `detector_node`."""

    autostart: bool = parameter(
        True, 'configure and activate at the start; false waits for a manager of lifecycles'
    )
    bundle: str = parameter('', 'bundle, or run folder that holds one', changeable=True)
    device: str = parameter('cpu', 'where the network runs: cpu, cuda, cuda:1, ...')
    backend: str = parameter(
        'auto',
        'what the network runs in; auto is the first of the others that is installed and in the '
        'bundle',
        choices=('auto', 'openvino-int8', 'openvino', 'onnx', 'torch'),
    )
    num_threads: int = parameter(0, 'CPU threads of the network; 0 is its own', range=(0, 1024))
    score_threshold: float = parameter(
        DetectionConfig().score_threshold,
        "lowest score to publish; what lies below the bundle's own threshold is never seen",
        range=(0.0, 1.0),
        changeable=True,
    )
    max_detections: int = parameter(
        DetectionConfig().max_detections,
        'most detections to publish per cloud, best first',
        range=(0, 100_000),
        changeable=True,
    )
    max_importance_markers: int = parameter(
        1000, 'most pillars in ~/importance_markers', range=(0, 100_000), changeable=True
    )
    missing_intensity: str = parameter(
        'error',
        'what to do with a cloud without intensity: refuse it, or take it as zero',
        choices=('error', 'zero'),
        changeable=True,
    )
    intensity_scale: float = parameter(
        0.0,
        'factor on the raw intensity; 0 is 1 for floating point and 1 / largest for integers',
        range=(0.0, 1e9),
        changeable=True,
    )
    reliability: str = parameter(
        'best_effort',
        'quality of service of the subscription to points; reliable suits bags of big clouds',
        choices=('best_effort', 'reliable'),
    )


@dataclass(frozen=True)
class BagPlayerParameters:
    """Parameters of `bag_player_node`."""

    bag: str = parameter('', 'bag folder, .mcap, .db3 or ROS 1 .bag', required=True)
    topic: str = parameter('', 'PointCloud2 topic to play; empty is the only one of the bag')
    rate: float = parameter(1.0, 'speed relative to the recording', range=(0.001, 1000.0))
    start: float = parameter(0.0, 'where to begin [s from the start]', range=(0.0, 1e9))
    loop: bool = parameter(False, 'begin again at the end')
    acknowledgment: str = parameter(
        '',
        'PointCloud2 topic to wait for (same stamp) before the next cloud, for example '
        "/detector/boxes: lock-step, as fast as the detector; empty plays in the bag's time",
    )
    timeout: float = parameter(30.0, 'longest wait for an acknowledgment [s]', range=(0.1, 3600.0))


@dataclass(frozen=True)
class BagRecorderParameters:
    """Parameters of `bag_recorder_node`."""

    output: str = parameter('', 'bag folder to create', required=True)
    topics: Sequence[str] = parameter(('',), 'topics to record')


def declare_parameters(node: Node, table: type[ParametersT]) -> ParametersT:
    """Declare every field of a parameter table on a node and read its value.

    A field whose default is itself a table stands for parameters with a dot in their name.

    Args:
        node: node without these parameters.
        table: dataclass whose fields are made by `parameter`, or are such tables.

    Raises:
        ConfigError: a value has the wrong type or is out of range, or a required one is missing.
    """
    values = {}
    for name, field, default in _leaves(table()):
        try:
            declared = node.declare_parameter(
                name,
                list(default) if isinstance(default, tuple) else default,
                _descriptor(name, field),
            )
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigError(f'parameter {name} of {node.get_name()}: {error}') from error
        values[name] = declared.value
        if problem := _problem(name, field, declared.value):
            raise ConfigError(f'{node.get_name()}: {problem}')
    return _replaced(table(), values)


def changed_parameters(
    current: ParametersT, changes: Sequence[Parameter]
) -> tuple[ParametersT, SetParametersResult]:
    """The table after a request to set parameters, and the answer to it.

    Types and ranges are the middleware's to check; parameters of other tables pass.
    """
    fields = {name: field for name, field, _ in _leaves(current)}
    ours = {change.name: change.value for change in changes if change.name in fields}
    problems = [problem for name in ours if (problem := _problem(name, fields[name], ours[name]))]
    if problems:
        return current, SetParametersResult(successful=False, reason='; '.join(problems))
    return _replaced(current, ours), SetParametersResult(successful=True)


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
    """What a descriptor cannot express."""
    if field.metadata['required'] and not value:
        return f'parameter {name} is empty; give it: {field.metadata["description"]}'
    choices = field.metadata['choices']
    if choices and value not in choices:
        return f'parameter {name} is {value!r}; choose from {list(choices)}'
    return None
