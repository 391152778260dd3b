"""`gate`: functions of buffers and numbers that are compiled as a part of their caller.

Numba compiles every jitted function on its own, optimises it and turns it into machine code, and then does so
again with all that it links. A gate is translated when its caller is compiled, into its caller's library,
and the whole is optimised once. Gates return nothing: results, also single numbers, go into buffers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from .buffers import as_buffer, buffer_value
from .translate import compile_into

__all__ = ["compiled_by", "compiled_gate", "exact_gate", "gate"]

_Function = TypeVar("_Function", bound=Callable[..., None])
Compiler: TypeAlias = Callable[[Any, Any, Callable[..., None], tuple[Any, ...], Any], Any]
"""Compiles as `compile_into` does."""


def gate(function: _Function) -> _Function:
    """Make `function` callable from jitted code; products and sums in it may be fused.

    Its arguments are buffers, C-contiguous arrays, which it sees as buffers, and numbers. No two
    buffers that it writes, or writes and reads, overlap. In plain Python it is called with flat arrays.

    >>> @gate
    ... def doubled(x, y, n):
    ...     for i in range(n):
    ...         y[i] = 2 * x[i]
    >>> y = [0, 0]
    >>> doubled([1, 2], y, 2)
    >>> y
    [2, 4]
    """
    return _compiled_into_callers(function, {"contract"})


def exact_gate(function: _Function) -> _Function:
    """As `gate`, but every operation rounds on its own.

    >>> @exact_gate
    ... def product_and_sum(x, y):
    ...     y[0] = x[0] * x[1] + x[2]
    >>> y = [0]
    >>> product_and_sum([2, 3, 4], y)
    >>> y
    [10]
    """
    return _compiled_into_callers(function, False)


def compiled_by(compiler: Compiler, function: _Function) -> _Function:
    """Make `function` callable from jitted code, as what a compiler makes of it; see `gate`."""
    return _compiled_into_callers(function, {"contract"}, compiler)


def _compiled_into_callers(
    function: _Function, fastmath: Any, compiler: Compiler = compile_into
) -> _Function:
    class Template(_GateTemplate):
        key = function
        options = fastmath
        known = _Known()
        compile = staticmethod(compiler)

    kind = types.Function(Template)
    infer_global(function, kind)

    @lower_builtin(function, types.VarArg(types.Any))
    def lower_call(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kinds = tuple(map(as_buffer, sig.args))
        values = [
            buffer_value(context, builder, kind, value)
            for kind, value in zip(sig.args, args, strict=True)
        ]
        callee = context.declare_function(builder.module, compiled_gate(context, kind, kinds))
        status, _ = context.call_conv.call_function(
            builder, callee, types.none, kinds, values, attrs=("noinline",)
        )
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return function


class _Known(WeakKeyDictionary[Any, dict[Any, Any]]):
    """The libraries in which a gate is compiled already, and for which types."""


class _GateTemplate(AbstractTemplate):
    """How Numba types a gate, and what it is compiled with: LLVM's flags for its arithmetic."""

    options: Any
    known: _Known
    compile: Compiler

    def generic(self, args: Any, kws: Any) -> Any:
        fits = all(as_buffer(kind) is not None for kind in args)
        return signature(types.none, *args) if fits else None


def compiled_gate(context: Any, gate: Any, kinds: tuple[Any, ...]) -> Any:
    """Return what Numba knows of a gate, compiled into the library at work for arguments of these types.

    `gate` is the Numba type of the function.
    """
    (template,) = gate.templates
    library = context.active_code_library
    compiled = template.known.setdefault(library, {})
    if kinds not in compiled:
        compiled[kinds] = template.compile(context, library, template.key, kinds, template.options)
    return compiled[kinds]
