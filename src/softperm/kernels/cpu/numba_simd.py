"""Explicit SIMD for Numba: 16 numbers that move together.

LLVM gives up on loops that keep running sums in small arrays, because it cannot rule out that
arrays overlap. These vectors live in registers. LLVM maps them to whatever the machine has.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

WIDTH = 16

_INT32 = ir.IntType(32)
INT32_VECTOR = ir.VectorType(_INT32, WIDTH)


class Vector(types.Type):
    """Type of `WIDTH` numbers of one floating dtype."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        element = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, WIDTH))  # type: ignore[no-untyped-call]


def address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Address of element `index` of a C-contiguous array, counted from its first element."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = ir.VectorType(data.type.pointee, WIDTH)
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


@njit
def aligned(shape: Any, dtype: Any) -> Any:
    """An empty array that begins where a cache line does: no whole vector in it takes two."""
    size = 1
    for length in shape:
        size *= length
    room = np.empty(size + 16, dtype)
    past = room.ctypes.data % 64
    start = (64 - past) // room.itemsize if past else 0
    return room[start : start + size].reshape(shape)


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """The 16 numbers from flat position `index` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = address(context, builder, signature.args[0], *args)
        return builder.load(pointer, align=signature.args[0].dtype.bitwidth // 8)

    return Vector(array.dtype)(array, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write 16 numbers from flat position `index` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = address(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], pointer, align=signature.args[0].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


def broadcast(builder: Any, value: Any) -> Any:
    """The same number 16 times."""
    vector = ir.VectorType(value.type, WIDTH)
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _INT32(0))
    return builder.shuffle_vector(single, single, INT32_VECTOR([0] * WIDTH))


def _is_among_first(builder: Any, count: Any) -> Any:
    """Of 16 places, the first `count`."""
    counts = broadcast(builder, count)
    return builder.icmp_signed("<", ir.Constant(counts.type, list(range(WIDTH))), counts)


def _masked(context: Any, builder: Any, array_type: Any, args: Any) -> tuple[Any, Any, Any]:
    """Pointer, alignment and mask of the first `count` numbers from an index of an array on."""
    array, index, count = args
    mask = _is_among_first(builder, count)
    align = _INT32(array_type.dtype.bitwidth // 8)
    return address(context, builder, array_type, array, index), align, mask


def _masked_function(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.{name}")


def masked_load(context: Any, builder: Any, array_type: Any, *args: Any) -> Any:
    """The first `count` numbers from an index of an array on, then zeros."""
    pointer, align, mask = _masked(context, builder, array_type, args)
    vector = pointer.type.pointee
    arguments = [pointer, align, mask, ir.Constant(vector, None)]
    name = f"load.v{WIDTH}f{array_type.dtype.bitwidth}.p0"
    return builder.call(_masked_function(builder, name, vector, arguments), arguments)


@intrinsic
def load_first(typingctx: Any, array: Any, index: Any, count: Any) -> Any:
    """The first `count` of the 16 numbers from flat position `index` on, then zeros."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return masked_load(context, builder, signature.args[0], *args)

    return Vector(array.dtype)(array, types.intp, types.intp), codegen


@intrinsic
def store_first(typingctx: Any, array: Any, index: Any, value: Any, count: Any) -> Any:
    """Write the first `count` of 16 numbers from flat position `index` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, index, value, count = args
        pointer, align, mask = _masked(context, builder, signature.args[0], (array, index, count))
        arguments = [value, pointer, align, mask]
        name = f"store.v{WIDTH}f{signature.args[0].dtype.bitwidth}.p0"
        function = _masked_function(builder, name, ir.VoidType(), arguments)
        builder.call(function, arguments)
        return context.get_dummy_value()

    return types.void(array, types.intp, value, types.intp), codegen


@intrinsic
def drop_first(typingctx: Any, value: Any, count: Any) -> Any:
    """The vector with zeros in its first `count` places."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(args[0].type, None)
        return builder.select(_is_among_first(builder, args[1]), zero, args[0])

    return value(value, types.intp), codegen


def exchange(distance: int) -> tuple[ir.Constant, ir.Constant]:
    """Shuffles that exchange, between two vectors, the elements `distance` apart in index."""
    low = [i if not i & distance else WIDTH + i - distance for i in range(WIDTH)]
    high = [i + distance if not i & distance else WIDTH + i for i in range(WIDTH)]
    return INT32_VECTOR(low), INT32_VECTOR(high)


def _transposed(builder: Any, vectors: list[Any]) -> list[Any]:
    """The columns of 16 vectors of 16 numbers, by exchanging ever smaller blocks."""
    distance = WIDTH // 2
    while distance:
        low, high = exchange(distance)
        for i in range(WIDTH):
            if not i & distance:
                a, b = vectors[i], vectors[i + distance]
                vectors[i] = builder.shuffle_vector(a, b, low)
                vectors[i + distance] = builder.shuffle_vector(a, b, high)
        distance //= 2
    return vectors


@intrinsic
def transpose(
    typingctx: Any, source: Any, start: Any, step: Any, target: Any, at: Any, target_step: Any
) -> Any:
    """Read 16 vectors, `step` apart from flat position `start` on; write their columns likewise."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        align = signature.args[0].dtype.bitwidth // 8

        def pointer(array: int, k: int) -> Any:
            offset = builder.mul(args[array + 2], ir.Constant(args[array + 2].type, k))
            index = builder.add(args[array + 1], offset)
            return address(context, builder, signature.args[array], args[array], index)

        vectors = [builder.load(pointer(0, k), align=align) for k in range(WIDTH)]
        for k, column in enumerate(_transposed(builder, vectors)):
            builder.store(column, pointer(3, k), align=align)
        return context.get_dummy_value()

    index = types.intp
    return types.void(source, index, index, target, index, index), codegen


@intrinsic
def splat(typingctx: Any, value: Any) -> Any:
    """The same number 16 times."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return broadcast(builder, args[0])

    return Vector(value)(value), codegen


def _binary(instruction: str) -> Any:
    @intrinsic
    def operation(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args, flags=("contract",))

        return a(a, b), codegen

    return operation


_add, _sub, _mul, _div = (_binary(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


def _overload_operator(symbol: Any, operation: Any) -> None:
    @overload(symbol)
    def implementation(a: Any, b: Any) -> Any:
        if not (isinstance(a, Vector) and a == b):
            return None

        def apply(a: Any, b: Any) -> Any:
            return operation(a, b)

        return apply


for _symbol, _operation in (
    (operator.add, _add),
    (operator.sub, _sub),
    (operator.mul, _mul),
    (operator.truediv, _div),
):
    _overload_operator(_symbol, _operation)


def _llvm_unary(name: str) -> Any:
    @intrinsic
    def operation(typingctx: Any, a: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = args[0].type
            suffix = f"v{WIDTH}f{signature.args[0].dtype.bitwidth}"
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(kind, [kind]), f"{name}.{suffix}"
            )
            return builder.call(function, args)

        return a(a), codegen

    return operation


floor = _llvm_unary("llvm.floor")
absolute = _llvm_unary("llvm.fabs")


def _llvm_select(comparison: str) -> Any:
    @intrinsic
    def operation(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(comparison, *args), *args)

        return a(a, b), codegen

    return operation


maximum = _llvm_select(">")
minimum = _llvm_select("<")


def _llvm_keep(comparison: str) -> Any:
    @intrinsic
    def operation(typingctx: Any, value: Any, x: Any, bound: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            inside = builder.fcmp_ordered(comparison, args[1], args[2])
            return builder.select(inside, args[0], ir.Constant(args[0].type, None))

        return value(value, x, bound), codegen

    return operation


keep_if_at_most = _llvm_keep("<=")  # value where x <= bound, else 0; also 0 where x is NaN
keep_if_above = _llvm_keep(">")


@intrinsic
def keep_nan(typingctx: Any, value: Any, x: Any) -> Any:
    """The value, but NaN where x is."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_unordered("uno", args[1], args[1]), args[1], args[0])

    return value(value, x), codegen


@intrinsic
def pick(typingctx: Any, x: Any, bound: Any, a: Any, b: Any) -> Any:
    """a where x > bound, else b."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args[:2]), *args[2:])

    return a(x, bound, a, b), codegen


@intrinsic
def rough_log2(typingctx: Any, x: Any) -> Any:
    """log2(x) within 0.09 for x > 0: exponent and fraction bits read as one fixed-point number."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits, fraction = (32, 23) if signature.args[0].dtype == types.float32 else (64, 52)
        integer = ir.VectorType(ir.IntType(bits), WIDTH)
        kind = args[0].type
        fixed = builder.sitofp(builder.bitcast(args[0], integer), kind)
        bias = (1 << (bits - fraction - 2)) - 1
        scaled = builder.fmul(fixed, ir.Constant(kind, [2.0**-fraction] * WIDTH))
        return builder.fsub(scaled, ir.Constant(kind, [float(bias)] * WIDTH))

    return x(x), codegen


@intrinsic
def to_double(typingctx: Any, x: Any) -> Any:
    """The same numbers as float64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if signature.args[0].dtype == types.float64:
            return args[0]
        return builder.fpext(args[0], ir.VectorType(ir.DoubleType(), WIDTH))

    return Vector(types.float64)(x), codegen


@intrinsic
def to_dtype_of(typingctx: Any, array: Any, x: Any) -> Any:
    """The same float64 numbers in the dtype of an array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if signature.args[0].dtype == types.float64:
            return args[1]
        return builder.fptrunc(args[1], ir.VectorType(ir.FloatType(), WIDTH))

    return Vector(array.dtype)(array, x), codegen


@intrinsic
def power_of_two(typingctx: Any, k: Any) -> Any:
    """2^k for whole k within the exponent range, by writing the exponent's bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits, fraction = (32, 23) if signature.args[0].dtype == types.float32 else (64, 52)
        integer = ir.VectorType(ir.IntType(bits), WIDTH)
        bias = (1 << (bits - fraction - 2)) - 1
        exponent = builder.fptosi(args[0], integer)
        exponent = builder.add(exponent, ir.Constant(integer, [bias] * WIDTH))
        shifted = builder.shl(exponent, ir.Constant(integer, [fraction] * WIDTH))
        return builder.bitcast(shifted, args[0].type)

    return k(k), codegen


def _reduction(combine: Any) -> Any:
    @intrinsic
    def operation(typingctx: Any, a: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value, width = args[0], WIDTH
            while width > 1:
                width //= 2
                lanes = ir.VectorType(ir.IntType(32), width)
                low = ir.Constant(lanes, list(range(width)))
                high = ir.Constant(lanes, list(range(width, 2 * width)))
                undefined = ir.Constant(value.type, ir.Undefined)
                halves = [builder.shuffle_vector(value, undefined, half) for half in (low, high)]
                value = combine(builder, *halves)
            return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

        return a.dtype(a), codegen

    return operation


def _select(comparison: str) -> Any:
    return lambda builder, a, b: builder.select(builder.fcmp_ordered(comparison, a, b), a, b)


total = _reduction(lambda builder, a, b: builder.fadd(a, b))
largest = _reduction(_select(">"))
smallest = _reduction(_select("<"))


@intrinsic
def lane_numbers(typingctx: Any) -> Any:
    """0 to 15 in float64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.DoubleType(), WIDTH)
        return ir.Constant(kind, [float(k) for k in range(WIDTH)])

    return Vector(types.float64)(), codegen
