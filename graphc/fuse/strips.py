"""Rows in strips: which parts of a loop over rows run for a few dozen rows each before the next part does.

A loop over rows is made of loops along the rows and of statements that compute one number a row. A logarithm
or an exponential among these takes as long for one row as a vector of them for eight. So the loop is cut
where such statements begin and end, and its parts take turns: each runs over a strip of rows, short enough to
stay in the cache from one part to the next. Loops over statements alone vectorise.

Strip-mining and loop distribution: Allen and Kennedy, "Optimizing Compilers for Modern Architectures"
(2001), chapters 5 and 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphc.fuse.access import Accesses, is_checked
from graphc.ir import Node
from graphc.types import Dimension

COSTLY = 8
"""What statements between the loops of a row must cost, as ops count it, to be a part of their own."""

DEAR = 4
"""What an op costs, at least, that is brought together with others like it."""

ELEMENTS = 4096
"""About so many elements of rows a strip has: 32 kB of float64."""

SHORT = 8
"""Rows of so many elements are read several at a time."""

SHORTEST, LONGEST = 16, 256
"""Between so many rows a strip has."""


@dataclass(frozen=True)
class Strip:
    """How many rows a strip has: ``longest``, or fewer if the size ``width`` of a row is known at the call.

    Then they are as many as make `ELEMENTS`, and one at least.
    """

    longest: int
    width: Dimension

    @property
    def is_known(self) -> bool:
        """Whether the size of a row, and so the length of a strip, is known when code is written."""
        return isinstance(self.width, int)

    @property
    def shortest(self) -> int:
        """The fewest rows that a strip has, but for the last one."""
        return self.longest if self.is_known else 1

    def __str__(self) -> str:
        if self.is_known:
            return str(self.longest)
        return f"accumulate.minimum({self.longest}, parallel.size({ELEMENTS}, {self.width}, 1))"


def strip_of(rows: Dimension, width: Dimension) -> Strip | None:
    """The strips of so many rows of so many elements; None where they would be too short."""
    if isinstance(rows, int) and rows < 2 * SHORTEST:
        return None
    if not isinstance(width, int):
        return Strip(LONGEST, width)
    fitting = ELEMENTS // max(width, 1)
    if fitting < SHORTEST:
        return None
    return Strip(min(1 << fitting.bit_length() - 1, LONGEST), width)


def parts(body: Sequence[Any], accesses: Accesses, are_short: bool) -> list[list[Any]]:
    """The body of a loop over rows, cut around statements that are worth vectorising; in order.

    If rows ``are_short`` every loop in it is a part: it is unrolled, and the loop over rows vectorised.
    """
    loops = [step for step in body if not isinstance(step, Node)]
    statements = [step for step in body if isinstance(step, Node)]
    slots = _slots(loops, statements, accesses)
    found: list[list[Any]] = []
    is_open = False
    for slot in range(len(loops) + 1):
        here = [node for node in statements if slots[node] == slot]
        for steps, is_apart in (
            *_cut(here, accesses, are_short),
            (loops[slot : slot + 1], are_short),
        ):
            if steps and is_open and not is_apart:
                found[-1] += steps
            elif steps:
                found.append(steps)
                is_open = not is_apart
    return found


def _slots(loops: Sequence[Any], statements: Sequence[Node], accesses: Accesses) -> dict[Node, int]:
    """Before which loop each statement runs: costly ones in as few places as possible.

    A statement can run where what it reads is there, until somebody reads it. The fewest places that meet
    all of these intervals are found by taking the ends of those that none meets yet, in order.
    """
    ready = {node: k + 1 for k, loop in enumerate(loops) for node in loop.nodes()}
    for node in statements:
        ready[node] = max((ready.get(producer, 0) for producer, _ in accesses.of(node)), default=0)
    needed = dict.fromkeys(statements, len(loops))
    readers = [(node, k) for k, loop in enumerate(loops) for node in loop.nodes()]
    for reader, k in (*readers, *((node, None) for node in reversed(statements))):
        place = needed[reader] if k is None else k
        needed.update((p, min(needed[p], place)) for p, _ in accesses.of(reader) if p in needed)
    places: list[int] = []
    for node in sorted(statements, key=needed.__getitem__):
        meets = any(ready[node] <= place <= needed[node] for place in places)
        if node.op.cost >= DEAR and not meets:
            places.append(needed[node])
    return {
        node: min(
            (place for place in places if ready[node] <= place <= needed[node]),
            default=ready[node],
        )
        for node in statements
    }


def _cut(run: list[Node], accesses: Accesses, are_short: bool) -> list[tuple[list[Node], bool]]:
    """Statements that follow each other as those that stay with a loop beside them, and those apart."""
    checked: set[Node] = set()
    for node in reversed(run):
        # A loop that raises an error does not vectorise.
        if node in checked or any(is_checked(index) for _, index in accesses.of(node)):
            checked.update((node, *(producer for producer, _ in accesses.of(node))))
    apart = [node for node in run if node not in checked]
    if not are_short and sum(node.op.cost for node in apart) < COSTLY:
        return [(run, False)]
    return [([node for node in run if node in checked], are_short), (apart, True)]
