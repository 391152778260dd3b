"""Patterns: what the left side of a rule is made of, and how nodes are matched against it.

Rules are functions of their variables, written with the graph's own ops and operators. Called with
symbols they give a pattern, called with nodes they give nodes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from itertools import chain
from typing import Annotated, Any, TypeAlias

import numpy as np

from graphc.ir import BROADCAST_TO, CONSTANT, Node, Op, Symbol, uniform_number, uniform_value
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
        """The pattern of ``op`` on patterns and numbers."""
        return Apply(op, tuple(as_pattern(arg) for arg in args), dict(attrs))

    @property
    def heads(self) -> frozenset[Op] | None:
        """The ops that a matching node can have; None for any."""
        return None

    def match(self, node: Node, bound: Bound) -> Iterable[Bound]:
        """Every way to bind the variables so that this is ``node``; ``node`` has one of the `heads`."""
        raise NotImplementedError

    def loosened(self) -> Pattern:
        """The pattern whose sums and products match in any order and association."""
        return self


@dataclass(frozen=True, eq=False)
class Variable(Pattern):
    """Any node; the same node wherever it occurs in one pattern."""

    name: str
    kind: Kind | None = None

    @property
    def heads(self) -> frozenset[Op] | None:
        return CONSTANTS if self.kind is Kind.CONSTANT else None

    def match(self, node: Node, bound: Bound) -> Iterable[Bound]:
        if self.kind is Kind.CONSTANT and uniform_value(node) is None:
            return ()
        known = bound.get(self.name)
        if known is None:
            return ({**bound, self.name: node},)
        return (bound,) if known is node else ()


@dataclass(frozen=True, eq=False)
class Number(Pattern):
    """A constant whose elements are all ``value``, with its sign if it is zero."""

    value: float

    @property
    def heads(self) -> frozenset[Op] | None:
        return CONSTANTS

    def match(self, node: Node, bound: Bound) -> Iterable[Bound]:
        return (bound,) if is_number(node, self.value) else ()


@dataclass(frozen=True, eq=False)
class Spread(Pattern):
    """A value that is constant along ``axes``: any chain of new and stretched axes on ``source``."""

    source: Pattern
    axes: Any

    @property
    def heads(self) -> frozenset[Op] | None:
        return SPREADS

    def match(self, node: Node, bound: Bound) -> Iterable[Bound]:
        source, axes = spread_source(node)
        if axes and fits(self.source, source):
            for extended in _unify(self.axes, axes, bound):
                yield from self.source.match(source, extended)

    def loosened(self) -> Pattern:
        return Spread(self.source.loosened(), self.axes)


@dataclass(frozen=True, eq=False)
class Apply(Pattern):
    """An op on patterns; values of ``attrs`` may be variables. Operands of commutative ops change places."""

    op: Op
    args: tuple[Pattern, ...]
    attrs: dict[str, Any]

    @cached_property
    def heads(self) -> frozenset[Op] | None:
        return frozenset({self.op})

    def match(self, node: Node, bound: Bound) -> Iterable[Bound]:
        orders = [node.args]
        if node.op.commutative and node.args[0] is not node.args[1]:
            orders.append(node.args[::-1])
        orders = [args for args in orders if all(map(fits, self.args, args))]
        for extended in self._unify_attrs(node, bound) if orders else ():
            for args in orders:
                yield from _match_all(self.args, args, extended)

    def _unify_attrs(self, node: Node, bound: Bound) -> Iterable[Bound]:
        if self.attrs.keys() != node.attrs.keys():
            return ()
        for name, wanted in self.attrs.items():
            extended = next(iter(_unify(wanted, node.attrs[name], bound)), None)
            if extended is None:
                return ()
            bound = extended
        return (bound,)

    def loosened(self) -> Pattern:
        if self.op is ew.negative:
            return Negative(self.args[0].loosened())
        family = _family(self.op)
        if family is None:
            return Apply(self.op, tuple(arg.loosened() for arg in self.args), self.attrs)
        terms = [(sign, term.loosened()) for sign, term in _pattern_terms(self, family)]
        terms.sort(key=lambda term: _vagueness(term[1]))
        return Terms(family, tuple(terms))


@dataclass(frozen=True, eq=False)
class Negative(Pattern):
    """What is -x, in any of the forms that it takes: x * c is -(x * -c), and x - y is -(y - x)."""

    positive: Pattern

    @property
    def heads(self) -> frozenset[Op] | None:
        return NEGATIVES

    def match(self, node: Node, bound: Bound) -> Iterable[Bound]:
        inner = _negated(node)
        if inner is None or not fits(self.positive, inner):
            return ()
        return self.positive.match(inner, bound)


@dataclass(frozen=True, eq=False)
class Terms(Pattern):
    """A sum or product of terms in any order, however it is put together; the vaguest term comes last."""

    family: Family
    terms: tuple[tuple[int, Pattern], ...]

    @cached_property
    def heads(self) -> frozenset[Op] | None:
        return frozenset(self.family.signs)

    def match(self, node: Node, bound: Bound) -> Iterable[Bound]:
        last = self.terms[-1][1]
        if isinstance(last, Variable) and last.kind is Kind.REST:
            nodes = all_terms(node, self.family)
            if len(self.terms) <= len(nodes):
                yield from _assign(self.terms[:-1], nodes, bound, (last.name, self.family))
            return
        for nodes in _split_top(node, len(self.terms), self.family):
            yield from _assign(self.terms, nodes, bound, None)


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
    code = function.__code__
    kinds = inspect.get_annotations(function, eval_str=True) if function.__annotations__ else {}
    return {
        name: Variable(name, next(iter(getattr(kinds.get(name), "__metadata__", ())), None))
        for name in code.co_varnames[: code.co_argcount]
    }


# Matching.

CONSTANTS = frozenset({CONSTANT, BROADCAST_TO})
SPREADS = frozenset({BROADCAST_TO, shape.expand_dims})
NEGATIVES = frozenset({ew.negative, ew.multiply, ew.subtract})


def fits(pattern: Pattern, node: Node) -> bool:
    """Whether the op of ``node`` is one that ``pattern`` can match: what most nodes fail first."""
    heads = pattern.heads
    return heads is None or node.op in heads


def is_number(node: Node, value: float | None) -> bool:
    """Whether ``node`` is the constant ``value``, with its sign if it is zero."""
    known = uniform_value(node)
    if value is None or known is None or known != value:
        return False
    if value == 0 and known.dtype.kind == "f":
        return bool(np.signbit(known) == np.signbit(value))
    return True


def _negated(node: Node) -> Node | None:
    if node.op is ew.negative:
        return node.args[0]
    left, right = node.args
    if node.op is ew.subtract:
        return right - left
    factor = uniform_number(right)
    return None if factor is None else left * -factor


def _match_all(patterns: Sequence[Pattern], nodes: Sequence[Node], bound: Bound) -> Iterable[Bound]:
    if not patterns:
        return (bound,) if not nodes else ()
    first = patterns[0].match(nodes[0], bound) if nodes else ()
    if len(patterns) == 1:
        return first if len(nodes) == 1 else ()
    return chain.from_iterable(_match_all(patterns[1:], nodes[1:], b) for b in first)


def _unify(wanted: Any, value: Any, bound: Bound) -> Iterable[Bound]:
    if not isinstance(wanted, Variable):
        return (bound,) if wanted == value else ()
    if wanted.name not in bound:
        return ({**bound, wanted.name: value},)
    return (bound,) if bound[wanted.name] == value else ()


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


def _family(op: Op) -> Family | None:
    return next((family for family in (SUM, PRODUCT) if op in family.signs), None)


def _pattern_terms(pattern: Pattern, family: Family, sign: int = 1) -> list[Term]:
    if not isinstance(pattern, Apply) or pattern.op not in family.signs:
        unit = isinstance(pattern, Number) and pattern.value == 1 and family is PRODUCT
        return [] if unit else [(sign, pattern)]
    pairs = zip(family.signs[pattern.op], pattern.args, strict=True)
    return [term for s, arg in pairs for term in _pattern_terms(arg, family, sign * s)]


def _vagueness(pattern: Pattern) -> int:
    if isinstance(pattern, Variable):
        return 3 if pattern.kind is Kind.REST else 2 if pattern.kind is None else 1
    return 0


def all_terms(node: Node, family: Family) -> list[Term]:
    """The terms of a sum or the factors of a product, taken apart as far as it goes.

    Nothing, if there are more than `MOST_TERMS`.
    """
    found: list[Term] = []
    pending: list[Term] = [(1, node)]
    while pending:
        sign, term = pending.pop()
        if term.op not in family.signs:
            found.append((sign, term))
        else:
            pairs = zip(family.signs[term.op], term.args, strict=True)
            pending.extend(reversed([(sign * s, arg) for s, arg in pairs]))
        if len(found) + len(pending) > MOST_TERMS:
            return []
    return found


def _split_top(node: Node, count: int, family: Family, sign: int = 1) -> Iterable[list[Term]]:
    """Every way to see ``node``, taken apart at least once, as ``count`` terms."""
    signs = family.signs[node.op]
    if len(signs) == 1:
        return _split(sign * signs[0], node.args[0], count, family)
    left, right = node.args
    return (
        first + second
        for k in range(1, count)
        for first in _split(sign * signs[0], left, k, family)
        for second in _split(sign * signs[1], right, count - k, family)
    )


def _split(sign: int, node: Node, count: int, family: Family) -> Iterable[list[Term]]:
    whole = [[(sign, node)]] if count == 1 else []
    if node.op not in family.signs or (count == 1 and len(node.args) > 1):
        return whole
    return chain(whole, _split_top(node, count, family, sign))


def _assign(
    terms: Sequence[Term], nodes: list[Term], bound: Bound, rest: tuple[str, Family] | None
) -> Iterator[Bound]:
    """Every way to give each pattern term a node of its own; what is left over becomes the rest."""
    if not terms:
        if rest is None and not nodes:
            yield bound
        elif rest is not None and nodes:
            name, family = rest
            yield from Variable(name).match(joined(nodes, family), bound)
        return
    sign, pattern = terms[0]
    for i, (s, node) in enumerate(nodes):
        if s == sign and fits(pattern, node):
            for extended in pattern.match(node, bound):
                yield from _assign(terms[1:], nodes[:i] + nodes[i + 1 :], extended, rest)


def joined(terms: Sequence[Term], family: Family) -> Node:
    """The sum or product of at least one term, from left to right."""
    ordered = sorted(terms, key=lambda term: -term[0])
    sign, first = ordered[0]
    total: Node = first if sign == 1 else family.invert(first)
    for sign, node in ordered[1:]:
        total = (family.join if sign == 1 else family.join_inverse)(total, node)
    return total
