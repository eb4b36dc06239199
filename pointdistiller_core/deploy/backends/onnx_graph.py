# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Checks an .onnx file before ONNX Runtime opens it, which computes while opening.

A bundle needs only ONNX Runtime, not the package that reads these files. So their wire format,
Protocol Buffers, is read here: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np

from pointdistiller_core.errors import CheckpointError

Message: TypeAlias = 'Mapping[int, list[int | memoryview]]'  # number of a field -> its values

# Layers of an export by any version of torch; none makes large outputs from small inputs.
LAYERS = frozenset(
    {
        *('Conv', 'ConvTranspose', 'BatchNormalization', 'Relu', 'Add', 'Mul', 'Concat'),
        *('Constant', 'Identity', 'Reshape', 'Resize', 'Slice', 'Split', 'Transpose', 'Unsqueeze'),
    }
)
MAX_NODES = 10_000
MAX_SCALE = 64.0  # of a map that is enlarged
MAX_ATTRIBUTE = 4096  # a stride, a padding, ...
FLOAT, EXTERNAL = 1, 1  # of a tensor's type, and of the place of its values
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def check_onnx(content: bytes) -> None:
    """Check that a network has only an export's layers, and holds its weights, all finite.

    Args:
        content: of an .onnx file.

    Raises:
        CheckpointError: it does not, or is no .onnx file.
    """
    try:
        model = _parse(memoryview(content))
        if 25 in model:
            raise CheckpointError('the ONNX network has functions of its own')
        for graph in _messages(model, 7):
            _check_graph(graph)
    except (IndexError, ValueError) as error:
        raise CheckpointError(f'not an ONNX network: {error}') from error


def _check_graph(graph: Message) -> None:
    if 15 in graph:
        raise CheckpointError('the ONNX network has sparse weights, as no export has')
    nodes = [*_messages(graph, 1)]
    kinds = {_text(node, 4) for node in nodes} | {_text(node, 7) for node in nodes} - {'ai.onnx'}
    if len(nodes) > MAX_NODES or (unknown := sorted(kinds - LAYERS - {''})):
        what = f'layers of {unknown}' if len(nodes) <= MAX_NODES else f'{len(nodes)} layers'
        raise CheckpointError(f'the ONNX network has {what}, as no export has')
    tensors = [*_messages(graph, 5)]
    for node in nodes:
        for attribute in _messages(node, 5):
            if {6, 11, 22, 23} & attribute.keys():  # graphs, sparse tensors
                raise CheckpointError('the ONNX network has networks in it, as no export has')
            numbers = [_signed(value) for value in (*attribute.get(3, ()), *_packed(attribute, 8))]
            if any(abs(number) > MAX_ATTRIBUTE for number in numbers) and 'Conv' in _text(node, 4):
                raise CheckpointError(f'the ONNX network has a layer of {numbers}, as none has')
            tensors += [*_messages(attribute, 5), *_messages(attribute, 10)]
    for tensor in tensors:
        _check_tensor(tensor)
    _check_scales(nodes, graph)


def _check_scales(nodes: list[Message], graph: Message) -> None:
    """Check that maps are enlarged by known, small factors."""
    known = {_text(tensor, 8): tensor for tensor in _messages(graph, 5)}
    for node in nodes:
        if _text(node, 4) == 'Constant':
            for attribute in _messages(node, 5):
                known |= {_text(node, 2): tensor for tensor in _messages(attribute, 5)}
    for node in nodes:
        if _text(node, 4) != 'Resize':
            continue
        names = [
            bytes(value).decode() for value in node.get(1, ()) if isinstance(value, memoryview)
        ]
        scales = [*known[names[2]].get(9, ())] if len(names) == 3 and names[2] in known else []
        found = [np.frombuffer(each, '<f4') for each in scales if isinstance(each, memoryview)]
        if not found or not all(((each >= 1) & (each <= MAX_SCALE)).all() for each in found):
            raise CheckpointError(
                'the ONNX network enlarges a map by no factor that an export has'
            )


def _check_tensor(tensor: Message) -> None:
    name = _text(tensor, 8)
    if 13 in tensor or EXTERNAL in tensor.get(14, ()):
        raise CheckpointError(f'the ONNX network keeps {name!r} in another file')
    if FLOAT not in tensor.get(2, ()):
        return
    for number in (4, 9):  # as numbers, as raw data
        for value in tensor.get(number, ()):
            if isinstance(value, memoryview) and not _is_finite(value):
                raise CheckpointError(f'the ONNX network has NaN or infinite values in {name!r}')


def _is_finite(values: memoryview) -> bool:
    return bool(np.isfinite(np.frombuffer(values, '<f4')).all())


def _parse(content: memoryview) -> Message:
    """The fields of a message; nested ones stay bytes."""
    found: dict[int, list[int | memoryview]] = {}
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        value: int | memoryview
        if tag & 7 == VARINT:
            value, position = _varint(content, position)
        else:
            if tag & 7 == BYTES:
                size, position = _varint(content, position)
            elif tag & 7 in {FIXED32, FIXED64}:
                size = 4 if tag & 7 == FIXED32 else 8
            else:
                raise ValueError(f'wire type {tag & 7}')
            value = content[position : position + size]
            if len(value) < size:
                raise ValueError('cut short')
            position += size
        found.setdefault(tag >> 3, []).append(value)
    return found


def _varint(content: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError('a number without an end')


def _messages(message: Message, number: int) -> Iterator[Message]:
    for value in message.get(number, ()):
        if not isinstance(value, memoryview):
            raise ValueError(f'field {number} is a number')
        yield _parse(value)


def _packed(message: Message, number: int) -> Iterator[int]:
    """Numbers, one by one or packed."""
    for value in message.get(number, ()):
        if not isinstance(value, memoryview):
            yield value
            continue
        position = 0
        while position < len(value):
            single, position = _varint(value, position)
            yield single


def _signed(value: int | memoryview) -> int:
    if isinstance(value, memoryview):
        raise ValueError('bytes in place of a number')
    return value - 2**64 if value >= 2**63 else value


def _text(message: Message, number: int) -> str:
    values = [bytes(value) for value in message.get(number, ()) if isinstance(value, memoryview)]
    return values[-1].decode() if values else ''
