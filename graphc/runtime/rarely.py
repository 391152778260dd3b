"""Slow paths that a vectorised loop takes for the few arguments that need them.

A branch in the body keeps LLVM from vectorising a loop, and so does the call of a function that has no
vector forms. So the choice is a function of its own, and has them. They test all their numbers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .forms import PURE, add_attributes, counts, offer

__all__ = ["write_beyond"]

Body = Callable[[Any, Any], Any]
"""Writes, with a builder, the function of a float64 that the slow path computes, and returns its value."""


def write_beyond(builder: Any, name: str, limit: float, body: Body, x: Any, near: Any) -> Any:
    """``near``, or the value of ``body`` for ``x`` where the size of ``x`` is beyond ``limit``.

    The name stands for the body, and ``x`` is a float32 or float64.
    """
    name = f"graphc.{name}.{limit:.0f}.{x.type.intrinsic_name}"
    choice = builder.module.globals.get(name)
    if choice is None:
        choice = _define(builder.module, name, limit, body, x.type)
    return builder.call(choice, [x, near])


def _define(module: Any, name: str, limit: float, body: Body, kind: Any) -> Any:
    """The choice for one number, and for as many of them as fit in a register."""

    def one(builder: Any, x: Any, near: Any) -> Any:
        value = body(builder, x if kind == ir.DoubleType() else builder.fpext(x, ir.DoubleType()))
        return value if kind == ir.DoubleType() else builder.fptrunc(value, kind)

    def each(builder: Any, x: Any, near: Any) -> Any:
        for i in range(x.type.count):
            lane = ir.Constant(ir.IntType(32), i)
            numbers = [builder.extract_element(vector, lane) for vector in (x, near)]
            near = builder.insert_element(near, builder.call(single, numbers), lane)
        return near

    def same(builder: Any, x: Any, near: Any) -> Any:
        return builder.call(single, [x, near])

    # A function of its own: the one with vector forms must not be what they call.
    single = _write(module, f"{name}.single", limit, kind, one)
    forms = {
        count: _write(module, f"{name}.{count}", limit, ir.VectorType(kind, count), each)
        for count in counts(kind)
    }
    choice = _write(module, name, limit, kind, same)
    offer(choice, "vv", forms)
    add_attributes(single, "noinline")
    return choice


def _write(module: Any, name: str, limit: float, kind: Any, slow: Callable[..., Any]) -> Any:
    """A function of x and near that returns near unless some x is beyond the limit."""
    function = ir.Function(module, ir.FunctionType(kind, [kind, kind]), name)
    function.linkage = "linkonce_odr"
    add_attributes(function, *PURE)
    x, near = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    count = kind.count if isinstance(kind, ir.VectorType) else 1
    bound = ir.Constant(kind, limit if count == 1 else [limit] * count)
    far = builder.fcmp_ordered(">", builder.call(_fabs(module, kind), [x]), bound)
    mask = builder.bitcast(far, ir.IntType(count))
    some = builder.icmp_unsigned("!=", mask, ir.Constant(mask.type, 0))
    with builder.if_then(some, likely=False):
        builder.ret(slow(builder, x, near))
    builder.ret(near)
    return function


def _fabs(module: Any, kind: Any) -> Any:
    """The intrinsic; llvmlite does not form its names for vectors."""
    if not isinstance(kind, ir.VectorType):
        return module.declare_intrinsic("llvm.fabs", [kind])
    name = f"llvm.fabs.v{kind.count}{kind.element.intrinsic_name}"
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(kind, [kind]), name)
