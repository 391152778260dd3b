"""Numba's compiler with the passes that generated code needs.

Generated functions are loops over numbers and buffers, with calls of functions that Numba knows. They close
over nothing, own no memory, raise nothing themselves and give no name values of different types, so most of
Numba's passes find nothing to do in them, at half the time of compiling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager
from numba.core.typed_passes import NoPythonBackend, NopythonTypeInference
from numba.core.untyped_passes import FixupArgs, IRProcessing, TranslateByteCode

from .loops import LoweringWithHints

__all__ = ["compile_into"]

_PASSES = (
    (TranslateByteCode, "bytecode to Numba's intermediate representation"),
    (FixupArgs, "types of arguments"),
    (IRProcessing, "lives of variables"),
    (NopythonTypeInference, "types of variables"),
    (LoweringWithHints, "to LLVM's intermediate representation"),
    (NoPythonBackend, "result"),
)


class _Compiler(CompilerBase):
    def define_pipelines(self) -> list[Any]:
        manager = PassManager("graphc")
        for kind, description in _PASSES:
            manager.add_pass(kind, description)
        manager.finalize()
        return [manager]


def compile_into(
    context: Any, library: Any, function: Callable[..., None], kinds: tuple[Any, ...], flags: Any
) -> Any:
    """Return what Numba knows of a function that it compiled into a library, for arguments of these types.

    The function returns nothing and, in its own text, raises nothing.
    """
    compiler = _Compiler(context.typing_context, context, library, kinds, types.none, flags, {})
    return compiler.compile_extra(function).fndesc
