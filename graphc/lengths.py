"""``measure`` of a generated module as LLVM's code: it is called once, with stand-ins for lengths.

It is arithmetic on integers and conditions under which it raises, so there is nothing for Numba to infer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

_LENGTH = ir.IntType(64)
_STATUS = ir.IntType(32)
_FITS, _REFUSED = ir.Constant(_STATUS, 0), ir.Constant(_STATUS, 1)

SIGNATURE = ir.FunctionType(_STATUS, [_LENGTH.as_pointer()] * 2)


def add_measure(module: Any, name: str, measure: Callable[[Any, Any], None]) -> None:
    """Adds ``int32_t name(const int64_t *axes, int64_t *shapes)`` to a module.

    It returns 1 where ``measure(axes, shapes)`` raises `ValueError`, else 0. ``measure`` reads ``axes`` and
    writes ``shapes`` at constant indices, computes with ``+``, ``-``, ``*`` and ``//`` by positive constants,
    and raises under any condition that it finds true.
    """
    function = ir.Function(module, SIGNATURE, name)
    builder = ir.IRBuilder(function.append_basic_block())
    axes, shapes = (_Lengths(builder, pointer) for pointer in function.args)
    try:
        measure(axes, shapes)
    except ValueError:
        # No lengths fit, or Python itself would have found out.
        builder.ret(_REFUSED)
    else:
        builder.ret(_FITS)


class _Lengths:
    """An array of lengths."""

    def __init__(self, builder: Any, pointer: Any) -> None:
        self.builder, self.pointer = builder, pointer

    def _place(self, index: int) -> Any:
        return self.builder.gep(self.pointer, [_LENGTH(index)])

    def __getitem__(self, index: int) -> _Length:
        return _Length(self.builder, self.builder.load(self._place(index)))

    def __setitem__(self, index: int, length: int | _Length) -> None:
        value = length.value if isinstance(length, _Length) else _LENGTH(length)
        self.builder.store(value, self._place(index))


class _Length:
    """A length that the code being written will compute."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _new(self, instruction: Callable[..., Any], *operands: int | _Length) -> _Length:
        values = (x.value if isinstance(x, _Length) else _LENGTH(x) for x in operands)
        return _Length(self.builder, instruction(*values))

    def _compared(self, relation: str, other: int | _Length) -> _Condition:
        bit = self._new(lambda a, b: self.builder.icmp_signed(relation, a, b), self, other)
        return _Condition(self.builder, bit.value)

    def __add__(self, other: int | _Length) -> _Length:
        return self._new(self.builder.add, self, other)

    def __sub__(self, other: int | _Length) -> _Length:
        return self._new(self.builder.sub, self, other)

    def __rsub__(self, other: int) -> _Length:
        return self._new(self.builder.sub, other, self)

    def __mul__(self, other: int | _Length) -> _Length:
        return self._new(self.builder.mul, self, other)

    def __neg__(self) -> _Length:
        return self._new(self.builder.sub, 0, self)

    def __floordiv__(self, divisor: int) -> _Length:
        quotient = self._new(self.builder.sdiv, self, divisor)
        rest = self._new(self.builder.srem, self, divisor)
        # LLVM rounds towards 0.
        is_too_high = self.builder.icmp_signed("<", rest.value, _LENGTH(0))
        return quotient - _Length(self.builder, self.builder.zext(is_too_high, _LENGTH))

    def __ne__(self, other: Any) -> Any:
        return self._compared("!=", other)

    def __lt__(self, other: int | _Length) -> _Condition:
        return self._compared("<", other)

    def __gt__(self, other: int | _Length) -> _Condition:
        return self._compared(">", other)

    __radd__ = __add__
    __rmul__ = __mul__
    # Whether two are equal is known only at the call.
    __hash__ = None  # type: ignore[assignment]


class _Condition:
    """Whether lengths must be refused."""

    def __init__(self, builder: Any, bit: Any) -> None:
        self.builder, self.bit = builder, bit

    def __bool__(self) -> bool:
        """False: the code that is being written goes on only then."""
        with self.builder.if_then(self.bit, likely=False):
            self.builder.ret(_REFUSED)
        return False
