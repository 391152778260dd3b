"""Calls of what Numba knows, written into LLVM's IR: operators, NumPy's functions, graphc's own.

Numba's tables say which types an operation takes and gives, and write its instructions. Generated code
repeats few operations many times, so each is looked up once for its types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba.core import types
from numba.core.errors import TypingError

__all__ = ["Computed", "Known", "Operand", "Operations"]


class Computed(NamedTuple):
    """A value that the code computes: its Numba type, and what LLVM calls it."""

    kind: Any
    value: Any


class Known(NamedTuple):
    """An object that is known when the code is compiled: a literal, a module, a function."""

    item: Any


Operand: TypeAlias = Computed | Known


class Operations:
    """What writes operations with a builder, in a context of Numba's."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.context, self.builder = context, builder
        self._typing = context.typing_context
        self._found: dict[tuple[Any, tuple[Any, ...]], tuple[Any, Callable[..., Any]]] = {}

    def kind_of(self, operand: Operand) -> Any:
        """The Numba type of an operand; that of an integer literal has its value."""
        if isinstance(operand, Computed):
            return operand.kind
        return self._kind_of_object(operand.item)

    def _kind_of_object(self, item: Any) -> Any:
        if type(item) is int:
            return types.literal(item)
        kind = self._typing.resolve_value_type(item)
        if kind is None:
            raise TypingError(f"jitted code cannot use {item!r}")
        return kind

    def convert(self, operand: Operand, kind: Any) -> Any:
        """What LLVM calls an operand as a value of a Numba type."""
        if isinstance(operand, Known):
            if isinstance(kind, types.Callable):
                return self.context.get_dummy_value()
            known = types.unliteral(self._kind_of_object(operand.item))
            value = self.context.get_constant_generic(self.builder, known, operand.item)
            operand = Computed(known, value)
        if operand.kind == kind:
            return operand.value
        return self.context.cast(self.builder, operand.value, operand.kind, kind)

    def operate(self, operator: Callable[..., Any], *operands: Operand) -> Computed:
        """An operator of Python, applied."""
        return self._call(operator, operands, tuple(map(self._plain_kind, operands)))

    def call(self, function: Any, *operands: Operand) -> Operand:
        """A call of a function."""
        match operands:
            case (Known(item),) if isinstance(function, type) and issubclass(function, np.generic):
                # A literal with its dtype, as in ``np.float32(0.5)``.
                return Known(function(item))
        return self._call(function, operands, tuple(map(self.kind_of, operands)))

    def attribute(self, owner: Operand, name: str) -> Operand:
        """An attribute of a module, a class, or a value such as ``np.finfo(np.float32)``."""
        if isinstance(owner, Known):
            if not hasattr(owner.item, name):
                raise TypingError(f"{owner.item!r} has no attribute {name}")
            return Known(getattr(owner.item, name))
        kind = self._typing.resolve_getattr(owner.kind, name)
        if kind is None or isinstance(kind, types.Callable):
            raise TypingError(f"{owner.kind} has no attribute {name} in a gate")
        read = self.context.get_getattr(owner.kind, name)
        return Computed(kind, read(self.context, self.builder, owner.kind, owner.value, name))

    def unified(self, one: Operand, other: Operand) -> Any:
        """The Numba type that both of two values have or convert to."""
        kinds = self._plain_kind(one), self._plain_kind(other)
        kind = kinds[0] if kinds[0] == kinds[1] else self._typing.unify_types(*kinds)
        if kind is None:
            raise TypingError(f"no type is common to {kinds[0]} and {kinds[1]}")
        return kind

    def _plain_kind(self, operand: Operand) -> Any:
        return types.unliteral(self.kind_of(operand))

    def _call(
        self, function: Any, operands: tuple[Operand, ...], kinds: tuple[Any, ...]
    ) -> Computed:
        found = self._found.get((function, kinds))
        if found is None:
            found = self._found[function, kinds] = self._find(function, kinds)
        signature, write = found
        values = map(self.convert, operands, signature.args)
        return Computed(signature.return_type, write(self.builder, list(values)))

    def _find(self, function: Any, kinds: tuple[Any, ...]) -> tuple[Any, Callable[..., Any]]:
        kind = self._kind_of_object(function)
        signature = self._typing.resolve_function_type(kind, kinds, {})
        if signature is None:
            raise TypingError(f"{function!r} does not take {', '.join(map(str, kinds))}")
        return signature, self.context.get_function(kind, signature)
