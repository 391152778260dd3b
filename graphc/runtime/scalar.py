"""Scalar arithmetic whose corner cases differ between Python, Numba and NumPy: here it is NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import lower_builtin, type_callable

_jit = njit(error_model="numpy", nogil=True, fastmath={"contract"}, cache=True)


def select(condition: Any, x: Any, y: Any) -> Any:
    """``x`` if ``condition`` holds, else ``y``: both of one type, both computed already.

    One machine instruction. A conditional expression would be two branches, and a loop body with hundreds
    of branches takes Numba minutes.

    >>> select(True, 1.0, 2.0)
    1.0
    """
    return x if condition else y


@type_callable(select)
def _type_select(context: Any) -> Any:
    def typer(condition: Any, x: Any, y: Any) -> Any:
        if isinstance(condition, types.Boolean) and x == y:
            return signature(x, types.boolean, x, x)
        return None

    return typer


@lower_builtin(select, types.Boolean, types.Any, types.Any)
def _lower_select(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    condition, x, y = args
    return builder.select(condition, x, y)


@_jit
def floor_divide(x: Any, y: Any) -> Any:
    """``np.floor_divide`` of two floats of one type.

    The quotient is taken from the exact remainder, so ``1.0 // 0.1`` is 9 as in NumPy and Python.

    >>> floor_divide(-7.0, 2.0), floor_divide(1.0, 0.1)
    (-4.0, 9.0)
    """
    if y == 0:
        return x / y
    rest = np.fmod(x, y)
    quotient = (x - rest) / y
    if rest != 0 and (y < 0) != (rest < 0):
        quotient -= 1
    if quotient == 0:
        return np.copysign(quotient, x / y)
    floored = np.floor(quotient)
    return floored + 1 if quotient - floored > 0.5 else floored


@_jit
def remainder(x: Any, y: Any) -> Any:
    """``np.remainder`` of two floats of one type: it has the sign of ``y``.

    >>> remainder(7.5, -2.0)
    -0.5
    """
    rest = np.fmod(x, y)
    if y == 0 or rest != rest:
        return rest
    if rest == 0:
        return np.copysign(rest, y)
    return rest + y if (y < 0) != (rest < 0) else rest


@_jit
def integer_floor_divide(x: Any, y: Any) -> Any:
    """``np.floor_divide`` of two integers of one type; division by 0 gives 0.

    >>> integer_floor_divide(-7, 2), integer_floor_divide(7, 0)
    (-4, 0)
    """
    if y == 0:
        return x * 0
    # The machine instruction traps on the smallest integer divided by -1.
    return -x if y == -1 else x // y


@_jit
def integer_remainder(x: Any, y: Any) -> Any:
    """``np.remainder`` of two integers of one type; division by 0 gives 0.

    >>> integer_remainder(-7, 2), integer_remainder(7, 0)
    (1, 0)
    """
    return x * 0 if y == 0 or y == -1 else x % y


@_jit
def integer_power(base: Any, exponent: Any) -> Any:
    """``base ** exponent`` for integers, wrapping around on overflow, by repeated squaring.

    Raises ``ValueError`` for a negative exponent, as NumPy does.

    >>> integer_power(3, 4)
    81
    """
    if exponent < 0:
        raise ValueError("integers to negative integer powers are not allowed")
    result = base * 0 + 1
    factor = base
    while exponent > 0:
        if exponent & 1:
            result = result * factor
        factor = factor * factor
        exponent >>= 1
    return result


@_jit
def left_shift(x: Any, bits: Any, width: Any) -> Any:
    """``np.left_shift`` of integers of ``width`` bits: shifting out every bit gives 0.

    >>> left_shift(3, 2, 64), left_shift(3, 64, 64)
    (12, 0)
    """
    return x << bits if 0 <= bits < width else x * 0


@_jit
def right_shift(x: Any, bits: Any, width: Any) -> Any:
    """``np.right_shift`` of integers of ``width`` bits: shifting out every bit leaves the sign.

    >>> right_shift(-8, 1, 64), right_shift(-8, 64, 64)
    (-4, -1)
    """
    return x >> bits if 0 <= bits < width else x >> (width - 1)
