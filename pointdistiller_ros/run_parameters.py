# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The command line of `pointdistiller run`: bags, and node parameters as `ros2 run` has them."""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser, ArgumentTypeError, Namespace
from array import array
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.parameter import get_parameter_value, parameter_value_to_python

from pointdistiller_core.detector import parse_scale
from pointdistiller_core.errors import ConfigError
from pointdistiller_ros.parameters import ClassThresholds, parameter_defaults

OF_ALL_NODES = ('use_sim_time', 'start_type_description_service')  # rclpy declares these


class _SetParameter(Action):
    """Adds the parameters that the option stands for to `parameters`."""

    def __call__(
        self,
        parser: ArgumentParser,  # noqa: ARG002
        namespace: Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        namespace.parameters.update(values if isinstance(values, dict) else {self.dest: values})


def add_parameter_options(parser: ArgumentParser, table: type, names: Iterable[str]) -> None:
    """Add options for parameters of a node; given ones go into the dictionary `parameters`.

    Args:
        parser: of a command.
        table: of the node's parameters.
        names: parameters with an option of their own; any other is set by `-p NAME:=VALUE`.
    """
    parser.set_defaults(parameters={})
    add = partial(parser.add_argument, action=_SetParameter, default=SUPPRESS)
    for name in names:
        field = table.__dataclass_fields__[name]  # type: ignore[attr-defined]
        choices = field.metadata['choices']
        add(
            f'--{name.replace("_", "-")}',
            type=type(field.default),
            choices=choices or None,
            metavar=None if choices else name.split('_')[-1].upper(),
            help=field.metadata['description'],
        )
    add(
        '--intensity-scale',
        type=parse_scale_parameters,
        metavar='auto|FACTOR',
        help='factor on the intensity, e.g. 0.00392157 (1/255) for 0 to 255; auto judges the '
        'first 10 clouds',
    )
    add(
        *('-p', '--param'),
        type=lambda text: dict([parse_parameter(text)]),
        metavar='NAME:=VALUE',
        help="any parameter of the node, e.g. 'mounting.pitch:=0.2'; repeatable",
    )


def add_bag_options(parser: ArgumentParser, *, rate: float | None) -> None:
    """Add options for what is played, how fast (default `rate`), and where it is recorded."""
    parser.add_argument('--bag', required=True, help='bag with PointCloud2 messages')
    parser.add_argument(
        '--topic',
        action='append',
        help='topic of the clouds, if the bag has several; those of several sensors are merged',
    )
    parser.add_argument('--record', default='', help='bag to write clouds and results to')
    pace = parser.add_mutually_exclusive_group()
    speed = 'speed relative to the recording; may drop clouds'
    pace.add_argument('--rate', type=float, default=rate, help=speed)
    wait = 'wait for each result; drop nothing' + (' (the default)' if rate is None else '')
    pace.add_argument('--lockstep', dest='rate', action='store_const', const=None, help=wait)


def parse_scale_parameters(text: str) -> dict[str, Any]:
    """The parameters of a node that `--intensity-scale` stands for.

    Raises:
        ConfigError: neither `auto` nor a positive number.
    """
    scale = parse_scale(text)
    return {'intensity_auto': True} if scale is None else {'intensity_scale': scale}


def parse_parameter(text: str) -> tuple[str, Any]:
    """Name and value of a parameter; the value is YAML, whose type must be the parameter's.

    Raises:
        ArgumentTypeError: the text is not of the form NAME:=VALUE.
    """
    name, sign, value = text.partition(':=')
    if not name or not sign:
        raise ArgumentTypeError(f"{text!r} is not of the form NAME:=VALUE, e.g. 'num_threads:=2'")
    return name, parameter_value_to_python(get_parameter_value(value))


def settle_parameters(node: str, table: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as a node takes them: a whole number becomes a float where it declares one.

    Args:
        node: its name.
        table: of its parameters.
        given: values by name.

    Raises:
        ConfigError: the node has no parameter of such a name. Those of each class are known when
            its bundle is loaded: `check_parameters` knows these, too.
    """
    defaults = parameter_defaults(table)
    classes = [name for name in given if name.startswith(ClassThresholds.PREFIX)]
    defaults |= dict.fromkeys(classes, ClassThresholds.FIELD.default)
    unknown = [name for name in given if name not in (*defaults, *OF_ALL_NODES)]
    _refuse_unknown(node, unknown, defaults)
    return {name: _like(defaults.get(name), value) for name, value in given.items()}


def check_parameters(node: Node, names: Iterable[str]) -> None:
    """Refuse parameters that a node does not have, which the middleware silently ignores.

    Raises:
        ConfigError: there is one.
    """
    unknown = [name for name in names if not node.has_parameter(name)]
    _refuse_unknown(node.get_name(), unknown, node.get_parameters_by_prefix(''))


def _refuse_unknown(node: str, unknown: Sequence[str], known: Iterable[str]) -> None:
    if not unknown:
        return
    close = [name for one in unknown for name in get_close_matches(one, list(known), n=1)]
    hint = f'did you mean {", ".join(close)}? ' if close else ''
    raise ConfigError(
        f'{node} has no parameter {", ".join(unknown)}; {hint}see config/nodes/{node}.yaml'
    )


def _like(default: Any, value: Any) -> Any:
    """A value, as floats where the default is of floats and the value of whole numbers."""
    if isinstance(default, float) and type(value) is int:  # a bool is none
        return float(value)
    if isinstance(default, tuple) and default and isinstance(value, list | array):
        return [_like(default[0], one) for one in value]
    return value
