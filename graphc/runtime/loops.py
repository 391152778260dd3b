"""What LLVM is told of loops.

`rolled` is for ranges whose loops LLVM vectorises as they are. It unrolls a loop of few iterations, if their
number is known, before it looks for loops to vectorise. Then it vectorises the loop around it, whose reads
are a row apart, or nothing.

How many vectors it computes side by side it decides by how many registers they need, and takes one or two
where it should be more. While one vector waits for its last result, a processor looks ahead for other work:
some hundred instructions, which is not far enough for the next vector if that comes later in the code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from llvmlite import ir

__all__ = ["COPIES", "hints", "is_short", "rolled", "work"]

SHORT = 24
"""Loops of fewer instructions are left to LLVM."""
LONG = 256
"""From so many on it is two vectors instead of four, which would take a third longer to compile."""
FEW = 256
"""A known number of iterations below this is left to LLVM, which looks at what remains of it."""
COPIES = 16
"""More iterations than that stay a loop."""
SIZE = 1024
"""So many operations in all iterations are written out."""
_COMPUTING = (ast.BinOp, ast.Call, ast.Compare, ast.Subscript, ast.UnaryOp)
_MOVES = frozenset({"alloca", "br", "getelementptr", "load", "store"})


def rolled(count: int) -> range:
    """Return `range(count)`; a loop over it is not unrolled before it is vectorised.

    >>> list(rolled(3))
    [0, 1, 2]
    """
    return range(count)


def is_short(body: Iterable[ast.AST], count: int) -> bool:
    """Whether so many iterations of a loop are few enough instructions to be written out one by one.

    LLVM writes them out, too, but only after it has moved out of the loop around them what is the same at
    each turn, and looks back no further than some hundred instructions to see that a number was read already.
    ``body`` are all parts of the syntax of an iteration.
    """
    parts = list(body)
    if any(isinstance(part, ast.For | ast.If | ast.IfExp) for part in parts):
        return False
    return count <= COPIES and count * sum(isinstance(part, _COMPUTING) for part in parts) <= SIZE


class _LoopIdentity(ir.values.MDValue):  # type: ignore[misc]
    """A node of metadata that begins with itself, and so is like no other: what a loop is known by."""

    def descr(self, buf: list[str]) -> None:
        operands = ", ".join(each.get_reference() for each in (self, *self.operands))
        buf.append(f"distinct !{{ {operands} }}\n")

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def work(function: Any) -> int:
    """How many instructions of a function of LLVM compute something."""
    return sum(
        each.opname not in _MOVES for block in function.blocks for each in block.instructions
    )


def hints(module: Any, is_rolled: bool, count: Any, length: int) -> Any:
    """The metadata of the jump that closes a loop in which so many instructions compute, or None.

    ``count`` is how often it runs, a value of LLVM.
    """
    options = _not_unrolled(module) if is_rolled else []
    if length >= SHORT and not (isinstance(count, ir.Constant) and count.constant < FEW):
        vectors = 2 if length >= LONG else 4
        options.append(_option(module, "llvm.loop.interleave.count", vectors))
    return _LoopIdentity(module, options, name=str(len(module.metadata))) if options else None


def _option(module: Any, name: str, *values: int) -> Any:
    numbers = [ir.Constant(ir.IntType(32), value) for value in values]
    return module.add_metadata([ir.MetaDataString(module, name), *numbers])


def _not_unrolled(module: Any) -> list[Any]:
    done = _option(module, "llvm.loop.isvectorized", 1)
    # What the vectoriser leaves may be unrolled.
    followup = module.add_metadata(
        [ir.MetaDataString(module, "llvm.loop.vectorize.followup_all"), done]
    )
    return [_option(module, "llvm.loop.unroll.disable"), followup]
