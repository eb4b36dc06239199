# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Definitions of ROS messages beyond the standard packages, whose definitions rosbags has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import FieldDesc, Typesdict
from rosbags.typesys import TypesysError, get_types_from_msg
from rosbags.typesys.store import Typestore

from pointdistiller_core.errors import DatasetError


def add_types(store: Typestore, message_type: str, find: Callable[[str], str]) -> None:
    """Register a message type and the types of its fields, unless they are known.

    Args:
        store: known types; changed.
        message_type: e.g. `vision_msgs/msg/Detection3DArray`.
        find: the text of a type's .msg file.

    Raises:
        DatasetError: a definition is not found or is not valid.
    """
    if message_type in store.fielddefs:
        return
    text = find(message_type)
    try:
        found = get_types_from_msg(text, message_type)
        store.register(found)
    except TypesysError as error:
        raise DatasetError(f'the definition of {message_type} is not readable: {error}') from error
    for name in _names_in(found):
        add_types(store, name, find)


def _names_in(types: Typesdict) -> Iterator[str]:
    """Message types of the fields of some types."""
    for _, fields in types.values():
        for _, description in fields:
            yield from _names_of(description)


def _names_of(description: FieldDesc) -> Iterator[str]:
    if description[0] is Nodetype.NAME:
        yield description[1]
    elif description[0] is Nodetype.ARRAY or description[0] is Nodetype.SEQUENCE:
        yield from _names_of(description[1][0])
