"""Loops over arrays that are the same in every generated program."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from numba import njit
from numba.core import cgutils, types
from numba.core.typing.templates import signature
from numba.extending import lower_builtin, type_callable

from .accumulate import maximum, minimum
from .arrays import flat

__all__ = ["argmax", "argmin", "fill", "position", "product_of_others", "scatter_add"]


def position(i: int, n: int) -> int:
    """Return where index `i` lies along an axis of length `n`, from the end if it is negative.

    Raises IndexError unless -n <= i < n.

    >>> position(-1, 3)
    2
    """
    if not -n <= i < n:
        raise IndexError("index out of bounds")
    return int(i + n if i < 0 else i)


@type_callable(position)
def _type_position(context: Any) -> Any:
    def typer(i: Any, n: Any) -> Any:
        if not isinstance(i, types.Integer) or not isinstance(n, types.Integer):
            return None
        return signature(types.intp, types.intp, types.intp)

    return typer


@lower_builtin(position, types.Integer, types.Integer)
def _lower_position(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    # Inline, because a jitted function would cost more to compile than many of its callers.
    i, n = args
    is_negative = builder.icmp_signed("<", i, cgutils.intp_t(0))
    result = builder.select(is_negative, builder.add(i, n), i)
    # One unsigned comparison rejects both ends: below -n the sum is still negative.
    is_outside = builder.icmp_unsigned(">=", result, n)
    with builder.if_then(is_outside, likely=False):
        context.call_conv.return_user_exc(builder, IndexError, ("index out of bounds",))
    return result


@njit(error_model="numpy", nogil=True, fastmath={"contract"}, cache=True)
def _first(x: npt.NDArray[Any], r: int, value: Any) -> int:
    """Return the first position of an extremum, or of a nan, in a row that has one.

    This is a second pass over the row, because a single one for both does not vectorise.
    """
    j = 0
    while not (x[r, j] == value or x[r, j] != x[r, j]):
        j += 1
    return j


@njit(error_model="numpy", nogil=True, fastmath={"contract"}, cache=True)
def argmax(x: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Write the index of the maximum of each row of `x` to `out`: the first, or the first nan.

    `x` has the shape (rows, n) and a dtype of numbers or bool, `out` the shape (rows,) and an
    integer dtype. Raises ValueError if there are rows but they are empty.

    >>> import numpy as np
    >>> out = np.empty(1, np.int64)
    >>> argmax(np.array([[1.0, 3.0, 3.0]]), out)
    >>> out
    array([1])
    """
    rows, n = x.shape
    if rows > 0 and n == 0:
        raise ValueError("argmax of an empty axis")
    for r in range(rows):
        best = x[r, 0]
        for j in range(1, n):
            best = maximum(best, x[r, j])
        out[r] = _first(x, r, best)


@njit(error_model="numpy", nogil=True, fastmath={"contract"}, cache=True)
def argmin(x: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Write the index of the minimum of each row of `x` to `out`: the first, or the first nan.

    `x` has the shape (rows, n) and a dtype of numbers or bool, `out` the shape (rows,) and an
    integer dtype. Raises ValueError if there are rows but they are empty.

    >>> import numpy as np
    >>> out = np.empty(1, np.int64)
    >>> argmin(np.array([[3.0, 1.0, 1.0]]), out)
    >>> out
    array([1])
    """
    rows, n = x.shape
    if rows > 0 and n == 0:
        raise ValueError("argmin of an empty axis")
    for r in range(rows):
        best = x[r, 0]
        for j in range(1, n):
            best = minimum(best, x[r, j])
        out[r] = _first(x, r, best)


@njit(error_model="numpy", nogil=True, fastmath={"contract"}, cache=True)
def scatter_add(index: npt.NDArray[Any], source: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Write zeros to `out`, then add `source[:, k]` to `out[:, index[k]]` for each k in order.

    `out` has the shape (outer, n, inner), `source` the shape (outer, len(index), inner) and the
    dtype of `out`, `index` one axis and an integer dtype. A negative index counts from the end.
    Raises IndexError, with `out` partly written, if an index is out of bounds.

    >>> import numpy as np
    >>> out = np.empty((1, 3, 1))
    >>> scatter_add(np.array([0, -1, 0]), np.array([[[1.0], [2.0], [3.0]]]), out)
    >>> out.ravel()
    array([4., 0., 2.])
    """
    outer, n, inner = out.shape
    for o in range(outer):
        for j in range(n):
            for i in range(inner):
                out[o, j, i] = 0
        for k in range(index.shape[0]):
            target = position(index[k], n)
            for i in range(inner):
                out[o, target, i] += source[o, k, i]


@njit(error_model="numpy", nogil=True, fastmath={"contract"}, cache=True)
def product_of_others(x: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Write the product of all other elements of its row to `out` for each element of `x`.

    Both have two axes, the same shape and the same dtype, and do not overlap.

    >>> import numpy as np
    >>> out = np.empty((1, 3))
    >>> product_of_others(np.array([[2.0, 0.0, 5.0]]), out)
    >>> out
    array([[ 0., 10.,  0.]])
    """
    rows, n = x.shape
    for r in range(rows):
        # Without division, which zeros forbid: the product of those before times of those after.
        before = x.dtype.type(1)
        for i in range(n):
            out[r, i] = before
            before *= x[r, i]
        after = x.dtype.type(1)
        for i in range(n - 1, -1, -1):
            out[r, i] *= after
            after *= x[r, i]


@njit(error_model="numpy", nogil=True, fastmath={"contract"}, cache=True)
def fill(x: Any, value: Any) -> None:
    """Sets every element of the C-contiguous array ``x`` to ``value``.

    >>> import numpy as np
    >>> x = np.zeros((2, 2))
    >>> fill(x, 1.0)
    >>> x.tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    line = flat(x)
    for i in range(line.size):
        line[i] = value
