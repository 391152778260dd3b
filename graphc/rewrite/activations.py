"""The table *gates*, first part: activations, in the ways they are written.

Arithmetic that a person would call by a name becomes a gate of that name, whose derivative is stable.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from graphc.ir import Node, Op, uniform_number
from graphc.ops import discrete as d
from graphc.ops import elementwise as ew
from graphc.ops import nn
from graphc.ops.special import erf, erfc
from graphc.rewrite.pattern import is_number
from graphc.rewrite.rules import Label, Table
from graphc.types import bool_, is_float

EXACT, STABLER, ASSUMES_FINITE = Label.EXACT, Label.STABLER, Label.ASSUMES_FINITE

ACTIVATIONS = Table("gates")
rule, on = ACTIVATIONS.rule, ACTIVATIONS.on


@on(STABLER, ew.maximum)
def relu_by_maximum(node: Node) -> Node | None:
    """maximum(0, x) -> relu(x)"""
    # Of maximum(0, -0.0) NumPy gives either zero.
    zero, x = node.args
    return ew.relu(x) if is_number(zero, 0) and x.dtype != bool_ else None


@on(STABLER, ew.maximum, ew.where, values_only=True)
def relu_of_values(node: Node) -> Node | None:
    """maximum(x, 0) -> relu(x), where(x < 0, 0, x) -> relu(x), whose slope at 0 is another one"""
    x = node.args[0] if node.op is ew.maximum else node.args[2]
    zero = node.args[1]
    if node.op is ew.where and not _compares(d.less, node.args[0], x):
        return None
    return ew.relu(x) if is_number(zero, 0) and x.dtype != bool_ else None


@on(STABLER, ew.multiply)
def relu_by_mask(node: Node) -> Node | None:
    """x * cast(x > 0) -> relu(x)"""
    for x, mask in (node.args, node.args[::-1]):
        if mask.op is ew.cast and _is_positive(mask.args[0], x):
            return ew.relu(x)
    return None


@on(EXACT, ew.where)
def relu_by_choice(node: Node) -> Node | None:
    """where(x <= 0, 0, x) -> relu(x)"""
    condition, zero, x = node.args
    positive = condition.op is d.less_equal and condition.args[0] is x and x.dtype != bool_
    return ew.relu(x) if positive and _is_zero(condition.args[1]) and is_number(zero, 0) else None


@on(ASSUMES_FINITE, ew.where)
def relu_without_nan(node: Node) -> Node | None:
    """where(x > 0, x, 0) -> relu(x), which is nan where x is"""
    found = _by_sign(node)
    return ew.relu(found[0]) if found and is_number(found[1], 0) else None


@on(EXACT, ew.where)
def leaky_relu_by_choice(node: Node) -> Node | None:
    """where(x > 0, x, slope * x) -> leaky_relu(x), where(x <= 0, slope * x, x) -> leaky_relu(x)"""
    found = _by_sign(node)
    if found is None:
        return None
    x, below = found
    base, slope = _multiple(below)
    return nn.leaky_relu(x, slope=slope) if base is x and below is not x else None


@on(EXACT, ew.maximum)
def leaky_relu_by_maximum(node: Node) -> Node | None:
    """maximum(slope * x, x) -> leaky_relu(x) for a slope between 0 and 1"""
    return _leaky_relu(node.args[1], node.args[0])


@on(EXACT, ew.maximum, ew.where, values_only=True)
def leaky_relu_of_values(node: Node) -> Node | None:
    """maximum(x, slope * x) -> leaky_relu(x), where(x < 0, slope * x, x) -> leaky_relu(x)"""
    found = node.args if node.op is ew.maximum else _by_sign(node, d.greater_equal, d.less)
    return _leaky_relu(*found) if found else None


def _leaky_relu(x: Node, below: Node) -> Node | None:
    """``below`` where that is a multiple of ``x`` by less than 1, and ``x`` above 0."""
    base, slope = _multiple(below)
    rises = base is x and below is not x and 0 < slope < 1
    return nn.leaky_relu(x, slope=slope) if rises and is_float(x.dtype) else None


@on(EXACT, ew.multiply)
def leaky_relu_by_factor(node: Node) -> Node | None:
    """x * where(x > 0, 1, slope) -> leaky_relu(x)"""
    for x, factor in (node.args, node.args[::-1]):
        if factor.op is not ew.where or not _is_positive(factor.args[0], x):
            continue
        slope = uniform_number(factor.args[2])
        if is_number(factor.args[1], 1) and slope is not None and math.isfinite(slope):
            return nn.leaky_relu(x, slope=slope)
    return None


@on(EXACT, ew.where)
def elu_by_choice(node: Node) -> Node | None:
    """where(x > 0, x, alpha * expm1(x)) -> elu(x), where(x <= 0, alpha * expm1(x), x) -> elu(x)"""
    found = _by_sign(node)
    return _elu(*found) if found else None


@on(EXACT, ew.where, values_only=True)
def elu_of_values(node: Node) -> Node | None:
    """where(x >= 0, x, alpha * expm1(x)) -> elu(x), where(x < 0, alpha * expm1(x), x) -> elu(x)"""
    found = _by_sign(node, d.greater_equal, d.less)
    elu = _elu(*found) if found else None
    return elu if elu and elu.attrs["alpha"] > 0 else None


def _elu(x: Node, below: Node) -> Node | None:
    base, alpha = _multiple(below)
    return nn.elu(x, alpha=alpha) if base.op is ew.expm1 and base.args[0] is x else None


@on(EXACT, ew.where)
def sigmoid_by_choice(node: Node) -> Node | None:
    """where(x >= 0, sigmoid(abs(x)), sigmoid(-abs(x))) -> sigmoid(x)"""
    condition, above, below = node.args
    x = condition.args[0] if condition.args else condition
    size = ew.absolute(x) if is_float(x.dtype) else x
    by_sign = _compares(d.greater, condition, x) or _compares(d.greater_equal, condition, x)
    if not by_sign or above.op is not ew.sigmoid or below.op is not ew.sigmoid:
        return None
    return ew.sigmoid(x) if above.args[0] is size and below.args[0] is -size else None


def _by_sign(
    node: Node, above: Op = d.greater, below: Op = d.less_equal
) -> tuple[Node, Node] | None:
    """(x, y) if ``node`` is x where x > 0 and y where x <= 0, for floats; for a nan it may be either."""
    condition, first, second = node.args
    if not is_float(node.dtype):
        return None
    if _compares(above, condition, first):
        return first, second
    return (second, first) if _compares(below, condition, second) else None


def _is_positive(condition: Node, x: Node) -> bool:
    """Whether ``condition`` is x > 0 for floats."""
    return is_float(x.dtype) and _compares(d.greater, condition, x)


def _compares(op: Op, condition: Node, x: Node) -> bool:
    """Whether ``condition`` compares ``x`` with 0 by ``op``."""
    return condition.op is op and condition.args[0] is x and _is_zero(condition.args[1])


def _is_zero(node: Node) -> bool:
    return uniform_number(node) == 0


def _multiple(node: Node) -> tuple[Node, float]:
    """The node without a constant factor, and that factor."""
    if node.op is ew.multiply:
        factor = uniform_number(node.args[1])
        if factor is not None and math.isfinite(factor):
            return node.args[0], factor
    return node, 1.0


@rule(EXACT, late=True)
def silu_by_sigmoid(x):
    """x * sigmoid(x) -> silu(x)"""
    return x * ew.sigmoid(x), nn.silu(x)


@rule(STABLER)
def normal_distribution(x):
    """1 + erf(x) -> erfc(-x)"""
    return 1.0 + erf(x), erfc(-x)


@rule(STABLER)
def normal_tail(x):
    """1 - erf(x) -> erfc(x)"""
    return 1.0 - erf(x), erfc(x)


@rule(STABLER)
def multiple_of_normal_distribution(x, y):
    """y + y * erf(x) -> y * erfc(-x)"""
    return y + y * erf(x), y * erfc(-x)


@rule(STABLER)
def other_tail(x):
    """1 - 0.5 * erfc(x) -> 0.5 * erfc(-x)"""
    return 1.0 - 0.5 * erfc(x), 0.5 * erfc(-x)


@on(STABLER, ew.multiply)
def gelu_by_erfc(node: Node) -> Node | None:
    """0.5 * x * erfc(-x / sqrt(2)) -> gelu(x)"""
    for tail, x in _factors_with_half(node, erfc):
        base, factor = _scaled(tail.args[0])
        limits: Any = np.finfo(node.dtype)
        near = abs(factor + math.sqrt(0.5)) <= 4 * float(limits.eps)
        if base is x and near:
            return nn.gelu(x)
    return None


def _factors_with_half(node: Node, op: object) -> list[tuple[Node, Node]]:
    """(f, x) if ``node`` is 0.5 * x * f, in any order, for an f of the given op."""
    factors: list[Node] = []
    pending = [node]
    while pending:
        factor = pending.pop()
        if factor.op is ew.multiply and len(factors) + len(pending) < 3:
            pending.extend(factor.args)
        else:
            factors.append(factor)
    halves = [f for f in factors if is_number(f, 0.5)]
    others = [f for f in factors if not is_number(f, 0.5)]
    if len(halves) != 1 or len(others) != 2:
        return []
    return [(a, b) for a, b in (others, others[::-1]) if a.op is op]


def _scaled(node: Node) -> tuple[Node, float]:
    """The node without constant factors, and their product."""
    factor = 1.0
    while True:
        if node.op is ew.negative:
            node, factor = node.args[0], -factor
            continue
        known = uniform_number(node.args[1]) if node.op in (ew.multiply, ew.divide) else None
        if not known:
            return node, factor
        factor = factor * known if node.op is ew.multiply else factor / known
        node = node.args[0]


@on(STABLER, ew.multiply)
def gelu_by_tanh(node: Node) -> Node | None:
    """x * sigmoid(scale * (x + cubic * x ** 3)) -> gelu_tanh(x)"""
    for x, gate in (node.args, node.args[::-1]):
        terms = _polynomial(gate.args[0], x) if gate.op is ew.sigmoid else None
        if terms and set(terms) == {1, 3} and all(terms.values()):
            scale, cubic = float(terms[1] / 2), float(terms[3] / terms[1])
            if _is_rising(scale, cubic):
                return nn.gelu_tanh(x, scale=scale, cubic=cubic)
    return None


HIGHEST_POWER = 3
Polynomial: TypeAlias = "dict[int, Fraction]"


DEEPEST_POLYNOMIAL = 8
"""How many nodes up a polynomial is looked for."""


def _polynomial(node: Node, x: Node, depth: int = DEEPEST_POLYNOMIAL) -> Polynomial | None:
    """The exact coefficients of ``node`` as a polynomial in ``x`` by power, None if it is none."""
    if node is x:
        return {1: Fraction(1)}
    value = uniform_number(node)
    if value is not None:
        return {0: Fraction(value)} if math.isfinite(value) else None
    combine = _COMBINED.get(node.op)
    if combine is None or depth == 0:
        return None
    parts = [_polynomial(arg, x, depth - 1) for arg in node.args]
    found = None if None in parts else combine(*parts)
    return found if found is not None and max(found) <= HIGHEST_POWER else None


def _plus(a: Polynomial, b: Polynomial) -> Polynomial:
    return {k: a.get(k, Fraction(0)) + b.get(k, Fraction(0)) for k in {*a, *b}}


def _times(a: Polynomial, b: Polynomial) -> Polynomial:
    product: Polynomial = {}
    for (j, left), (k, right) in itertools.product(a.items(), b.items()):
        product[j + k] = product.get(j + k, Fraction(0)) + left * right
    return product


def _to_the(a: Polynomial, exponent: Polynomial) -> Polynomial | None:
    whole = set(exponent) == {0} and exponent[0] in (2, 3)
    return functools.reduce(_times, [a] * int(exponent[0])) if whole else None


_MINUS: Polynomial = {0: Fraction(-1)}
_COMBINED: dict[Op, Callable[..., Polynomial | None]] = {
    ew.add: _plus,
    ew.subtract: lambda a, b: _plus(a, _times(_MINUS, b)),
    ew.negative: lambda a: _times(_MINUS, a),
    ew.multiply: _times,
    ew.square: lambda a: _times(a, a),
    ew.power: _to_the,
}


def _is_rising(scale: float, cubic: float) -> bool:
    """Whether the exponent rises with x, and neither constant is extreme: with others, inf - inf is met."""
    return 0.05 <= scale <= 5 and 0 < cubic <= 1


@rule(EXACT, where=lambda x: is_float(x.dtype), late=True)
def hinge_by_relu(x):
    """relu(1 - x) -> hinge(x)"""
    return ew.relu(1.0 - x), nn.hinge(x)
