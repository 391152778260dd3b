"""Constant folding, units and absorbing elements, and motion-free shape algebra.

Every rule is exact: bit by bit for every input with nan, inf and -0.0, except `power_by_constant`, which is
only closer to the true value. Dead code needs no pass: a node that no output reaches is not in the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphc.facts import Leaf, ReadCode, ScalarCode, ViewCode
from graphc.ir import (
    BROADCAST_TO,
    CONSTANT,
    Graph,
    Node,
    broadcast,
    constant_node,
    filled_type,
    transform,
    uniform_value,
)
from graphc.ops import elementwise as ew
from graphc.ops.shape import expand_dims, permute_dims, reshape
from graphc.types import TensorType

Rule = Callable[[Node], "Node | None"]

LARGEST_FOLDED = 1024
"""Constants of at most this many elements are computed while compiling."""


def fold_constants(node: Node) -> Node | None:
    """An op on constants is a constant."""
    if not node.args or isinstance(node.op.lowering, Leaf) or node.op is BROADCAST_TO:
        return None
    uniform = [uniform_value(arg) for arg in node.args]
    if isinstance(node.op.lowering, ScalarCode) and all(u is not None for u in uniform):
        value = node.op.reference(*(np.asarray(u) for u in uniform), **node.attrs)
        return broadcast(constant_node(value, node.dtype), node.shape)
    if uniform[0] is not None and _only_moves(node):
        return broadcast(constant_node(uniform[0]), node.shape)
    small = all(isinstance(s, int) for s in node.shape) and _count(node) <= LARGEST_FOLDED
    if small and all(arg.op is CONSTANT for arg in node.args):
        arrays = [arg.attrs["value"].array for arg in node.args]
        return constant_node(node.op.reference(*arrays, **node.attrs), node.dtype)
    return None


def _only_moves(node: Node) -> bool:
    """Whether every element of the result is an element of the only operand."""
    return (
        len(node.args) == 1
        and node.op.cost == 0
        and isinstance(node.op.lowering, ReadCode | ViewCode)
    )


def _count(node: Node) -> int:
    return math.prod(s for s in node.shape if isinstance(s, int))


def _is(node: Node, value: float | None) -> bool:
    """Whether ``node`` is the constant ``value``, with its sign if it is zero."""
    known = uniform_value(node)
    if value is None or known is None or known != value:
        return False
    return (
        bool(np.signbit(known) == np.signbit(value))
        if value == 0 and known.dtype.kind == "f"
        else True
    )


def drop_unit(node: Node) -> Node | None:
    """op(unit, x) -> x and op(x, unit) -> x"""
    if len(node.args) != 2:
        return None
    left, right = node.args
    if _is(left, node.op.left_unit(left.dtype)):
        return right
    return left if _is(right, node.op.right_unit(right.dtype)) else None


def absorb(node: Node) -> Node | None:
    """op(z, x) -> z and op(x, z) -> z for an absorbing z"""
    if len(node.args) != 2:
        return None
    left, right = node.args
    if _is(left, node.op.left_absorbing(left.dtype)):
        return left
    return right if _is(right, node.op.right_absorbing(right.dtype)) else None


def merge_broadcasts(node: Node) -> Node | None:
    """broadcast(broadcast(x)) -> broadcast(x), and of new leading axes -> broadcast(x)"""
    if node.op is not BROADCAST_TO:
        return None
    (inner,) = node.args
    leading = inner.op is expand_dims and inner.attrs["axes"] == tuple(
        range(len(inner.attrs["axes"]))
    )
    if inner.op is BROADCAST_TO or leading:
        return broadcast(inner.args[0], node.shape)
    return inner if inner.shape == node.shape else None


def compute_before_broadcast(node: Node) -> Node | None:
    """f(broadcast(x), broadcast(y)) -> broadcast(f(x, y)) for an elementwise f"""
    stretched = [arg for arg in node.args if uniform_value(arg) is None]
    if not isinstance(node.op.lowering, ScalarCode) or not stretched:
        return None
    if any(arg.op is not BROADCAST_TO for arg in stretched):
        return None
    small = stretched[0].args[0].shape
    if any(arg.args[0].shape != small for arg in stretched):
        return None
    inner = [
        filled_type(TensorType(arg.dtype, small), known.item())
        if (known := uniform_value(arg)) is not None
        else arg.args[0]
        for arg in node.args
    ]
    return broadcast(simplify_node(node.op(*inner, **node.attrs)), node.shape)


def merge_permutations(node: Node) -> Node | None:
    """permute(permute(x)) -> permute(x), and the identity -> x"""
    if node.op is not permute_dims:
        return None
    axes = node.attrs["axes"]
    (inner,) = node.args
    if axes == tuple(range(len(axes))):
        return inner
    if inner.op is not permute_dims:
        return None
    return permute_dims(inner.args[0], axes=tuple(inner.attrs["axes"][a] for a in axes))


def merge_reshapes(node: Node) -> Node | None:
    """reshape(reshape(x)) -> reshape(x), and the identity -> x"""
    if node.op is not reshape:
        return None
    (inner,) = node.args
    if inner.shape == node.shape:
        return inner
    # What the inner reshape requires at the call must not get lost.
    known = inner.op is reshape and all(r.is_known() for r in inner.op.requires(inner))
    return reshape(inner.args[0], shape=node.shape) if known else None


def double_negation(node: Node) -> Node | None:
    """-(-x) -> x"""
    if node.op is ew.negative and node.args[0].op is ew.negative:
        return node.args[0].args[0]
    return None


def known_choice(node: Node) -> Node | None:
    """where(True, x, y) -> x, where(False, x, y) -> y, where(c, x, x) -> x"""
    if node.op is not ew.where:
        return None
    condition, x, y = node.args
    if x is y:
        return x
    known = uniform_value(condition)
    if known is None:
        return None
    return x if known else y


def power_by_constant(node: Node) -> Node | None:
    """x ** 2 -> square(x), x ** -1.0 -> reciprocal(x)"""
    if node.op is not ew.power:
        return None
    x, exponent = node.args
    if _is(exponent, 2):
        return ew.square(x)
    return ew.reciprocal(x) if _is(exponent, -1) and x.dtype.kind == "f" else None


def known_factor(node: Node) -> Node | None:
    """chain(c, x) -> c * x for a constant c that is not 0"""
    if node.op is not ew.chain:
        return None
    g, local = node.args
    known = uniform_value(g)
    return None if known is None or known == 0 else g * local


RULES: tuple[Rule, ...] = (
    fold_constants,
    drop_unit,
    absorb,
    merge_broadcasts,
    compute_before_broadcast,
    merge_permutations,
    merge_reshapes,
    double_negation,
    known_choice,
    power_by_constant,
    known_factor,
)


def simplify_node(node: Node) -> Node:
    """Applies the rules to one node whose operands are simple already, until none fires."""
    while True:
        better = next((new for rule in RULES if (new := rule(node)) is not None), None)
        if better is None:
            return node
        node = better


def simplify(graph: Graph) -> Graph:
    """The graph after one bottom-up walk with all rules."""
    return transform(graph, simplify_node)
