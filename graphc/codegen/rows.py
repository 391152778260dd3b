"""Which loops along rows of known length LLVM vectorises as they are, instead of unrolling them first."""

from __future__ import annotations

from collections.abc import Iterable

from graphc.codegen.totals import Total
from graphc.fuse.chunks import has_loops
from graphc.fuse.schedule import Loop

VECTOR = 64
"""The bytes of the longest vectors."""

UNROLLED = 128
"""The most iterations of a loop that LLVM may unroll."""

MASKED = 16
"""A loop of fewer iterations LLVM vectorises with a mask for those that do not fill a vector."""

INTERLEAVED = 8
"""The longest rows of which LLVM reads several at once, as vectors that it shuffles."""


def stays_rolled(loop: Loop, totals: Iterable[Total]) -> bool:
    """Whether a loop along a row that it reads in order is worth vectorising by itself.

    ``totals`` are those of its reductions.
    """
    size = loop.size
    if not isinstance(size, int) or size > UNROLLED or has_loops(loop) or loop.axis == 0:
        return False
    width = size * min(node.dtype.itemsize for node in loop.nodes())
    if any(not total.is_variable for total in totals):
        # The mask of a vector that is not full would keep totals out of registers.
        return size >= MASKED or width % VECTOR == 0
    return size > INTERLEAVED or width >= VECTOR
