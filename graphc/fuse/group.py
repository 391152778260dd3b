"""Maximal loop nests: which elementwise nodes and reductions run as one gate.

Every loop node has an iteration space and a level. A value that another space or a kernel reads must be
complete first, so its readers sit on a higher level; nodes of one space and one level never wait for each
other's arrays, so grouping them cannot make a cycle. Groups are the connected parts of one space and level:
nodes that feed each other, or that read a common array.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import networkx as nx

from graphc.dump import is_number
from graphc.fuse.recompute import BYTES_PER_OPERATION, sources, values_to_recompute
from graphc.fuse.roles import Role, role, space
from graphc.ir import NOTES, Graph, Node, make_node
from graphc.ops.fused import fused, item
from graphc.types import Shape

LARGEST_GATE = 1000
"""Above this many statements the time to compile one loop nest grows faster than its length."""


Users: TypeAlias = "dict[Node, list[Node | None]]"


def _levels(nodes: Sequence[Node], users: Users) -> dict[Node, int]:
    """The level of every loop node and reduction."""
    level: dict[Node, int] = {}
    ready: dict[Node, int] = {}
    for node in nodes:
        if role(node) in (Role.LOOP, Role.REDUCE):
            here = space(node)
            level[node] = max((_earliest(arg, here, level, ready) for arg in node.args), default=0)
            ready[node] = level[node] + 1
        else:
            ready[node] = max((ready[arg] for arg in node.args), default=0)
    _postpone(nodes, users, level)
    return level


def _postpone(nodes: Sequence[Node], users: Users, level: dict[Node, int]) -> None:
    """Moves a node to the level of its readers where it need not be stored for them then."""
    for node in reversed(nodes):
        readers = users[node]
        if role(node) is not Role.LOOP or not readers:
            continue
        if not all(r in level and space(r) == node.shape for r in readers):
            continue
        fed_by_it_alone = all(
            users[arg] == [node] for arg in node.args if level.get(arg) == level[node]
        )
        if fed_by_it_alone:
            level[node] = min(level[reader] for reader in readers if reader is not None)


def _earliest(arg: Node, here: Shape, level: dict[Node, int], ready: dict[Node, int]) -> int:
    same_nest = role(arg) is Role.LOOP and arg.shape == here
    return level[arg] if same_nest else ready[arg]


def _groups(nodes: Sequence[Node], users: Users) -> list[list[Node]]:
    level = _levels(nodes, users)
    links = nx.Graph()
    for node in level:
        links.add_node(node)
        place = (space(node), level[node])
        for arg in node.args:
            if (
                level.get(arg) == level[node]
                and role(arg) is Role.LOOP
                and arg.shape == space(node)
            ):
                links.add_edge(node, arg)
        for source in sources(node):
            links.add_edge(node, (place, source))
    position = {node: i for i, node in enumerate(nodes)}
    groups = [
        sorted((n for n in part if isinstance(n, Node)), key=position.__getitem__)
        for part in nx.connected_components(links)
    ]
    pieces = [
        group[start : start + LARGEST_GATE]
        for group in groups
        for start in range(0, len(group), LARGEST_GATE)
    ]
    return sorted(pieces, key=lambda group: position[group[0]])


def _externals(group: set[Node], ordered: Sequence[Node]) -> tuple[Node, ...]:
    """What the group reads and does not compute: arrays and 0-d values, in order of first use."""
    found: dict[Node, None] = {}
    for node in ordered:
        pending = list(reversed(node.args))
        while pending:
            arg = pending.pop()
            if arg in group or is_number(arg):
                continue
            if role(arg) is Role.READ:
                pending.extend(reversed(arg.args))
            else:
                found.setdefault(arg)
    return tuple(found)


def _users(graph: Graph) -> Users:
    """Who reads each node; None stands for the caller, who reads the outputs."""
    nodes = graph.nodes()
    users: Users = {node: [] for node in nodes}
    for node in nodes:
        for arg in node.args:
            users[arg].append(node)
    for output in graph.outputs:
        users[output].append(None)
    return users


def _title(results: Sequence[Node], body: Sequence[Node]) -> str:
    """A name for the gate: what it computes, in the user's words where there are any."""
    named = [NOTES.names[node] for node in results if node in NOTES.names]
    if named:
        return "_".join(named[:3])
    ops = [node.op.name for node in body if node.op.name not in ("copy", "cast", "broadcast_to")]
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
    unit_of = dict(gate_of)
    for node in nodes:
        unit_of.setdefault(node, len(groups) + len(unit_of))
    order = _order(nodes, unit_of)
    recomputed = values_to_recompute(nodes, users, gate_of, bytes_per_operation)
    _keep_gates_short(groups, recomputed)
    bodies = _bodies(graph, groups, order, recomputed, unit_of)
    single = {unit_of[node]: node for node in nodes if node not in gate_of}
    new: dict[Node, Node] = {}
    for unit in order:
        if unit in bodies:
            _make_gate(bodies[unit], new)
        elif unit in single:
            node = single[unit]
            new[node] = make_node(node.op, tuple(new[arg] for arg in node.args), node.attrs)
            NOTES.carry(node, new[node])
    return Graph(graph.name, graph.inputs, tuple(new[output] for output in graph.outputs))


def _closure(outputs: Iterable[Node], group: set[Node], recomputed: set[Node]) -> set[Node]:
    """What a gate computes for ``outputs``: nodes of its own, and those that it computes again."""
    found = set(outputs)
    pending = list(found)
    while pending:
        node = pending.pop()
        for arg in node.args:
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
    needed.update(arg for node in nodes if unit_of[node] >= len(groups) for arg in node.args)
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


def _order(nodes: Sequence[Node], unit_of: dict[Node, int]) -> list[int]:
    position: dict[int, int] = {}
    units = nx.DiGraph()
    for i, node in enumerate(nodes):
        position.setdefault(unit_of[node], i)
        units.add_node(unit_of[node])
        units.add_edges_from(
            (unit_of[arg], unit_of[node]) for arg in node.args if unit_of[arg] != unit_of[node]
        )
    return list(nx.lexicographical_topological_sort(units, key=position.__getitem__))


def _make_gate(body: Graph, new: dict[Node, Node]) -> None:
    inner = Graph("body", body.inputs, body.outputs)
    gate = fused(*(new[arg] for arg in body.inputs), body=inner, name=body.name)
    for index, result in enumerate(body.outputs):
        new[result] = item(gate, index=index)
        NOTES.carry(result, new[result])
