"""Gates with several results: what the rules find among the nodes and outputs of a whole graph.

Each becomes a `composite` node whose body is the arithmetic that was there, so every rule here is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from graphc.facts import ScalarCode
from graphc.ir import BROADCAST_TO, INPUT, Graph, Node, located, uniform_value, walk
from graphc.ops import elementwise as ew
from graphc.ops import softmax as sm
from graphc.ops.fused import composite, item
from graphc.rewrite.rules import JointRule, Label, first_line

GROUP = "gates"


def _gate(name: str, results: Sequence[Node], leaves: Sequence[Node]) -> dict[Node, Node]:
    """What replaces each of ``results``: a result of one gate whose body reads ``leaves``."""
    leaves = list(dict.fromkeys(leaves))
    needed = walk(results, leaves)
    used = {arg for node in needed[len(leaves) :] for arg in node.args}
    read = [leaf for leaf in leaves if leaf in used and uniform_value(leaf) is None]
    body = Graph("body", tuple(read), tuple(results))
    with located(results[0].location):
        gate = composite(*read, body=body, name=name)
        return {result: item(gate, index=k) for k, result in enumerate(results)}


# A loss, its gradient, and the softmax of both.

GRADIENTS = {
    sm.cross_entropy: sm.cross_entropy_gradient,
    sm.soft_cross_entropy: sm.soft_cross_entropy_gradient,
}


def find_shared_softmax(graph: Graph) -> dict[Node, Node]:
    """cross_entropy(x, y), cross_entropy_gradient(g, x, y) or softmax(x) -> softmax_cross_entropy(x, y, g)"""
    nodes = graph.nodes()
    found: dict[Node, Node] = {}
    for loss in nodes:
        if loss.op not in GRADIENTS:
            continue
        results = [loss]
        for node in nodes:
            if node not in found and _shares_softmax(node, loss) and _apart([*results, node]):
                results.append(node)
        if len(results) > 1:
            arriving = [node.args[0] for node in results[1:]]
            found |= _gate("softmax_cross_entropy", results, [*loss.args, *arriving])
    return found


def _shares_softmax(node: Node, loss: Node) -> bool:
    """Whether ``node`` is the softmax of the scores of ``loss``, or its gradient by them."""
    x, _ = loss.args
    if node.op is sm.softmax:
        axes = loss.attrs.get("axes", (len(x.shape) - 1,))
        return node.args == (x,) and node.attrs["axes"] == axes
    return node.op is GRADIENTS[loss.op] and node.args[1:] == loss.args


def _apart(nodes: Sequence[Node]) -> bool:
    """Whether none of ``nodes`` depends on another."""
    return set(nodes).isdisjoint(walk([arg for node in nodes for arg in node.args]))


# Steps of an optimiser.


@dataclass(frozen=True)
class _Blend:
    """a * x + b * y with numbers a and b, or without them."""

    node: Node
    parts: tuple[Node, Node]


def _is_number(node: Node) -> bool:
    """Whether every element of ``node`` is one number: a constant, or a 0-d value spread out."""
    return uniform_value(node) is not None or (node.op is BROADCAST_TO and node.args[0].shape == ())


def _without_number(node: Node) -> Node:
    if node.op is ew.negative:
        return _without_number(node.args[0])
    if node.op in (ew.multiply, ew.divide):
        left, right = node.args
        if _is_number(right):
            return left
        if node.op is ew.multiply and _is_number(left):
            return right
    return node


def _blend(node: Node) -> _Blend | None:
    if node.op not in (ew.add, ew.subtract) or any(map(_is_number, node.args)):
        return None
    left, right = map(_without_number, node.args)
    return _Blend(node, (left, right))


def _blends(graph: Graph) -> list[_Blend]:
    found = [_blend(node) for node in dict.fromkeys(graph.outputs)]
    return [blend for blend in found if blend is not None and blend.node.dtype.kind == "f"]


def _state_and_other(blend: _Blend) -> Iterator[tuple[Node, Node]]:
    """(old value, what it is blended with): the old value is an input of the graph."""
    x, y = blend.parts
    for state, other in ((x, y), (y, x)):
        if state.op is INPUT and state is not other:
            yield state, other


def find_momentum(graph: Graph) -> dict[Node, Node]:
    """v' = a * v + b * g, p' = p + c * v' -> momentum(p, v, g)"""
    found: dict[Node, Node] = {}
    blends = _blends(graph)
    velocities = {blend.node: blend for blend in blends}
    for blend in blends:
        for parameter, velocity in _state_and_other(blend):
            if velocity in velocities and not {velocity, blend.node} & set(found):
                for state, gradient in _state_and_other(velocities[velocity]):
                    leaves = _leaves([velocity, blend.node], [parameter, state, gradient])
                    found |= _gate("momentum", [velocity, blend.node], leaves)
                    break
    return found


def find_adam(graph: Graph) -> dict[Node, Node]:
    """m' = a * m + b * g, v' = c * v + d * square(g), p' = p - h(m', v') -> adam(p, m, v, g)"""
    found: dict[Node, Node] = {}
    moments = [(b, s, _target(s, o)) for b in _blends(graph) for s, o in _state_and_other(b)]
    for second, state_2, squared in moments:
        root = _root(squared)
        for first, state_1, gradient in moments if root else ():
            if gradient is not root or {first.node, second.node} & set(found):
                continue
            step = _step_by(graph, first.node, second.node)
            if step is not None and step not in found:
                results = [first.node, second.node, step]
                states = [n for n in map(_without_number, step.args) if n.op is INPUT]
                leaves = _leaves(results, [*states, state_1, state_2, gradient])
                found |= _gate("adam", results, leaves)
    return found


def _target(state: Node, other: Node) -> Node:
    """What ``state`` moves towards: y in x + a * (y - x) as in (1 - a) * x + a * y."""
    moves = other.op is ew.subtract and other.args[1] is state
    return other.args[0] if moves else other


def _root(node: Node) -> Node | None:
    """x if ``node`` is a multiple of square(x), also where that is written as a * x * x."""
    if node.op is ew.square:
        return node.args[0]
    roots = set(map(_without_number, node.args)) if node.op is ew.multiply else set()
    return roots.pop() if len(roots) == 1 else None


def _step_by(graph: Graph, first: Node, second: Node) -> Node | None:
    """The output that takes an input and a function of both moments, element by element."""
    for output in graph.outputs:
        if output.op not in (ew.add, ew.subtract) or output in (first, second):
            continue
        states = [arg for arg in map(_without_number, output.args) if arg.op is INPUT]
        inside = _interior([output], {first, second, *states})
        if (
            states
            and inside is not None
            and {first, second} <= {arg for node in inside for arg in node.args}
        ):
            return output
    return None


def find_axpy(graph: Graph) -> dict[Node, Node]:
    """p' = p + a * x -> axpy(p, x)"""
    found: dict[Node, Node] = {}
    for blend in _blends(graph):
        for state, other in _state_and_other(blend):
            if other not in blend.node.args and other.op is not INPUT and blend.node not in found:
                leaves = _leaves([blend.node], [state, other])
                found |= _gate("axpy", [blend.node], leaves)
    return found


def _interior(results: Sequence[Node], stops: set[Node]) -> list[Node] | None:
    """The nodes between ``results`` and ``stops`` or numbers, if all work element by element."""
    inside: dict[Node, None] = {}
    pending = list(results)
    while pending:
        node = pending.pop()
        if node in inside or node in stops or node.shape == () or uniform_value(node) is not None:
            continue
        if not isinstance(node.op.lowering, ScalarCode) and node.op is not BROADCAST_TO:
            return None
        inside[node] = None
        pending.extend(node.args)
    return list(inside)


def _leaves(results: Sequence[Node], arrays: Sequence[Node]) -> list[Node]:
    """``arrays`` and the numbers that ``results`` are made of."""
    inside = _interior(results, set(arrays)) or []
    numbers = [arg for node in inside for arg in node.args if arg.shape == ()]
    return list(dict.fromkeys([*arrays, *numbers]))


def _rule(find: Callable[[Graph], dict[Node, Node]]) -> JointRule:
    name = find.__name__.removeprefix("find_")
    return JointRule(name, Label.EXACT, first_line(find), find, GROUP)


JOINT = tuple(map(_rule, (find_shared_softmax, find_adam, find_momentum, find_axpy)))
