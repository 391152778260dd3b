"""Where every intermediate array lives: one workspace, in which memory is used again when its value is dead.

Values are placed in the order in which they are computed, each into the free slot that fits best, which for
intervals is the greedy colouring (Poletto and Sarkar, "Linear Scan Register Allocation", TOPLAS 1999). Sizes
are polynomials, so whether one fits into another is known only where their difference is never negative; then
a slot grows or is shared, and otherwise there is a new one. A result may take the place of an operand that
dies in its gate, if the gate reads each element of it before it writes that of the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from graphc.dump import Names
from graphc.fuse.access import operands
from graphc.fuse.chunks import Part, chunks, private_scratch, private_size
from graphc.fuse.overlay import Reads
from graphc.fuse.roles import Role, role
from graphc.fuse.schedule import Schedule
from graphc.ir import Graph, Node
from graphc.types import Dimension, Size, product

ALIGNMENT = 64
"""Buffers start at multiples of this many bytes: a cache line, and the widest vector."""


@dataclass(frozen=True)
class Placement:
    """Where a value lies in the workspace, and from which step to which it is needed."""

    value: Node
    offset: Dimension
    size: Dimension
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """The places of all values, the bytes of the whole workspace, and results that replace an operand."""

    placements: tuple[Placement, ...]
    total: Dimension
    replaced: Mapping[Node, Node]

    def offsets(self) -> dict[Node, Dimension]:
        """Where each value starts, in bytes from the start of the workspace."""
        return {placement.value: placement.offset for placement in self.placements}


def memory_text(graph: Graph, plan: MemoryPlan) -> str:
    """The plan as text: a line a value, with its place, its bytes and the steps that need it."""
    names, steps = Names(graph), graph.nodes()
    heads, places = [], []
    for placement in plan.placements:
        heads.append(_head(placement.value, names))
        places.append(f"{placement.size} bytes at {placement.offset}")
    widths = [max(map(len, column), default=0) for column in (heads, places)]
    lines = [f"workspace of {graph.name}: {plan.total} bytes"]
    for head, place, placement in zip(heads, places, plan.placements, strict=True):
        first, last = (_title(steps[step], names) for step in (placement.first, placement.last))
        span = f"in {first}" if first == last else f"from {first} to {last}"
        replaced = plan.replaced.get(placement.value)
        over = f", in the place of %{names[replaced]}" if replaced is not None else ""
        lines.append(f"  {head:<{widths[0]}}  {place:<{widths[1]}}  {span}{over}")
    return "\n".join(lines)


def _head(value: Node, names: Names) -> str:
    return "partial totals" if "body" in value.attrs else f"%{names[value]}: {value.tensor_type}"


def _title(node: Node, names: Names) -> str:
    if "body" in node.attrs:
        return str(node.attrs["name"])
    return f"%{names[node]}" if node.shape else node.op.name


@dataclass
class _Slot:
    size: Dimension
    free_from: int = 0
    values: list[tuple[Node, Dimension, int, int]] = field(default_factory=list)


def computed_value(node: Node) -> Node:
    """The value behind a node: what an item selects, and what a view is a view of."""
    while True:
        if node.op.name == "item":
            node = node.args[0].attrs["body"].outputs[node.attrs["index"]]
        elif role(node) is Role.VIEW:
            node = node.args[0]
        else:
            return node


def padded_bytes(shape: Sequence[Dimension], itemsize: int) -> Dimension:
    """The bytes of an array, rounded up to the `ALIGNMENT`."""
    count = product(shape) * itemsize
    if isinstance(count, Size) and all(c % ALIGNMENT == 0 for _, c in count.terms):
        return count
    return (count + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def plan_memory(graph: Graph, threads: int = 1) -> MemoryPlan:
    """Places every value of a fused graph that is neither an input nor a result.

    The partial totals of a gate that runs in chunks lie side by side, at the place of the gate itself.
    """
    nodes = graph.nodes()
    last_use = _last_uses(nodes)
    outputs = {computed_value(node) for node in graph.outputs}
    slots: list[_Slot] = []
    slot_of: dict[Node, _Slot] = {}
    replaced: dict[Node, Node] = {}
    for step, node in enumerate(nodes):
        takes = _in_place(node, step, last_use, slot_of, outputs) if "body" in node.attrs else {}
        replaced |= takes
        for value, size, last in _allocations(node, step, last_use, outputs, threads):
            if value in takes:
                slot = slot_of[takes[value]]
            else:
                slot = _fitting(slots, size, step)
            slot.free_from = last + 1
            slot.values.append((value, size, step, last))
            slot_of[value] = slot
    return _laid_out(slots, replaced)


def _last_uses(nodes: Sequence[Node]) -> dict[Node, int]:
    found: dict[Node, int] = {}
    for step, node in enumerate(nodes):
        if role(node) is not Role.READ and node.op.name != "item":
            for arg in operands(node):
                found[computed_value(arg)] = step
    return found


def _allocations(
    node: Node, step: int, last_use: Mapping[Node, int], outputs: set[Node], threads: int
) -> Iterator[tuple[Node, Dimension, int]]:
    """The values that a step needs memory for: its results, and the scratch of a gate."""
    if "body" in node.attrs:
        for value in node.attrs["body"].outputs:
            if value not in outputs:
                size = padded_bytes(value.shape, value.dtype.itemsize)
                yield value, size, last_use.get(value, step)
        yield from ((*memory, step) for memory in _scratch(node, threads))
    elif role(node) is Role.KERNEL and node not in outputs:
        yield node, padded_bytes(node.shape, node.dtype.itemsize), last_use.get(node, step)


def _scratch(gate: Node, threads: int) -> Iterator[tuple[Node, Dimension]]:
    """What a gate needs memory for besides its results, with the bytes."""
    schedule: Schedule = gate.attrs["schedule"]
    chunked = chunks(gate.attrs["body"], schedule, threads)
    private = private_scratch(schedule, chunked)
    for value, _ in schedule.scratch:
        shape = schedule.shape(value)
        if value in private:
            shape = (threads, private_size(schedule, value))
        yield value, padded_bytes(shape, value.dtype.itemsize)
    if chunked and chunked.parts:
        yield gate, sum((part_bytes(part) for part in chunked.parts), 0)


def part_bytes(part: Part) -> Dimension:
    """The bytes of the partial totals of a reduction."""
    return padded_bytes((part.count,), part.node.dtype.itemsize)


def _fitting(slots: list[_Slot], size: Dimension, step: int) -> _Slot:
    """A free slot that has room, or can grow to it, or else a new one."""
    free = [slot for slot in slots if slot.free_from <= step]
    roomy = [slot for slot in free if _at_least(slot.size, size)]
    if roomy:
        return min(roomy, key=lambda slot: (_nominal(slot.size), slots.index(slot)))
    growing = [slot for slot in free if _at_least(size, slot.size)]
    if growing:
        slot = max(growing, key=lambda slot: (_nominal(slot.size), -slots.index(slot)))
        slot.size = size
        return slot
    slots.append(_Slot(size))
    return slots[-1]


def _at_least(one: Dimension, other: Dimension) -> bool:
    difference = one - other
    return difference >= 0 if isinstance(difference, int) else difference.never_negative()


def _nominal(size: Dimension) -> int:
    return size if isinstance(size, int) else size.evaluate(dict.fromkeys(size.names(), 256))


def _laid_out(slots: Sequence[_Slot], replaced: Mapping[Node, Node]) -> MemoryPlan:
    offset: Dimension = 0
    placements: list[Placement] = []
    # Known sizes come first, so that few offsets depend on sizes.
    for slot in sorted(slots, key=lambda slot: isinstance(slot.size, Size)):
        placements += [Placement(v, offset, size, a, b) for v, size, a, b in slot.values]
        offset = offset + slot.size
    placements.sort(key=lambda placement: placement.first)
    return MemoryPlan(tuple(placements), offset, replaced)


# Results in the place of operands.


def _in_place(
    gate: Node,
    step: int,
    last_use: Mapping[Node, int],
    slot_of: Mapping[Node, _Slot],
    outputs: set[Node],
) -> dict[Node, Node]:
    """Results of a gate, each with the operand that is never needed again and whose memory it takes."""
    body: Graph = gate.attrs["body"]
    times = Counter(map(computed_value, gate.args))
    dying = {
        computed_value(arg): inner
        for inner, arg in zip(body.inputs, gate.args, strict=True)
        if last_use.get(computed_value(arg)) == step
        and computed_value(arg) in slot_of
        and times[computed_value(arg)] == 1
    }
    found: dict[Node, Node] = {}
    if not dying:
        return found
    schedule: Schedule = gate.attrs["schedule"]
    order = list(schedule.nodes())
    reads = Reads(order)
    guest_of = {result: guest for guest, result in schedule.hosted}
    for result in body.outputs:
        if result in outputs or role(result) is not Role.LOOP:
            continue
        written = order.index(guest_of.get(result, result))
        for operand, inner in dying.items():
            if operand not in found.values() and reads.may_replace(inner, result, written):
                found[result] = operand
                break
    return found
