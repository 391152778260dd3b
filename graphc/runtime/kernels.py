"""Loops over arrays that are the same in every generated program."""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import lower_builtin, type_callable

from . import accumulate, squares
from .gate import gate

__all__ = ["position", "product_of_others", "scatter_add", "transpose"]


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
    # One unsigned comparison finds both ends: below -n, and from n on, the sum is outside again. Of a signed
    # one with 0 LLVM would make one of the loop that an index is the total of, which is not vectorised then.
    wraps = builder.icmp_unsigned(">=", i, n)
    result = builder.select(wraps, builder.add(i, n), i)
    is_outside = builder.icmp_unsigned(">=", result, n)
    with builder.if_then(is_outside, likely=False):
        context.call_conv.return_user_exc(builder, IndexError, ("index out of bounds",))
    return result


@gate
def scatter_add(
    index: Any, source: Any, out: Any, outer: int, n: int, inner: int, count: int
) -> None:
    """Write zeros to `out`, then add `source[:, k]` to `out[:, index[k]]` for each k in order.

    `out` has the shape (outer, n, inner), `source` the shape (outer, count, inner) and the dtype of
    `out`, `index` has `count` integers; all are flat. A negative index counts from the end.
    Raises IndexError, with `out` partly written, if an index is out of bounds.

    >>> import numpy as np
    >>> out = np.empty(3)
    >>> scatter_add(np.array([0, -1, 0]), np.array([1.0, 2.0, 3.0]), out, 1, 3, 1, 3)
    >>> out
    array([4., 0., 2.])
    """
    for i in range(outer * n * inner):
        out[i] = 0
    for o in range(outer):
        for k in range(count):
            to = (o * n + position(index[k], n)) * inner
            at = (o * count + k) * inner
            for i in range(inner):
                out[to + i] += source[at + i]


@gate
def transpose(x: Any, out: Any, count: int, rows: int, columns: int) -> None:
    """Write `count` matrices of shape (rows, columns), transposed, to `out`; all are flat, none overlap.

    >>> import numpy as np
    >>> out = np.empty(6)
    >>> transpose(np.arange(6.0), out, 1, 2, 3)
    >>> out
    array([0., 3., 1., 4., 2., 5.])
    """
    for c in range(count):
        start = c * rows * columns
        bottom = rows - rows % squares.SIDE
        right = columns - columns % squares.SIDE
        for i in range(0, bottom, squares.SIDE):
            for j in range(0, right, squares.SIDE):
                corner = start + i * columns + j
                squares.transpose_square(x, corner, columns, out, start + j * rows + i, rows)
            for j in range(right, columns):
                for k in range(i, i + squares.SIDE):
                    out[start + j * rows + k] = x[start + k * columns + j]
        for i in range(bottom, rows):
            for j in range(columns):
                out[start + j * rows + i] = x[start + i * columns + j]


@gate
def product_of_others(x: Any, out: Any, rows: int, n: int) -> None:
    """Write the product of all other elements of its row to `out` for each element of `x`.

    Both have the shape (rows, n) and the same dtype, are flat, and do not overlap.

    >>> import numpy as np
    >>> out = np.empty(3)
    >>> product_of_others(np.array([2.0, 0.0, 5.0]), out, 1, 3)
    >>> out
    array([ 0., 10.,  0.])
    """
    for r in range(rows):
        # Without division, which zeros forbid: the product of those before times of those after.
        start = r * n
        if n > 0:
            out[start] = 1
        for i in range(1, n):
            out[start + i] = out[start + i - 1] * x[start + i - 1]
        if n > 0:
            after = x[start + n - 1]
            for i in range(n - 2, -1, -1):
                out[start + i] *= after
                after = accumulate.multiply(after, x[start + i])
