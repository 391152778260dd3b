"""What LLVM is told of loops.

`rolled` is for ranges whose loops LLVM vectorises as they are. It unrolls a loop of few iterations, if their
number is known, before it looks for loops to vectorise. Then it vectorises the loop around it, whose reads
are a row apart, or nothing.

Of a loop with a long body it would compute one vector at a time, which is told to be two.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

__all__ = ["hints", "rolled", "work"]

LONG = 128
"""From so many instructions on two vectors are computed side by side: while one waits for its last result, a
processor that looks some 300 instructions ahead would not reach what it could do for the next."""
_MOVES = frozenset({"alloca", "br", "getelementptr", "load", "store"})


def rolled(count: int) -> range:
    """Return `range(count)`; a loop over it is not unrolled before it is vectorised.

    >>> list(rolled(3))
    [0, 1, 2]
    """
    return range(count)


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


def hints(module: Any, is_rolled: bool, length: int) -> Any:
    """The metadata of the jump that closes a loop in which so many instructions compute, or None."""
    options = _not_unrolled(module) if is_rolled else []
    if length >= LONG:
        options.append(_option(module, "llvm.loop.interleave.count", 2))
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
