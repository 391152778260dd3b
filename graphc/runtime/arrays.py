"""Views of C-contiguous arrays and questions about their memory."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from numba import njit
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import signature
from numba.extending import lower_builtin, type_callable
from numba.np.arrayobj import populate_array

__all__ = ["disjoint", "flat", "reshape", "span"]


def flat(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the view with one axis of a C-contiguous array of any rank, which may be 0.

    It is read-only if `x` is.

    >>> import numpy as np
    >>> flat(np.array([[1, 2], [3, 4]]))
    array([1, 2, 3, 4])
    """
    return x.reshape(-1)


def reshape(x: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return the view with another shape of a C-contiguous array.

    The caller guarantees that `shape` has as many elements as `x`. It is read-only if `x` is.

    >>> import numpy as np
    >>> reshape(np.array([1, 2, 3, 4]), (2, 2))
    array([[1, 2],
           [3, 4]])
    """
    return x.reshape(shape)


def span(x: npt.NDArray[Any]) -> tuple[int, int]:
    """Return the addresses where the memory of a C-contiguous array starts and ends.

    >>> import numpy as np
    >>> start, stop = span(np.zeros(4))
    >>> stop - start
    32
    """
    start = x.ctypes.data
    return start, start + x.nbytes


@njit(nogil=True, cache=True)
def disjoint(results: Any, others: Any) -> bool:
    """Return whether no span in `results` meets another one there or one in `others`.

    Both are tuples of spans. An empty array meets nothing, wherever it lies.

    >>> import numpy as np
    >>> x = np.zeros(4)
    >>> disjoint((span(x[:2]),), (span(x[2:]),)), disjoint((span(x[:3]),), (span(x[2:]),))
    (True, False)
    """
    for k in range(len(results)):
        start, stop = results[k]
        for other_start, other_stop in others:
            if max(start, other_start) < min(stop, other_stop):
                return False
        for j in range(k):
            other_start, other_stop = results[j]
            if max(start, other_start) < min(stop, other_stop):
                return False
    return True


def _is_contiguous(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.layout == "C"


@type_callable(flat)
def _type_flat(context: Any) -> Any:
    def typer(x: Any) -> Any:
        return signature(x.copy(ndim=1), x) if _is_contiguous(x) else None

    return typer


@type_callable(reshape)
def _type_reshape(context: Any) -> Any:
    def typer(x: Any, shape: Any) -> Any:
        if not _is_contiguous(x) or not isinstance(shape, types.UniTuple | types.Tuple):
            return None
        if not all(isinstance(size, types.Integer) for size in shape):
            return None
        sizes = types.UniTuple(types.intp, len(shape))
        return signature(x.copy(ndim=len(shape)), x, sizes)

    return typer


@type_callable(span)
def _type_span(context: Any) -> Any:
    def typer(x: Any) -> Any:
        return signature(types.UniTuple(types.intp, 2), x) if _is_contiguous(x) else None

    return typer


@lower_builtin(flat, types.Array)
def _lower_flat(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    array = _array(context, builder, sig.args[0], args[0])
    return _reshaped(context, builder, sig, array, [array.nitems])


@lower_builtin(reshape, types.Array, types.BaseTuple)
def _lower_reshape(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    array = _array(context, builder, sig.args[0], args[0])
    shape = cgutils.unpack_tuple(builder, args[1], sig.return_type.ndim)
    return _reshaped(context, builder, sig, array, shape)


@lower_builtin(span, types.Array)
def _lower_span(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    array = _array(context, builder, sig.args[0], args[0])
    start, stop = _byte_range(builder, array)
    return cgutils.pack_array(builder, [start, stop])


def _array(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.make_array(kind)(context, builder, value)


def _byte_range(builder: Any, array: Any) -> tuple[Any, Any]:
    start = builder.ptrtoint(array.data, cgutils.intp_t)
    return start, builder.add(start, builder.mul(array.nitems, array.itemsize))


def _reshaped(context: Any, builder: Any, sig: Any, array: Any, shape: list[Any]) -> Any:
    strides = []
    stride = array.itemsize
    for size in reversed(shape):
        strides.append(stride)
        stride = builder.mul(stride, size)
    result = context.make_array(sig.return_type)(context, builder)
    populate_array(
        result,
        data=array.data,
        shape=shape,
        strides=strides[::-1],
        itemsize=array.itemsize,
        meminfo=array.meminfo,
        parent=array.parent,
    )
    return impl_ret_borrowed(context, builder, sig.return_type, result._getvalue())
