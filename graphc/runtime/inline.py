"""Straight-line functions that are written out in their callers, where LLVM vectorises them.

Such a function is ordinary Python on one number: arithmetic, comparisons, and the few operations
below. Called from Python it computes with NumPy scalars. Called from jitted code it runs once, while
the caller is compiled, on stand-ins that write one instruction for every operation. Numba has nothing
to type or to link then, and a call costs its caller no more time than its instructions do.

Literals among the operands take the type of the others. The arithmetic is IEEE, except that a product
and a sum may fuse, whatever the caller allows.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import lower_builtin, type_callable
from numba.np.numpy_support import from_dtype

from graphc.runtime.lanes import are_supported, write_lookup, write_scaled
from graphc.runtime.rarely import write_beyond

__all__ = [
    "as_float64",
    "at_least",
    "at_most",
    "beyond",
    "bits",
    "constant",
    "copy_sign",
    "entries",
    "from_bits",
    "has_table",
    "inline",
    "lookup",
    "narrow",
    "polynomial",
    "product_error",
    "raised",
    "resized",
    "select",
    "times_power",
    "widen",
    "window",
]

_FUSE = ("contract",)
LONG = 12
"""How many coefficients make a polynomial long."""


class Emitted:
    """A number, integer or truth value that the code being written will compute."""

    __slots__ = ("builder", "fuses", "has_lanes", "value")

    def __init__(self, builder: Any, value: Any, has_lanes: bool, fuses: bool) -> None:
        self.builder, self.value = builder, value
        self.has_lanes = has_lanes
        """Whether the processor has the instructions of `lanes`."""
        self.fuses = fuses
        """Whether it has one that adds a product and rounds once."""

    @property
    def is_float(self) -> bool:
        """Whether it is a float, of either width."""
        return isinstance(self.value.type, ir.FloatType | ir.DoubleType)

    @property
    def width(self) -> int:
        """The number of bits."""
        return {ir.FloatType(): 32, ir.DoubleType(): 64}.get(
            self.value.type
        ) or self.value.type.width

    def new(self, value: Any) -> Emitted:
        """The result of an instruction."""
        return Emitted(self.builder, value, self.has_lanes, self.fuses)

    def operand(self, other: Any) -> Any:
        """Another operand of an instruction: a result, or a constant of the same type."""
        return other.value if isinstance(other, Emitted) else ir.Constant(self.value.type, other)

    def call(self, intrinsic: str, *others: Any) -> Emitted:
        """The result of one of LLVM's functions of numbers of one type."""
        kind = self.value.type
        function_type = ir.FunctionType(kind, [kind] * (1 + len(others)))
        function = self.builder.module.declare_intrinsic(intrinsic, [kind], function_type)
        return self.new(self.builder.call(function, [self.value, *map(self.operand, others)]))

    def _arithmetic(self, name: str, left: Any, right: Any) -> Emitted:
        if self.is_float:
            return self.new(getattr(self.builder, f"f{name}")(left, right, flags=_FUSE))
        return self.new(getattr(self.builder, name)(left, right))

    def __add__(self, other: Any) -> Emitted:
        return self._arithmetic("add", self.value, self.operand(other))

    def __radd__(self, other: Any) -> Emitted:
        return self._arithmetic("add", self.operand(other), self.value)

    def __sub__(self, other: Any) -> Emitted:
        return self._arithmetic("sub", self.value, self.operand(other))

    def __rsub__(self, other: Any) -> Emitted:
        return self._arithmetic("sub", self.operand(other), self.value)

    def __mul__(self, other: Any) -> Emitted:
        return self._arithmetic("mul", self.value, self.operand(other))

    def __rmul__(self, other: Any) -> Emitted:
        return self._arithmetic("mul", self.operand(other), self.value)

    def __truediv__(self, other: Any) -> Emitted:
        return self._arithmetic("div", self.value, self.operand(other))

    def __rtruediv__(self, other: Any) -> Emitted:
        return self._arithmetic("div", self.operand(other), self.value)

    def __neg__(self) -> Emitted:
        return self.new(self.builder.fneg(self.value))

    def __abs__(self) -> Emitted:
        return self.call("llvm.fabs")

    def __lshift__(self, count: int) -> Emitted:
        return self.new(self.builder.shl(self.value, self.operand(count)))

    def __rshift__(self, count: int) -> Emitted:
        return self.new(self.builder.lshr(self.value, self.operand(count)))

    def __and__(self, other: Any) -> Emitted:
        return self.new(self.builder.and_(self.value, self.operand(other)))

    def __or__(self, other: Any) -> Emitted:
        return self.new(self.builder.or_(self.value, self.operand(other)))

    def _compare(self, relation: str, other: Any) -> Emitted:
        compare = self.builder.fcmp_ordered if self.is_float else self.builder.icmp_unsigned
        return self.new(compare(relation, self.value, self.operand(other)))

    def __lt__(self, other: Any) -> Emitted:
        return self._compare("<", other)

    def __gt__(self, other: Any) -> Emitted:
        return self._compare(">", other)

    def __eq__(self, other: object) -> Any:
        return self._compare("==", other)

    __hash__ = None  # type: ignore[assignment]


def constant(value: float, like: Any) -> Any:
    """A number of the type of ``like``; literals among operands become that by themselves."""
    return like.new(like.operand(value)) if isinstance(like, Emitted) else type(like)(value)


def select(condition: Any, x: Any, y: Any) -> Any:
    """``x`` if ``condition`` holds, else ``y``; one of the two may be a literal."""
    if not isinstance(condition, Emitted):
        chosen, other = (x, y) if condition else (y, x)
        return type(other)(chosen) if isinstance(other, np.floating) else chosen
    known = x if isinstance(x, Emitted) else y
    value = condition.builder.select(condition.value, known.operand(x), known.operand(y))
    return condition.new(value)


def at_most(x: Any, bound: Any) -> Any:
    """The smaller one, or nan if ``x`` is.

    >>> at_most(np.float32(3), 2.0)
    np.float32(2.0)
    """
    return select(x > bound, bound, x)


def at_least(x: Any, bound: Any) -> Any:
    """The larger one, or nan if ``x`` is."""
    return select(x < bound, bound, x)


def copy_sign(x: Any, sign: Any) -> Any:
    """|x| with the sign of ``sign``, of a zero or nan too."""
    return x.call("llvm.copysign", sign) if isinstance(x, Emitted) else np.copysign(x, sign)


def polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    """The polynomial in ``x``, the coefficient of the highest power first.

    By Horner's rule; a long one as two, of the even powers and of the odd ones, which do not wait for
    each other: that is one more product, and half as long for a processor that looks ahead too little.

    >>> polynomial(np.float64(2), (3.0, 0.0, 1.0))
    np.float64(13.0)
    """
    if len(coefficients) < LONG:
        return _horner(x, coefficients)
    odd, even = coefficients[::2], coefficients[1::2]
    if len(coefficients) % 2:
        odd, even = even, odd
    square = x * x
    return _horner(square, odd) * x + _horner(square, even)


def _horner(x: Any, coefficients: Sequence[float]) -> Any:
    result: Any = coefficients[0]
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result


def product_error(x: Any, y: Any, product: Any) -> Any:
    """``x * y - product``, to the last digit or two, for a product that is that of the two but for roundings.

    Nothing may overflow.

    >>> product_error(np.float32(4097), np.float32(4097), np.float32(4097 * 4097))
    np.float32(1.0)
    """
    if isinstance(x, Emitted) and x.fuses:
        return x.call("llvm.fma", y, -product)
    # In halves, whose products are exact (Dekker 1971).
    (x_high, x_low), (y_high, y_low) = _halves(x), _halves(y)
    return ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low


def _halves(x: Any) -> tuple[Any, Any]:
    """A number with half of the digits of x, and the rest."""
    low_digits = 27 if _is_double(x) else 12
    high = from_bits((bits(x) >> low_digits) << low_digits, x)
    return high, x - high


def bits(x: Any) -> Any:
    """The bits of a float as an unsigned integer: from Python an int, which does not wrap around."""
    if isinstance(x, Emitted):
        return x.new(x.builder.bitcast(x.value, ir.IntType(x.width)))
    return int(x.view(np.uint32 if x.dtype == np.float32 else np.uint64))


def from_bits(integer: Any, like: Any) -> Any:
    """The float of the type of ``like`` that has these bits, the low ones of the integer."""
    if isinstance(integer, Emitted):
        return integer.new(integer.builder.bitcast(integer.value, like.value.type))
    unsigned = np.uint32 if like.dtype == np.float32 else np.uint64
    return unsigned(integer & int(np.iinfo(unsigned).max)).view(like.dtype)


def widen(x: Any) -> Any:
    """A float32 as float64."""
    if isinstance(x, Emitted):
        return x.new(x.builder.fpext(x.value, ir.DoubleType()))
    return np.float64(x)


def narrow(x: Any) -> Any:
    """A float64, rounded to float32."""
    if isinstance(x, Emitted):
        return x.new(x.builder.fptrunc(x.value, ir.FloatType()))
    return np.float32(x)


def resized(n: Any, width: int) -> Any:
    """The low bits of an integer, as one of this many bits."""
    if not isinstance(n, Emitted):
        return n & ((1 << width) - 1)
    resize = n.builder.zext if width > n.width else n.builder.trunc
    return n if width == n.width else n.new(resize(n.value, ir.IntType(width)))


def as_float64(n: Any) -> Any:
    """An integer from 0 to 2**53 as a float64."""
    if isinstance(n, Emitted):
        return n.new(n.builder.uitofp(resized(n, 64).value, ir.DoubleType()))
    return np.float64(n)


def window(table: bytes, start: Any, size: int) -> Any:
    """The bytes of a table from an index on as an integer, the least significant one first."""
    if not isinstance(start, Emitted):
        return int.from_bytes(table[start : start + size], "little")
    builder = start.builder
    name = f"graphc.table.{hashlib.sha256(table).hexdigest()[:16]}"
    place = builder.module.globals.get(name)
    if place is None:
        kind = ir.ArrayType(ir.IntType(8), len(table))
        place = ir.GlobalVariable(builder.module, kind, name)
        place.linkage, place.global_constant = "internal", True
        place.initializer = ir.Constant(kind, bytearray(table))
    pointer = builder.gep(place, [start.operand(0), start.value], inbounds=True)
    integer = ir.IntType(8 * size)
    return start.new(builder.load(builder.bitcast(pointer, integer.as_pointer()), align=1))


def beyond(limit: float, function: Callable[[Any], Any], x: Any, near: Any) -> Any:
    """``near`` where |x| is at most the limit or x is nan, else the function of x, a float64.

    The function stays out of loops that are vectorised: those only test whether any number needs it.

    >>> beyond(5.0, lambda x: 1 / x, np.float32(2), np.float32(0))
    np.float32(0.0)
    >>> beyond(5.0, lambda x: 1 / x, np.float32(8), np.float32(0))
    np.float32(0.125)
    """
    if not isinstance(x, Emitted):
        return type(x)(function(np.float64(x))) if abs(x) > limit else near

    def body(builder: Any, argument: Any) -> Any:
        return function(Emitted(builder, argument, x.has_lanes, x.fuses)).value

    name = f"{function.__module__}.{function.__qualname__}"
    return x.new(write_beyond(x.builder, name, limit, body, x.value, near.value))


def has_table(x: Any) -> bool:
    """Whether numbers are found in a table as fast as computed; one for the type of ``x`` has `entries`."""
    return isinstance(x, Emitted) and x.has_lanes


def entries(x: Any) -> int:
    """How many numbers a table has that is a register of the processor."""
    return 8 if _is_double(x) else 16


def lookup(table: tuple[float, ...], index: Any) -> Any:
    """The number of a table at an index modulo its length, where `has_table` holds.

    The index is an integer of the width of the numbers.
    """
    return index.new(write_lookup(index.builder, table, index.value))


def times_power(x: Any, exponent: Any) -> Any:
    """``x * 2**k``, rounded once, k being the exponent, a float, rounded down.

    The square root of ``2**k`` is a normal float. The exponent has an integer value or, where `has_table`
    holds, is a multiple of 1 / `entries`.

    >>> times_power(np.float32(3), np.float32(-1))
    np.float32(1.5)
    """
    if not isinstance(x, Emitted):
        # The exponent of a nan can be anything.
        return np.ldexp(x, int(np.nan_to_num(np.floor(exponent))))
    if x.has_lanes:
        return x.new(write_scaled(x.builder, x.value, exponent.value))
    return _times_power_by_products(x, exponent)


def raised(x: Any, rounded: Any) -> Any:
    """The same, in fewer operations, if both ``x`` and the result are normal floats.

    ``rounded`` is the exponent plus a number at which floats are an integer, or 1 / `entries`, apart.

    >>> raised(np.float32(3), np.float32(-1 + 1.5 * 2**23))
    np.float32(1.5)
    """
    # So its last bits are the integer that is added to the exponent of x.
    steps = entries(x) if has_table(x) else 1
    whole = bits(rounded) >> (steps.bit_length() - 1)
    return from_bits(bits(x) + (whole << (52 if _is_double(x) else 23)), x)


def _times_power_by_products(x: Any, exponent: Any) -> Any:
    """2**k itself may be no float: the product with one half of it is exact, that with the other rounds."""
    one, shift = constant(1.0, x), 1.5 * 2.0 ** (52 if _is_double(x) else 23)
    rounded = exponent * 0.5 + shift
    return x * raised(one, rounded) * raised(one, (exponent - (rounded - shift)) + shift)


def _is_double(x: Any) -> bool:
    return x.width == 64 if isinstance(x, Emitted) else x.dtype == np.float64


def inline(kind: type[np.floating[Any]]) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Make a function of one number of this type one that is written out in jitted callers.

    From Python it takes a number and returns a NumPy scalar of that type, and does not warn. The body
    makes one choice only of what to write: it has no branch on values, and loops known beforehand.

    >>> @inline(np.float64)
    ... def relu(x):
    ...     return at_least(x, 0.0)
    >>> relu(-2.0), relu(float("nan"))
    (np.float64(0.0), np.float64(nan))
    """

    def decorate(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(function)
        def scalar(x: Any) -> Any:
            with np.errstate(all="ignore"):
                return kind(function(kind(x)))

        _register(scalar, function, from_dtype(np.dtype(kind)))
        return scalar

    return decorate


def _register(name: Callable[[Any], Any], body: Callable[[Any], Any], kind: Any) -> None:
    """Make jitted code that calls ``name`` contain the instructions of ``body``."""

    @type_callable(name)
    def type_call(context: Any) -> Any:
        def typer(x: Any) -> Any:
            return signature(kind, kind) if isinstance(x, types.Float | types.Integer) else None

        return typer

    @lower_builtin(name, kind)
    def lower_call(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fuses = "+fma" in context.codegen().magic_tuple()[2]
        return body(Emitted(builder, args[0], are_supported(context), fuses)).value
