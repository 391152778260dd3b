"""Native code that reads what the caller gives: the arguments, and arrays for the results.

Each function here builds the native function of the same name, whose signature heads its docstring. What
a native `run` cannot take as it is makes it false: nothing is converted but Python's numbers.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from llvmlite import ir

from graphc.native import descriptor as d
from graphc.native import objects as o
from graphc.native.body import (
    BIT,
    BYTE,
    DOUBLE,
    FALSE,
    FLOAT,
    INT,
    POINTER,
    TRUE,
    VOID,
    WORD,
    Body,
    external,
    word,
)

READABLE = ir.Constant(INT, o.C_CONTIGUOUS | o.ALIGNED)
WRITEABLE = ir.Constant(INT, o.C_CONTIGUOUS | o.ALIGNED | o.WRITEABLE)
SWAPPED = ir.Constant(BYTE, ord(">" if sys.byteorder == "little" else "<"))


def add_operands(module: Any) -> None:
    """Adds the native functions ``prepare`` and ``buffers``, and what they call."""
    for build in (
        *(_fits, _convert_integer, _convert, _scalar, _argument, _arguments, _extents, _prepare),
        *(_buffer, _is_apart, _buffers),
    ):
        build(module)


def record_of(b: Body, descriptor: Any, index: Any) -> Any:
    """The record of the operand with that index: inputs come before results."""
    return b.at(b.at(descriptor, d.RECORDS), b.mul(index, word(d.RECORD_BYTES)))


def place(b: Body, scratch: Any, base: Any, offset: int) -> Any:
    """The pointer into the scratch memory to what the descriptor or a record places there."""
    return b.at(scratch, b.get(WORD, base, offset))


def int_of(b: Body, base: Any, offset: int) -> Any:
    """A small number in a descriptor or a record, as 32 bits."""
    return b.trunc(b.get(WORD, base, offset), INT)


def operand_count(b: Body, descriptor: Any) -> Any:
    """The number of inputs and results."""
    return b.add(b.get(WORD, descriptor, d.INPUTS), b.get(WORD, descriptor, d.RESULTS))


# The arguments.


def _fits(module: Any) -> None:
    """bool fits(object, record, flags): it is an ndarray, of the dtype and rank, with all these flags."""
    b = Body(module, "fits", BIT, POINTER, POINTER, INT, inline=True)
    object_, record, flags = b.parameters
    b.guard(b.is_a(object_, np.ndarray), FALSE)
    dtype = b.get(POINTER, object_, o.ARRAY_DTYPE)
    b.guard(b.is_equal(b.get(INT, dtype, o.DTYPE_NUMBER), int_of(b, record, d.NUMBER)), FALSE)
    b.guard(b.differ(b.get(BYTE, dtype, o.DTYPE_BYTE_ORDER), SWAPPED), FALSE)
    b.guard(b.is_equal(b.get(INT, object_, o.ARRAY_NDIM), int_of(b, record, d.NDIM)), FALSE)
    b.ret(b.is_equal(b.and_(b.get(INT, object_, o.ARRAY_FLAGS), flags), flags))


def _convert_integer(module: Any) -> None:
    """bool convert_integer(object, number, slot): an int that is in the range of int32 or int64."""
    b = Body(module, "convert_integer", BIT, POINTER, INT, POINTER)
    object_, number, slot = b.parameters
    b.guard(b.is_a(object_, int), FALSE)
    overflow = b.alloca(INT)
    value = b.python(WORD, "PyLong_AsLongLongAndOverflow", object_, overflow)
    b.guard(b.is_equal(b.get(INT, overflow), ir.Constant(INT, 0)), FALSE)
    with b.if_then(_is_number(b, number, np.int64)):
        b.put(value, slot)
        b.ret(TRUE)
    short = b.trunc(value, INT)
    b.put(short, slot)
    b.ret(b.is_equal(b.sext(short, WORD), value))


def _is_number(b: Body, number: Any, dtype: type[np.generic]) -> Any:
    return b.is_equal(number, ir.Constant(INT, np.dtype(dtype).num))


def _convert(module: Any) -> None:
    """bool convert(object, number, slot): writes what a Python number is as a scalar of that dtype."""
    b = Body(module, "convert", BIT, POINTER, INT, POINTER)
    object_, number, slot = b.parameters
    with b.if_then(_is_number(b, number, np.float32)):
        b.guard(b.or_(b.is_a(object_, float), b.is_a(object_, np.float64)), FALSE)
        b.put(b.fptrunc(b.get(DOUBLE, object_, o.VALUE), FLOAT), slot)
        b.ret(TRUE)
    with b.if_then(_is_number(b, number, np.bool_)):
        is_true = b.is_equal(object_, external("True"))
        b.put(b.zext(is_true, BYTE), slot)
        b.ret(b.or_(is_true, b.is_equal(object_, external("False"))))
    b.guard(b.not_(_is_number(b, number, np.float64)), FALSE)
    b.ret(b.own("convert_integer", object_, number, slot))


def _scalar(module: Any) -> None:
    """bool scalar(object, record, slot, &buffer): a number; `run` reads it in the object or in the slot."""
    b = Body(module, "scalar", BIT, POINTER, POINTER, POINTER, POINTER)
    object_, record, slot, buffer = b.parameters
    type_ = b.get(POINTER, object_, o.TYPE)
    is_scalar = [b.is_equal(type_, b.get(POINTER, record, t)) for t in (d.SCALAR, d.SAME)]
    with b.if_then(b.or_(*is_scalar)):
        b.put(b.at(object_, o.VALUE), buffer)
        b.ret(TRUE)
    b.put(slot, buffer)
    b.ret(b.own("convert", object_, int_of(b, record, d.NUMBER), slot))


def _argument(module: Any) -> None:
    """bool argument(object, record, slot, axes, &buffer): finds the data and the axes of one input."""
    b = Body(module, "argument", BIT, POINTER, POINTER, POINTER, POINTER, POINTER, inline=True)
    object_, record, slot, axes, buffer = b.parameters
    ndim = b.get(WORD, record, d.NDIM)
    with b.if_then(b.own("fits", object_, record, READABLE)):
        b.put(b.get(POINTER, object_, o.ARRAY_DATA), buffer)
        shape = b.get(POINTER, object_, o.ARRAY_SHAPE)
        with b.loop(ndim) as axis:
            b.put(b.get(WORD, shape, b.item(axis)), axes, b.item(axis))
        b.ret(TRUE)
    b.guard(b.is_equal(ndim, word(0)), FALSE)
    b.ret(b.own("scalar", object_, record, slot, buffer))


def _arguments(module: Any) -> None:
    """bool arguments(descriptor, objects, scratch): finds the data and the axes of all inputs."""
    b = Body(module, "arguments", BIT, POINTER, POINTER, POINTER, inline=True)
    descriptor, objects, scratch = b.parameters
    buffers, slots = (place(b, scratch, descriptor, p) for p in (d.BUFFERS, d.SLOTS))
    with b.loop(b.get(WORD, descriptor, d.INPUTS)) as k:
        object_ = b.get(POINTER, objects, b.item(k))
        record = record_of(b, descriptor, k)
        slot, buffer = (b.at(place, b.item(k)) for place in (slots, buffers))
        axes = place(b, scratch, record, d.AXES)
        b.guard(b.own("argument", object_, record, slot, axes, buffer), FALSE)
    b.ret(TRUE)


def _extents(module: Any) -> None:
    """void extents(descriptor, scratch): the bytes of every input and result, and of all there is."""
    b = Body(module, "extents", VOID, POINTER, POINTER, inline=True)
    descriptor, scratch = b.parameters
    extents = place(b, scratch, descriptor, d.EXTENTS)
    operands = operand_count(b, descriptor)
    total, size = b.alloca(WORD), b.alloca(WORD)
    b.put(b.get(WORD, place(b, scratch, descriptor, d.WORKSPACE_BYTES)), total)
    with b.loop(operands) as k:
        record = record_of(b, descriptor, k)
        axes = place(b, scratch, record, d.AXES)
        b.put(b.get(WORD, record, d.ITEM_BYTES), size)
        with b.loop(b.get(WORD, record, d.NDIM)) as axis:
            b.put(b.mul(b.get(WORD, size), b.get(WORD, axes, b.item(axis))), size)
        b.put(b.get(WORD, size), extents, b.item(k))
        b.put(b.add(b.get(WORD, total), b.get(WORD, size)), total)
    b.put(b.get(WORD, total), extents, b.item(operands))
    b.ret_void()


def _prepare(module: Any) -> None:
    """bool prepare(descriptor, objects, scratch): finds all that is known without the results."""
    b = Body(module, "prepare", BIT, POINTER, POINTER, POINTER)
    descriptor, objects, scratch = b.parameters
    b.guard(b.own("arguments", descriptor, objects, scratch), FALSE)
    shapes = place(b, scratch, descriptor, d.SHAPES)
    status = b.foreign(INT, b.get(WORD, descriptor, d.MEASURE), scratch, shapes)
    b.guard(b.is_equal(status, ir.Constant(INT, 0)), FALSE)
    b.own("extents", descriptor, scratch)
    b.ret(TRUE)


# The caller's arrays for the results.


def _buffer(module: Any) -> None:
    """bool buffer(object, record, shape): an array of that shape that may be written."""
    b = Body(module, "buffer", BIT, POINTER, POINTER, POINTER, inline=True)
    object_, record, wanted = b.parameters
    b.guard(b.own("fits", object_, record, WRITEABLE), FALSE)
    shape = b.get(POINTER, object_, o.ARRAY_SHAPE)
    with b.loop(b.get(WORD, record, d.NDIM)) as axis:
        lengths = [b.get(WORD, base, b.item(axis)) for base in (shape, wanted)]
        b.guard(b.is_equal(*lengths), FALSE)
    b.ret(TRUE)


def _is_apart(module: Any) -> None:
    """bool is_apart(begins, extents, k): operand k shares no memory with those before it."""
    b = Body(module, "is_apart", BIT, POINTER, POINTER, WORD, inline=True)
    begins, extents, k = b.parameters
    begin, end = _memory(b, begins, extents, k)
    with b.loop(k) as other:
        other_begin, other_end = _memory(b, begins, extents, other)
        before = b.icmp_unsigned("<=", end, other_begin)
        behind = b.icmp_unsigned("<=", other_end, begin)
        b.guard(b.or_(before, behind), FALSE)
    b.ret(TRUE)


def _memory(b: Body, begins: Any, extents: Any, k: Any) -> tuple[Any, Any]:
    """Where the memory of operand k begins and ends."""
    begin, extent = (b.get(WORD, base, b.item(k)) for base in (begins, extents))
    return begin, b.add(begin, extent)


def _buffers(module: Any) -> None:
    """bool buffers(descriptor, objects, scratch): finds the data of all results, apart from all else."""
    b = Body(module, "buffers", BIT, POINTER, POINTER, POINTER, inline=True)
    descriptor, objects, scratch = b.parameters
    begins, extents = (place(b, scratch, descriptor, p) for p in (d.BUFFERS, d.EXTENTS))
    inputs = b.get(WORD, descriptor, d.INPUTS)
    with b.loop(b.get(WORD, descriptor, d.RESULTS)) as k:
        operand = b.add(inputs, k)
        object_ = b.get(POINTER, objects, b.item(k))
        record = record_of(b, descriptor, operand)
        axes = place(b, scratch, record, d.AXES)
        b.guard(b.own("buffer", object_, record, axes), FALSE)
        b.put(b.get(POINTER, object_, o.ARRAY_DATA), begins, b.item(operand))
        b.guard(b.own("is_apart", begins, extents, operand), FALSE)
    b.ret(TRUE)
