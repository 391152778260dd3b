"""`run`: a gate in chunks of its outermost loop, by one thread or by several.

Chunks are the same for any number of threads, and whoever runs one writes to its own part of memory, so
results are bit by bit the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.callconv import Status, errcode_t, excinfo_ptr_t
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, type_callable

from .buffers import as_buffer, buffer_value
from .gate import compiled_gate
from .pool import LAUNCH

__all__ = ["bounded", "chunk_function", "larger", "launch", "run", "size", "stored_record"]

MOST_CHUNKS = 64
"""How many chunks there are at most where their number is bounded."""

_BYTES = ir.IntType(8).as_pointer()
_WORD = cgutils.intp_t
_INT = ir.IntType(32)


def run(threads: int, length: int, size: int, gate: Callable[..., None], *arguments: object) -> int:
    """Call `gate(*arguments, first, last, part, thread)` for all chunks of `range(length)`.

    A chunk is `size` iterations long, and `part` is its number; returns how many there are. Up to so many
    threads take the chunks in order; no two of those at work have the same number `thread`, which is below
    `threads`. An error in a chunk is raised when no chunk runs any more. In plain Python there is one thread.

    >>> run(2, 5, 2, print, "chunk")
    chunk 0 2 0 0
    chunk 2 4 1 0
    chunk 4 5 2 0
    3
    """
    chunks = range(0, length, size)
    for part, first in enumerate(chunks):
        gate(*arguments, first, min(first + size, length), part, 0)
    return len(chunks)


def size(elements: int, inner: int, fewest: int) -> int:
    """Return how many iterations of a loop, of `inner` elements each, a chunk of some elements has.

    >>> size(1024, 100, 1), size(1024, 10000, 32), size(1024, 0, 1)
    (10, 32, 1024)
    """
    return max(fewest, elements // max(inner, 1))


def bounded(length: int, least: int) -> int:
    """Return a size of chunks, `least` or more, of which 64 or fewer make up a length.

    >>> bounded(1000, 32), bounded(10_000, 32)
    (32, 157)
    """
    return max(least, (length + MOST_CHUNKS - 1) // MOST_CHUNKS)


@type_callable(bounded)
def _type_bounded(context: Any) -> Any:
    def typer(length: Any, least: Any) -> Any:
        return signature(types.intp, types.intp, types.intp)

    return typer


@lower_builtin(bounded, types.Integer, types.Integer)
def _lower_bounded(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    length, least = args
    rounded = builder.add(length, _WORD(MOST_CHUNKS - 1))
    return larger(builder, least, builder.sdiv(rounded, _WORD(MOST_CHUNKS)))


@type_callable(size)
def _type_size(context: Any) -> Any:
    def typer(elements: Any, inner: Any, fewest: Any) -> Any:
        return signature(types.intp, types.intp, types.intp, types.intp)

    return typer


@lower_builtin(size, types.Integer, types.Integer, types.Integer)
def _lower_size(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    elements, inner, fewest = args
    quotient = builder.sdiv(elements, larger(builder, inner, _WORD(1)))
    return larger(builder, fewest, quotient)


def larger(builder: Any, one: Any, other: Any) -> Any:
    """The larger one of two signed integers of LLVM."""
    return builder.select(builder.icmp_signed(">", one, other), one, other)


@infer_global(run)
class _Run(AbstractTemplate):
    prefer_literal = True

    def generic(self, args: Any, kws: Any) -> Any:
        threads, _, _, gate, *rest = args
        known = isinstance(threads, types.IntegerLiteral) and isinstance(gate, types.Function)
        if not known or any(as_buffer(kind) is None for kind in rest):
            return None
        return signature(
            types.intp, threads, types.intp, types.intp, gate, *map(types.unliteral, rest)
        )


@lower_builtin(run, types.VarArg(types.Any))
def _lower_run(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    chunks = _Chunks(context, builder, sig, args)
    threads = sig.args[0].literal_value
    status = chunks.in_one_thread() if threads == 1 else chunks.in_threads(threads)
    with cgutils.if_unlikely(builder, status.is_error):
        context.call_conv.return_status_propagate(builder, status)
    return chunks.count


def stored_record(builder: Any, values: Sequence[Any]) -> Any:
    """Return where in memory the values stand that a function of `chunk_function` reads."""
    data = cgutils.alloca_once(builder, _record_type(values))
    for k, value in enumerate(values):
        builder.store(value, cgutils.gep_inbounds(builder, data, 0, k))
    return data


def _record_type(values: Sequence[Any]) -> Any:
    return ir.LiteralStructType([value.type for value in values])


def chunk_function(module: Any, name: str, values: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Return a builder in ``int32_t name(void *record, int64_t part, int64_t thread)``, to be filled.

    With it come the places of the values of the record, which has their types. What it returns is nonzero
    if it fails.
    """
    function = ir.Function(module, ir.FunctionType(_INT, (_BYTES, _WORD, _WORD)), name)
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block())
    data = builder.bitcast(function.args[0], _record_type(values).as_pointer())
    return builder, [cgutils.gep_inbounds(builder, data, 0, k) for k in range(len(values))]


def launch(builder: Any, function: Any, record: Any, count: Any, threads: int) -> None:
    """Emit the calls of a function of `chunk_function` for so many parts, by up to so many threads."""
    kind = ir.FunctionType(ir.VoidType(), (function.type, _BYTES, _WORD, _WORD))
    native = cgutils.get_or_insert_function(builder.module, kind, LAUNCH)
    data = builder.bitcast(record, _BYTES)
    builder.call(native, (function, data, count, _WORD(threads)))


class _Chunks:
    """Emits the calls of a gate at the position of a builder."""

    def __init__(self, context: Any, builder: Any, sig: Any, args: Any) -> None:
        self.context, self.builder = context, builder
        self.kinds = (*map(as_buffer, sig.args[4:]), *(types.intp,) * 4)
        self.callee = compiled_gate(context, sig.args[3], self.kinds)
        values = [
            buffer_value(context, builder, kind, value)
            for kind, value in zip(sig.args[4:], args[4:], strict=True)
        ]
        # What a chunk needs, and what it says of an error.
        self.record = [*values, *args[1:3], errcode_t(0), excinfo_ptr_t(None)]
        length, size = args[1:3]
        rounded = builder.add(length, builder.sub(size, _WORD(1)))
        self.count = builder.sdiv(rounded, size)

    def in_one_thread(self) -> Any:
        """One chunk after the other; the status of the last one."""
        data = self._data()
        kernel = self._kernel()
        with cgutils.for_range(self.builder, self.count) as loop:
            failed = self.builder.call(kernel, (self._bytes(data), loop.index, _WORD(0)))
            with cgutils.if_unlikely(self.builder, cgutils.is_not_null(self.builder, failed)):
                loop.do_break()
        return self._status(data)

    def in_threads(self, threads: int) -> Any:
        """Has the chunks taken by several threads; the status of one that failed, if any did."""
        data = self._data()
        launch(self.builder, self._kernel(), data, self.count, threads)
        return self._status(data)

    def _data(self) -> Any:
        return stored_record(self.builder, self.record)

    def _bytes(self, data: Any) -> Any:
        return self.builder.bitcast(data, _BYTES)

    def _status(self, data: Any) -> Any:
        builder = self.builder
        places = (cgutils.gep_inbounds(builder, data, 0, len(self.record) - k) for k in (2, 1))
        code, excinfo = map(builder.load, places)
        is_error = cgutils.is_not_null(builder, code)
        is_ok = builder.not_(is_error)
        unknown = cgutils.false_bit
        return Status(
            code=code,
            is_ok=is_ok,
            is_none=unknown,
            is_error=is_error,
            is_stop_iteration=unknown,
            is_python_exc=unknown,
            is_user_exc=is_error,
            excinfoptr=excinfo,
        )

    def _kernel(self) -> Any:
        """int32_t kernel(void *data, int64_t part, int64_t thread): one chunk; nonzero if it fails."""
        module = self.builder.module
        builder, places = chunk_function(module, module.get_unique_name("chunk"), self.record)
        function = builder.function
        *values, length, size = map(builder.load, places[:-2])
        part, thread = function.args[1:]
        first = builder.mul(part, size)
        end = builder.add(first, size)
        last = builder.select(builder.icmp_signed("<", end, length), end, length)
        callee = self.context.declare_function(module, self.callee)
        values += [first, last, part, thread]
        status, _ = self.context.call_conv.call_function(
            builder, callee, types.none, self.kinds, values, attrs=("noinline",)
        )
        with cgutils.if_unlikely(builder, status.is_error):
            builder.store(status.code, places[-2])
            builder.store(status.excinfoptr, places[-1])
            builder.ret(_INT(1))
        builder.ret(_INT(0))
        return function
