"""``gx.rule``: rewrite rules of a user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from graphc.dsl import Tensor, lift
from graphc.dsl import input as declare
from graphc.dump import one_line
from graphc.errors import GraphTypeError, GraphValueError, compose
from graphc.ir import INPUT, Node
from graphc.rewrite.own import OwnRule
from graphc.rewrite.rules import Label


def rule(label: str, **specimens: Tensor) -> Callable[[Callable[..., Any]], OwnRule]:
    """Makes a rewrite rule of a function of tensors that returns (before, after).

    ``label`` says what the rule may do to a value: "EXACT" (nothing, bit by bit), "STABLER" (only bring it
    closer to the true one), "REASSOCIATES" (round in another order) or "ASSUMES_FINITE" (nothing, if no
    nan, infinity or signed zero is met). The function is called with 0-d float64 inputs, one a parameter,
    or with the ``specimens`` given by name; what it returns first becomes the pattern, in which they are
    variables of any dtype, and of any shape as far as no axis is named. Sums and products match in any order
    unless the label is "EXACT". Pass the rule to ``rewrites`` of `graphc.compile` or `graphc.grad`.

    Raises `GraphValueError` for another label, and for a left side that does not mention every parameter;
    `GraphTypeError` for what is not a pair of tensors. A rule whose right side has another type than its
    left side is refused when it fires.

    >>> import graphc as gx
    >>> @gx.rule("STABLER")
    ... def log_cosh(x):
    ...     size = gx.abs(x)
    ...     after = size + gx.log1p(gx.exp(-2 * size)) - 0.6931471805599453
    ...     return gx.log((gx.exp(x) + gx.exp(-x)) / 2), after
    >>> x = gx.input("x", ("N",))
    >>> loss = gx.log(0.5 * (gx.exp(-x) + gx.exp(x)))
    >>> f = gx.compile([x], loss, rewrites={log_cosh: True}, cache=False)
    >>> f([1000.0])
    array([999.30685282])
    """
    if label not in Label.__members__:
        names = ", ".join(Label.__members__)
        raise GraphValueError(compose("rule", f"{label!r} is no label", fix=f"labels are {names}"))

    def make(function: Callable[..., Any]) -> OwnRule:
        given = {
            name: specimens[name] if name in specimens else declare(name)
            for name in inspect.signature(function).parameters
        }
        nodes = {name: _specimen(function.__name__, name, t) for name, t in given.items()}

        def build(**bound: Node) -> tuple[Node, Node]:
            sides = function(**{name: Tensor(node) for name, node in bound.items()})
            if not isinstance(sides, tuple) or len(sides) != 2:
                problem = "a rule returns two tensors, before and after"
                raise GraphTypeError(compose(function.__name__, problem))
            before, after = (lift(side, function.__name__) for side in sides)
            return before, after

        text = " -> ".join(map(one_line, build(**nodes)))
        return OwnRule(function.__name__, Label[label], text, build, nodes)

    return make


def _specimen(rule_name: str, name: str, tensor: Tensor) -> Node:
    if not isinstance(tensor, Tensor) or tensor.node.op is not INPUT:
        raise GraphTypeError(compose(rule_name, f"the specimen for {name!r} is not an input"))
    return tensor.node
