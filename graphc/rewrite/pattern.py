"""Patterns: what the left side of a rule is made of, and how nodes are matched against it.

Rules are functions of their variables, written with the graph's own ops and operators. Called with
symbols they give a pattern, called with nodes they give nodes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Annotated, Any, TypeAlias

import numpy as np

from graphc.ir import BROADCAST_TO, Node, Op, Symbol, uniform_value
from graphc.ops import elementwise as ew
from graphc.ops import reduce, shape

Bound: TypeAlias = "dict[str, Any]"
Term: TypeAlias = "tuple[int, Any]"
"""A sign, and what is added (+1) or subtracted (-1), multiplied (+1) or divided by (-1)."""

MOST_TERMS = 12
"""Longer sums and products are not searched for terms in any order."""


class Kind(Enum):
    """What a variable stands for, if not any node."""

    CONSTANT = auto()
    REST = auto()
    ATTRIBUTE = auto()


# As annotations of a rule's parameters; a rule is called with symbols and with nodes, so mypy sees `Any`.

Constant: TypeAlias = Annotated[Any, Kind.CONSTANT]
"""A constant whose elements are all one number."""
Rest: TypeAlias = Annotated[Any, Kind.REST]
"""All remaining terms of a sum, or factors of a product: at least one."""
Attribute: TypeAlias = Annotated[Any, Kind.ATTRIBUTE]
"""An attribute of ops, such as the axes of a reduction."""


# Patterns.


@dataclass(frozen=True, eq=False)
class Pattern(Symbol):
    """A symbol that nodes can be matched against."""

    def applied(self, op: Op, args: tuple[Any, ...], attrs: Mapping[str, Hashable]) -> Pattern:
        return Apply(op, tuple(as_pattern(arg) for arg in args), dict(attrs))


@dataclass(frozen=True, eq=False)
class Variable(Pattern):
    """Any node; the same node wherever it occurs in one pattern."""

    name: str
    kind: Kind | None = None


@dataclass(frozen=True, eq=False)
class Number(Pattern):
    """A constant whose elements are all ``value``, with its sign if it is zero."""

    value: float


@dataclass(frozen=True, eq=False)
class Apply(Pattern):
    """An op on patterns; values of ``attrs`` may be variables."""

    op: Op
    args: tuple[Pattern, ...]
    attrs: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Spread(Pattern):
    """A value that is constant along ``axes``: any chain of new and stretched axes on ``source``."""

    source: Pattern
    axes: Any


def as_pattern(value: Any) -> Pattern:
    """A Python number as a pattern."""
    return value if isinstance(value, Pattern) else Number(value)


def spread(reduced: Any, like: Any, axes: Any) -> Any:
    """A reduced value back in the shape of ``like``, in patterns and in nodes."""
    if isinstance(reduced, Symbol):
        return Spread(as_pattern(reduced), axes)
    return reduce.spread(reduced, like, axes)


def variables_of(function: Callable[..., Any]) -> dict[str, Variable]:
    """A variable for each parameter of a rule; its annotation is the kind."""
    parameters = inspect.signature(function, eval_str=True).parameters
    return {
        name: Variable(name, next(iter(getattr(p.annotation, "__metadata__", ())), None))
        for name, p in parameters.items()
    }


# Matching.


def match(pattern: Pattern, node: Node, bound: Bound, loose: bool) -> Iterator[Bound]:
    """Every way to bind the variables of ``pattern`` so that it is ``node``.

    ``loose`` sums and products match in any order and association, and a quotient matches a product with
    the inverse; otherwise only operands of commutative ops change places.
    """
    if isinstance(pattern, Variable):
        yield from _match_variable(pattern, node, bound)
    elif isinstance(pattern, Number):
        if is_number(node, pattern.value):
            yield bound
    elif isinstance(pattern, Spread):
        source, axes = spread_source(node)
        for extended in _unify(pattern.axes, axes, bound) if axes else ():
            yield from match(pattern.source, source, extended, loose)
    elif isinstance(pattern, Apply):
        family = family_of(pattern.op)
        if loose and family:
            yield from _match_terms(pattern, node, bound, family)
        elif node.op is pattern.op:
            yield from _match_operands(pattern, node, bound, loose)


def _match_variable(variable: Variable, node: Node, bound: Bound) -> Iterator[Bound]:
    if variable.kind is Kind.CONSTANT and uniform_value(node) is None:
        return
    known = bound.get(variable.name)
    if known is None:
        yield {**bound, variable.name: node}
    elif known is node:
        yield bound


def is_number(node: Node, value: float | None) -> bool:
    """Whether ``node`` is the constant ``value``, with its sign if it is zero."""
    known = uniform_value(node)
    if value is None or known is None or known != value:
        return False
    if value == 0 and known.dtype.kind == "f":
        return bool(np.signbit(known) == np.signbit(value))
    return True


def _match_operands(pattern: Apply, node: Node, bound: Bound, loose: bool) -> Iterator[Bound]:
    for extended in _unify_attrs(pattern, node, bound):
        orders = [node.args]
        if node.op.commutative and node.args[0] is not node.args[1]:
            orders.append(node.args[::-1])
        for args in orders:
            yield from _match_all(pattern.args, args, extended, loose)


def _match_all(
    patterns: Sequence[Pattern], nodes: Sequence[Node], bound: Bound, loose: bool
) -> Iterator[Bound]:
    if len(patterns) != len(nodes):
        return
    if not patterns:
        yield bound
        return
    for extended in match(patterns[0], nodes[0], bound, loose):
        yield from _match_all(patterns[1:], nodes[1:], extended, loose)


def _unify_attrs(pattern: Apply, node: Node, bound: Bound) -> Iterator[Bound]:
    if set(pattern.attrs) != set(node.attrs):
        return
    for name, wanted in pattern.attrs.items():
        extended = next(_unify(wanted, node.attrs[name], bound), None)
        if extended is None:
            return
        bound = extended
    yield bound


def _unify(wanted: Any, value: Any, bound: Bound) -> Iterator[Bound]:
    if not isinstance(wanted, Variable):
        if wanted == value:
            yield bound
    elif wanted.name not in bound:
        yield {**bound, wanted.name: value}
    elif bound[wanted.name] == value:
        yield bound


def spread_source(node: Node) -> tuple[Node, tuple[int, ...]]:
    """The value that ``node`` repeats, and the axes along which it does; no axes if it repeats none."""
    outer = node.args[0] if node.op is BROADCAST_TO else node
    source = outer
    new: tuple[int, ...] = ()
    if outer.op is shape.expand_dims:
        source, new = outer.args[0], outer.attrs["axes"]
    lead = len(node.shape) - len(outer.shape)
    axes = (*range(lead), *(lead + axis for axis in new))
    kept = tuple(size for i, size in enumerate(node.shape) if i not in axes)
    return (source, axes) if kept == source.shape else (node, ())


# Terms of sums, factors of products.


@dataclass(frozen=True)
class Family:
    """Ops that combine terms: the op and the sign of each operand."""

    signs: dict[Op, tuple[int, ...]]
    join: Op
    join_inverse: Op
    invert: Op


SUM = Family(
    {ew.add: (1, 1), ew.subtract: (1, -1), ew.negative: (-1,)}, ew.add, ew.subtract, ew.negative
)
PRODUCT = Family(
    {ew.multiply: (1, 1), ew.divide: (1, -1), ew.reciprocal: (-1,)},
    ew.multiply,
    ew.divide,
    ew.reciprocal,
)


def family_of(op: Op) -> Family | None:
    """The family whose terms an op combines."""
    return next((family for family in (SUM, PRODUCT) if op in family.signs), None)


def _pattern_terms(pattern: Pattern, family: Family, sign: int = 1) -> list[Term]:
    if not isinstance(pattern, Apply) or pattern.op not in family.signs:
        unit = isinstance(pattern, Number) and pattern.value == 1 and family is PRODUCT
        return [] if unit else [(sign, pattern)]
    pairs = zip(family.signs[pattern.op], pattern.args, strict=True)
    return [term for s, arg in pairs for term in _pattern_terms(arg, family, sign * s)]


def _match_terms(pattern: Apply, node: Node, bound: Bound, family: Family) -> Iterator[Bound]:
    if node.op not in family.signs:
        return
    terms = sorted(_pattern_terms(pattern, family), key=lambda term: _vagueness(term[1]))
    rest = terms[-1][1] if isinstance(terms[-1][1], Variable) else None
    if rest is not None and rest.kind is Kind.REST:
        nodes = list(_all_terms(node, family))
        if len(terms) <= len(nodes) <= MOST_TERMS:
            yield from _assign(terms[:-1], nodes, bound, (rest.name, family))
        return
    for nodes in _split(1, node, len(terms), family, top=True):
        yield from _assign(terms, nodes, bound, None)


def _vagueness(pattern: Pattern) -> int:
    if isinstance(pattern, Variable):
        return 3 if pattern.kind is Kind.REST else 2 if pattern.kind is None else 1
    return 0


def _all_terms(node: Node, family: Family, sign: int = 1, top: bool = True) -> Iterator[Term]:
    if node.op not in family.signs:
        yield sign, node
        return
    for s, arg in zip(family.signs[node.op], node.args, strict=True):
        yield from _all_terms(arg, family, sign * s, False)


def _split(
    sign: int, node: Node, count: int, family: Family, top: bool = False
) -> Iterator[list[Term]]:
    """Every way to see ``node`` as ``count`` terms; the topmost node is always taken apart."""
    if count == 1 and not top:
        yield [(sign, node)]
    signs = family.signs.get(node.op)
    if signs is None:
        return
    if len(signs) == 1:
        yield from _split(sign * signs[0], node.args[0], count, family)
        return
    left, right = node.args
    for k in range(1, count):
        for first in _split(sign * signs[0], left, k, family):
            for second in _split(sign * signs[1], right, count - k, family):
                yield first + second


def _assign(
    terms: Sequence[Term], nodes: list[Term], bound: Bound, rest: tuple[str, Family] | None
) -> Iterator[Bound]:
    """Every way to give each pattern term a node of its own; what is left over becomes the rest."""
    if not terms:
        if rest is None and not nodes:
            yield bound
        elif rest is not None and nodes:
            name, family = rest
            yield from _match_variable(Variable(name), _joined(nodes, family), bound)
        return
    sign, pattern = terms[0]
    for i, (s, node) in enumerate(nodes):
        if s == sign:
            for extended in match(pattern, node, bound, loose=True):
                yield from _assign(terms[1:], nodes[:i] + nodes[i + 1 :], extended, rest)


def _joined(terms: Sequence[Term], family: Family) -> Node:
    ordered = sorted(terms, key=lambda term: -term[0])
    sign, first = ordered[0]
    total: Node = first if sign == 1 else family.invert(first)
    for sign, node in ordered[1:]:
        total = (family.join if sign == 1 else family.join_inverse)(total, node)
    return total
