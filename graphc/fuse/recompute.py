"""Which values that cross from one gate to another are stored, and which each reader computes again.

The choice is a minimum cut, as in Jain et al., "Checkmate: Breaking the Memory Wall with Optimal Tensor
Rematerialization" (MLSys 2020) and in the partitioners of forward and backward graphs. A value v is two
nodes, v_in -> v_out, joined by what storing v costs; an edge from the source to v_in has what computing it
again costs; whoever computes v again needs its operands (operand_out -> v_in, uncuttable), and what another
gate reads is needed (v_out -> sink, uncuttable). Values on the sink's side of the cut are computed again.

Both costs are in bytes moved, at a nominal size of every named dimension:

- storing is one write, and a read in every other gate that needs the value. A value that is an array in any
  case (an input, a reduction, an operand of a kernel, a result) costs only the reads in gates that do not
  read it already;
- computing again is the op's ``cost`` in every such gate, converted by `BYTES_PER_OPERATION`.

The gates that can come to need a value are counted before it is known which of them will, so where only some
do, both costs are too high by the same factor.

Only an elementwise value that all its readers read at their own index is ever computed again: a gate's loop
has one index. A value that somebody reads through an index map is stored.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, combinations
from typing import Any, TypeAlias

from graphc.dump import is_number
from graphc.fuse.access import operands
from graphc.fuse.order import connected
from graphc.fuse.roles import Role, role
from graphc.ir import Node
from graphc.types import Size, product

NOMINAL_SIZE = 256
"""Stands for every named dimension when costs are compared."""

BYTES_PER_OPERATION = 2.0
"""How many bytes are moved in the time of one operation of ``cost`` 1; measured, see docs/decisions.md."""

FEW = 6
"""So many open choices are all looked at."""

Users: TypeAlias = "Mapping[Node, Sequence[Node | None]]"


@dataclass(frozen=True)
class Value:
    """What a value costs: to store it, or to compute it again from ``operands`` (keys of other values)."""

    store: float
    recompute: float
    operands: tuple[Hashable, ...] = ()
    needed: bool = False


def cost(values: Mapping[Any, Value], recomputed: Iterable[Any]) -> float:
    """The cost of a choice: of what is needed directly, or as an operand of what is computed again.

    >>> values = {"x": Value(0, math.inf), "y": Value(8, 3, ("x",), needed=True)}
    >>> cost(values, []), cost(values, ["y"])
    (8.0, 3.0)
    """
    chosen = set(recomputed)
    pending = [key for key, value in values.items() if value.needed]
    reached = set(pending)
    total = 0.0
    while pending:
        value = values[key := pending.pop()]
        if key not in chosen:
            total += value.store
            continue
        total += value.recompute
        pending += set(value.operands) - reached
        reached.update(value.operands)
    return total


def cheapest(values: dict[Any, Value]) -> set[Any]:
    """The values to compute again so that the whole costs least; ``values`` has operands before users.

    >>> sorted(cheapest({"x": Value(0, math.inf), "y": Value(8, 3, ("x",), needed=True)}))
    ['y']
    """
    undecided = _undecided(values)
    links: list[tuple[Any, Any]] = [(key, key) for key in undecided]
    for key, value in undecided.items():
        # Two values are weighed together where their choices have an operand's cost in common.
        paid = (o for o in value.operands if o in undecided or not _is_free(values[o]))
        links += ((key, operand) for operand in paid)
    found: set[Any] = set()
    for part in connected(links):
        keys = set(part).union(*(undecided[key].operands for key in part if key in undecided))
        stored = {k: replace(values[k], recompute=math.inf, operands=()) for k in keys}
        open_ = {k: undecided[k] for k in part if k in undecided}
        choose = best_of_all if len(open_) <= FEW else minimum_cut
        found |= choose(stored | open_)
    return {key for key in values if key in found}


def _is_free(value: Value) -> bool:
    """Whether a value that is stored for certain costs those who use it nothing."""
    return value.needed or value.store == 0


def _undecided(values: dict[Any, Value]) -> dict[Any, Value]:
    """The values for which the cut must be found, without those that are stored for certain.

    No more flow goes through a value than its users can take, and what the edge from the source supplies
    of it needs no operand. Where that edge supplies all, some minimum cut stores the value.
    """
    taken = {key: math.inf if value.needed else 0.0 for key, value in values.items()}
    found: dict[Any, Value] = {}
    for key, value in reversed(values.items()):
        from_operands = min(taken[key], value.store) - value.recompute
        if from_operands > 0:
            found[key] = value
            for operand in value.operands:
                taken[operand] += from_operands
    return found


def best_of_all(values: Mapping[Any, Value]) -> set[Any]:
    """What `minimum_cut` finds, by looking at every choice; of the cheapest it is the smallest, too."""
    can_be = [key for key, value in values.items() if value.recompute < math.inf]
    subsets = chain.from_iterable(combinations(can_be, n) for n in range(len(can_be) + 1))
    return set(min(subsets, key=partial(cost, values)))


def minimum_cut(values: Mapping[Any, Value]) -> set[Any]:
    """The smallest of the cheapest choices, by a flow."""
    # Not at the top of this file: most programs have few open choices, and importing it takes 0.07 s.
    networkx = importlib.import_module("networkx")
    network = networkx.DiGraph()
    network.add_nodes_from(("source", "sink"))
    for key, value in values.items():
        network.add_edge((key, "in"), (key, "out"), capacity=value.store)
        network.add_edge("source", (key, "in"), capacity=value.recompute)
        network.add_edges_from(((operand, "out"), (key, "in")) for operand in value.operands)
        if value.needed:
            network.add_edge((key, "out"), "sink")
    _, (_, sink_side) = networkx.minimum_cut(network, "source", "sink")
    return {key for key in values if (key, "in") in sink_side}


def values_to_recompute(
    nodes: Sequence[Node],
    users: Users,
    gate_of: Mapping[Node, int],
    stored: Set[Node] = frozenset(),
    bytes_per_operation: float = BYTES_PER_OPERATION,
) -> set[Node]:
    """The elementwise nodes that gates other than their own compute again instead of reading an array.

    ``nodes`` is the graph in topological order, ``users`` tells who reads each node (None is the caller),
    ``gate_of`` numbers the gate of every loop node and reduction; ``stored`` are nodes that are never
    computed again.
    """
    reads = {node: _arrays_read(node) for node in nodes if node in gate_of}
    candidates = {n for n in reads if n not in stored and _is_candidate(n, users, gate_of)}
    wanted = _gates_in_need(reads, gate_of, candidates)
    reading = _reading_gates(reads, gate_of)
    values: dict[Node, Value] = {}
    for node in nodes:
        if node in candidates:
            many = wanted[node].bit_count()
            store = _bytes(node) * (1 + many)
            recompute = many * node.op.cost * _elements(node) * bytes_per_operation
            needed = any(gate_of[user] != gate_of[node] for user in users[node] if user)
            values[node] = Value(store, recompute, reads[node], needed)
        elif node in wanted:
            new_readers = wanted[node] & ~reading.get(node, 0)
            values[node] = Value(_bytes(node) * new_readers.bit_count(), math.inf)
    return cheapest(values)


def sources(node: Node) -> Iterator[Node]:
    """The arrays that ``node`` reads, at its own index or through any chain of index maps."""
    return (arg for arg in operands(node) if arg.shape != ())


def _arrays_read(node: Node) -> tuple[Node, ...]:
    return tuple(dict.fromkeys(arg for arg in sources(node) if not is_number(arg)))


def _is_candidate(node: Node, users: Users, gate_of: Mapping[Node, int]) -> bool:
    """Whether every reader of an elementwise node is a loop or a reduction over its elements."""
    return role(node) is Role.LOOP and all(user in gate_of for user in users[node])


def _reading_gates(
    reads: dict[Node, tuple[Node, ...]], gate_of: Mapping[Node, int]
) -> dict[Node, int]:
    """The gates that read each array, as the bits of a number."""
    reading: dict[Node, int] = {}
    for node, read in reads.items():
        for source in read:
            reading[source] = reading.get(source, 0) | 1 << gate_of[node]
    return reading


def _gates_in_need(
    reads: dict[Node, tuple[Node, ...]], gate_of: Mapping[Node, int], candidates: set[Node]
) -> dict[Node, int]:
    """The gates that need a value, but its own, when all candidates are computed again; as bits."""
    wanted: dict[Node, int] = {}
    for node in reversed(reads):
        own = 1 << gate_of[node]
        beyond = wanted[node] = wanted.get(node, 0) & ~own
        for source in reads[node]:
            wanted[source] = wanted.get(source, 0) | own | (beyond if node in candidates else 0)
    return wanted


def _elements(node: Node) -> int:
    count = product(node.shape)
    if isinstance(count, Size):
        count = count.evaluate(dict.fromkeys(count.names(), NOMINAL_SIZE))
    return max(count, 1)


def _bytes(node: Node) -> int:
    return _elements(node) * node.dtype.itemsize
