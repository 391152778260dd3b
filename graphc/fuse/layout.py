"""Intermediate values whose last axis is short lie in memory with the long axis before it last.

Points in ten dimensions, a thousand of them for each component of a mixture: loops over the ten are too short
to vectorise well, and products of such matrices fill a part of each vector only. Where nobody outside sees
an intermediate value, its last two axes change places, and with them those of all that it is computed from
and all that is computed from it: elementwise values, and products of matrices, which take either order.

What no product reads or makes is left to `graphc.fuse.columns`: it is never in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from graphc.fuse.access import Accesses, counters, readers
from graphc.fuse.columns import at_least, is_read_often, is_short, read_by_columns
from graphc.fuse.roles import Role, role
from graphc.ir import BROADCAST_TO, Graph, Node, broadcast, make_node, rebuild
from graphc.ops.linalg import matmul, transposed
from graphc.types import Shape

LONG = 64
"""The least size of an axis that is worth to be the last."""


def long_axes_last(graph: Graph) -> Graph:
    """The graph with the last two axes of such values exchanged in memory."""
    users, accesses = readers(graph), Accesses()
    chosen = _near_products(_inside(_candidates(graph), users, accesses), users)
    if not chosen:
        return graph
    matrices = {a for n in chosen for a in n.args if a not in chosen and _has_both(a, accesses)}
    new = rebuild(graph.outputs, lambda old, node: _exchanged(old, node, chosen, matrices))
    return Graph(graph.name, graph.inputs, tuple(new[output] for output in graph.outputs))


def _candidates(graph: Graph) -> set[Node]:
    return {
        node
        for node in graph.nodes()
        if (role(node) is Role.LOOP or node.op is matmul)
        and _is_narrow(node.shape)
        and node not in graph.outputs
    }


def _is_narrow(shape: Shape) -> bool:
    if len(shape) < 3:
        return False
    *_, many, few = shape
    return is_short(few) and few > 1 and at_least(many, LONG)


def _inside(
    candidates: set[Node], users: Mapping[Node, Sequence[Node]], accesses: Accesses
) -> set[Node]:
    """Those of which all neighbours are among them, or can be read or written in either order."""
    chosen, pending = set(candidates), list(candidates)
    while pending:
        node = pending.pop()
        neighbours = (*node.args, *users[node])
        fits = _operands_fit(node, chosen, accesses) and _users_fit(node, users[node], chosen)
        if node in chosen and not fits:
            chosen.remove(node)
            pending += (other for other in neighbours if other in chosen)
    return chosen


def _near_products(inside: set[Node], users: Mapping[Node, Sequence[Node]]) -> set[Node]:
    """Those that a product reads or makes, and what they are connected with."""
    pending = [n for n in inside if any(other.op is matmul for other in (n, *users[n]))]
    found = set(pending)
    while pending:
        node = pending.pop()
        more = inside.intersection((*node.args, *users[node])) - found
        found |= more
        pending += more
    return found


def _operands_fit(node: Node, chosen: set[Node], accesses: Accesses) -> bool:
    if node.op is matmul:
        return node.args[0] in chosen and not node.attrs.get("transpose_a", False)
    return all(arg in chosen or _has_either_order(arg, accesses) for arg in node.args)


def _has_either_order(operand: Node, accesses: Accesses) -> bool:
    """Whether what is read of an operand is a number or a line, or small enough to copy it first."""
    if role(operand) not in (Role.READ, Role.LEAF):
        return False
    reads, own = accesses.through(operand), counters(len(operand.shape))
    if role(operand) is Role.LEAF:
        return not reads
    is_plain = all(set(index) <= set(own) for _, index in reads)
    often = (is_read_often(index, operand.shape) for _, index in reads)
    return is_plain and (not _has_both(operand, accesses) or all(often))


def _has_both(operand: Node, accesses: Accesses) -> bool:
    """Whether one of the arrays that are read for an operand has both of its last axes."""
    both = set(counters(len(operand.shape))[-2:])
    return any(both.issubset(index) for _, index in accesses.through(operand))


def _users_fit(node: Node, users: Iterable[Node], chosen: set[Node]) -> bool:
    return all(user in chosen or user.op is matmul or role(user) is Role.REDUCE for user in users)


def _exchanged(old: Node, node: Node, chosen: set[Node], matrices: set[Node]) -> Node:
    if node.op is matmul and not chosen.isdisjoint((old, *old.args)):
        return _product(old, node, chosen)
    if old in chosen:
        args = [
            arg.args[0] if before in chosen else _read(arg, before in matrices)
            for before, arg in zip(old.args, node.args, strict=True)
        ]
        return transposed(node.op(*args, **node.attrs))
    if role(old) is Role.REDUCE and old.args[0] in chosen:
        return _reduced(node)
    return node


def _read(operand: Node, is_matrix: bool) -> Node:
    """An operand with its last two axes exchanged; an array that has both is copied."""
    if operand.op is BROADCAST_TO and operand.args[0].shape == ():
        *others, many, few = operand.shape
        return broadcast(operand.args[0], (*others, few, many))
    return transposed(read_by_columns(operand) if is_matrix else operand)


def _reduced(node: Node) -> Node:
    (inner,) = node.args[0].args
    last = len(inner.shape) - 1
    exchange = {last: last - 1, last - 1: last}
    axes = tuple(sorted(exchange.get(axis, axis) for axis in node.attrs["axes"]))
    total = make_node(node.op, (inner,), {**node.attrs, "axes": axes})
    return transposed(total) if axes == () or max(axes) < last - 1 else total


def _product(old: Node, node: Node, chosen: set[Node]) -> Node:
    """A product of which an operand or the result, or both, lie in memory transposed."""
    flags: list[bool] = []
    operands: list[Node] = []
    for before, arg, name in zip(old.args, node.args, ("transpose_a", "transpose_b"), strict=True):
        flags.append(bool(node.attrs.get(name, False)) != (before in chosen))
        operands.append(arg.args[0] if before in chosen else arg)
    left, right = operands
    if old not in chosen:
        return matmul(left, right, transpose_a=flags[0], transpose_b=flags[1])
    return transposed(matmul(right, left, transpose_a=not flags[1], transpose_b=not flags[0]))
