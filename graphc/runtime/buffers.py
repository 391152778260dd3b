"""Buffers: bare pointers to elements, which is all that generated loops need of an array.

A gate that takes arrays would carry seven numbers for each and compute addresses from strides. It takes
buffers instead and indexes them flat, as in ``x[512*i + j]``: half the time to compile, and LLVM is told that
no two buffers of a gate overlap.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.core import types
from numba.core.datamodel.models import PointerModel
from numba.core.datamodel.registry import register_default
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, type_callable

__all__ = ["Buffer", "at", "bool_", "float32", "float64", "int32", "int64"]


class Buffer(types.Type):
    """The Numba type of a pointer to elements of one dtype.

    >>> Buffer(types.float32).name
    'Buffer(float32)'
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(f"Buffer({dtype})")

    @property
    def key(self) -> Any:
        """What makes two buffer types equal."""
        return self.dtype


register_default(Buffer)(PointerModel)


def as_buffer(kind: Any) -> Any:
    """Return the Numba type as which a gate sees an argument: a C-contiguous array is its buffer."""
    if isinstance(kind, types.Array):
        return Buffer(kind.dtype) if kind.layout == "C" else None
    return types.unliteral(kind)


def buffer_value(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return the value of a gate's argument in LLVM: of an array, the pointer to its elements."""
    if isinstance(kind, types.Array):
        return context.make_array(kind)(context, builder, value).data
    return value


def bool_(workspace: npt.NDArray[Any], start: int) -> npt.NDArray[Any]:
    """Return the bools that start at byte ``start`` of a workspace of bytes.

    >>> bool_(np.zeros(16, np.uint8), 12).size
    4
    """
    return workspace[start:].view(np.bool_)


def int32(workspace: npt.NDArray[Any], start: int) -> npt.NDArray[Any]:
    """Return the 32-bit integers that start at byte ``start`` of a workspace of bytes.

    >>> int32(np.zeros(16, np.uint8), 4).size
    3
    """
    return _view(workspace, start, np.int32)


def int64(workspace: npt.NDArray[Any], start: int) -> npt.NDArray[Any]:
    """Return the 64-bit integers that start at byte ``start`` of a workspace of bytes.

    >>> int64(np.zeros(16, np.uint8), 8).size
    1
    """
    return _view(workspace, start, np.int64)


def float32(workspace: npt.NDArray[Any], start: int) -> npt.NDArray[Any]:
    """Return the single-precision numbers that start at byte ``start`` of a workspace of bytes.

    >>> float32(np.zeros(16, np.uint8), 8).size
    2
    """
    return _view(workspace, start, np.float32)


def float64(workspace: npt.NDArray[Any], start: int) -> npt.NDArray[Any]:
    """Return the double-precision numbers that start at byte ``start`` of a workspace of bytes.

    >>> float64(np.zeros(16, np.uint8), 8).size
    1
    """
    return _view(workspace, start, np.float64)


def at(buffer: npt.NDArray[Any], start: int) -> npt.NDArray[Any]:
    """Return the elements from ``start`` on.

    >>> at(np.arange(4), 2)
    array([2, 3])
    """
    return buffer[start:]


def _view(workspace: npt.NDArray[Any], start: int, dtype: type) -> npt.NDArray[Any]:
    rest = workspace[start:]
    return rest[: len(rest) // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize].view(dtype)


def _register(function: Any, dtype: Any) -> None:
    @type_callable(function)
    def type_view(context: Any) -> Any:
        def typer(workspace: Any, start: Any) -> Any:
            if not isinstance(workspace, Buffer) or not isinstance(start, types.Integer):
                return None
            return signature(Buffer(dtype), workspace, types.intp)

        return typer

    @lower_builtin(function, Buffer, types.Integer)
    def lower_view(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = builder.gep(args[0], [args[1]])
        return builder.bitcast(element, context.get_value_type(sig.return_type))


_register(bool_, types.boolean)
_register(int32, types.int32)
_register(int64, types.int64)
_register(float32, types.float32)
_register(float64, types.float64)


@infer_global(at)
class _At(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        buffer, start = args
        if isinstance(buffer, Buffer) and isinstance(start, types.Integer):
            return signature(buffer, buffer, types.intp)
        return None


@lower_builtin(at, Buffer, types.Integer)
def _lower_at(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.gep(args[0], [args[1]])


@infer_global(operator.getitem)
class _Read(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        buffer, index = args
        if isinstance(buffer, Buffer) and isinstance(index, types.Integer):
            return signature(buffer.dtype, buffer, types.intp)
        return None


@infer_global(operator.setitem)
class _Write(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        buffer, index, _ = args
        if isinstance(buffer, Buffer) and isinstance(index, types.Integer):
            return signature(types.none, buffer, types.intp, buffer.dtype)
        return None


@lower_builtin(operator.getitem, Buffer, types.Integer)
def _lower_read(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.unpack_value(builder, sig.return_type, builder.gep(args[0], [args[1]]))


@lower_builtin(operator.setitem, Buffer, types.Integer, types.Any)
def _lower_write(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    buffer, index, value = args
    context.pack_value(builder, sig.args[2], value, builder.gep(buffer, [index]))
    return context.get_dummy_value()
