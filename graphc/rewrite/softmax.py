"""The table *stabilize*, second part: softmax, logsumexp and logarithms of sums of exponentials."""

from __future__ import annotations

from collections.abc import Iterable

from graphc.ir import Node, broadcast, filled, size_node
from graphc.ops import elementwise as ew
from graphc.ops import reduce as r
from graphc.ops import shape
from graphc.ops import softmax as sm
from graphc.ops.index import concat, slice_
from graphc.rewrite.domains import is_peak
from graphc.rewrite.pattern import PRODUCT, SUM, all_terms, joined, spread
from graphc.rewrite.rules import Attribute, Label, Rest, Table
from graphc.types import product

STABLER = Label.STABLER

SOFTMAX = Table("stabilize")
rule, on = SOFTMAX.rule, SOFTMAX.on


@rule(STABLER)
def logsumexp_by_parts(x, axes: Attribute):
    """log(sum(exp(x))) -> logsumexp(x)"""
    return ew.log(r.sum_(ew.exp(x), axes=axes)), sm.logsumexp(x, axes=axes)


@rule(STABLER)
def negative_logsumexp(x, axes: Attribute):
    """log(1 / sum(exp(x))) -> -logsumexp(x)"""
    inverse = ew.reciprocal(r.sum_(ew.exp(x), axes=axes))
    return ew.log(inverse), -sm.logsumexp(x, axes=axes)


@rule(STABLER)
def negative_logsumexp_of_two(x, y):
    """log(1 / (exp(x) + exp(y))) -> -logaddexp(x, y)"""
    return ew.log(ew.reciprocal(ew.exp(x) + ew.exp(y))), -sm.logaddexp(x, y)


@rule(STABLER)
def logsumexp_of_two(x, y):
    """log(exp(x) + exp(y)) -> logaddexp(x, y)"""
    return ew.log(ew.exp(x) + ew.exp(y)), sm.logaddexp(x, y)


@rule(STABLER)
def logmeanexp(x, axes: Attribute):
    """log(mean(exp(x))) -> logsumexp(x) - log(size)"""
    return ew.log(r.mean(ew.exp(x), axes=axes)), lambda: _less_log_of_size(
        sm.logsumexp(x, axes=axes), x, axes
    )


def _less_log_of_size(total: Node, x: Node, axes: tuple[int, ...]) -> Node:
    count = size_node(product(x.shape[axis] for axis in axes), x.dtype)
    return total - broadcast(ew.log(count), total.shape)


@rule(STABLER)
def weighted_logsumexp(x, w: Rest, axes: Attribute):
    """log(sum(w * exp(x))) -> weighted_logsumexp(x, w)"""
    return ew.log(r.sum_(w * ew.exp(x), axes=axes)), sm.weighted_logsumexp(x, w, axes=axes)


@on(STABLER, ew.log)
def log_of_scaled_sum_of_exp(node: Node) -> Node | None:
    """log(c * sum(w * exp(x))) -> log(c) + weighted_logsumexp(x, w), and so for mean, with a c or a w"""
    factors = all_terms(node.args[0], PRODUCT)
    for k, (sign, total) in enumerate(factors):
        log = _log_of_total(total) if sign == 1 and total.op in (r.sum_, r.mean) else None
        if log is not None:
            rest = factors[:k] + factors[k + 1 :]
            return ew.log(joined(rest, PRODUCT)) + log if rest else log
    return None


def _log_of_total(total: Node) -> Node | None:
    """The logarithm of ``total``, if that is a sum or a mean of w * exp(x)."""
    found = _weighted_exp(1, total.args[0])
    if found is None:
        return None
    x, w = found
    axes = total.attrs["axes"]
    log = sm.weighted_logsumexp(x, w, axes=axes) if w else sm.logsumexp(x, axes=axes)
    return log if total.op is r.sum_ else _less_log_of_size(log, x, axes)


@on(STABLER, ew.log)
def logsumexp_of_terms(node: Node) -> Node | None:
    """log(v * exp(x) + w * exp(y) + ...) -> weighted_logsumexp(stack(x, y, ...), stack(v, w, ...))"""
    return _log_of_terms(node.args[0])


@on(STABLER, ew.divide)
def softmax_of_terms(node: Node) -> Node | None:
    """exp(x) / (exp(x) + exp(y) + exp(z) ...) -> softmax(stack(x, y, z, ...))[0]"""
    power, total = node.args
    terms = all_terms(total, SUM) if total.op is ew.add else []
    if (1, power) not in terms or any(s < 0 or term.op is not ew.exp for s, term in terms):
        return None
    rows = sm.softmax(_stacked(term.args[0] for _, term in terms), axes=(0,))
    return _row(rows, terms.index((1, power)))


def _row(stack: Node, place: int) -> Node:
    starts = (place, *(0 for _ in stack.shape[1:]))
    row = slice_(stack, starts=starts, sizes=(1, *stack.shape[1:]), steps=(1,) * len(starts))
    return shape.squeeze(row, axes=(0,))


@on(STABLER, ew.subtract)
def log_softmax_of_terms(node: Node) -> Node | None:
    """x - logsumexp(stack(x, y, ...)) -> log_softmax(stack(x, y, ...))[0], and so for the negative"""
    for x, log in (node.args, node.args[::-1]):
        stack = log.args[0] if log.op is sm.logsumexp and log.attrs["axes"] == (0,) else log
        own_row = shape.expand_dims(x, axes=(0,))
        if stack is not log and stack.op is concat and own_row in stack.args:
            row = _row(sm.log_softmax(stack, axes=(0,)), stack.args.index(own_row))
            return row if x is node.args[0] else -row
    return None


@on(STABLER, ew.subtract)
def log_softmax_of_two(node: Node) -> Node | None:
    """x - logaddexp(x, y) -> -softplus(y - x), and so for the negative and the other operand"""
    for x, log in (node.args, node.args[::-1]):
        if log.op is sm.logaddexp and x in log.args:
            y = log.args[1] if log.args[0] is x else log.args[0]
            loss = ew.softplus(y - x)
            return -loss if x is node.args[0] else loss
    return None


def _log_of_terms(total: Node) -> Node | None:
    """The logarithm of ``total``, if that is a sum of terms w * exp(x)."""
    terms = all_terms(total, SUM) if total.op in (ew.add, ew.subtract) else []
    parts = [part for part in (_weighted_exp(sign, term) for sign, term in terms) if part]
    if not parts or len(parts) < len(terms):
        return None
    exponents = _stacked(x for x, _ in parts)
    if not any(w for _, w in parts):
        return sm.logsumexp(exponents, axes=(0,))
    weights = _stacked(w or filled(x, 1) for x, w in parts)
    return sm.weighted_logsumexp(exponents, weights, axes=(0,))


def _weighted_exp(sign: int, term: Node) -> tuple[Node, Node | None] | None:
    """(x, w) if ``term`` with its sign is w * exp(x), (x, None) if it is exp(x)."""
    factors = all_terms(term, PRODUCT)
    powers = [k for k, (s, factor) in enumerate(factors) if s == 1 and factor.op is ew.exp]
    if not powers:
        return None
    (x,) = factors.pop(powers[0])[1].args
    if not factors and sign == 1:
        return x, None
    weight = joined(factors, PRODUCT) if factors else filled(x, 1)
    return x, weight if sign == 1 else -weight


def _stacked(nodes: Iterable[Node]) -> Node:
    return concat(*(shape.expand_dims(node, axes=(0,)) for node in nodes), axis=0)


@rule(STABLER)
def log_of_weighted_softmax(x, w: Rest, axes: Attribute, along: Attribute):
    """log(sum(w * softmax(x))) -> weighted_logsumexp(log_softmax(x), w)"""
    before = ew.log(r.sum_(w * sm.softmax(x, axes=along), axes=axes))
    return before, sm.weighted_logsumexp(sm.log_softmax(x, axes=along), w, axes=axes)


@rule(STABLER, where=lambda x, w, top, axes: is_peak(top, x, axes))
def weighted_logsumexp_of_shifted(x, w, top, axes: Attribute):
    """top + weighted_logsumexp(x - spread(top), w) -> weighted_logsumexp(x, w) where top is max(x)"""
    before = top + sm.weighted_logsumexp(x - spread(top, x, axes), w, axes=axes)
    return before, sm.weighted_logsumexp(x, w, axes=axes)


@rule(STABLER)
def softmax_by_parts(x, axes: Attribute):
    """exp(x) / spread(sum(exp(x))) -> softmax(x)"""
    total = r.sum_(ew.exp(x), axes=axes)
    return ew.exp(x) / spread(total, x, axes), sm.softmax(x, axes=axes)


@rule(STABLER)
def softmax_by_reciprocal(x, axes: Attribute):
    """exp(x) * spread(1 / sum(exp(x))) -> softmax(x)"""
    inverse = ew.reciprocal(r.sum_(ew.exp(x), axes=axes))
    return ew.exp(x) * spread(inverse, x, axes), sm.softmax(x, axes=axes)


@rule(STABLER)
def one_minus_softmax(x, axes: Attribute):
    """1 - softmax(x) -> softmax_complement(x)"""
    return 1.0 - sm.softmax(x, axes=axes), sm.softmax_complement(x, axes=axes)


@rule(STABLER, where=lambda x, top, axes: is_peak(top, x, axes))
def softmax_of_shifted(x, top, axes: Attribute):
    """softmax(x - spread(top)) -> softmax(x) where top is max(x)"""
    return sm.softmax(x - spread(top, x, axes), axes=axes), sm.softmax(x, axes=axes)


@rule(STABLER, where=lambda x, top, axes: is_peak(top, x, axes))
def logsumexp_of_shifted(x, top, axes: Attribute):
    """top + logsumexp(x - spread(top)) -> logsumexp(x) where top is max(x)"""
    before = top + sm.logsumexp(x - spread(top, x, axes), axes=axes)
    return before, sm.logsumexp(x, axes=axes)


@rule(STABLER)
def log_of_softmax(x, axes: Attribute):
    """log(softmax(x)) -> log_softmax(x)"""
    return ew.log(sm.softmax(x, axes=axes)), sm.log_softmax(x, axes=axes)


@rule(STABLER)
def log_softmax_by_logsumexp(x, axes: Attribute):
    """x - spread(logsumexp(x)) -> log_softmax(x)"""
    return x - spread(sm.logsumexp(x, axes=axes), x, axes), sm.log_softmax(x, axes=axes)


@rule(STABLER)
def negative_log_softmax(x, axes: Attribute):
    """spread(logsumexp(x)) - x -> -log_softmax(x)"""
    return spread(sm.logsumexp(x, axes=axes), x, axes) - x, -sm.log_softmax(x, axes=axes)


@rule(STABLER, where=lambda x, top, axes: is_peak(top, x, axes))
def log_softmax_of_shifted(x, top, axes: Attribute):
    """log_softmax(x - spread(top)) -> log_softmax(x) where top is max(x)"""
    return sm.log_softmax(x - spread(top, x, axes), axes=axes), sm.log_softmax(x, axes=axes)


@rule(STABLER)
def softmax_by_log_softmax(x, axes: Attribute):
    """exp(log_softmax(x)) -> softmax(x)"""
    return ew.exp(sm.log_softmax(x, axes=axes)), sm.softmax(x, axes=axes)
