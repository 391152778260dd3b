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


def _sources(node: Node) -> Iterable[Node]:
    """The arrays that ``node`` reads, through any chain of index maps."""
    pending = list(node.args)
    while pending:
        arg = pending.pop()
        if role(arg) is Role.READ:
            pending.extend(arg.args)
        elif arg.shape != ():
            yield arg


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
        for source in _sources(node):
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


def fuse(graph: Graph) -> Graph:
    """The graph in which every group of loop nodes is one `fused` node with a body."""
    nodes = graph.nodes()
    users = _users(graph)
    groups = _groups(nodes, users)
    unit_of: dict[Node, int] = {n: k for k, group in enumerate(groups) for n in group}
    for node in nodes:
        unit_of.setdefault(node, len(groups) + len(unit_of))
    order = _order(nodes, unit_of)
    members: dict[int, list[Node]] = {}
    for node in nodes:
        members.setdefault(unit_of[node], []).append(node)
    new: dict[Node, Node] = {}
    for unit in order:
        if unit < len(groups):
            _fuse_group(members[unit], users, new)
        else:
            (node,) = members[unit]
            new[node] = make_node(node.op, tuple(new[arg] for arg in node.args), node.attrs)
            NOTES.carry(node, new[node])
    return Graph(graph.name, graph.inputs, tuple(new[output] for output in graph.outputs))


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


def _fuse_group(group: list[Node], users: Users, new: dict[Node, Node]) -> None:
    inside = set(group)
    results = tuple(n for n in group if any(u not in inside for u in users[n]))
    externals = _externals(inside, group)
    body = Graph("body", externals, results)
    gate = fused(*(new[arg] for arg in externals), body=body, name=_title(results, group))
    for index, result in enumerate(results):
        new[result] = item(gate, index=index)
        NOTES.carry(result, new[result])
