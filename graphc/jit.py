"""From the functions of a generated module to machine code with a plain C interface, kept on disk.

``measure(axes, shapes)`` checks the lengths of all axes of the arguments and says how long those of the results
are; ``run(buffers, axes)`` computes. Both return 0, or another number if the call must be refused.
"""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.core.compiler import compile_internal
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from graphc.runtime import cblas
from graphc.runtime.buffers import Buffer
from graphc.runtime.gate import gate_flags
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
        inputs = [_kind(dtype) if ndim == 0 else Buffer(_kind(dtype)) for dtype, ndim in self.inputs]
        results = [Buffer(_kind(dtype)) for dtype, _ in self.results]
        return [*inputs, *results, Buffer(types.uint8), *(types.intp for _ in self.sizes)]


def _kind(dtype: DType) -> Any:
    return from_dtype(dtype)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Native:
    """The addresses of the two functions; ``library`` keeps their machine code in memory."""

    measure: int
    run: int
    library: Any


def compile_native(
    name: str, functions: Mapping[str, Callable[..., None]], interface: Interface
) -> Native:
    """Compiles ``functions["run"]`` and ``functions["measure"]`` of a generated module together.

    ``name`` is the name of their library; no other library of the process has it.
    """
    with global_compiler_lock, _without_garbage_collection():
        cpu_target.typing_context.refresh()
        cpu_target.target_context.refresh()
        library = cpu_target.target_context.codegen().create_library(name)
        library.enable_object_caching()
        _add_adapters(library, functions, interface)
        library.finalize()
        return _addresses(library)


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


def serialized(native: Native) -> bytes | None:
    """What `deserialized` makes the same functions of, in another process; None if nothing can."""
    if native.library.has_dynamic_globals:
        return None
    return pickle.dumps(native.library.serialize_using_object_code())


def deserialized(data: bytes) -> Native:
    """The functions again that `serialized` took apart. Nothing is compiled."""
    with global_compiler_lock:
        codegen = cpu_target.target_context.codegen()
        return _addresses(codegen.unserialize_library(pickle.loads(data)))


def _addresses(library: Any) -> Native:
    measure, run = (
        library.get_pointer_to_function(f"{library.name}_{part}") for part in ("measure", "run")
    )
    return Native(measure, run, library)


def _add_adapters(
    library: Any, functions: Mapping[str, Callable[..., None]], interface: Interface
) -> None:
    """Compiles both functions into ``library``, and beside them functions that C can call."""
    lengths = Buffer(types.intp)
    module = library.create_ir_module(f"{library.name}_adapters")
    measure = _Adapter(library, module, "measure", (_LENGTHS, _LENGTHS))
    measure.finish(functions["measure"], (lengths, lengths), measure.arguments)
    run = _Adapter(library, module, "run", (_BYTES.as_pointer(), _LENGTHS))
    run.finish(functions["run"], interface.kinds(), run.values(interface))
    library.add_ir_module(module)


class _Adapter:
    """A function with the calling convention of C around one with Numba's."""

    def __init__(self, library: Any, module: Any, part: str, kinds: Sequence[Any]) -> None:
        self.library = library
        self.context = cpu_target.target_context
        kind = ir.FunctionType(_STATUS, kinds)
        function = ir.Function(module, kind, f"{library.name}_{part}")
        self.arguments: Sequence[Any] = function.args
        self.builder = ir.IRBuilder(function.append_basic_block())

    def values(self, interface: Interface) -> list[Any]:
        """The arguments of the generated ``run``, read from ``buffers`` and ``axes``."""
        buffers, axes = self.arguments
        kinds = interface.kinds()
        found = []
        for k, kind in enumerate(kinds[: len(kinds) - len(interface.sizes)]):
            pointer = self._element(buffers, k)
            buffer = kind if isinstance(kind, Buffer) else Buffer(kind)
            typed = self.builder.bitcast(pointer, self.context.get_value_type(buffer))
            is_number = kind is not buffer
            found.append(
                self.context.unpack_value(self.builder, kind, typed) if is_number else typed
            )
        return found + [self._element(axes, position) for position in interface.sizes]

    def _element(self, pointer: Any, index: int) -> Any:
        return self.builder.load(self.builder.gep(pointer, [cgutils.intp_t(index)]))

    def finish(
        self, function: Callable[..., None], kinds: Sequence[Any], values: Sequence[Any]
    ) -> None:
        """Calls ``function`` with ``values`` and returns its status."""
        context = self.context
        compiled = compile_internal(
            context.typing_context,
            context,
            self.library,
            function,
            tuple(kinds),
            types.none,
            gate_flags({"contract"}),
            {},
        )
        callee = context.declare_function(self.builder.module, compiled.fndesc)
        status, _ = context.call_conv.call_function(
            self.builder, callee, types.none, tuple(kinds), values
        )
        self.builder.ret(status.code)
