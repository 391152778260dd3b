"""What a rewrite rule is, the labels that it can bear, and how tables of rules are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from graphc.errors import InvalidGraph, compose
from graphc.ir import Graph, Node, Op, filled
from graphc.rewrite.pattern import Attribute, Constant, Rest, as_pattern, variables_of

__all__ = ["Attribute", "Constant", "JointRule", "Label", "Rest", "Rule", "Table"]


class Label(Enum):
    """What a rule may do to a value."""

    EXACT = "EXACT"
    """Nothing: equal bit by bit, for every input with nan, inf and -0.0."""
    STABLER = "STABLER"
    """Leave it no further from the true one than it was, or than a stable evaluation is.

    That is 4 ulps, or what one ulp in each operand does. A zero has no sign here.
    """
    REASSOCIATES = "REASSOCIATES"
    """Round in another order."""
    ASSUMES_FINITE = "ASSUMES_FINITE"
    """Equal if no nan, infinity or signed zero is met."""


ON_BY_DEFAULT = frozenset({Label.EXACT, Label.STABLER})

Rewrite: TypeAlias = "Callable[[Node], Node | None]"


@dataclass(frozen=True, eq=False)
class Rule:
    """One rewriting: ``apply(node)`` is the node to take its place, or None where it does not apply.

    ``roots`` are the ops that it can apply to, None for any. ``text`` shows it: before -> after. ``sides`` is
    the function that gives both, for a rule that is declared by one. A ``late`` rule takes in other gates:
    it is tried when all the rest has found its form, lest it hide them. A rule of ``values_only`` may give
    the slope at a kink another value: it is left out of what is to be differentiated.
    """

    name: str
    label: Label
    text: str
    apply: Rewrite
    roots: frozenset[Op] | None = None
    group: str = "user"
    sides: Callable[..., Any] | None = None
    late: bool = False
    values_only: bool = False


@dataclass(frozen=True, eq=False)
class JointRule:
    """A rule with several results: ``find`` gives what replaces each of the nodes that match together."""

    name: str
    label: Label
    text: str
    find: Callable[[Graph], dict[Node, Node]]
    group: str


def first_line(function: Callable[..., Any]) -> str:
    """The line of the docstring that shows a rule: ``before -> after``."""
    if not function.__doc__ or "->" not in function.__doc__:
        raise InvalidGraph(compose(function.__name__, "a rule's docstring shows before -> after"))
    return function.__doc__.strip().splitlines()[0]


def pattern_rule(
    function: Callable[..., Any],
    label: Label,
    group: str,
    where: Callable[..., bool] | None = None,
    late: bool = False,
) -> Rule:
    """The rule of a function that returns (before, after).

    The function is called with symbols once, which gives the pattern, and with nodes wherever that matches.
    ``after`` may be a function without arguments where it needs to look at types or values. ``where`` is
    called with the bound variables and may refuse.
    """
    variables = variables_of(function)
    before = as_pattern(function(**variables)[0])
    before = before if label is Label.EXACT else before.loosened()
    heads = before.heads
    if heads is None:
        raise InvalidGraph(compose(function.__name__, "the left side is not an op"))

    def apply(node: Node) -> Node | None:
        for bound in before.match(node, {}):
            if where is None or where(**bound):
                after = function(**bound)[1]
                result = after() if callable(after) else after
                return result if isinstance(result, Node) else filled(node, result)
        return None

    text = first_line(function)
    return Rule(function.__name__, label, text, apply, heads, group, function, late)


@dataclass
class Table:
    """Collects the rules of a group, in the order in which they are tried."""

    group: str
    rules: list[Rule] = field(default_factory=list)

    def rule(
        self, label: Label, *, where: Callable[..., bool] | None = None, late: bool = False
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Adds the rule of a function that returns (before, after)."""

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            self.rules.append(pattern_rule(function, label, self.group, where, late))
            return function

        return add

    def on(
        self, label: Label, *roots: Op, late: bool = False, values_only: bool = False
    ) -> Callable[[Rewrite], Rewrite]:
        """Adds a rule that looks at the node itself; ``roots`` are the ops that it applies to."""

        def add(function: Rewrite) -> Rewrite:
            ops = frozenset(roots) or None
            text = first_line(function)
            name = function.__name__
            rule = Rule(name, label, text, function, ops, self.group, None, late, values_only)
            self.rules.append(rule)
            return function

        return add
