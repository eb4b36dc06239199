# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Node parameters on the command line of `pointdistiller run`, written as `ros2 run` has them."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable
from typing import Any

from rclpy.node import Node
from rclpy.parameter import get_parameter_value, parameter_value_to_python

from pointdistiller_core.detector import parse_scale
from pointdistiller_core.errors import ConfigError


def add_parameter_option(parser: ArgumentParser) -> None:
    """Add `-p NAME:=VALUE`, repeatable; its pairs become `parameters`."""
    parser.add_argument(
        *('-p', '--param'),
        dest='parameters',
        action='append',
        default=[],
        type=parse_parameter,
        metavar='NAME:=VALUE',
        help="any parameter of the node, e.g. 'mounting.pitch:=0.2'; repeatable",
    )


def add_scale_option(parser: ArgumentParser) -> None:
    """Add `--intensity-scale`; its parameters become `intensity_scale`."""
    parser.add_argument(
        '--intensity-scale',
        type=parse_scale_parameters,
        default={},
        metavar='auto|FACTOR',
        help='factor on the intensity, e.g. 0.00392157 (1/255) for 0 to 255; auto judges the '
        'first 10 clouds',
    )


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
    """Refuse parameters that a node does not have: the middleware passes over them in silence.

    Raises:
        ConfigError: there are such.
    """
    if unknown := [name for name in names if not node.has_parameter(name)]:
        raise ConfigError(
            f'{node.get_name()} has no parameter {", ".join(unknown)}; '
            f'see config/nodes/{node.get_name()}.yaml'
        )
