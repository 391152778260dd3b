"""Products by several threads: of blocks of the result, rows or columns of it, or of a part of a stack.

The kernels sum every element in one order, whichever block it is in, so results are bit by bit the same for
any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils

from .parallel import chunk_function, larger, launch, stored_record

__all__ = ["BLOCKS", "Call", "emit_blocks", "emit_parts"]

_SIZE = cgutils.intp_t

LEAST_WORK = 2**17
"""Terms of all sums of a block, at least: some microseconds. Measured, see docs/decisions.md."""
BLOCKS = 4
"""Blocks for each thread, so that one that is held up leaves blocks to others."""


class Call(NamedTuple):
    """The arguments of a kernel: see `graphc.runtime.tiles.Tiles.broadcast`."""

    a: Any
    b: Any
    out: Any
    rows: Any
    inner: Any
    columns: Any
    a_row: Any
    a_term: Any
    b_term: Any
    b_column: Any
    out_row: Any


def emit_blocks(builder: Any, kernel: Any, call: Call, tile: tuple[int, int], threads: int) -> None:
    """Emit the call of a kernel, in blocks if several threads may take them.

    A block has whole tiles of so many rows and columns, and at least `LEAST_WORK`.
    """
    if threads == 1:
        builder.call(kernel, call)
        return
    height, width = map(_SIZE, tile)
    high, wide = _quotient(builder, call.rows, height), _quotient(builder, call.columns, width)
    by_rows = builder.icmp_signed(">=", high, wide)
    count = builder.select(by_rows, high, wide)
    one = builder.select(by_rows, builder.mul(height, call.columns), builder.mul(width, call.rows))
    fewest = _quotient(builder, _SIZE(LEAST_WORK), builder.mul(one, call.inner))
    shared = _quotient(builder, count, _SIZE(BLOCKS * threads))
    tiles = larger(builder, fewest, shared)
    height = builder.select(by_rows, builder.mul(tiles, height), call.rows)
    width = builder.select(by_rows, call.columns, builder.mul(tiles, width))
    values = [*call, height, width]
    function = _block_function(builder.module, kernel, values)
    parts = _quotient(builder, count, tiles)
    launch(builder, function, stored_record(builder, values), parts, threads)


def emit_parts(
    builder: Any,
    values: Sequence[Any],
    count: Any,
    work: Any,
    threads: int,
    body: Callable[[Any, Sequence[Any], Any, Any], None],
) -> None:
    """Emit ``body(builder, values, first, last)`` for parts of a range, taken by several threads.

    ``values`` are what it needs, and ``work`` are the terms of each of ``count`` products.
    """
    fewest = _quotient(builder, _SIZE(LEAST_WORK), larger(builder, work, _SIZE(1)))
    size = larger(builder, fewest, _quotient(builder, count, _SIZE(BLOCKS * threads)))
    passed = [value for value in (*values, size, count) if not isinstance(value, ir.Constant)]
    name = builder.module.get_unique_name("parts")
    inside, places = chunk_function(builder.module, name, passed)
    loaded = iter([inside.load(place) for place in places])
    # What is known stays so, and decides which kernels are compiled.
    *known, size_inside, count_inside = (
        value if isinstance(value, ir.Constant) else next(loaded)
        for value in (*values, size, count)
    )
    first = inside.mul(inside.function.args[1], size_inside)
    last = _smaller(inside, inside.add(first, size_inside), count_inside)
    body(inside, known, first, last)
    inside.ret(ir.IntType(32)(0))
    parts = _quotient(builder, count, size)
    launch(builder, inside.function, stored_record(builder, passed), parts, threads)


def _quotient(builder: Any, x: Any, y: Any) -> Any:
    """The quotient of positive numbers, rounded up."""
    return builder.udiv(builder.add(x, builder.sub(y, _SIZE(1))), y)


def _block_function(module: Any, kernel: Any, values: list[Any]) -> Any:
    """The function that computes one block; one of the two lengths of a block is that of the result."""
    name = f"{kernel.name}_block"
    if name in module.globals:
        return module.globals[name]
    builder, places = chunk_function(module, name, values)
    *arguments, height, width = map(builder.load, places)
    call, part = Call(*arguments), builder.function.args[1]
    by_rows = builder.icmp_signed("==", width, call.columns)
    row = builder.select(by_rows, builder.mul(part, height), _SIZE(0))
    column = builder.select(by_rows, _SIZE(0), builder.mul(part, width))
    block = call._replace(
        a=builder.gep(call.a, [builder.mul(row, call.a_row)]),
        b=builder.gep(call.b, [builder.mul(column, call.b_column)]),
        out=builder.gep(call.out, [builder.add(builder.mul(row, call.out_row), column)]),
        rows=_smaller(builder, height, builder.sub(call.rows, row)),
        columns=_smaller(builder, width, builder.sub(call.columns, column)),
    )
    builder.call(kernel, block)
    builder.ret(ir.IntType(32)(0))
    return builder.function


def _smaller(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.icmp_signed("<", one, other), one, other)
