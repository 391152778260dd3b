"""Accumulations that vectorise without loosening the arithmetic around them.

A loop such as ``total += x[i]`` stays scalar under IEEE rules, because vectorising it changes the
order of the additions. Each function here is one step of an accumulation: jitted, it is a single
instruction that alone is free to be reordered. Special values come out as NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import signature
from numba.extending import lower_builtin, type_callable

__all__ = ["add", "carried", "carry", "logical_and", "logical_or", "maximum", "minimum", "multiply"]

# Besides the order, an accumulation may fuse with the product it adds, as in the code around it.
_REORDERED = ("reassoc", "contract")


def add(total: Any, value: Any) -> Any:
    """Return `total + value` in the type of `total`; the order of a chain of these is free.

    Both are float32, float64 or integers; integers wrap around.

    >>> add(np.float32(1), np.float32(2))
    np.float32(3.0)
    """
    with np.errstate(all="ignore"):
        return type(total)(total + value)


def multiply(total: Any, value: Any) -> Any:
    """Return `total * value` in the type of `total`; the order of a chain of these is free.

    Both are float32, float64 or integers; integers wrap around.

    >>> multiply(np.int64(3), np.int64(2))
    np.int64(6)
    """
    with np.errstate(all="ignore"):
        return type(total)(total * value)


def maximum(total: Any, value: Any) -> Any:
    """Return the larger of two numbers or bools in the type of `total`, nan if either is nan.

    Of two zeros of opposite signs it returns any.

    >>> maximum(np.float64(1), np.float64("nan"))
    np.float64(nan)
    """
    return type(total)(np.maximum(total, value))


def minimum(total: Any, value: Any) -> Any:
    """Return the smaller of two numbers or bools in the type of `total`, nan if either is nan.

    Of two zeros of opposite signs it returns any.

    >>> minimum(np.int32(1), np.int32(-1))
    np.int32(-1)
    """
    return type(total)(np.minimum(total, value))


def logical_or(total: Any, value: Any) -> Any:
    """Return whether one of two bools is true.

    >>> bool(logical_or(np.False_, np.True_))
    True
    """
    return type(total)(total or value)


def logical_and(total: Any, value: Any) -> Any:
    """Return whether both of two bools are true.

    >>> bool(logical_and(np.False_, np.True_))
    False
    """
    return type(total)(total and value)


def carry(total: Any, lost: Any, part: Any) -> tuple[Any, Any]:
    """Return `total + part`, and `lost` with what that addition lost in rounding added; all float64.

    The error-free sum of two numbers is Knuth's (The Art of Computer Programming, vol. 2, 4.2.2).

    >>> carry(1e16, 0.0, 1.0)
    (1e+16, 1.0)
    """
    with np.errstate(all="ignore"):
        result = total + part
        back = result - total
        return result, lost + ((total - (result - back)) + (part - back))


def carried(total: Any, lost: Any) -> Any:
    """Return the sum of the two results of `carry`; `total` alone where it is not finite.

    >>> carried(1e16, 2.0), carried(np.inf, np.nan)
    (1.0000000000000002e+16, inf)
    """
    return total if lost != lost else total + lost


@type_callable(carry)
def _type_carry(context: Any) -> Any:
    def typer(total: Any, lost: Any, part: Any) -> Any:
        number = types.float64
        return signature(types.UniTuple(number, 2), number, number, number)

    return typer


@lower_builtin(carry, types.Float, types.Float, types.Float)
def _lower_carry(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    total, lost, part = args
    result = builder.fadd(total, part)
    back = builder.fsub(result, total)
    error = builder.fadd(builder.fsub(total, builder.fsub(result, back)), builder.fsub(part, back))
    return cgutils.pack_array(builder, [result, builder.fadd(lost, error)])


@type_callable(carried)
def _type_carried(context: Any) -> Any:
    def typer(total: Any, lost: Any) -> Any:
        return signature(types.float64, types.float64, types.float64)

    return typer


@lower_builtin(carried, types.Float, types.Float)
def _lower_carried(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    total, lost = args
    is_nan = builder.fcmp_unordered("uno", lost, lost)
    return builder.select(is_nan, total, builder.fadd(total, lost))


_Step = Callable[[Any, Any, Any], Any]


def _accepts(total: Any, value: Any, kinds: tuple[type, ...]) -> bool:
    """Tell whether a `value` of that Numba type accumulates in `total` without losing its kind."""
    if not isinstance(total, kinds):
        return False
    if isinstance(total, types.Float):
        return isinstance(value, types.Float | types.Integer)
    return isinstance(value, types.Boolean if isinstance(total, types.Boolean) else types.Integer)


def _register(function: Callable[[Any, Any], Any], steps: dict[type, _Step]) -> None:
    """Make `function` callable from jitted code, where `steps` emit it by the kind of its types."""
    kinds = tuple(steps)

    @type_callable(function)
    def type_step(context: Any) -> Any:
        def typer(total: Any, value: Any) -> Any:
            total = types.unliteral(total)
            return signature(total, total, total) if _accepts(total, value, kinds) else None

        return typer

    for kind, step in steps.items():
        _lower(function, kind, step)


def _lower(function: Callable[[Any, Any], Any], kind: type, step: _Step) -> None:
    @lower_builtin(function, kind, kind)
    def lower_step(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return step(builder, sig.return_type, args)


def _instruction(name: str, **options: Any) -> _Step:
    def step(builder: Any, kind: Any, args: Any) -> Any:
        return getattr(builder, name)(*args, **options)

    return step


def _intrinsic(name: str) -> _Step:
    def step(builder: Any, kind: Any, args: Any) -> Any:
        number = args[0].type
        function_type = ir.FunctionType(number, [number, number])
        function = builder.module.declare_intrinsic(name, [number], function_type)
        # The sign of a zero is what makes a NaN-propagating maximum expensive.
        return builder.call(function, args, fastmath=("nsz", "reassoc"))

    return step


def _select(comparison: str) -> _Step:
    def step(builder: Any, kind: Any, args: Any) -> Any:
        compare = builder.icmp_signed if kind.signed else builder.icmp_unsigned
        return builder.select(compare(comparison, *args), *args)

    return step


_register(
    add,
    {
        types.Float: _instruction("fadd", flags=_REORDERED),
        types.Integer: _instruction("add"),
    },
)
_register(
    multiply,
    {
        types.Float: _instruction("fmul", flags=_REORDERED),
        types.Integer: _instruction("mul"),
    },
)
_register(
    maximum,
    {
        types.Float: _intrinsic("llvm.maximum"),
        types.Integer: _select(">"),
        types.Boolean: _instruction("or_"),
    },
)
_register(
    minimum,
    {
        types.Float: _intrinsic("llvm.minimum"),
        types.Integer: _select("<"),
        types.Boolean: _instruction("and_"),
    },
)
_register(logical_or, {types.Boolean: _instruction("or_")})
_register(logical_and, {types.Boolean: _instruction("and_")})
