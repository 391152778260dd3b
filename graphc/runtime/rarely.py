"""Slow paths that a vectorised loop takes for the few arguments that need them.

A branch in the body keeps LLVM from vectorising a loop, and so does the call of a function that has no
vector forms. So the choice is a function of its own, and has them: the loop vectoriser calls those that
the attribute ``vector-function-abi-variant`` names. They test all their numbers at once.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

__all__ = ["write_beyond"]

_PURE = ("nounwind", "willreturn", "memory(none)")
_REGISTERS = (64, 128, 256, 512)


def write_beyond(builder: Any, function: str, limit: float, x: Any, near: Any) -> Any:
    """``near``, or the value of LLVM's ``function`` of ``x`` where the size of ``x`` is beyond ``limit``."""
    name = f"graphc.{function}.{limit:.0f}.{x.type.intrinsic_name}"
    choice = builder.module.globals.get(name)
    if choice is None:
        choice = _define(builder.module, name, function, limit, x.type)
    return builder.call(choice, [x, near])


def _define(module: Any, name: str, function: str, limit: float, kind: Any) -> Any:
    """The choice for numbers, and for as many of them as fit in a register."""
    width = 32 if isinstance(kind, ir.FloatType) else 64
    forms = [
        _write(module, f"{name}.{count}", function, limit, ir.VectorType(kind, count))
        for count in (bits // width for bits in _REGISTERS)
        if count > 1
    ]
    scalar = _write(module, name, function, limit, kind)
    variants = (f"_ZGV_LLVM_N{v.args[0].type.count}vv_{name}({v.name})" for v in forms)
    _add(scalar, f'"vector-function-abi-variant"="{",".join(variants)}"')
    # Once it is part of its callers, the vectoriser does not recognise it any more.
    _add(scalar, "noinline")
    _keep(module, forms)
    return scalar


def _write(module: Any, name: str, function: str, limit: float, kind: Any) -> Any:
    choice = ir.Function(module, ir.FunctionType(kind, [kind, kind]), name)
    choice.linkage = "linkonce_odr"
    _add(choice, *_PURE)
    x, near = choice.args
    builder = ir.IRBuilder(choice.append_basic_block())
    size = builder.call(_intrinsic(module, "llvm.fabs", kind), [x])
    count = kind.count if isinstance(kind, ir.VectorType) else 1
    bound = ir.Constant(kind, limit if count == 1 else [limit] * count)
    far = builder.fcmp_ordered(">", size, bound)
    mask = builder.bitcast(far, ir.IntType(count))
    some = builder.icmp_unsigned("!=", mask, ir.Constant(mask.type, 0))
    with builder.if_then(some, likely=False):
        value = builder.call(_intrinsic(module, function, kind), [x])
        builder.ret(builder.select(far, value, near))
    builder.ret(near)
    return choice


def _intrinsic(module: Any, name: str, kind: Any) -> Any:
    """LLVM's function of numbers, or of vectors of them, whose names llvmlite does not form."""
    if not isinstance(kind, ir.VectorType):
        return module.declare_intrinsic(name, [kind])
    name = f"{name}.v{kind.count}{kind.element.intrinsic_name}"
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(kind, [kind]), name)


def _add(function: Any, *attributes: str) -> None:
    """Add attributes, among them such as llvmlite does not know."""
    set.update(function.attributes, attributes)


def _keep(module: Any, functions: list[Any]) -> None:
    """Keep LLVM from dropping what nothing refers to until loops are vectorised."""
    pointer = ir.IntType(8).as_pointer()
    pointers = [function.bitcast(pointer) for function in functions]
    used = module.globals.get("llvm.compiler.used")
    if used is not None:
        pointers = [*used.initializer.constant, *pointers]
    kind = ir.ArrayType(pointer, len(pointers))
    if used is None:
        used = ir.GlobalVariable(module, kind, "llvm.compiler.used")
        used.linkage, used.section = "appending", "llvm.metadata"
    used.value_type, used.initializer = kind, ir.Constant(kind, pointers)
