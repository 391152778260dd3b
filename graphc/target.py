"""What Numba compiles generated functions for: this processor, as object code, and only what they may call.

Numba's own target loads all that any jitted function may call before it compiles the first one, SciPy's
linear algebra among it, which takes 0.25 s. This one shares its tables and loads what generated code is
made of. The rest is loaded when something is not found.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from llvmlite import binding
from numba.core import fastmathpass
from numba.core.codegen import AOTCodeLibrary, JITCPUCodegen
from numba.core.cpu import CPUContext
from numba.core.decorators import jit
from numba.core.registry import CPUDispatcher, CPUTarget, cpu_target
from numba.core.target_extension import (
    CPU,
    dispatcher_registry,
    jit_registry,
    target_override,
    target_registry,
)

from graphc.native.memory import Loaded, target_machine
from graphc.runtime.lanes import put_in_place

_NAME = "graphc"
_DEFINITIONS = (
    "numba.cpython.builtins",
    "numba.cpython.numbers",
    "numba.cpython.rangeobj",
    "numba.cpython.tupleobj",
    "numba.np.arrayobj",
)
"""Modules of Numba that define operations in its table of built-in ones."""
_TABLES = ("numba.cpython.mathimpl", "numba.np.npyimpl")
"""Modules of Numba with tables of their own."""
_SHARED = (
    *("_registries", "_defns", "_getattrs", "_setattrs", "_casts", "_get_constants"),
    *("_generators", "special_ops"),
)


class _Library(AOTCodeLibrary):
    """Optimised once, as a whole.

    Numba does so before, too, function by function and then cheaply, to find counts of references that cancel
    out. Generated code has none.
    """

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        builder = self._codegen._pass_builder()
        # With these first, as in Numba, some loops over few elements are 4 % faster.
        first = binding.create_new_module_pass_manager()
        first.add_loop_rotate_pass()
        first.add_instruction_combine_pass()
        for passes in (first, builder.getModulePassManager()):
            passes.run(self._final_module, builder)
        put_in_place(self._final_module, builder)


class _Codegen(JITCPUCodegen):
    """Makes the code that Numba would run in this process, but leaves loading it to `loaded`."""

    _library_class = _Library  # type: ignore[assignment]

    def _add_module(self, module: Any) -> None:
        pass


class _Context(CPUContext):
    """Numba's target for the processor, with its tables, but filled only as far as they are needed."""

    puts_lanes_in_place = True

    def __init__(self) -> None:
        super().__init__(cpu_target.typing_context, _NAME)
        for table in _SHARED:
            setattr(self, table, getattr(cpu_target.target_context, table))

    def init(self) -> None:
        self.is32bit = False
        self._internal_codegen = codegen()

    def load_additional_registries(self) -> None:
        for registry in _registries():
            self.install_registry(registry)

    def post_lowering(self, mod: Any, library: Any) -> None:
        # Generated code owns no memory, so it needs no part of Numba's runtime.
        if self.fastmath:
            fastmathpass.rewrite_module(mod, self.fastmath)

    def get_function(self, fn: Any, sig: Any, _firstcall: bool = True) -> Any:
        try:
            return super().get_function(fn, sig, _firstcall)
        except NotImplementedError:
            # The class of a type is only tried; what is wanted is the type.
            if isinstance(fn, type) or not _firstcall:
                raise
        cpu_target.target_context.refresh()
        return super().get_function(fn, sig, False)


@cache
def _registries() -> tuple[Any, ...]:
    """The tables of Numba that generated code needs; what is in the table of built-in ones is loaded, too."""
    # Not at the top of this file: a process that finds its machine code on disk needs none of them.
    for name in _DEFINITIONS:
        importlib.import_module(name)
    return tuple(importlib.import_module(name).registry for name in _TABLES)


@cache
def codegen() -> Any:
    """What turns LLVM's code into that of this processor. Call it, and what follows, under Numba's lock."""
    # These tell LLVM where the functions are that machine code calls, also code that is only loaded.
    _ = cpu_target.target_context
    importlib.import_module("graphc.runtime.cblas")
    return _Codegen(_NAME)


@cache
def context() -> Any:
    """What Numba lowers code with."""
    return _Context()


class _Generated(CPU):
    """The target by which Numba finds all that belongs to it."""


class _Target(CPUTarget):
    @property
    def target_context(self) -> Any:
        return context()

    @property
    def typing_context(self) -> Any:
        return cpu_target.typing_context


class _Dispatcher(CPUDispatcher):
    targetdescr = _Target(_NAME)


target_registry[_NAME] = _Generated
dispatcher_registry[_Generated] = _Dispatcher
jit_registry[_Generated] = jit


def compiling() -> Any:
    """While this lasts, Numba compiles for the target."""
    return target_override(_NAME)


def loaded(object_code: bytes) -> Loaded:
    """Machine code that was made by `codegen`, here or in another process, in memory."""
    options: dict[str, Any] = {}
    codegen()._customize_tm_options(options)
    return Loaded(object_code, target_machine(**options))
