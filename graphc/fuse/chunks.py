"""Which gates run in chunks of their outermost loop, how long a chunk is, and what it leaves behind.

Chunks depend on sizes alone, never on the number of threads, so that a result is bit by bit the same for any
number. Whoever runs a chunk adds up what it can on its own and leaves partial totals in memory; they are
combined in the order of the chunks when all are done:

- a sum of floats runs in parts in any case (see `graphc.codegen.totals`): the parts are kept, not added, and
  then added in the order in which one thread would have done it;
- a total over the outermost axis that is an array, such as a sum of columns, is one array a chunk. Its
  additions have another order then, so such a gate runs in chunks even in one thread;
- totals of integers and bools do not depend on the order.

Other totals of floats over the outermost loop keep their gate in one piece: a maximum, because either of two
zeros may come out of it, and a product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from graphc.fuse.columns import is_short
from graphc.fuse.roles import Role, role, space
from graphc.fuse.schedule import Loop, Schedule, inner_elements, is_local_total
from graphc.fuse.strips import Strip
from graphc.ir import Graph, Node
from graphc.runtime.parallel import MOST_CHUNKS
from graphc.types import Dimension, is_float, product

BLOCK = 1024
"""The most elements that are added up in one variable."""

CHUNK_COST = 1 << 16
"""What a chunk costs, about, in the unit of an op's ``cost``; measured, see docs/decisions.md."""

SMALLEST, LARGEST = 512, 1 << 15
"""Between so many elements of the innermost loop a chunk has, if its outermost loop is long enough."""

FEWEST_TERMS = 32
"""The fewest terms that a chunk adds, on average, to each number of an array that is added afterwards."""

MEMORY_COST = 2
"""What reading or writing one element of memory costs, in the same unit."""

GAP = 64
"""Elements between what two threads write, so that they share no cache line."""


class Kind(Enum):
    """How a total over the outermost loop is kept until all chunks are done."""

    RUNS = auto()
    """One partial sum of each run, or block of a run, of the innermost loop."""
    ELEMENTS = auto()
    """Every element: the loop that computes it has other loops in it."""
    NUMBERS = auto()
    """One number a chunk."""
    ARRAYS = auto()
    """An array of totals a chunk."""


@dataclass(frozen=True)
class Part:
    """The partial totals of one reduction: ``count`` is how many numbers they are at most.

    ``runs`` is the text of an expression for the number of runs, where that is known at the call.
    """

    node: Node
    kind: Kind
    count: Dimension
    runs: str = ""


@dataclass(frozen=True)
class Chunks:
    """The chunks of a gate: of ``length`` iterations each has ``size``, the last one what is left.

    ``size`` is the text of an expression in the named sizes. ``threads`` is how many may work on them.
    """

    length: Dimension
    size: str
    parts: tuple[Part, ...]
    threads: int

    def part_of(self, node: Node) -> Part | None:
        """The partial totals of a reduction, unless it is complete within every chunk."""
        return next((part for part in self.parts if part.node is node), None)


def is_long(loop: Loop) -> bool:
    """Whether an innermost loop may have more than `BLOCK` iterations."""
    return not has_loops(loop) and (not isinstance(loop.size, int) or loop.size > BLOCK)


def has_loops(loop: Loop) -> bool:
    """Whether there are loops in a loop that stay loops, as short ones do not: LLVM unrolls them."""
    return any(isinstance(step, Loop) and not is_unrolled(step) for step in loop.body)


def is_unrolled(loop: Loop) -> bool:
    """Whether a loop is so short that it is written out in the one around it, which is vectorised."""
    return is_short(loop.size) and not any(isinstance(step, Loop) for step in loop.body)


def blocks(loop: Loop) -> Dimension:
    """How many blocks, or strips, a long loop has at most."""
    block = loop.strip.shortest if loop.strip else BLOCK
    return (loop.size + block - 1) // block


def chunks(body: Graph, schedule: Schedule, threads: int) -> Chunks | None:
    """The chunks of a gate; None for one that runs in one piece."""
    if len(schedule.steps) != 1 or not isinstance(schedule.steps[0], Loop):
        return None
    loop = schedule.steps[0]
    totals = dict(_outer_totals(loop, schedule.flat))
    kinds = {node: _kind(node, inner, schedule.flat) for node, inner in totals.items()}
    if None in kinds.values() or not set(totals).issubset(body.outputs):
        return None
    if threads == 1 and Kind.ARRAYS not in kinds.values():
        return None
    elements = _elements(loop, schedule)
    if any(is_long(inner) and inner is loop for inner in totals.values()):
        elements = max(elements, BLOCK)
    inner = 1 if schedule.flat else inner_elements(loop)
    arrays = {product(node.shape) for node, kind in kinds.items() if kind is Kind.ARRAYS}
    fewest = _quotient(FEWEST_TERMS * sum(arrays), inner, 1) if arrays else 1
    least = _quotient(elements, inner, fewest)
    is_bounded = arrays or Kind.NUMBERS in kinds.values()
    size = _bounded(loop.size, least) if is_bounded else least
    if loop.strip:
        size = _whole(size, loop.strip)
    if isinstance(loop.size, int) and isinstance(size, int) and loop.size <= size:
        return None
    parts = tuple(
        _part(node, kind, totals[node], schedule.flat)
        for node, kind in kinds.items()
        if kind is not None
    )
    return Chunks(loop.size, str(size), parts, threads)


def _quotient(elements: Dimension, inner: Dimension, fewest: int | str) -> int | str:
    """How many iterations have so many elements, but no fewer, or the text of an expression for it."""
    if elements == inner * FEWEST_TERMS:
        return FEWEST_TERMS
    if isinstance(elements, int) and isinstance(inner, int) and isinstance(fewest, int):
        return max(fewest, elements // max(inner, 1))
    return f"parallel.size({elements}, {inner}, {fewest})"


def _bounded(length: Dimension, least: int | str) -> int | str:
    """At least so many iterations, and more where there would be too many chunks."""
    if isinstance(least, int) and isinstance(length, int):
        return max(least, -(-length // MOST_CHUNKS))
    return f"parallel.bounded({length}, {least})"


def _whole(size: int | str, strip: Strip) -> int | str:
    """A size of chunks that are made of whole strips."""
    if isinstance(size, int) and strip.is_known:
        return -(-size // strip.longest) * strip.longest
    return f"{strip}*(({size} + {strip} - 1)//{strip})"


def private_scratch(schedule: Schedule, chunked: Chunks | None) -> frozenset[Node]:
    """The scratch values that every iteration overwrites: each thread needs memory of its own for them."""
    is_shared = chunked is not None and chunked.threads > 1
    if not is_shared:
        return frozenset()
    found = {node for node, lacking in schedule.scratch if lacking}
    return schedule.in_strip | found


def private_size(schedule: Schedule, node: Node) -> Dimension:
    """The elements from one thread's memory for a scratch value to that of the next."""
    return product(schedule.shape(node)) + GAP


def _outer_totals(loop: Loop, flat: bool) -> Iterator[tuple[Node, Loop]]:
    """The reductions over the outermost axis, each with the loop that computes its elements."""
    for step in loop.body:
        if isinstance(step, Loop):
            yield from _outer_totals(step, flat)
        elif role(step) is Role.REDUCE and (flat or 0 in step.attrs["axes"]):
            yield step, loop


def _kind(node: Node, loop: Loop, flat: bool) -> Kind | None:
    if not flat and not is_local_total(node):
        return Kind.ARRAYS
    if not is_float(node.dtype):
        return Kind.NUMBERS
    if node.op.name != "sum":
        return None
    if loop.axis == 0 and has_loops(loop):
        return Kind.ELEMENTS
    return Kind.RUNS if loop.axis > 0 or is_long(loop) else None


def _part(node: Node, kind: Kind, loop: Loop, flat: bool) -> Part:
    count = _count(node, kind, loop, flat)
    if loop.strip and kind is Kind.RUNS and not loop.strip.is_known:
        # Strips as long as they are at this call.
        return Part(node, kind, count, f"({loop.size} + {loop.strip} - 1)//{loop.strip}")
    return Part(node, kind, count, str(count))


def _count(node: Node, kind: Kind, loop: Loop, flat: bool) -> Dimension:
    if kind in (Kind.ARRAYS, Kind.NUMBERS):
        return product(node.shape) * MOST_CHUNKS
    if flat:
        return blocks(loop)
    return product(run_shape(node, kind, loop))


def run_shape(node: Node, kind: Kind, loop: Loop) -> tuple[Dimension, ...]:
    """The shape of the partial sums of a reduction that is computed in ``loop``, not flat."""
    if kind is Kind.ELEMENTS:
        return space(node)
    return (*space(node)[:-1], blocks(loop) if is_long(loop) else 1)


def _elements(loop: Loop, schedule: Schedule) -> int:
    """The elements of a chunk: a power of two, fewer where an element costs more."""
    nodes = dict.fromkeys(loop.nodes())
    depth = 1 if schedule.flat else max(len(space(node)) for node in nodes)
    deepest = [n for n in nodes if schedule.flat or len(space(n)) == depth]
    read = {arg for node in deepest for arg in node.args if arg not in nodes}
    price = sum(node.op.cost for node in deepest) + MEMORY_COST * (len(read) + 1)
    elements = CHUNK_COST // max(price, 1)
    return min(max(1 << elements.bit_length() - 1, SMALLEST), LARGEST)
