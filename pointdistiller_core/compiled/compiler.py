# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Compiling with Numba, which is an extra, and what Numba lacks: bits counted, and vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

FunctionT = TypeVar('FunctionT', bound=Callable[..., Any])
OPTIONS = {'nogil': True, 'boundscheck': False, 'error_model': 'numpy'}
LANES = 16  # float32 in one register of AVX-512, or in two of AVX2
VECTOR = ir.VectorType(ir.FloatType(), LANES)
FLAT = types.Array(types.float32, 1, 'C')


def compiled(signature: str) -> Callable[[FunctionT], FunctionT]:
    """Compile a function for arguments of these types; other threads run while it does.

    What was compiled is kept beside the source or, if that is read-only, in the user's cache. So
    only the first start on a machine takes seconds.
    """

    def compile_it(function: FunctionT) -> FunctionT:
        try:
            found: FunctionT = njit(signature, cache=True, **OPTIONS)(function)
        except RuntimeError:  # no folder can be written
            found = njit(signature, **OPTIONS)(function)
        return found

    return compile_it


@intrinsic  # type: ignore[untyped-decorator]
def popcount(_context: Any, _bits: Any) -> Any:
    """Number of bits of a uint64."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


class Lanes(types.Type):  # type: ignore[misc]
    """Numba's type of `LANES` float32 in registers."""


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """LLVM's type of them."""

    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, VECTOR)


lanes = Lanes('lanes')


@intrinsic  # type: ignore[untyped-decorator]
def zeros(_context: Any) -> Any:
    """`LANES` zeros."""
    return lanes(), lambda *_: ir.Constant(VECTOR, None)


@intrinsic  # type: ignore[untyped-decorator]
def load(_context: Any, _flat: Any, _index: Any) -> Any:
    """`LANES` values of a flat array from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_vector_at(context, builder, signature, arguments), align=4)

    return lanes(FLAT, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def store(_context: Any, _flat: Any, _index: Any, _values: Any) -> Any:
    """Write the values of a flat array from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _vector_at(context, builder, signature, arguments)
        builder.store(arguments[2], address, align=4)
        return context.get_dummy_value()

    return types.void(FLAT, types.intp, lanes), generate


@intrinsic  # type: ignore[untyped-decorator]
def larger(_context: Any, _values: Any, _others: Any) -> Any:
    """The larger ones of two vectors, or NaN where one of them is: `np.maximum`."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        values, others = arguments
        is_larger = builder.fcmp_ordered('<', values, others)
        is_nan = builder.fcmp_unordered('uno', others, others)
        return builder.select(builder.or_(is_larger, is_nan), others, values)

    return lanes(lanes, lanes), generate


@intrinsic  # type: ignore[untyped-decorator]
def multiply_add(_context: Any, _flat: Any, _index: Any, _factors: Any, _summands: Any) -> Any:
    """One value of a flat array times the factors, plus the summands."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_address(context, builder, signature, arguments))
        return scaled_sum(builder, value, *arguments[2:])

    return lanes(FLAT, types.intp, lanes, lanes), generate


def scaled_sum(builder: Any, value: Any, factors: Any, summands: Any) -> Any:
    """LLVM's code for one value times a vector, plus a vector, rounded once where it is fast."""
    first = ir.Constant(ir.IntType(32), 0)
    vector = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, first)
    order = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    spread = builder.shuffle_vector(vector, vector, order)
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    name = f'llvm.fmuladd.v{LANES}f32'
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [spread, factors, summands])


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [arguments[1]])


def _vector_at(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    address = _address(context, builder, signature, arguments)
    return builder.bitcast(address, VECTOR.as_pointer())
