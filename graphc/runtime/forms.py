"""Functions of numbers that have vector forms: the loop vectoriser calls those that are named to it.

A loop that calls a function without them is not vectorised. They are named in the attribute
``vector-function-abi-variant``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core.registry import cpu_target

__all__ = ["PURE", "add_attributes", "counts", "has_wide_registers", "offer"]

PURE = ("nounwind", "willreturn", "memory(none)")
"""What LLVM has to know of a function before it calls a vector form of it."""
_REGISTERS = (64, 128, 256, 512)
"""Bits that vectors of a loop may have."""


@cache
def has_wide_registers() -> bool:
    """Return whether the processor has 32 registers of 64 bytes: those of AVX-512."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return "+avx512f" in features.split(",")


def counts(real: Any) -> list[int]:
    """How many floats of a type vectors of a loop may have."""
    width = 32 if real == ir.FloatType() else 64
    return [bits // width for bits in _REGISTERS if bits > width]


def add_attributes(function: Any, *attributes: str) -> None:
    """Add attributes, among them such as llvmlite does not know."""
    set.update(function.attributes, attributes)


def offer(function: Any, arguments: str, forms: Mapping[int, Any]) -> None:
    """Tell the vectoriser of the forms of a function, by the count of numbers that each is for.

    A letter for each argument says whether a form takes a vector of them, ``v``, or one for all, ``u``.
    """
    name = function.name
    variants = (f"_ZGV_LLVM_N{n}{arguments}_{name}({form.name})" for n, form in forms.items())
    add_attributes(function, f'"vector-function-abi-variant"="{",".join(variants)}"')
    # Once it is part of its callers, the vectoriser does not recognise it any more.
    add_attributes(function, "noinline")
    _keep(function.module, list(forms.values()))


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
