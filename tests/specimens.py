"""Specimens of rewrite rules: graphs to which a rule applies, generated from it or written by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from graphc.errors import GraphcError
from graphc.ir import (
    Graph,
    Node,
    broadcast,
    constant_node,
    filled,
    filled_type,
    input_node,
    size_node,
)
from graphc.ops import discrete as d
from graphc.ops import elementwise as ew
from graphc.ops import norms as nm
from graphc.ops import reduce as r
from graphc.ops import shape as s
from graphc.ops import softmax as sm
from graphc.ops.index import concat, pick, slice_, take
from graphc.ops.linalg import matmul
from graphc.ops.special import erf, erfc
from graphc.rewrite.pattern import Apply, Kind, Number, Spread, Variable, variables_of
from graphc.rewrite.rules import Rule
from graphc.types import ALL_DTYPES, Size, TensorType, bool_, float64, int64

N = Size.named("N")
FLAT, ROWS = (N,), (N, 4)
AXES = (1,)
INF, NAN = np.inf, np.nan


@dataclass(frozen=True, eq=False)
class Specimen:
    """What a rule was applied to, and what it gave."""

    rule: Rule
    inputs: tuple[Node, ...]
    before: Node
    after: Node

    @property
    def is_flat(self) -> bool:
        """Whether each element of the result depends on one element of each input."""
        return all(x.shape == FLAT for x in (*self.inputs, self.before))

    @property
    def is_rowwise(self) -> bool:
        """Whether each row of the result depends on one row of each input."""
        return all(x.shape[:1] == FLAT for x in (*self.inputs, self.before))

    def graphs(self) -> tuple[Graph, Graph]:
        return (
            Graph("before", self.inputs, (self.before,)),
            Graph("after", self.inputs, (self.after,)),
        )


@dataclass(frozen=True)
class Given:
    """The shape of an input, and its dtype where that is not the one that is tested."""

    shape: tuple[int | Size, ...]
    dtype: np.dtype | None = None

    def node(self, name: str, dtype: np.dtype) -> Node:
        return input_node(name, TensorType(self.dtype or dtype, self.shape))


# Generated from patterns.

_CHOICE = {"c": Given(FLAT, bool_)}
_AFFINE = {"x": Given((N, 3)), "w": Given((3, 2)), "b": Given((2,))}
_POINTS = {"a": Given((N, 3)), "b": Given((2, 3))}
_LABELS = {"labels": Given(FLAT, int64)}
_TOP = {"top": Given(FLAT)}
VARIABLES: dict[str, dict[str, Given]] = {
    **dict.fromkeys(("choose_by_negation", "choose_twice", "choose_twice_otherwise"), _CHOICE),
    **dict.fromkeys(("affine_relu", "affine_sigmoid", "affine_tanh"), _AFFINE),
    **dict.fromkeys(("squared_distances", "squared_distances_of_doubled"), _POINTS),
    "squared_distances_from_doubled": _POINTS,
    **dict.fromkeys(("cross_entropy", "cross_entropy_by_logsumexp"), _LABELS),
    **dict.fromkeys(("negative_cross_entropy_by_logsumexp", "log_of_picked_softmax"), _LABELS),
    **dict.fromkeys(("softmax_of_shifted", "log_softmax_of_shifted"), _TOP),
    **dict.fromkeys(("logsumexp_of_shifted", "weighted_logsumexp_of_shifted"), _TOP),
    "cross_entropy_of_shifted": {**_LABELS, **_TOP},
}
"""What a variable of a rule is where it is not a float array of the usual shape."""


def hard_constants(dtype: np.dtype) -> list[Any]:
    """Constants that rules are tried with."""
    if dtype.kind == "b":
        return [False, True]
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        return [2, -3, 0, 1, -1, limits.min, limits.max]
    info = np.finfo(dtype)
    special = [0.0, -0.0, INF, -INF, NAN, info.max, info.smallest_subnormal]
    return [2.0, -3.0, 0.1, 1.0, -1.0, *map(float, special)]


def _generated(rule: Rule, dtype: np.dtype) -> Iterator[tuple[tuple[Node, ...], Node]]:
    assert rule.sides is not None
    variables = variables_of(rule.sides)
    pattern = rule.sides(**variables)[0]
    attributes = {k: AXES for k, v in variables.items() if v.kind is Kind.ATTRIBUTE}
    constants = [k for k, v in variables.items() if v.kind is Kind.CONSTANT]
    usual = Given(ROWS if attributes else FLAT)
    given = VARIABLES.get(rule.name, {})
    inputs = {
        k: given.get(k, usual).node(k, dtype)
        for k in variables
        if k not in attributes and k not in constants
    }
    for values in itertools.product(hard_constants(dtype), repeat=len(constants)):
        # A constant beside a reduction is added to what is reduced.
        type_ = TensorType(dtype, FLAT)
        bound = {k: filled_type(type_, v) for k, v in zip(constants, values, strict=True)}
        yield tuple(inputs.values()), instance(pattern, {**inputs, **attributes, **bound})


def instance(pattern: Any, bound: dict[str, Any]) -> Any:
    """A pattern with its variables replaced: a node, or a Python number."""
    if isinstance(pattern, Variable):
        return bound[pattern.name]
    if isinstance(pattern, Number):
        return pattern.value
    if isinstance(pattern, Spread):
        source, axes = instance(pattern.source, bound), instance(pattern.axes, bound)
        axes = (axes,) if isinstance(axes, int) else axes
        full = (N, 2) if "b" in bound else ROWS
        return broadcast(s.expand_dims(source, axes=axes), full)
    if not isinstance(pattern, Apply):
        return pattern
    args = [instance(arg, bound) for arg in pattern.args]
    attrs = {k: instance(v, bound) for k, v in pattern.attrs.items()}
    if pattern.op is ew.where:
        like = next(arg for arg in args[1:] if isinstance(arg, Node))
        args = [arg if isinstance(arg, Node) else filled(like, arg) for arg in args]
    return pattern.op(*args, **attrs)


# Written by hand.


@dataclass(frozen=True)
class Case:
    """A graph by hand: ``build`` takes one node for each of ``given``."""

    build: Callable[..., Node]
    given: tuple[Given, ...]


def case(build: Callable[..., Node], *shapes: Any) -> Case:
    """A case whose inputs have the given shapes, by default one flat input."""
    given = tuple(x if isinstance(x, Given) else Given(x) for x in shapes or (FLAT,))
    return Case(build, given)


def with_constants(build: Callable[[Node, Any], Node]) -> tuple[Case, ...]:
    """A case for each hard constant of each dtype, of which only the fitting ones are used."""
    values = [v for dtype in ALL_DTYPES for v in hard_constants(dtype)]
    distinct = {(type(v), str(v)): v for v in (*values, 0.5, 4.0, 2.0**-120, 2.0**1020)}
    return tuple(case(lambda x, v=v: build(x, _exactly(x, v))) for v in distinct.values())


def _exactly(x: Node, value: Any) -> Node:
    kinds = {"b": bool, "i": int, "f": float}
    if not isinstance(value, kinds[x.dtype.kind]) or isinstance(value, bool) != (x.dtype == bool_):
        raise GraphcError("another dtype")
    if x.dtype.kind == "i" and not np.iinfo(x.dtype).min <= value <= np.iinfo(x.dtype).max:
        raise GraphcError("another dtype")
    with np.errstate(over="ignore"):
        return filled(x, value)


def _both_ways(op: Any) -> tuple[Case, ...]:
    return with_constants(lambda x, c: op(x, c)) + with_constants(lambda x, c: op(c, x))


def _repeated(x: Node) -> Node:
    return broadcast(s.expand_dims(x, axes=(1,)), (N, 3))


def _permuted(x: Node, *axes: int) -> Node:
    return s.permute_dims(x, axes=axes)


def _but_at_labels(x: Node, labels: Node) -> Node:
    """The transpose of a matrix with one 0 in every row."""
    row = _permuted(x, 1, 0)
    place = s.iota(shape=row.shape, axis=1, dtype=int64)
    chosen = broadcast(s.expand_dims(labels, axes=(1,)), row.shape)
    return ew.where(d.equal(place, chosen), 0, row)


def _rows(*nodes: Node) -> Node:
    return concat(*(s.expand_dims(node, axes=(0,)) for node in nodes), axis=0)


def _first_column(x: Node) -> Node:
    column = slice_(x, starts=(0, 0), sizes=(N, 1), steps=(1, 1))
    return s.squeeze(column, axes=(1,))


def _over_size(total: Node, size: Size) -> Node:
    return total / broadcast(size_node(size, total.dtype), total.shape)


def _of_shifted(build: Callable[..., Node], *others: Given) -> tuple[Case, ...]:
    """``build(maximum, x - maximum, *others)``, with the gradient of the maximum and without."""

    def built(x: Node, *rest: Node, fixed: bool) -> Node:
        top = r.max_(x, axes=AXES)
        top = ew.stop_gradient(top) if fixed else top
        return build(top, x - r.spread(top, x, AXES), *rest)

    return tuple(case(partial(built, fixed=fixed), ROWS, *others) for fixed in (False, True))


def _all_differences(a: Node, b: Node) -> Node:
    shape = (a.shape[0], b.shape[0], a.shape[1])
    return broadcast(s.expand_dims(a, axes=(1,)), shape) - broadcast(b, shape)


UNIT_OPS = (ew.add, ew.subtract, ew.multiply, ew.divide, ew.power, ew.chain)
LOGIC_OPS = (d.bitwise_and, d.bitwise_or, d.bitwise_xor, d.floor_divide)
UNARY_OPS = (ew.exp, ew.log1p, ew.sin, ew.tanh, ew.sqrt, ew.negative, ew.square, ew.absolute)

BY_HAND: dict[str, tuple[Case, ...]] = {
    "fold_constants": (
        *itertools.chain.from_iterable(
            with_constants(lambda x, c, op=op: op(c)) for op in UNARY_OPS
        ),
        *with_constants(lambda x, c: ew.multiply(c, c)),
        case(lambda x: ew.exp(constant_node([0.5, NAN, -0.0])), FLAT),
        case(lambda x: r.sum_(constant_node([0.5, 0.1, -0.0]), axes=(0,)), FLAT),
    ),
    "uniform_constant": (
        case(lambda x: constant_node(np.full((3, 2), -0.0))),
        case(lambda x: constant_node(np.full(3, NAN))),
        case(lambda x: constant_node(np.full(3, 7))),
    ),
    "widen_before_exp": (
        case(lambda x: ew.cast(ew.exp(x), dtype=float64)),
        case(lambda x: ew.cast(0.3 * ew.exp(x), dtype=float64)),
        case(lambda x, w: ew.cast(w * ew.exp(x), dtype=float64), FLAT, FLAT),
        case(lambda x, w: ew.cast(ew.exp(x) / w, dtype=float64), FLAT, FLAT),
    ),
    "widen_before_sum_of_exp": (
        case(lambda x: ew.cast(r.sum_(ew.exp(x), axes=AXES), dtype=float64), ROWS),
        case(lambda x, w: ew.cast(r.mean(w * ew.exp(x), axes=AXES), dtype=float64), ROWS, ROWS),
    ),
    "log_of_scaled_sum_of_exp": (
        case(lambda x: ew.log(r.sum_(ew.exp(x), axes=AXES) / 7), ROWS),
        case(lambda x, c: ew.log(c * r.mean(ew.exp(x), axes=AXES)), ROWS, FLAT),
        case(lambda x, w: ew.log(0.4 * r.sum_(w * ew.exp(x), axes=AXES)), ROWS, ROWS),
        case(lambda x, w: ew.log(r.mean(w * ew.exp(x), axes=AXES)), ROWS, ROWS),
    ),
    "logsumexp_of_terms": (
        case(lambda x, y: ew.log(0.3 * ew.exp(x) + 0.7 * ew.exp(y)), FLAT, FLAT),
        case(lambda x, y, w: ew.log(ew.exp(x) * w - ew.exp(y)), FLAT, FLAT, FLAT),
        case(lambda x, y, z: ew.log(ew.exp(x) + ew.exp(y) + ew.exp(z)), FLAT, FLAT, FLAT),
    ),
    "softmax_of_terms": (
        case(lambda x, y, z: ew.exp(x) / (ew.exp(x) + ew.exp(y) + ew.exp(z)), FLAT, FLAT, FLAT),
        case(lambda x, y, z: ew.exp(z) / (ew.exp(x) + ew.exp(y) + ew.exp(z)), FLAT, FLAT, FLAT),
    ),
    "log_softmax_of_terms": tuple(
        case(build, FLAT, FLAT, FLAT)
        for build in (
            lambda x, y, z: x - sm.logsumexp(_rows(x, y, z), axes=(0,)),
            lambda x, y, z: sm.logsumexp(_rows(x, y, z), axes=(0,)) - z,
        )
    ),
    "log_softmax_of_two": tuple(
        case(build, FLAT, FLAT)
        for build in (
            lambda x, y: x - sm.logaddexp(x, y),
            lambda x, y: y - sm.logaddexp(x, y),
            lambda x, y: sm.logaddexp(x, y) - x,
        )
    ),
    "compute_before_selecting": (
        *(
            case(lambda x, f=f, g=g: f(_first_column(g(x))), ROWS)
            for f in (ew.log, lambda y: 1.0 - y)
            for g in (ew.exp, ew.sigmoid, lambda x: sm.softmax(x, axes=AXES))
        ),
        case(lambda x, i: ew.log(take(ew.sigmoid(x), i, axis=1)), ROWS, Given((), int64)),
    ),
    "log_of_weighted_softmax": (
        case(lambda x, w: ew.log(r.sum_(w * sm.softmax(x, axes=AXES), axes=AXES)), ROWS, ROWS),
    ),
    "softmax_of_shifted": _of_shifted(lambda top, x: sm.softmax(x, axes=AXES)),
    "log_softmax_of_shifted": _of_shifted(lambda top, x: sm.log_softmax(x, axes=AXES)),
    "logsumexp_of_shifted": _of_shifted(lambda top, x: top + sm.logsumexp(x, axes=AXES)),
    "weighted_logsumexp_of_shifted": _of_shifted(
        lambda top, x, w: top + sm.weighted_logsumexp(x, w, axes=AXES), Given(ROWS)
    ),
    "drop_unit": tuple(
        itertools.chain.from_iterable(_both_ways(op) for op in (*UNIT_OPS, *LOGIC_OPS))
    ),
    "absorb": tuple(
        itertools.chain.from_iterable(
            _both_ways(op) for op in (ew.multiply, ew.chain, *LOGIC_OPS[:2])
        )
    ),
    "known_factor": with_constants(lambda x, c: ew.chain(c, x)),
    "subtract_itself": (case(lambda x: x - x),),
    "subtract_integer_from_itself": (case(lambda x: x - x),),
    "abs_of_nonnegative": tuple(
        case(lambda x, op=op: ew.absolute(op(x)))
        for op in (
            *(ew.square, ew.exp, ew.absolute, ew.relu, ew.sigmoid, ew.softplus),
            lambda x: ew.sqrt(ew.square(x) + 1),
            lambda x: ew.maximum(ew.exp(x), ew.square(x)),
            lambda x: ew.minimum(ew.exp(x), ew.square(x)),
            lambda x: ew.absolute(x) * ew.square(x),
            lambda x: ew.reciprocal(ew.relu(x)) / ew.absolute(x),
        )
    )
    + tuple(
        case(lambda x, op=op: ew.absolute(op(ew.absolute(x), axes=AXES)), ROWS)
        for op in (r.sum_, r.mean, r.max_, r.min_, r.prod)
    ),
    "multiply_by_minus_one": (case(lambda x: x * -1),),
    "odd_of_negative": tuple(
        itertools.chain.from_iterable(
            (case(lambda x, op=op: op(-x)), *with_constants(lambda x, c, op=op: op(x * c)))
            for op in (ew.tanh, ew.sin, erf)
        )
    ),
    "square_of_root": tuple(
        case(lambda x, op=op: ew.square(ew.sqrt(op(x))))
        for op in (ew.exp, ew.square, ew.absolute, ew.relu)
    ),
    "power_minus_one": (case(lambda x: ew.power(x, -1.0)),),
    "power_one_half": (
        case(lambda x: ew.power(x, 0.5)),
        case(lambda x: ew.power(ew.absolute(x), 0.5)),
    ),
    "power_minus_one_half": (case(lambda x: ew.power(ew.absolute(x), -0.5)),),
    "divide_by_power_of_two": with_constants(lambda x, c: x / c),
    "known_choice": (
        case(lambda c, x, y: ew.where(filled(c, True), x, y), Given(FLAT, bool_), FLAT, FLAT),
        case(lambda c, x, y: ew.where(filled(c, False), x, y), Given(FLAT, bool_), FLAT, FLAT),
        case(lambda c, x: ew.where(c, x, x), Given(FLAT, bool_), FLAT),
    ),
    "compare_with_itself": tuple(
        case(lambda x, op=op: op(x, x))
        for op in (d.less, d.greater, d.equal, d.not_equal, d.less_equal, d.greater_equal)
    ),
    "choose_of_equal": tuple(
        case(lambda x, op=op: op(x, x))
        for op in (ew.maximum, ew.minimum, d.bitwise_and, d.bitwise_or)
    ),
    "round_twice": tuple(
        case(lambda x, f=f, h=h: f(h(x)))
        for f, h in itertools.product((d.floor, d.ceil, d.round_), repeat=2)
    ),
    "cast_to_itself": (case(lambda x: ew.cast(x, dtype=x.dtype)),),
    "cast_through_wider": tuple(
        case(lambda x, a=a, b=b: ew.cast(ew.cast(x, dtype=a), dtype=b))
        for a, b in itertools.product(ALL_DTYPES, repeat=2)
    ),
    "fan_in_of_equal": (case(lambda x: ew.accumulate(x, x)),),
    "reduce_negative": (
        case(lambda x: r.sum_(-x, axes=AXES), ROWS),
        case(lambda x: r.mean(-x, axes=AXES), ROWS),
    ),
    "reduce_nothing": tuple(
        case(lambda x, op=op: op(x, axes=())) for op in (r.prod, r.max_, r.min_, r.all_, r.any_)
    ),
    "sum_nothing": (case(lambda x: r.sum_(x, axes=())),),
    "compute_before_moving": (
        case(lambda x, y: _repeated(x) * _repeated(y), FLAT, FLAT),
        case(lambda x: 2 * _repeated(x), FLAT),
        case(lambda x, y: _permuted(x, 1, 0) / _permuted(y, 1, 0), ROWS, ROWS),
        case(lambda x: -s.reshape(x, shape=(4 * N,)), ROWS),
        case(lambda c, x: ew.where(_repeated(c), _repeated(x), 0), Given(FLAT, bool_), Given(FLAT)),
        case(lambda x, y: s.expand_dims(x, axes=(0,)) - s.expand_dims(y, axes=(0,)), FLAT, FLAT),
    ),
    "compute_before_permuting": (
        case(lambda x, y: _permuted(x, 1, 0) + broadcast(y, (4, N)), ROWS, FLAT),
        case(lambda x, y: _permuted(x, 1, 0) - _repeated(y), (3, N), FLAT),
        case(
            lambda x, y: _permuted(x, 0, 2, 1) * broadcast(s.expand_dims(y, axes=(1,)), (N, 4, 3)),
            *((N, 3, 4), (N, 3)),
        ),
        case(lambda x: 2 / _permuted(x, 1, 0), ROWS),
        case(_but_at_labels, ROWS, Given((4,), int64)),
    ),
    "move_a_constant": (
        case(lambda x: s.expand_dims(filled(x, 2), axes=(1,))),
        case(lambda x: _permuted(filled(x, 2), 1, 0), ROWS),
        case(lambda x: s.reshape(filled(x, 2), shape=(N, 2, 2)), ROWS),
        case(lambda x: s.squeeze(filled(x, 2), axes=(1,)), (N, 1)),
    ),
    "merge_broadcasts": (
        case(lambda x: broadcast(broadcast(x, (3, N)), (2, 3, N))),
        case(
            lambda x: broadcast(s.expand_dims(x, axes=(1,)), (2, N, 1)).op(
                broadcast(s.expand_dims(x, axes=(1,)), (2, N, 1)), shape=(2, N, 3)
            )
        ),
    ),
    "broadcast_leading_axes": (
        case(lambda x: broadcast(s.expand_dims(x, axes=(0,)), (3, N))),
        case(lambda x: broadcast(s.expand_dims(x, axes=(0, 1, 3)), (2, 3, N, 4))),
    ),
    "expand_a_broadcast": tuple(
        case(lambda x, axes=axes: s.expand_dims(broadcast(x, (3, N, 4)), axes=axes), ROWS)
        for axes in ((0,), (1,), (2,), (3,), (1, 3), (0, 2, 4))
    ),
    "merge_expansions": (
        case(lambda x: s.expand_dims(x, axes=())),
        *(
            case(lambda x, a=a, b=b: s.expand_dims(s.expand_dims(x, axes=a), axes=b), ROWS)
            for a, b in itertools.product(((0,), (1,), (2,), (0, 2)), repeat=2)
        ),
    ),
    "squeeze_what_was_expanded": (
        case(lambda x: s.squeeze(s.expand_dims(x, axes=(0, 1)), axes=(0,))),
        case(lambda x: s.squeeze(s.expand_dims(x, axes=(0, 2)), axes=(0, 2)), ROWS),
        case(lambda x: s.squeeze(s.expand_dims(x, axes=(0,)), axes=(2,)), (N, 1)),
        case(lambda x: s.squeeze(x, axes=())),
    ),
    "merge_permutations": (
        case(lambda x: _permuted(x, 0, 1), ROWS),
        case(lambda x: _permuted(_permuted(x, 1, 2, 0), 0, 2, 1), (N, 3, 4)),
        case(lambda x: _permuted(_permuted(x, 1, 2, 0), 1, 2, 0), (N, 3, 4)),
    ),
    "permute_new_axes": (
        case(lambda x: _permuted(s.expand_dims(x, axes=(0,)), 1, 0)),
        case(lambda x: _permuted(s.expand_dims(x, axes=(0, 3)), 3, 1, 0, 2), ROWS),
    ),
    "merge_reshapes": (
        case(lambda x: s.reshape(s.reshape(x, shape=(4 * N,)), shape=(2 * N, 2)), ROWS),
        case(lambda x: s.reshape(x, shape=(N, 4)), ROWS),
        case(lambda x: s.reshape(s.expand_dims(x, axes=(0,)), shape=(4 * N,)), ROWS),
    ),
    "reshape_by_ones": (
        case(lambda x: s.reshape(x, shape=(1, N, 1, 4)), ROWS),
        case(lambda x: s.reshape(x, shape=(N,)), (1, N, 1)),
    ),
    "slice_everything": (
        case(lambda x: slice_(x, starts=(0, 0), sizes=(N, 4), steps=(1, 1)), ROWS),
    ),
    "slice_of_concat": tuple(
        case(
            lambda x, y, start=start: slice_(
                concat(x, y, axis=1), starts=(0, start), sizes=(N, 3), steps=(1, 1)
            ),
            ROWS,
            (N, 3),
        )
        for start in (0, 1, 4)
    ),
    "transposes_into_products": (
        case(lambda x, y: matmul(_permuted(x, 1, 0), y), (N, 3), (N, 2)),
        case(lambda x, y: matmul(x, _permuted(y, 1, 0)), (N, 3), (2, 3)),
        case(lambda x, y: matmul(_permuted(x, 1, 0), y, transpose_a=True), (N, 3), (3, 2)),
        case(
            lambda x, y: matmul(_permuted(x, 0, 2, 1), _permuted(y, 0, 2, 1)), (2, N, 3), (2, 4, N)
        ),
    ),
    "product_over_one": (
        case(lambda x, y: matmul(x, y), (N, 1), (1, 5)),
        case(lambda x, y: matmul(x, y, transpose_a=True, transpose_b=True), (1, N), (5, 1)),
    ),
    "reduce_twice": tuple(
        case(lambda x, op=op: op(op(x, axes=(1,)), axes=(1,)), (N, 3, 4))
        for op in (r.max_, r.min_, r.all_, r.any_)
    ),
    "add_up_twice": tuple(
        case(lambda x, op=op: op(op(x, axes=(1,)), axes=(1,)), (N, 3, 4)) for op in (r.sum_, r.prod)
    ),
    "sum_of_repeated": (
        case(lambda x: r.sum_(_repeated(x), axes=(1,))),
        case(lambda x: r.sum_(broadcast(x, (3, N, 4)), axes=(0, 2)), ROWS),
        case(lambda x: r.sum_(broadcast(constant_node(0.1, x.dtype), x.shape), axes=(0,))),
        case(lambda x, y: r.sum_(broadcast(y, (N, 4)), axes=(0,)), FLAT, (4,)),
    ),
    "extreme_of_repeated": (
        case(lambda x: r.max_(_repeated(x), axes=(1,))),
        case(lambda x: r.min_(broadcast(x, (3, N, 4)), axes=(0, 2)), ROWS),
    ),
    "mean_of_repeated": (
        case(lambda x: r.mean(_repeated(x), axes=(1,))),
        case(lambda x: r.mean(broadcast(x, (3, N, 4)), axes=(0, 2)), ROWS),
    ),
    "relu_by_maximum": (case(lambda x: ew.maximum(filled(x, 0), x)),),
    "relu_of_values": (
        case(lambda x: ew.maximum(x, filled(x, 0))),
        case(lambda x: ew.where(x < 0, filled(x, 0), x)),
    ),
    "relu_by_mask": (case(lambda x: x * ew.cast(x > 0, dtype=x.dtype)),),
    "relu_by_choice": (case(lambda x: ew.where(x <= 0, filled(x, 0), x)),),
    "relu_without_nan": (case(lambda x: ew.where(x > 0, x, filled(x, 0))),),
    "leaky_relu_by_maximum": with_constants(lambda x, c: ew.maximum(x * c, x)),
    "leaky_relu_of_values": (
        *with_constants(lambda x, c: ew.maximum(x, x * c)),
        *with_constants(lambda x, c: ew.where(x >= 0, x, x * c)),
        *with_constants(lambda x, c: ew.where(x < 0, x * c, x)),
    ),
    "leaky_relu_by_factor": with_constants(
        lambda x, c: x * ew.where(x > 0, filled(x, 1), c),
    ),
    "leaky_relu_by_choice": with_constants(lambda x, c: ew.where(x > 0, x, x * c)),
    "elu_by_choice": (
        *with_constants(lambda x, c: ew.where(x > 0, x, ew.expm1(x) * c)),
        case(lambda x: ew.where(x > 0, x, ew.expm1(x))),
    ),
    "elu_of_values": (
        *with_constants(lambda x, c: ew.where(x >= 0, x, ew.expm1(x) * c)),
        case(lambda x: ew.where(x < 0, ew.expm1(x), x)),
    ),
    "sigmoid_by_choice": tuple(
        case(
            lambda x, op=op: ew.where(
                op(x, 0), ew.sigmoid(ew.absolute(x)), ew.sigmoid(-ew.absolute(x))
            )
        )
        for op in (d.greater, d.greater_equal)
    ),
    "gelu_by_erfc": (
        case(lambda x: 0.5 * x * erfc(x * -(0.5**0.5))),
        case(lambda x: x * (0.5 * erfc(-x / 2**0.5))),
    ),
    "gelu_by_tanh": tuple(
        case(build)
        for build in (
            lambda x: x * ew.sigmoid(1.6 * (x + 0.044715 * ew.power(x, 3))),
            lambda x: ew.sigmoid(1.6 * x * (1 + 0.044715 * ew.square(x))) * x,
            lambda x: x * ew.sigmoid(0.1 * x + 0.1 * (x * x * x)),
        )
    ),
    "mean_by_quotient": (
        case(lambda x: r.sum_(x, axes=AXES) / 4, ROWS),
        case(lambda x: nm.sum_of_squares(x, axes=AXES) / 4, ROWS),
        case(lambda x: r.sum_(x, axes=(0,)) / size_node(N, x.dtype)),
        case(lambda x: _over_size(r.sum_(x, axes=(0,)), N), ROWS),
    ),
    "mean_by_factor": (
        case(lambda x: r.sum_(x, axes=AXES) * 0.25, ROWS),
        case(lambda x: r.sum_(x, axes=AXES) * (1 / 3), (N, 3)),
        case(lambda x: r.sum_(x, axes=AXES) * (-1 / 3), (N, 3)),
        case(lambda x: nm.sum_of_squares(x, axes=AXES) * (1 / 7), (N, 7)),
        case(lambda x: r.sum_(x, axes=(0,)) * ew.reciprocal(size_node(N, x.dtype))),
    ),
    "pick_of_vector": (case(lambda x, label: take(x, label, axis=0), (4,), Given((), int64)),),
    "pick_before_computing": tuple(
        case(lambda x, labels, op=op: pick(op(x), labels), ROWS, Given(FLAT, int64))
        for op in UNARY_OPS
    ),
    "cross_entropy_of_shifted": _of_shifted(
        lambda top, x, labels: sm.cross_entropy(x, labels), Given(FLAT, int64)
    ),
    "squared_distances_by_differences": (
        case(lambda a, b: nm.sum_of_squares(_all_differences(a, b), axes=(2,)), (N, 3), (2, 3)),
        case(lambda a, b: nm.sum_of_squares(_all_differences(a, b), axes=(2,)), (2, 3), (N, 3)),
        case(lambda a: nm.sum_of_squares(_all_differences(a, a), axes=(2,)), (N, 3)),
    ),
    "total_soft_cross_entropy": (
        case(lambda x, y: r.sum_(y * sm.log_softmax(x, axes=(2,)), axes=(1, 2)), *[(N, 3, 4)] * 2),
    ),
    "dot_with_itself": tuple(
        case(lambda x: matmul(s.expand_dims(x, axes=(0,)), s.expand_dims(x, axes=(1,))), shape)
        for shape in ((5,), FLAT)
    ),
    "affine": (
        case(
            lambda x, w, b: matmul(x, w) + broadcast(b, (N, 2)),
            *((N, 3), (3, 2), (2,)),
        ),
    ),
}


def _by_hand(item: Case, dtype: np.dtype) -> tuple[tuple[Node, ...], Node]:
    inputs = tuple(given.node(f"x{k}", dtype) for k, given in enumerate(item.given))
    return inputs, item.build(*inputs)


def _candidates(
    rule: Rule, dtype: np.dtype, cases: Sequence[Case]
) -> Iterator[tuple[tuple[Node, ...], Node]]:
    try:
        if rule.sides is not None:
            yield from _generated(rule, dtype)
    except GraphcError:
        return  # an op does not accept the dtype
    for item in cases:
        try:
            yield _by_hand(item, dtype)
        except GraphcError:
            continue


def fire(rule: Rule, inputs: Sequence[Node], root: Node) -> Specimen | None:
    """The specimen that ``root`` is, if the rule applies to it."""
    if rule.roots is not None and root.op not in rule.roots:
        return None
    after = rule.apply(root)
    if after is None or after is root:
        return None
    assert after.type == root.type, f"{rule.name} changes {root.type} to {after.type}"
    return Specimen(rule, tuple(inputs), root, after)


def specimens(
    rule: Rule, dtypes: Sequence[np.dtype] = ALL_DTYPES, cases: Sequence[Case] | None = None
) -> list[Specimen]:
    """Every specimen of a rule, in all ``dtypes`` that its ops accept; ``cases`` are those by hand."""
    by_hand = BY_HAND.get(rule.name, ()) if cases is None else cases
    found = [
        fire(rule, inputs, root)
        for dtype in dtypes
        for inputs, root in _candidates(rule, dtype, by_hand)
    ]
    return [specimen for specimen in found if specimen is not None]
