# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The inner loops of compiled sparse convolutions: blocks of sums that stay in registers.

How many registers there are decides the size of a block, so these loops are written in LLVM's
language. Each sum has a fixed order, whatever the size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.compiled.compiler import FLAT, LANES, VECTOR, compiled, scaled_sum

if TYPE_CHECKING:
    Array = NDArray[Any]
    FloatArray = NDArray[np.float32]

WIDE = 2 * LANES
HAS_WIDE = bool(binding.get_host_cpu_features().get('avx512f'))  # 32 registers instead of 16
PAIRS, WIDE_PAIRS = 4, 6  # in a block of products
ROWS = 8 if HAS_WIDE else 4  # channels of the input in a block of outer products
CHUNK = 128  # pairs whose rows stay in the cache while all blocks read them

_INDEX = ir.IntType(64)
_NUMBERS = types.Array(types.int32, 1, 'C')


def with_zeros(weights: FloatArray, multiple: int) -> FloatArray:
    """Channels, the last axis, filled up to a multiple of their number."""
    missing = -weights.shape[-1] % multiple
    if not missing:
        return weights
    return np.concatenate([weights, np.zeros((*weights.shape[:-1], missing), np.float32)], axis=-1)


def flat(array: FloatArray) -> FloatArray:
    """All numbers in a row, as compiled functions take them."""
    return np.require(array, np.float32, ['C', 'W']).reshape(-1)


def _products(num_pairs: int, num_vectors: int) -> Any:
    """Adds, for some pairs from a place on, the input's row times some columns of the weights."""

    @intrinsic  # type: ignore[untyped-decorator]
    def add_block(
        _context: Any, _features: Any, _weights: Any, _result: Any, _inputs: Any, _outputs: Any,
        _place: Any, _end: Any, _weight: Any, _channel: Any, _before: Any, _behind: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            features, weights, result, inputs, outputs = _addresses(
                context, builder, signature, arguments[:5]
            )
            place, end, weight, channel, before, behind = arguments[5:]
            first_weight = builder.gep(weights, [builder.add(weight, channel)])
            last = builder.sub(end, _INDEX(1))
            places, rows = [], []
            for number in range(num_pairs):
                own = builder.add(place, _INDEX(number))
                places.append(own)
                # one beyond the end is computed like the last one, and not added
                own = builder.select(builder.icmp_signed('<', own, end), own, last)
                rows.append(_row(builder, features, inputs, own, before))
            sums = _zero_sums(builder, num_pairs, num_vectors)
            with cgutils.for_range(builder, before) as loop:
                line = builder.gep(first_weight, [builder.mul(loop.index, behind)])
                factors = _load(builder, line, num_vectors)
                for row, own_sums in zip(rows, sums, strict=True):
                    value = builder.load(builder.gep(row, [loop.index]))
                    _multiply_add(builder, value, factors, own_sums)
            for place, own_sums in zip(places, sums, strict=True):
                with builder.if_then(builder.icmp_signed('<', place, end)):
                    row = _row(builder, result, outputs, place, behind)
                    _add(builder, builder.gep(row, [channel]), own_sums)
            return context.get_dummy_value()

        arrays = (FLAT, FLAT, FLAT, _NUMBERS, _NUMBERS)
        return types.void(*arrays, *[types.intp] * 6), generate

    return add_block


def _products_of_few(num_rows: int) -> Any:
    """Adds the same for so few channels of the input that the weights stay in registers, too."""

    @intrinsic  # type: ignore[untyped-decorator]
    def add_block(
        _context: Any, _features: Any, _weights: Any, _result: Any, _inputs: Any, _outputs: Any,
        _place: Any, _end: Any, _weight: Any, _channel: Any, _behind: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            features, weights, result, inputs, outputs = _addresses(
                context, builder, signature, arguments[:5]
            )
            place, end, weight, channel, behind = arguments[5:]
            line = builder.gep(weights, [builder.add(weight, channel)])
            factors = []
            for _ in range(num_rows):
                factors += _load(builder, line, 1)
                line = builder.gep(line, [behind])
            with cgutils.for_range_slice(builder, place, end, _INDEX(1), _INDEX) as (pair, _):
                row = _row(builder, features, inputs, pair, _INDEX(num_rows))
                total = ir.Constant(VECTOR, None)
                for number, factor in enumerate(factors):
                    value = builder.load(builder.gep(row, [_INDEX(number)]))
                    total = scaled_sum(builder, value, factor, total)
                target = builder.gep(_row(builder, result, outputs, pair, behind), [channel])
                (address,) = _vectors(builder, target, 1)
                builder.store(
                    builder.fadd(builder.load(address, align=4), total), address, align=4
                )
            return context.get_dummy_value()

        arrays = (FLAT, FLAT, FLAT, _NUMBERS, _NUMBERS)
        return types.void(*arrays, *[types.intp] * 5), generate

    return add_block


def _outer_products(num_rows: int, num_vectors: int) -> Any:
    """Adds, for some channels of input and output, the products of the pairs at some places."""

    @intrinsic  # type: ignore[untyped-decorator]
    def add_block(
        _context: Any, _features: Any, _gradient: Any, _result: Any, _inputs: Any, _outputs: Any,
        _place: Any, _end: Any, _weight: Any, _above: Any, _channel: Any, _before: Any,
        _behind: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            features, gradient, result, inputs, outputs = _addresses(
                context, builder, signature, arguments[:5]
            )
            place, end, weight, above, channel, before, behind = arguments[5:]
            features, gradient = builder.gep(features, [above]), builder.gep(gradient, [channel])
            sums = _zero_sums(builder, num_rows, num_vectors)
            with cgutils.for_range_slice(builder, place, end, _INDEX(1), _INDEX) as (pair, _):
                values = _row(builder, features, inputs, pair, before)
                factors = _load(
                    builder, _row(builder, gradient, outputs, pair, behind), num_vectors
                )
                for number, own_sums in enumerate(sums):
                    value = builder.load(builder.gep(values, [_INDEX(number)]))
                    _multiply_add(builder, value, factors, own_sums)
            first = builder.add(weight, builder.add(builder.mul(above, behind), channel))
            for number, own_sums in enumerate(sums):
                step = builder.mul(_INDEX(number), behind)
                _add(builder, builder.gep(result, [builder.add(first, step)]), own_sums)
            return context.get_dummy_value()

        arrays = (FLAT, FLAT, FLAT, _NUMBERS, _NUMBERS)
        return types.void(*arrays, *[types.intp] * 7), generate

    return add_block


def _addresses(context: Any, builder: Any, signature: Any, arrays: Any) -> list[Any]:
    """Where each of the arrays begins."""
    return [
        context.make_array(kind)(context, builder, array).data
        for kind, array in zip(signature.args, arrays, strict=False)
    ]


def _row(builder: Any, array: Any, numbers: Any, place: Any, length: Any) -> Any:
    """Address of the row whose number stands at a place."""
    number = builder.sext(builder.load(builder.gep(numbers, [place])), _INDEX)
    return builder.gep(array, [builder.mul(number, length)])


def _vectors(builder: Any, address: Any, count: int) -> list[Any]:
    places = (builder.gep(address, [_INDEX(number * LANES)]) for number in range(count))
    return [builder.bitcast(place, VECTOR.as_pointer()) for place in places]


def _load(builder: Any, address: Any, count: int) -> list[Any]:
    return [builder.load(place, align=4) for place in _vectors(builder, address, count)]


def _zero_sums(builder: Any, *shape: int) -> list[list[Any]]:
    """Variables of `shape`, which LLVM keeps in registers."""
    sums = [
        [cgutils.alloca_once(builder, VECTOR) for _ in range(shape[1])] for _ in range(shape[0])
    ]
    for own_sums in sums:
        for each in own_sums:
            builder.store(ir.Constant(VECTOR, None), each)
    return sums


def _multiply_add(builder: Any, value: Any, factors: list[Any], sums: list[Any]) -> None:
    """Add one value times each of the vectors."""
    for factor, total in zip(factors, sums, strict=True):
        builder.store(scaled_sum(builder, value, factor, builder.load(total)), total)


def _add(builder: Any, address: Any, sums: list[Any]) -> None:
    """Add the sums to the numbers from an address on."""
    for place, total in zip(_vectors(builder, address, len(sums)), sums, strict=True):
        builder.store(
            builder.fadd(builder.load(place, align=4), builder.load(total)), place, align=4
        )


_add_products, _add_wide_products = _products(PAIRS, 1), _products(WIDE_PAIRS, 2)
_add_products_of_4, _add_products_of_8, _add_products_of_16 = map(_products_of_few, (4, 8, 16))
_add_outer, _add_wide_outer = _outer_products(ROWS, 1), _outer_products(ROWS, 2)


@compiled('void(f4[::1], f4[::1], f4[::1], i4[::1], i4[::1], i8, i8, i8, i8, i8)')
def add_products(
    features: Array,
    weights: Array,
    result: Array,
    inputs: Array,
    outputs: Array,
    begin: int,
    end: int,
    weight: int,
    before: int,
    behind: int,
) -> None:
    """Add the products of some pairs of one cell of the kernel to their rows of the result.

    Several pairs at a time share each row of weights, so more is multiplied than loaded.

    Args:
        features: flat.
        weights: flat, of all cells.
        result: flat; changed.
        inputs: row of the features of each pair.
        outputs: row of the result.
        begin: first pair.
        end: of the pairs.
        weight: first of this cell.
        before: channels of the features.
        behind: channels of the result, a multiple of `LANES`.
    """
    if HAS_WIDE and before in (4, 8, 16):
        for channel in range(0, behind, LANES):
            if before == 4:
                _add_products_of_4(
                    features, weights, result, inputs, outputs, begin, end, weight, channel, behind
                )
            elif before == 8:
                _add_products_of_8(
                    features, weights, result, inputs, outputs, begin, end, weight, channel, behind
                )
            else:
                _add_products_of_16(
                    features, weights, result, inputs, outputs, begin, end, weight, channel, behind
                )
        return
    if HAS_WIDE and behind % WIDE == 0:
        for pair in range(begin, end, WIDE_PAIRS):
            for channel in range(0, behind, WIDE):
                _add_wide_products(
                    features, weights, result, inputs, outputs,
                    pair, end, weight, channel, before, behind,
                )  # fmt: skip
        return
    for pair in range(begin, end, PAIRS):
        for channel in range(0, behind, LANES):
            _add_products(
                features, weights, result, inputs, outputs,
                pair, end, weight, channel, before, behind,
            )  # fmt: skip


@compiled('void(f4[::1], f4[::1], f4[::1], i4[::1], i4[::1], i8, i8, i8, i8, i8)')
def add_outer_products(
    features: Array,
    gradient: Array,
    result: Array,
    inputs: Array,
    outputs: Array,
    begin: int,
    end: int,
    weight: int,
    before: int,
    behind: int,
) -> None:
    """Add the outer products of some pairs of one cell of the kernel to its gradient.

    Args:
        features: flat.
        gradient: flat, of the output.
        result: flat, of all cells of the kernel; changed.
        inputs: row of the features of each pair.
        outputs: row of the gradient.
        begin: first pair.
        end: of the pairs.
        weight: first of this cell in the result.
        before: channels of the features, a multiple of `ROWS`.
        behind: channels of the gradient, a multiple of `LANES`.
    """
    for pair in range(begin, end, CHUNK):
        last = min(pair + CHUNK, end)
        if HAS_WIDE and behind % WIDE == 0:
            for channel in range(0, behind, WIDE):
                for row in range(0, before, ROWS):
                    _add_wide_outer(
                        features, gradient, result, inputs, outputs,
                        pair, last, weight, row, channel, before, behind,
                    )  # fmt: skip
            continue
        for channel in range(0, behind, LANES):
            for row in range(0, before, ROWS):
                _add_outer(
                    features, gradient, result, inputs, outputs,
                    pair, last, weight, row, channel, before, behind,
                )  # fmt: skip
