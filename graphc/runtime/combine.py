"""What the chunks of a gate leave, combined in their order; and arrays that totals start from.

As loops of generated code these would take longer to compile than to run: each is a handful of instructions,
emitted as such.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from . import accumulate
from .buffers import Buffer

__all__ = ["arrays", "fill", "numbers", "sums"]

_Step = Callable[[Any, Any], Any]
_Values = npt.NDArray[Any]


def fill(buffer: _Values, count: int, value: Any) -> None:
    """Write `value` to the first `count` elements.

    >>> x = np.zeros(3)
    >>> fill(x, 2, 5.0)
    >>> x
    array([5., 5., 0.])
    """
    buffer[:count] = value


def arrays(
    step: _Step, initial: Any, result: _Values, parts: _Values, length: int, pieces: int
) -> None:
    """Accumulate `pieces` arrays of `length` elements that lie behind each other in `parts`.

    >>> total = np.empty(2)
    >>> arrays(accumulate.add, 0.0, total, np.array([1.0, 2.0, 3.0, 4.0]), 2, 2)
    >>> total
    array([4., 6.])
    """
    for k in range(length):
        result[k] = initial
        for piece in range(pieces):
            result[k] = step(result[k], parts[piece * length + k])


def numbers(step: _Step, initial: Any, result: _Values, parts: _Values, pieces: int) -> None:
    """Accumulate `pieces` numbers.

    >>> total = np.empty(1, np.int64)
    >>> numbers(accumulate.maximum, np.int64(0), total, np.array([1, 3, 2]), 3)
    >>> total
    array([3])
    """
    arrays(step, initial, result, parts, 1, pieces)


def sums(result: _Values, parts: _Values, count: int) -> None:
    """Add up `count` partial sums as one loop would: in float64, or carrying along what is lost.

    >>> total = np.empty(1)
    >>> sums(total, np.array([1e16, 1.0, 1.0]), 3)
    >>> total
    array([1.e+16])
    """
    total, lost = 0.0, 0.0
    for part in parts[:count]:
        if parts.dtype == np.float32:
            total = total + np.float64(part)
        else:
            total, lost = accumulate.carry(total, lost, part)
    result[0] = accumulate.carried(total, lost)


def _of_one_type(*buffers: Any) -> bool:
    return isinstance(buffers[0], Buffer) and len(set(buffers)) == 1


@infer_global(fill)
class _Fill(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        buffer = args[0]
        if not _of_one_type(buffer):
            return None
        return signature(types.none, buffer, types.intp, buffer.dtype)


@infer_global(arrays)
class _Arrays(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        step, _, result, parts, *_ = args
        if not _of_one_type(result, parts):
            return None
        return signature(types.none, step, result.dtype, result, parts, types.intp, types.intp)


@infer_global(numbers)
class _Numbers(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        step, _, result, parts, _ = args
        if not _of_one_type(result, parts):
            return None
        return signature(types.none, step, result.dtype, result, parts, types.intp)


@infer_global(sums)
class _Sums(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        result, parts, _ = args
        is_float = _of_one_type(result, parts) and isinstance(result.dtype, types.Float)
        return signature(types.none, result, parts, types.intp) if is_float else None


class _Elements:
    """Reads and writes elements of buffers of one type at the position of a builder."""

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        self.context, self.builder, self.dtype = context, builder, dtype

    def read(self, buffer: Any, index: Any) -> Any:
        place = self.builder.gep(buffer, [index])
        return self.context.unpack_value(self.builder, self.dtype, place)

    def write(self, value: Any, buffer: Any, index: Any) -> None:
        place = self.builder.gep(buffer, [index])
        self.context.pack_value(self.builder, self.dtype, value, place)

    def fill(self, buffer: Any, count: Any, value: Any) -> None:
        with cgutils.for_range(self.builder, count) as loop:
            self.write(value, buffer, loop.index)


@lower_builtin(fill, Buffer, types.Integer, types.Any)
def _lower_fill(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    _Elements(context, builder, sig.args[0].dtype).fill(*args)
    return context.get_dummy_value()


@lower_builtin(arrays, types.Any, types.Any, Buffer, Buffer, types.Integer, types.Integer)
def _lower_arrays(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    _, initial, result, parts, length, pieces = args
    dtype = sig.args[2].dtype
    elements = _Elements(context, builder, dtype)
    step = context.get_function(sig.args[0].typing_key, signature(dtype, dtype, dtype))
    elements.fill(result, length, initial)
    with cgutils.for_range(builder, pieces) as piece:
        part = builder.gep(parts, [builder.mul(piece.index, length)])
        with cgutils.for_range(builder, length) as loop:
            pair = (elements.read(result, loop.index), elements.read(part, loop.index))
            elements.write(step(builder, pair), result, loop.index)
    return context.get_dummy_value()


@lower_builtin(numbers, types.Any, types.Any, Buffer, Buffer, types.Integer)
def _lower_numbers(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    inner = signature(types.none, *sig.args[:4], types.intp, types.intp)
    values = (*args[:4], cgutils.intp_t(1), args[4])
    return _lower_arrays(context, builder, inner, values)


@lower_builtin(sums, Buffer, Buffer, types.Integer)
def _lower_sums(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    result, parts, count = args
    dtype, number = sig.args[0].dtype, types.float64
    elements = _Elements(context, builder, dtype)
    carry, carried = (
        context.get_function(function, signature(returned, *(number,) * arity))
        for function, returned, arity in (
            (accumulate.carry, types.UniTuple(number, 2), 3),
            (accumulate.carried, number, 2),
        )
    )
    zero = context.get_constant(number, 0.0)
    total, lost = (cgutils.alloca_once_value(builder, zero) for _ in range(2))
    with cgutils.for_range(builder, count) as loop:
        part = context.cast(builder, elements.read(parts, loop.index), dtype, number)
        if dtype == types.float32:
            builder.store(builder.fadd(builder.load(total), part), total)
        else:
            pair = carry(builder, (builder.load(total), builder.load(lost), part))
            for place, value in zip(
                (total, lost), cgutils.unpack_tuple(builder, pair), strict=True
            ):
                builder.store(value, place)
    whole = carried(builder, (builder.load(total), builder.load(lost)))
    elements.write(context.cast(builder, whole, number, dtype), result, cgutils.intp_t(0))
    return context.get_dummy_value()
