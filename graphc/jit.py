"""From the functions of a generated module to machine code with a plain C interface, as it is kept on disk.

``measure(axes, shapes)`` checks the lengths of all axes of the arguments and says how long those of the
results are; ``run(buffers, axes)`` computes. Both return 0, or another number if the call must be refused.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from llvmlite import binding, ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock

from graphc.lengths import add_measure
from graphc.native.memory import Loaded
from graphc.runtime import cblas
from graphc.runtime.buffers import Buffer
from graphc.runtime.gate import compiled_by
from graphc.runtime.translate import compile_into
from graphc.target import codegen, compiling, context, loaded
from graphc.types import DType

_BYTES = ir.IntType(8).as_pointer()
_LENGTHS = cgutils.intp_t.as_pointer()
_STATUS = ir.IntType(32)

# Code from the disk refers to these by name, as code that is compiled now does.
cblas.register()

Parameter: TypeAlias = "tuple[DType, int]"
"""The dtype and the number of axes of an argument or a result."""


@dataclass(frozen=True)
class Interface:
    """What the native functions are called with.

    ``inputs`` and ``results`` are the dtypes and numbers of axes of arrays; an input without axes is a
    number. ``sizes`` gives, for every named size, which of all axes of the inputs has it.
    """

    inputs: tuple[Parameter, ...]
    results: tuple[Parameter, ...]
    sizes: tuple[int, ...]

    def kinds(self) -> list[Any]:
        """The Numba types of the generated ``run``: inputs, results, workspace, sizes."""
        inputs = [
            _kind(dtype) if ndim == 0 else Buffer(_kind(dtype)) for dtype, ndim in self.inputs
        ]
        results = [Buffer(_kind(dtype)) for dtype, _ in self.results]
        return [*inputs, *results, Buffer(types.uint8), *(types.intp for _ in self.sizes)]


def _kind(dtype: DType) -> Any:
    return from_dtype(dtype)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Native:
    """The addresses of the two functions; ``library`` keeps their machine code in memory."""

    measure: int
    run: int
    library: Loaded


@dataclass(frozen=True)
class Compiled:
    """Machine code as bytes. Another process can load them unless they hold addresses of this one.

    They are the names of the functions of others that it calls, a zero, and an object file.
    """

    code: bytes
    is_portable: bool


def compile_native(
    name: str, functions: Mapping[str, Callable[..., None]], interface: Interface
) -> Compiled:
    """Compiles ``functions["run"]`` and ``functions["measure"]`` of a generated module together.

    ``name`` is the name of their library.
    """
    with global_compiler_lock:
        library = native_library(name, functions, interface)
        names = sorted(f.name for f in library._final_module.functions if _is_of_others(f))
        code = "\n".join(names).encode() + b"\0" + library.emit_native_object()
        return Compiled(code, not library.has_dynamic_globals)


def for_jitted_callers(function: Callable[..., None]) -> Callable[..., None]:
    """The ``run`` of a generated module for callers that Numba compiles: the code of `compile_native`."""

    def run(*arguments: Any) -> None:
        function(*arguments)

    def compiler(_context: Any, library: Any, _run: Any, kinds: Any, fastmath: Any) -> Any:
        with compiling(), _without_garbage_collection():
            own = codegen().create_library(function.__qualname__)
            known = compile_into(context(), own, function, kinds, fastmath)
            own.finalize()
        library.add_llvm_module(binding.parse_assembly(str(own._final_module)))
        return known

    return compiled_by(compiler, run)


def native_library(
    name: str, functions: Mapping[str, Callable[..., None]], interface: Interface
) -> Any:
    """Numba's library of both functions, optimised: its code can be looked at."""
    with global_compiler_lock, compiling(), _without_garbage_collection():
        context().refresh()
        library = codegen().create_library(name)
        module = library.create_ir_module(f"{name}_adapters")
        add_measure(module, "measure", functions["measure"])
        _add_run(library, module, functions["run"], interface)
        library.add_ir_module(module)
        library.finalize()
        return library


def _is_of_others(function: Any) -> bool:
    return bool(function.is_declaration) and not function.name.startswith("llvm.")


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Compiling makes many small objects and little garbage: looking for it takes a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def is_loadable(code: bytes) -> bool:
    """Whether all that the code of another process calls is there: LLVM would call address 0."""
    names, _, _ = code.partition(b"\0")
    with global_compiler_lock:
        codegen()
        return all(map(binding.address_of_symbol, names.decode().splitlines()))


def load_native(code: bytes) -> Native:
    """The functions of the code that `compile_native` made. Nothing is compiled."""
    _, _, object_code = code.partition(b"\0")
    with global_compiler_lock:
        library = loaded(object_code)
        return Native(library.address("measure"), library.address("run"), library)


def _add_run(
    library: Any, module: Any, function: Callable[..., None], interface: Interface
) -> None:
    """Compiles ``function`` into ``library``, and in ``module`` a function ``run`` that C can call."""
    kinds = tuple(interface.kinds())
    known = compile_into(context(), library, function, kinds, {"contract"})
    signature = ir.FunctionType(_STATUS, (_BYTES.as_pointer(), _LENGTHS))
    run = ir.Function(module, signature, "run")
    builder = ir.IRBuilder(run.append_basic_block())
    callee = context().declare_function(module, known)
    values = _values(builder, run.args, interface)
    status, _ = context().call_conv.call_function(builder, callee, types.none, kinds, values)
    builder.ret(status.code)


def _values(builder: Any, arguments: Any, interface: Interface) -> list[Any]:
    """The arguments of the generated ``run``, read from ``buffers`` and ``axes``."""
    buffers, axes = arguments
    kinds = interface.kinds()
    pointers = kinds[: len(kinds) - len(interface.sizes)]
    found = [_value(builder, _item(builder, buffers, k), kind) for k, kind in enumerate(pointers)]
    return found + [_item(builder, axes, position) for position in interface.sizes]


def _value(builder: Any, pointer: Any, kind: Any) -> Any:
    """A buffer, or the number that a pointer points to."""
    if isinstance(kind, Buffer):
        return builder.bitcast(pointer, context().get_value_type(kind))
    typed = builder.bitcast(pointer, context().get_value_type(Buffer(kind)))
    return context().unpack_value(builder, kind, typed)


def _item(builder: Any, pointer: Any, index: int) -> Any:
    return builder.load(builder.gep(pointer, [cgutils.intp_t(index)]))
