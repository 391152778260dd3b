"""Softmax, its logarithm, sums of exponentials and cross-entropies: gates that do not overflow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.facts import FORBIDDEN, Domain, Sample
from graphc.ir import Array, Node, Op, Rejected, filled
from graphc.ops.definitions import (
    OVER_COLUMNS,
    OVER_ROWS,
    OVER_TWO,
    WIDE,
    derivative_gate,
    gate,
    infer_rowwise,
    of_operands,
)
from graphc.ops.discrete import bitwise_or, equal, not_equal
from graphc.ops.elementwise import (
    absolute,
    chain,
    exp,
    log,
    log1p,
    maximum,
    minimum,
    reciprocal,
    sigmoid,
    softplus,
    where,
)
from graphc.ops.families import require_dtype, require_one_type
from graphc.ops.index import pick, wrapped
from graphc.ops.reduce import Axes, infer_reduced, infer_same, lowest, reduction, spread, sum_
from graphc.ops.shape import iota
from graphc.types import FLOATS, INTEGERS, TensorType, int64, largest_float

SAMPLES = (OVER_ROWS, OVER_COLUMNS, OVER_TWO)


# The largest exponent, by which all are shifted.


def _max_or_lowest_reference(x: Array, *, axis: Axes) -> Any:
    return np.max(x, axis=axis, initial=-np.inf)


max_or_lowest: Op = reduction(
    "max_or_lowest",
    dtypes=FLOATS,
    reference=_max_or_lowest_reference,
    step="accumulate.maximum",
    initial=lowest,
    vjp=FORBIDDEN("it is internal to gates that have derivatives of their own"),
)


def stable_max(x: Node, axes: Axes) -> Node:
    """The maximum by which exponents are shifted, made finite, so that inf - inf is not met.

    Where one exponent is inf, the powers of the finite ones are 0 then, and its own is inf.
    """
    top = max_or_lowest(x, axes=axes)
    largest = largest_float(x.dtype)
    return maximum(minimum(top, filled(top, largest)), filled(top, -largest))


def _stable_max_array(x: Array, axes: Axes) -> Array:
    """`stable_max` of arrays; the reduced axes stay."""
    top = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    largest = largest_float(x.dtype)
    return np.asarray(np.clip(top, -largest, largest).astype(x.dtype))


def _shifted(x: Node, axes: Axes) -> Node:
    return x - spread(stable_max(x, axes), x, axes)


def log_total(shifted: Node, axes: Axes) -> Node:
    """log(sum(exp(shifted))) where the largest element is 0, to full precision where it outweighs the rest.

    The logarithm of 1 + tiny would be 0, so one of the elements that are 0 is left out of the sum.
    """
    return log1p(_all_but_one(exp(shifted), axes))


def _all_but_one(powers: Node, axes: Axes) -> Node:
    """The sum of all but one of the elements that are 1, the largest."""
    one, zero = filled(powers, 1), filled(powers, 0)
    is_top = equal(powers, one)
    others = sum_(where(is_top, zero, powers), axes=axes)
    ties = sum_(where(is_top, one, zero), axes=axes)
    return (ties - 1) + others


def _log_total_of(shifted: Array, axes: Axes) -> Array:
    """`log_total` of arrays; the reduced axes stay."""
    return np.asarray(np.log1p(_all_but_one_of(np.exp(shifted), axes)))


def _all_but_one_of(powers: Array, axes: Axes) -> Any:
    others = np.sum(np.where(powers == 1, powers.dtype.type(0), powers), axis=axes, keepdims=True)
    ties = np.sum(powers == 1, axis=axes, keepdims=True, dtype=powers.dtype)
    return (ties - powers.dtype.type(1)) + others


# Sums of exponentials.


def _expand_logsumexp(x: Node, *, axes: Axes) -> Node:
    top = stable_max(x, axes)
    return log_total(x - spread(top, x, axes), axes) + top


def _logsumexp_reference(x: Array, *, axes: Axes) -> Any:
    top = _stable_max_array(x, axes)
    return np.squeeze(_log_total_of(x - top, axes) + top, axis=axes).astype(x.dtype)


logsumexp: Op = gate(
    "logsumexp",
    infer=infer_reduced,
    expand=_expand_logsumexp,
    reference=_logsumexp_reference,
    vjp=lambda g, out, x, *, axes: (chain(spread(g, x, axes), softmax(x, axes=axes)),),
    samples=SAMPLES,
)


# Softmax.


def _expand_softmax(x: Node, *, axes: Axes) -> Node:
    # One division a row: a product costs a tenth of a quotient, and is wrong by half an ulp more.
    powers = exp(_shifted(x, axes))
    return powers * spread(reciprocal(sum_(powers, axes=axes)), x, axes)


def _softmax_reference(x: Array, *, axes: Axes) -> Any:
    powers = np.exp(x - _stable_max_array(x, axes))
    return (powers / np.sum(powers, axis=axes, keepdims=True)).astype(x.dtype)


softmax_gradient: Op = derivative_gate(
    "softmax_gradient",
    infer=infer_rowwise,
    expand=lambda g, out, *, axes: out * (g - spread(sum_(g * out, axes=axes), g, axes)),
    samples=of_operands(2, *SAMPLES),
)
"""The cotangent before a softmax, by that of its result and the result."""

softmax: Op = gate(
    "softmax",
    infer=infer_same,
    expand=_expand_softmax,
    reference=_softmax_reference,
    vjp=lambda g, out, x, *, axes: (softmax_gradient(g, out, axes=axes),),
    samples=SAMPLES,
)


def _infer_scaled(g: TensorType, x: TensorType, *, axes: Axes) -> TensorType:
    require_one_type((infer_reduced(x, axes=axes), g))
    return x


def _expand_scaled(g: Node, x: Node, *, axes: Axes) -> Node:
    powers = exp(_shifted(x, axes))
    return powers * spread(g * reciprocal(sum_(powers, axes=axes)), x, axes)


scaled_softmax: Op = gate(
    "scaled_softmax",
    infer=_infer_scaled,
    expand=_expand_scaled,
    reference=lambda g, x, *, axes: np.expand_dims(g, axes) * _softmax_reference(x, axes=axes),
    vjp=lambda h, out, g, x, *, axes: (
        sum_(h * softmax(x, axes=axes), axes=axes),
        softmax_gradient(spread(g, x, axes) * h, softmax(x, axes=axes), axes=axes),
    ),
    samples=(
        Sample(((3,), (3, 4)), {"axes": (1,)}, (WIDE, WIDE)),
        Sample(((4,), (3, 4)), {"axes": (0,)}, (WIDE, WIDE)),
    ),
)
"""Every row of softmax(x) times a number of its own, which takes one product for an element."""


def _expand_log_softmax(x: Node, *, axes: Axes) -> Node:
    # The maximum is taken off first: subtracting one large logsumexp would cancel.
    shifted = _shifted(x, axes)
    return shifted - spread(log_total(shifted, axes), x, axes)


def _log_softmax_reference(x: Array, *, axes: Axes) -> Any:
    shifted = x - _stable_max_array(x, axes)
    return (shifted - _log_total_of(shifted, axes)).astype(x.dtype)


log_softmax_gradient: Op = derivative_gate(
    "log_softmax_gradient",
    infer=infer_rowwise,
    expand=lambda g, out, *, axes: g - exp(out) * spread(sum_(g, axes=axes), g, axes),
    samples=of_operands(2, *SAMPLES),
)

log_softmax: Op = gate(
    "log_softmax",
    infer=infer_same,
    expand=_expand_log_softmax,
    reference=_log_softmax_reference,
    vjp=lambda g, out, x, *, axes: (log_softmax_gradient(g, out, axes=axes),),
    samples=SAMPLES,
)


def _expand_complement(x: Node, *, axes: Axes) -> Node:
    powers = exp(_shifted(x, axes))
    inverse = reciprocal(sum_(powers, axes=axes))
    probability = powers * spread(inverse, x, axes)
    # Only the largest element can be nearly the total.
    others = spread(_all_but_one(powers, axes) * inverse, x, axes)
    return where(probability > 0.5, others, 1 - probability)


def _complement_reference(x: Array, *, axes: Axes) -> Any:
    powers = np.exp(x - _stable_max_array(x, axes))
    total = np.sum(powers, axis=axes, keepdims=True)
    probability = powers / total
    others = _all_but_one_of(powers, axes) / total
    return np.where(probability > 0.5, others, 1 - probability).astype(x.dtype)


softmax_complement: Op = gate(
    "softmax_complement",
    infer=infer_same,
    expand=_expand_complement,
    reference=_complement_reference,
    vjp=lambda g, out, x, *, axes: (-softmax_gradient(g, softmax(x, axes=axes), axes=axes),),
    samples=SAMPLES,
)
"""1 - softmax(x), to full precision also where one probability is nearly 1."""


# Weighted sums of exponentials.


def _infer_weighted(x: TensorType, w: TensorType, *, axes: Axes) -> TensorType:
    require_one_type((x, w))
    return infer_reduced(x, axes=axes)


def _weighted_parts(x: Node, w: Node, axes: Axes) -> tuple[Node, Node]:
    """The exponents that count, and the one by which they are shifted."""
    # A nan counts whatever its weight is: 0 * nan is nan.
    counts = bitwise_or(not_equal(w, filled(w, 0)), not_equal(x, x))
    counted = where(counts, x, filled(x, -math.inf))
    return counted, stable_max(counted, axes)


def _weighted_powers(counted: Node, top: Node, w: Node, axes: Axes) -> Node:
    powers = exp(counted - spread(top, w, axes))
    # Where an exponent is nan, the weight must not be the 0 by which a chained product is 0.
    return chain(where(not_equal(counted, counted), counted, w), powers)


def _expand_weighted(x: Node, w: Node, *, axes: Axes) -> Node:
    counted, top = _weighted_parts(x, w, axes)
    return log(sum_(_weighted_powers(counted, top, w, axes), axes=axes)) + top


def _weighted_reference(x: Array, w: Array, *, axes: Axes) -> Any:
    counted = np.where((w != 0) | np.isnan(x), x, -np.inf).astype(x.dtype)
    top = _stable_max_array(counted, axes)
    terms = np.where((w == 0) & ~np.isnan(x), 0, w * np.exp(counted - top)).astype(x.dtype)
    return np.log(np.sum(terms, axis=axes)) + np.squeeze(top, axes)


def _infer_ratio(x: TensorType, w: TensorType, *, axes: Axes) -> TensorType:
    require_one_type((x, w))
    return infer_same(x, axes=axes)


def _expand_ratio(x: Node, w: Node, *, axes: Axes) -> Node:
    counted, top = _weighted_parts(x, w, axes)
    total = sum_(_weighted_powers(counted, top, w, axes), axes=axes)
    return exp(x - spread(top, x, axes)) / spread(total, x, axes)


def _ratio_reference(x: Array, w: Array, *, axes: Axes) -> Any:
    counted = np.where((w != 0) | np.isnan(x), x, -np.inf).astype(x.dtype)
    top = _stable_max_array(counted, axes)
    terms = np.where((w == 0) & ~np.isnan(x), 0, w * np.exp(counted - top)).astype(x.dtype)
    return np.exp(x - top) / np.sum(terms, axis=axes, keepdims=True)


def _ratio_vjp(g: Node, out: Node, x: Node, w: Node, *, axes: Axes) -> tuple[Node, Node]:
    pulled = chain(g, out)
    total = spread(sum_(pulled, axes=axes), x, axes)
    by_weight = -(out * total)
    return pulled + chain(w, by_weight), by_weight


_positive = Domain(0.5, 2)
_WEIGHTED = (
    Sample(((3, 4), (3, 4)), {"axes": (1,)}, (WIDE, _positive)),
    Sample(((2, 3, 4), (2, 3, 4)), {"axes": (0, 2)}, (WIDE, _positive)),
)
weighted_ratio: Op = gate(
    "weighted_ratio",
    infer=_infer_ratio,
    expand=_expand_ratio,
    reference=_ratio_reference,
    vjp=_ratio_vjp,
    samples=_WEIGHTED,
)
"""exp(x) / sum(w * exp(x)), shifted: exp(x - log(sum)) would round the difference of large numbers."""


def _weighted_vjp(g: Node, out: Node, x: Node, w: Node, *, axes: Axes) -> tuple[Node, Node]:
    ratio = weighted_ratio(x, w, axes=axes)
    arriving = spread(g, x, axes)
    return chain(arriving, chain(w, ratio)), chain(arriving, ratio)


weighted_logsumexp: Op = gate(
    "weighted_logsumexp",
    infer=_infer_weighted,
    expand=_expand_weighted,
    reference=_weighted_reference,
    vjp=_weighted_vjp,
    samples=_WEIGHTED,
)
"""log(sum(w * exp(x))), shifted by the largest exponent whose weight is not 0."""


def _infer_pair(x: TensorType, y: TensorType) -> TensorType:
    require_dtype(x.dtype, FLOATS)
    require_one_type((x, y))
    return x


def _expand_logaddexp(x: Node, y: Node) -> Node:
    # The difference of two equal infinities is nan.
    difference = where(equal(x, y), filled(x, 0), x - y)
    return maximum(x, y) + softplus(-absolute(difference))


logaddexp: Op = gate(
    "logaddexp",
    infer=_infer_pair,
    expand=_expand_logaddexp,
    reference=np.logaddexp,
    vjp=lambda g, out, x, y: (g * sigmoid(x - y), g * sigmoid(y - x)),
    samples=(Sample(((6,), (6,)), {}, (WIDE, WIDE)),),
)
"""log(exp(x) + exp(y)), whose slopes are right where x and y are equal, too."""


log_quotient: Op = gate(
    "log_quotient",
    infer=_infer_pair,
    expand=lambda x, y: log(x / y),
    reference=lambda x, y: np.log(x / y),
    vjp=lambda g, out, x, y: (chain(g, 1 / x), -chain(g, 1 / y)),
    samples=(Sample(((6,), (6,)), {}, (Domain(0.5, 3),) * 2),),
)
"""log(x / y), whose slope by x does not depend on y, nor that by y on x."""


# Cross-entropies.


def _infer_cross_entropy(x: TensorType, labels: TensorType) -> TensorType:
    require_dtype(x.dtype, FLOATS)
    require_dtype(labels.dtype, INTEGERS)
    if x.ndim == 0 or x.shape[:-1] != labels.shape:
        raise Rejected("needs one label for each row", detail="x[..., classes] and labels[...]")
    return x.with_shape(labels.shape)


def _expand_cross_entropy(x: Node, labels: Node) -> Node:
    # Neither term is negative, so nothing cancels. Picked, the logarithm is computed in a loop without the
    # look-up, which checks every label and so does not vectorise.
    axes = (len(x.shape) - 1,)
    top = stable_max(x, axes)
    total = log_total(x - spread(top, x, axes), axes)
    return pick(spread(total, x, axes), labels) + (top - pick(x, labels))


def _cross_entropy_reference(x: Array, labels: Array) -> Any:
    return -np.take_along_axis(_log_softmax_reference(x, axes=(-1,)), labels[..., None], -1)[..., 0]


def _infer_cross_entropy_gradient(g: TensorType, x: TensorType, labels: TensorType) -> TensorType:
    require_one_type((_infer_cross_entropy(x, labels), g))
    return x


def _expand_cross_entropy_gradient(g: Node, x: Node, labels: Node) -> Node:
    last = len(x.shape) - 1
    position = iota(shape=x.shape, axis=last, dtype=int64)
    chosen = spread(wrapped(labels, x.shape[-1]), position, (last,))
    at_label = -g * pick(softmax_complement(x, axes=(last,)), labels)
    elsewhere = scaled_softmax(g, x, axes=(last,))
    return where(equal(position, chosen), spread(at_label, x, (last,)), elsewhere)


cross_entropy_gradient: Op = derivative_gate(
    "cross_entropy_gradient",
    infer=_infer_cross_entropy_gradient,
    expand=_expand_cross_entropy_gradient,
    samples=(
        Sample(((4,), (4, 3), (4,)), {}, (WIDE, WIDE, Domain(0, 2)), (None, None, int64)),
        Sample(((), (5,), ()), {}, (WIDE, WIDE, Domain(-5, 4)), (None, None, int64)),
    ),
)

cross_entropy: Op = gate(
    "cross_entropy",
    infer=_infer_cross_entropy,
    expand=_expand_cross_entropy,
    reference=_cross_entropy_reference,
    vjp=lambda g, out, x, labels: (cross_entropy_gradient(g, x, labels), None),
    samples=(
        Sample(((4, 3), (4,)), {}, (WIDE, Domain(0, 2)), (None, int64)),
        Sample(((5,), ()), {}, (WIDE, Domain(-5, 4)), (None, int64)),
    ),
)
"""Of softmax(x) against integer labels, one number a row."""


def _infer_divergence(x: TensorType, targets: TensorType, *, axes: Axes) -> TensorType:
    require_one_type((x, targets))
    return infer_reduced(x, axes=axes)


def _infer_soft_gradient(
    g: TensorType, x: TensorType, targets: TensorType, *, axes: Axes
) -> TensorType:
    require_one_type((_infer_divergence(x, targets, axes=axes), g))
    return x


def _expand_soft_gradient(g: Node, x: Node, targets: Node, *, axes: Axes) -> Node:
    # weight * p - target, without cancellation where one target is 1 and its probability nearly 1.
    others = spread(sum_(targets, axes=axes), x, axes) - targets
    slope = others * softmax(x, axes=axes) - targets * softmax_complement(x, axes=axes)
    return spread(g, x, axes) * slope


soft_cross_entropy_gradient: Op = derivative_gate(
    "soft_cross_entropy_gradient",
    infer=_infer_soft_gradient,
    expand=_expand_soft_gradient,
    samples=(
        Sample(((3,), (3, 4), (3, 4)), {"axes": (1,)}, (WIDE, WIDE, Domain(0, 1))),
        Sample(((4,), (3, 4), (3, 4)), {"axes": (0,)}, (WIDE, WIDE, Domain(0, 1))),
    ),
)


def _soft_vjp(g: Node, out: Node, x: Node, targets: Node, *, axes: Axes) -> tuple[Node, Node]:
    by_targets = -(spread(g, x, axes) * log_softmax(x, axes=axes))
    return soft_cross_entropy_gradient(g, x, targets, axes=axes), by_targets


soft_cross_entropy: Op = gate(
    "soft_cross_entropy",
    infer=_infer_divergence,
    expand=lambda x, targets, *, axes: -sum_(targets * log_softmax(x, axes=axes), axes=axes),
    reference=lambda x, targets, *, axes: (
        -np.sum(targets * _log_softmax_reference(x, axes=axes), axis=axes)
    ),
    vjp=_soft_vjp,
    samples=(
        Sample(((3, 4), (3, 4)), {"axes": (1,)}, (WIDE, Domain(0, 1))),
        Sample(((3, 4), (3, 4)), {"axes": (0,)}, (WIDE, Domain(0, 1))),
    ),
)
"""Of softmax(x) against target probabilities, one number a row."""
