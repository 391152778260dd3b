"""`transpose_square`: 8 by 8 elements transposed in registers.

Eight rows are read as vectors, and three rounds exchange halves, quarters and single elements between them,
as in the recursive transposition of Eklundh, "A Fast Computer Method for Matrix Transposing" (IEEE
Transactions on Computers, 1972).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import lower_builtin, type_callable

from .buffers import Buffer

__all__ = ["SIDE", "transpose_square", "transposed_lines"]

SIDE = 8
"""The rows and columns of a square."""

_INDEX = ir.IntType(32)


def transpose_square(x: Any, start: int, step: int, out: Any, to: int, out_step: int) -> None:
    """Write a square of `x`, its rows `step` apart, to `out`, its columns as rows `out_step` apart.

    Both are flat, have one dtype, and do not overlap.

    >>> out = np.zeros(64)
    >>> transpose_square(np.arange(64.0), 0, 8, out, 0, 8)
    >>> out[:3]
    array([ 0.,  8., 16.])
    """
    lines = np.arange(SIDE)
    rows = x[start + step * lines[:, None] + lines]
    out[to + out_step * lines[:, None] + lines] = rows.T


@type_callable(transpose_square)
def _type_square(context: Any) -> Any:
    def typer(x: Any, start: Any, step: Any, out: Any, to: Any, out_step: Any) -> Any:
        if not isinstance(x, Buffer) or x != out:
            return None
        return signature(types.none, x, types.intp, types.intp, out, types.intp, types.intp)

    return typer


@lower_builtin(
    transpose_square,
    *(Buffer, types.Integer, types.Integer),
    *(Buffer, types.Integer, types.Integer),
)
def _lower_square(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    x, start, step, out, to, out_step = args
    bits = 8 * context.get_abi_sizeof(context.get_data_type(sig.args[0].dtype))
    row = ir.VectorType(ir.IntType(bits), SIDE)

    def line(data: Any, first: Any, distance: Any, k: int) -> Any:
        index = builder.add(first, builder.mul(distance, distance.type(k)))
        return builder.bitcast(builder.gep(data, [index]), row.as_pointer())

    lines = [builder.load(line(x, start, step, k), align=bits // 8) for k in range(SIDE)]
    for k, value in enumerate(transposed_lines(builder, lines)):
        builder.store(value, line(out, to, out_step, k), align=bits // 8)
    return context.get_dummy_value()


def transposed_lines(builder: Any, lines: list[Any]) -> list[Any]:
    """Return the columns of a square whose rows are vectors of `SIDE` integers."""
    for distance in (4, 2, 1):
        lines = _exchanged(builder, lines, distance)
    return lines


def _exchanged(builder: Any, lines: list[Any], distance: int) -> list[Any]:
    """The lines with blocks off the diagonal exchanged, in all squares of twice the distance."""
    new = list(lines)
    for k in range(SIDE):
        if not k & distance:
            above, below = lines[k], lines[k + distance]
            upper = [i if not i & distance else i - distance + SIDE for i in range(SIDE)]
            lower = [i + distance if not i & distance else i + SIDE for i in range(SIDE)]
            for place, choice in ((k, upper), (k + distance, lower)):
                mask = ir.Constant(ir.VectorType(_INDEX, SIDE), choice)
                new[place] = builder.shuffle_vector(above, below, mask)
    return new
