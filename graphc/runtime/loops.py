"""`rolled`: ranges whose loops LLVM vectorises as they are.

LLVM unrolls a loop of few iterations, if their number is known, before it looks for loops to vectorise.
Then it vectorises the loop around it, whose reads are a row apart, or nothing.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

__all__ = ["not_unrolled", "rolled"]


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


def not_unrolled(module: Any) -> Any:
    """The metadata of the jump that closes a loop which is not unrolled before it is vectorised."""

    def node(name: str, *values: Any) -> Any:
        return module.add_metadata([ir.MetaDataString(module, name), *values])

    done = node("llvm.loop.isvectorized", ir.Constant(ir.IntType(32), 1))
    # What the vectoriser leaves may be unrolled.
    options = [node("llvm.loop.unroll.disable"), node("llvm.loop.vectorize.followup_all", done)]
    return _LoopIdentity(module, options, name=str(len(module.metadata)))
