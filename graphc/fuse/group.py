"""Maximal gates: which elementwise nodes and reductions share an outermost loop.

Every loop node has a level. A value that is complete only behind its outermost loop (a total over that axis,
a value that is read at other rows, what a kernel computes) has its readers on a higher level; nodes of one
level and one outermost axis never wait for each other's arrays, so grouping them cannot make a cycle. Groups
are the connected parts: nodes that feed each other in one iteration, or that read a common array in equal
spaces.
`graphc.fuse.schedule` builds the loops inside a group by the same rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from graphc.dump import is_number
from graphc.fuse.access import Accesses, Index, operands, readers, stays_inside
from graphc.fuse.order import connected, in_order
from graphc.fuse.recompute import BYTES_PER_OPERATION, sources, values_to_recompute
from graphc.fuse.roles import Role, role, space
from graphc.fuse.schedule import schedule, shares_loop, traffic, work
from graphc.ir import NOTES, Graph, Node, make_node
from graphc.ops.fused import fused, item

LARGEST_GATE = 128
"""Above this many statements a loop takes more than in proportion to compile, and to run."""


Users: TypeAlias = "dict[Node, list[Node | None]]"


def _levels(nodes: Sequence[Node], users: Users, accesses: Accesses) -> dict[Node, int]:
    """The level of every loop node and reduction."""
    level: dict[Node, int] = {}
    ready: dict[Node, int] = {}
    for node in nodes:
        if role(node) in (Role.LOOP, Role.REDUCE):
            waits = (
                level[producer] if _in_one_loop(producer, index, node, level) else ready[producer]
                for producer, index in accesses.of(node)
            )
            level[node] = max(waits, default=0)
            ready[node] = level[node] + 1
        else:
            ready[node] = max((ready[arg] for arg in node.args), default=0)
    _postpone(nodes, users, level, accesses)
    return level


def _in_one_loop(producer: Node, index: Index, node: Node, level: dict[Node, int]) -> bool:
    """Whether ``node`` may read ``producer`` in the iteration of an outermost loop that computes it."""
    return producer in level and shares_loop(producer, node, 0) and stays_inside(producer, index, 0)


def _postpone(
    nodes: Sequence[Node], users: Users, level: dict[Node, int], accesses: Accesses
) -> None:
    """Moves a node to the level of its readers where it need not be stored for them then."""
    readers: dict[Node, list[tuple[Node, Index]]] = {node: [] for node in level}
    for node in level:
        for producer, index in accesses.of(node):
            if producer in readers:
                readers[producer].append((node, index))
    for node in reversed(list(level)):
        movable = role(node) is Role.LOOP and readers[node] and _only_loops_read(node, users)
        if movable and all(_in_one_loop(node, i, r, level) for r, i in readers[node]):
            fed_by_it_alone = all(
                users[arg] == [node] for arg in node.args if level.get(arg) == level[node]
            )
            if fed_by_it_alone:
                level[node] = min(level[reader] for reader, _ in readers[node])


def _only_loops_read(node: Node, users: Users) -> bool:
    """Whether neither the caller nor a kernel, a view or a scalar reads a node, also through index maps."""
    pending = list(users[node])
    while pending:
        user = pending.pop()
        if user is None or role(user) not in (Role.LOOP, Role.REDUCE, Role.READ):
            return False
        if role(user) is Role.READ:
            pending.extend(users[user])
    return True


def _groups(nodes: Sequence[Node], users: Users) -> list[list[Node]]:
    accesses = Accesses()
    level = _levels(nodes, users, accesses)
    links: list[tuple[object, object]] = []
    for node in level:
        links.append((node, node))
        place = (space(node), level[node])
        for producer, index in accesses.of(node):
            if level.get(producer) == level[node] and _in_one_loop(producer, index, node, level):
                links.append((node, producer))
        links += ((node, (place, source)) for source in sources(node))
    position = {node: i for i, node in enumerate(nodes)}
    groups = [
        sorted((n for n in part if isinstance(n, Node)), key=position.__getitem__)
        for part in connected(links)
    ]
    pieces = [
        group[start : start + LARGEST_GATE]
        for group in groups
        for start in range(0, len(group), LARGEST_GATE)
    ]
    return sorted(pieces, key=lambda group: position[group[0]])


def _externals(group: set[Node], ordered: Sequence[Node]) -> tuple[Node, ...]:
    """What the group reads and does not compute: arrays and 0-d values, in order of first use."""
    read = (arg for node in ordered for arg in operands(node))
    return tuple(dict.fromkeys(arg for arg in read if arg not in group and not is_number(arg)))


def _users(graph: Graph) -> Users:
    """Who reads each node; None stands for the caller, who reads the outputs."""
    users: Users = {node: [*found] for node, found in readers(graph).items()}
    for output in graph.outputs:
        users[output].append(None)
    return users


def _title(results: Sequence[Node], body: Sequence[Node]) -> str:
    """A name for the gate: what it computes, in the user's words where there are any."""
    named = [NOTES.names[node] for node in results if node in NOTES.names]
    if named:
        return "_".join(named[:3])
    silent = ("copy", "cast", "broadcast_to", "rounded")
    ops = [node.op.name for node in body if node.op.name not in silent]
    return "_".join(dict.fromkeys(ops[-3:])) or "copy"


def fuse(graph: Graph, bytes_per_operation: float = BYTES_PER_OPERATION) -> Graph:
    """The graph in which every group of loop nodes is one `fused` node with a body.

    A value that another gate needs is stored, or computed again there, whichever costs less;
    ``bytes_per_operation`` is what an operation costs, see `graphc.fuse.recompute`.
    """
    nodes = graph.nodes()
    users = _users(graph)
    groups = _groups(nodes, users)
    gate_of: dict[Node, int] = {n: k for k, group in enumerate(groups) for n in group}
    unit_of: dict[Node, int] = {}
    for node in nodes:
        # An index map belongs to whoever reads through it.
        if role(node) is not Role.READ:
            unit_of[node] = gate_of.get(node, len(groups) + len(unit_of))
    order = _order(unit_of)
    # Of a gate that has been cut nothing is computed again: the pieces would grow to what was cut.
    stored = {n for group in groups if len(group) == LARGEST_GATE for n in group}
    recomputed = values_to_recompute(nodes, users, gate_of, stored, bytes_per_operation)
    _keep_gates_short(groups, recomputed)
    bodies = _bodies(graph, groups, order, recomputed, unit_of)
    single = {unit: node for node, unit in unit_of.items() if node not in gate_of}
    new: dict[Node, Node] = {}
    for unit in order:
        if unit in bodies:
            _make_gate(bodies[unit], new)
        elif unit in single:
            _rebuild(single[unit], new)
    return Graph(graph.name, graph.inputs, tuple(new[output] for output in graph.outputs))


def _rebuild(node: Node, new: dict[Node, Node]) -> Node:
    """The node on the new operands, through the index maps by which it reads them."""
    if node not in new:
        args = tuple(_rebuild(arg, new) for arg in node.args)
        new[node] = node if args == node.args else make_node(node.op, args, node.attrs)
        NOTES.carry(node, new[node])
    return new[node]


def _closure(outputs: Iterable[Node], group: set[Node], recomputed: set[Node]) -> set[Node]:
    """What a gate computes for ``outputs``: nodes of its own, and those that it computes again."""
    found = set(outputs)
    pending = list(found)
    while pending:
        node = pending.pop()
        for arg in operands(node):
            if (arg in group or arg in recomputed) and arg not in found:
                found.add(arg)
                pending.append(arg)
    return found


def _keep_gates_short(groups: Sequence[Sequence[Node]], recomputed: set[Node]) -> None:
    """Takes out of ``recomputed`` what would make a gate longer than `LARGEST_GATE`."""
    for group in groups:
        computed = _closure(group, set(group), recomputed)
        if len(computed) > LARGEST_GATE:
            recomputed -= computed.difference(group)


def _bodies(
    graph: Graph,
    groups: Sequence[Sequence[Node]],
    order: Sequence[int],
    recomputed: set[Node],
    unit_of: dict[Node, int],
) -> dict[int, Graph]:
    """The body of every gate of which something is needed; readers tell what that is, so they come first."""
    nodes = graph.nodes()
    position = {node: i for i, node in enumerate(nodes)}
    needed = set(graph.outputs)
    single = (node for node, unit in unit_of.items() if unit >= len(groups))
    needed.update(arg for node in single for arg in operands(node))
    bodies: dict[int, Graph] = {}
    for unit in reversed(order):
        results = tuple(n for n in groups[unit] if n in needed) if unit < len(groups) else ()
        if results:
            computed = _closure(results, set(groups[unit]), recomputed)
            ordered = sorted(computed, key=position.__getitem__)
            externals = _externals(computed, ordered)
            needed.update(externals)
            bodies[unit] = Graph(_title(results, ordered), externals, results)
    return bodies


def _order(unit_of: dict[Node, int]) -> list[int]:
    before: dict[int, set[int]] = {unit: set() for unit in unit_of.values()}
    for node, unit in unit_of.items():
        before[unit].update(unit_of[arg] for arg in operands(node))
        before[unit].discard(unit)
    return in_order(before)


def _make_gate(body: Graph, new: dict[Node, Node]) -> None:
    inner = Graph("body", body.inputs, body.outputs)
    operands = (new[arg] for arg in body.inputs)
    loops = schedule(inner)
    cost = f"{traffic(inner)} bytes, {work(loops.steps)} operations"
    gate = fused(*operands, body=inner, name=body.name, schedule=loops, cost=cost)
    for index, result in enumerate(body.outputs):
        new[result] = item(gate, index=index)
        NOTES.carry(result, new[result])
