# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The command line of `pointdistiller run`: bags, and node parameters as `ros2 run` has them."""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.parameter import get_parameter_value, parameter_value_to_python

from pointdistiller_core.detector import parse_scale
from pointdistiller_core.errors import ConfigError


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


def check_parameters(node: Node, names: Iterable[str]) -> None:
    """Refuse parameters that a node does not have, which the middleware silently ignores.

    Raises:
        ConfigError: there is one.
    """
    if unknown := [name for name in names if not node.has_parameter(name)]:
        raise ConfigError(
            f'{node.get_name()} has no parameter {", ".join(unknown)}; '
            f'see config/nodes/{node.get_name()}.yaml'
        )
