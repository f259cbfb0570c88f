"""Groups of vectors that stay in registers, one for each of some rows of a matrix.

A group is a tuple of `Vector`; what is done to it is written out for every one. The rows start at
flat position `at` of their array, `step` apart; of a row, `count` numbers take part.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core.cgutils import unpack_tuple
from numba.extending import intrinsic

from softperm.kernels.cpu.numba_simd import (
    INT32_VECTOR,
    WIDTH,
    Vector,
    address,
    broadcast,
    exchange,
    masked_load,
)

QUARTER, HALF = -4, -2  # sizes of groups that fill so much of the registers
# With AVX-512 there are 32 of 512 bits, else at least 16 of 256, or as many bits in others.
_REGISTER_BITS = 32 * 512 if llvm.get_host_cpu_features().get("avx512f") else 16 * 256


@intrinsic(prefer_literal=True)
def zeros(typingctx: Any, array: Any, size: Any) -> Any:
    """A group of `size` vectors of zeros."""
    count = size.literal_value
    if count < 0:
        count = _REGISTER_BITS // (-count * WIDTH * array.dtype.bitwidth)
    kind = types.UniTuple(Vector(array.dtype), count)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(context.get_value_type(kind.dtype), None)
        return context.make_tuple(builder, kind, [zero] * count)

    return kind(array, size), codegen


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c."""
    product = builder.fmul(a, b, flags=("contract",))
    return builder.fadd(product, c, flags=("contract",))


def _rows(context: Any, builder: Any, kinds: Any, args: Any, size: int) -> list[Any]:
    """The vectors at the beginning of `size` rows; the types and values are array, at, step, count.

    A count known when this is compiled is that of whole vectors.
    """
    array, at, step, count = args
    vectors = []
    for k in range(size):
        index = builder.add(at, builder.mul(step, ir.Constant(step.type, k)))
        if isinstance(kinds[3], types.IntegerLiteral):
            pointer = address(context, builder, kinds[0], array, index)
            vectors.append(builder.load(pointer, align=kinds[0].dtype.bitwidth // 8))
        else:
            vectors.append(masked_load(context, builder, kinds[0], array, index, count))
    return vectors


@intrinsic(prefer_literal=True)
def add_products(
    typingctx: Any, group: Any, array: Any, at: Any, step: Any, count: Any, factor: Any
) -> Any:
    """Every vector of the group plus that of its row times a factor."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = _rows(context, builder, signature.args[1:5], args[1:5], group.count)
        sums = zip(rows, unpack_tuple(builder, args[0]), strict=True)
        added = [_multiply_add(builder, row, args[5], value) for row, value in sums]
        return context.make_tuple(builder, group, added)

    return group(group, array, types.intp, types.intp, count, factor), codegen


@intrinsic(prefer_literal=True)
def add_rows(
    typingctx: Any, value: Any, group: Any, array: Any, at: Any, step: Any, count: Any
) -> Any:
    """A vector plus the sum of those of all rows, each times its vector of the group."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = _rows(context, builder, signature.args[2:], args[2:], group.count)
        total = args[0]
        for row, weight in zip(rows, unpack_tuple(builder, args[1]), strict=True):
            total = _multiply_add(builder, row, weight, total)
        return total

    return value(value, group, array, types.intp, types.intp, count), codegen


@intrinsic
def add_multiples(typingctx: Any, group: Any, array: Any, at: Any, value: Any) -> Any:
    """Every vector of the group plus a vector times one number: the first, the second and so on
    from flat position `at` of an array.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = address(context, builder, signature.args[1], args[1], args[2])
        first = builder.bitcast(first, first.type.pointee.element.as_pointer())
        added = []
        for k, old in enumerate(unpack_tuple(builder, args[0])):
            number = builder.load(builder.gep(first, [ir.Constant(ir.IntType(64), k)]))
            added.append(_multiply_add(builder, broadcast(builder, number), args[3], old))
        return context.make_tuple(builder, group, added)

    return group(group, array, types.intp, value), codegen


@intrinsic
def totals(typingctx: Any, group: Any) -> Any:
    """The sum of every vector of the group: that of vector k in place k, then anything."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = list(unpack_tuple(builder, args[0]))
        distance = WIDTH // 2
        while distance:
            low, high = exchange(distance)
            # As long as there are more places than vectors, the places alone are halved.
            pairs = zip(vectors[:distance], vectors[distance:] or vectors, strict=True)
            vectors = [
                builder.fadd(builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high))
                for a, b in pairs
            ]
            distance //= 2
        return vectors[0]

    return group.dtype(group), codegen


@intrinsic
def spread(typingctx: Any, group: Any, value: Any) -> Any:
    """The group of which vector k holds number k of a vector in every place."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vectors = [
            builder.shuffle_vector(args[1], args[1], INT32_VECTOR([k] * WIDTH))
            for k in range(group.count)
        ]
        return context.make_tuple(builder, group, vectors)

    return group(group, value), codegen
