"""Gates over axes and pairs, defined by other ops, each with its own stable derivative."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.facts import Definition, Domain, Sample, Vjp
from graphc.ir import Array, Node, Op, Rejected, broadcast, filled, size_node
from graphc.ops.discrete import bitwise_or, equal, not_equal
from graphc.ops.elementwise import (
    absolute,
    chain,
    exp,
    log,
    maximum,
    relu,
    sigmoid,
    sigmoid_slope,
    softplus,
    sqrt,
    square,
    tanh,
    tanh_slope,
    where,
)
from graphc.ops.families import require_dtype, require_one_type, silent
from graphc.ops.index import pick, wrapped
from graphc.ops.linalg import matmul, transposed
from graphc.ops.reduce import (
    Axes,
    infer_reduced,
    infer_same,
    log_softmax,
    log_softmax_array,
    log_total,
    max_or_lowest,
    mean,
    softmax,
    softmax_complement,
    spread,
    stable_max,
    sum_,
)
from graphc.ops.shape import expand_dims, iota
from graphc.types import FLOATS, INTEGERS, TensorType, int64, product

WIDE = Domain(-3, 3)
OVER_ROWS = Sample(((3, 4),), {"axes": (1,)}, (WIDE,))
OVER_COLUMNS = Sample(((3, 4),), {"axes": (0,)}, (WIDE,))
OVER_TWO = Sample(((2, 3, 4),), {"axes": (0, 2)}, (WIDE,))


def gate(
    name: str,
    *,
    infer: Callable[..., TensorType],
    expand: Callable[..., Node],
    reference: Callable[..., Any],
    vjp: Vjp,
    samples: tuple[Sample, ...],
) -> Op:
    """Declares an op that stands for other ops: ``expand(*args, **attrs)`` builds them."""
    return Op(
        name,
        infer=infer,
        reference=silent(reference),
        lowering=Definition(expand),
        vjp=vjp,
        samples=samples,
        dtypes=FLOATS,
    )


def _count(x: Node, axes: Axes) -> Node:
    return size_node(product(x.shape[axis] for axis in axes), x.dtype)


def _times_spread(g: Node, x: Node, axes: Axes) -> Node:
    return spread(g, x, axes) * x


# Squares: sums, norms, variances.


sum_of_squares: Op = gate(
    "sum_of_squares",
    infer=infer_reduced,
    expand=lambda x, *, axes: sum_(square(x), axes=axes),
    reference=lambda x, *, axes: np.sum(np.square(x), axis=axes),
    vjp=lambda g, out, x, *, axes: (_times_spread(2 * g, x, axes),),
    samples=(OVER_ROWS, OVER_TWO),
)


def _norm_vjp(g: Node, out: Node, x: Node, *, axes: Axes) -> tuple[Node]:
    # At 0 the norm has no slope; 0 is the one that a person expects.
    length = spread(out, x, axes)
    direction = where(equal(length, filled(x, 0)), filled(x, 0), x / length)
    return (chain(spread(g, x, axes), direction),)


norm: Op = gate(
    "norm",
    infer=infer_reduced,
    expand=lambda x, *, axes: sqrt(sum_of_squares(x, axes=axes)),
    reference=lambda x, *, axes: np.sqrt(np.sum(np.square(x), axis=axes)),
    vjp=_norm_vjp,
    samples=(OVER_ROWS, OVER_TWO),
)


def _normalized_vjp(g: Node, out: Node, x: Node, *, axes: Axes) -> tuple[Node]:
    along = g - out * spread(sum_(g * out, axes=axes), x, axes)
    return (along / spread(norm(x, axes=axes), x, axes),)


normalized: Op = gate(
    "normalized",
    infer=infer_same,
    expand=lambda x, *, axes: x / spread(norm(x, axes=axes), x, axes),
    reference=lambda x, *, axes: x / np.sqrt(np.sum(np.square(x), axis=axes, keepdims=True)),
    vjp=_normalized_vjp,
    samples=(OVER_ROWS, OVER_TWO),
)


def _centred(x: Node, axes: Axes) -> Node:
    return x - spread(mean(x, axes=axes), x, axes)


def _variance_vjp(g: Node, out: Node, x: Node, *, axes: Axes) -> tuple[Node]:
    share = g * (2 / broadcast(_count(x, axes), g.shape))
    return (spread(share, x, axes) * _centred(x, axes),)


variance: Op = gate(
    "variance",
    infer=infer_reduced,
    expand=lambda x, *, axes: mean(square(_centred(x, axes)), axes=axes),
    reference=lambda x, *, axes: np.var(x, axis=axes),
    vjp=_variance_vjp,
    samples=(OVER_ROWS, OVER_COLUMNS, OVER_TWO),
)


# Normalisation to mean 0 and variance 1 (Ba et al., 2016; Ioffe and Szegedy, 2015), and to mean square 1
# (Zhang and Sennrich, 2019).


def _deviation(x: Node, axes: Axes, epsilon: float) -> Node:
    return spread(sqrt(variance(x, axes=axes) + epsilon), x, axes)


def _standardized_reference(x: Array, *, axes: Axes, epsilon: float) -> Any:
    centred = x - np.mean(x, axis=axes, keepdims=True)
    return centred / np.sqrt(np.var(x, axis=axes, keepdims=True) + x.dtype.type(epsilon))


def _standardized_vjp(g: Node, out: Node, x: Node, *, axes: Axes, epsilon: float) -> tuple[Node]:
    along = out * spread(mean(g * out, axes=axes), x, axes)
    return ((_centred(g, axes) - along) / _deviation(x, axes, epsilon),)


def _with_epsilon(*samples: Sample) -> tuple[Sample, ...]:
    return tuple(Sample(s.shapes, {**s.attrs, "epsilon": 1e-3}, s.domains) for s in samples)


def _infer_normalisation(x: TensorType, *, axes: Axes, epsilon: float) -> TensorType:
    return infer_same(x, axes=axes)


def _standardization(name: str, samples: tuple[Sample, ...]) -> Op:
    return gate(
        name,
        infer=_infer_normalisation,
        expand=lambda x, *, axes, epsilon: _centred(x, axes) / _deviation(x, axes, epsilon),
        reference=_standardized_reference,
        vjp=_standardized_vjp,
        samples=samples,
    )


layer_norm: Op = _standardization("layer_norm", _with_epsilon(OVER_ROWS, OVER_TWO))
batch_norm: Op = _standardization("batch_norm", _with_epsilon(OVER_COLUMNS))


def _root_mean_square(x: Node, axes: Axes, epsilon: float) -> Node:
    return spread(sqrt(mean(square(x), axes=axes) + epsilon), x, axes)


def _rms_reference(x: Array, *, axes: Axes, epsilon: float) -> Any:
    return x / np.sqrt(np.mean(np.square(x), axis=axes, keepdims=True) + x.dtype.type(epsilon))


def _rms_vjp(g: Node, out: Node, x: Node, *, axes: Axes, epsilon: float) -> tuple[Node]:
    along = out * spread(mean(g * out, axes=axes), x, axes)
    return ((g - along) / _root_mean_square(x, axes, epsilon),)


rms_norm: Op = gate(
    "rms_norm",
    infer=_infer_normalisation,
    expand=lambda x, *, axes, epsilon: x / _root_mean_square(x, axes, epsilon),
    reference=_rms_reference,
    vjp=_rms_vjp,
    samples=_with_epsilon(OVER_ROWS, OVER_TWO),
)


# Weighted logsumexp.


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
    top = np.max(counted, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
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
    top = np.max(counted, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
    terms = np.where((w == 0) & ~np.isnan(x), 0, w * np.exp(counted - top)).astype(x.dtype)
    return np.exp(x - top) / np.sum(terms, axis=axes, keepdims=True)


def _ratio_vjp(g: Node, out: Node, x: Node, w: Node, *, axes: Axes) -> tuple[Node, Node]:
    pulled = chain(g, out)
    total = spread(sum_(pulled, axes=axes), x, axes)
    by_weight = -(out * total)
    return pulled + chain(w, by_weight), by_weight


_positive = Domain(0.5, 2)
_weighted_samples = (
    Sample(((3, 4), (3, 4)), {"axes": (1,)}, (WIDE, _positive)),
    Sample(((2, 3, 4), (2, 3, 4)), {"axes": (0, 2)}, (WIDE, _positive)),
)
weighted_ratio: Op = gate(
    "weighted_ratio",
    infer=_infer_ratio,
    expand=_expand_ratio,
    reference=_ratio_reference,
    vjp=_ratio_vjp,
    samples=_weighted_samples,
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
    samples=_weighted_samples,
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


# Losses.


def _infer_mse(x: TensorType, y: TensorType, *, axes: Axes) -> TensorType:
    require_one_type((x, y))
    return infer_reduced(x, axes=axes)


def _mse_vjp(g: Node, out: Node, x: Node, y: Node, *, axes: Axes) -> tuple[Node, Node]:
    share = g * (2 / broadcast(_count(x, axes), g.shape))
    slope = spread(share, x, axes) * (x - y)
    return slope, -slope


mse: Op = gate(
    "mse",
    infer=_infer_mse,
    expand=lambda x, y, *, axes: mean(square(x - y), axes=axes),
    reference=lambda x, y, *, axes: np.mean(np.square(x - y), axis=axes),
    vjp=_mse_vjp,
    samples=(
        Sample(((3, 4), (3, 4)), {"axes": (0, 1)}, (WIDE, WIDE)),
        Sample(((3, 4), (3, 4)), {"axes": (1,)}, (WIDE, WIDE)),
    ),
)


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
    top = max_or_lowest(x, axes=axes)
    total = log_total(x - spread(top, x, axes), axes)
    return pick(spread(total, x, axes), labels) + (top - pick(x, labels))


def _cross_entropy_reference(x: Array, labels: Array) -> Any:
    return -np.take_along_axis(log_softmax_array(x, axes=(-1,)), labels[..., None], -1)[..., 0]


def _cross_entropy_vjp(g: Node, out: Node, x: Node, labels: Node) -> tuple[Node, None]:
    last = len(x.shape) - 1
    position = iota(shape=x.shape, axis=last, dtype=int64)
    chosen = spread(wrapped(labels, x.shape[-1]), position, (last,))
    at_label = -softmax_complement(x, axes=(last,))
    slope = where(equal(position, chosen), at_label, softmax(x, axes=(last,)))
    return spread(g, x, (last,)) * slope, None


cross_entropy: Op = gate(
    "cross_entropy",
    infer=_infer_cross_entropy,
    expand=_expand_cross_entropy,
    reference=_cross_entropy_reference,
    vjp=_cross_entropy_vjp,
    samples=(
        Sample(((4, 3), (4,)), {}, (WIDE, Domain(0, 2)), (None, int64)),
        Sample(((5,), ()), {}, (WIDE, Domain(-5, 4)), (None, int64)),
    ),
)
"""Of softmax(x) against integer labels, one number a row."""


def _infer_divergence(x: TensorType, targets: TensorType, *, axes: Axes) -> TensorType:
    require_one_type((x, targets))
    return infer_reduced(x, axes=axes)


def _soft_vjp(g: Node, out: Node, x: Node, targets: Node, *, axes: Axes) -> tuple[Node, Node]:
    arriving = spread(g, x, axes)
    # weight * p - target, without cancellation where one target is 1 and its probability nearly 1.
    others = spread(sum_(targets, axes=axes), x, axes) - targets
    slope = others * softmax(x, axes=axes) - targets * softmax_complement(x, axes=axes)
    return arriving * slope, -(arriving * log_softmax(x, axes=axes))


soft_cross_entropy: Op = gate(
    "soft_cross_entropy",
    infer=_infer_divergence,
    expand=lambda x, targets, *, axes: -sum_(targets * log_softmax(x, axes=axes), axes=axes),
    reference=lambda x, targets, *, axes: (
        -np.sum(targets * log_softmax_array(x, axes=axes), axis=axes)
    ),
    vjp=_soft_vjp,
    samples=(
        Sample(((3, 4), (3, 4)), {"axes": (1,)}, (WIDE, Domain(0, 1))),
        Sample(((3, 4), (3, 4)), {"axes": (0,)}, (WIDE, Domain(0, 1))),
    ),
)
"""Of softmax(x) against target probabilities, one number a row."""


# Products.


def _infer_distances(a: TensorType, b: TensorType) -> TensorType:
    require_dtype(a.dtype, FLOATS)
    if a.ndim != 2 or b.ndim != 2 or a.dtype != b.dtype or a.shape[1] != b.shape[1]:
        raise Rejected("needs two sets of points with equal coordinates")
    return a.with_shape((a.shape[0], b.shape[0]))


def _differences(a: Node, b: Node) -> Node:
    shape = (a.shape[0], b.shape[0], a.shape[1])
    return broadcast(expand_dims(a, axes=(1,)), shape) - broadcast(b, shape)


def _distances_vjp(g: Node, out: Node, a: Node, b: Node) -> tuple[Node, Node]:
    difference = _differences(a, b)
    pulled = spread(2 * g, difference, (2,)) * difference
    return sum_(pulled, axes=(1,)), -sum_(pulled, axes=(0,))


squared_distances: Op = gate(
    "squared_distances",
    infer=_infer_distances,
    expand=lambda a, b: sum_(square(_differences(a, b)), axes=(2,)),
    reference=lambda a, b: np.sum(np.square(a[:, None] - b), axis=-1),
    vjp=_distances_vjp,
    samples=(Sample(((4, 3), (2, 3)), {}, (WIDE, WIDE)),),
)
"""Of every row of one matrix from every row of another."""


def _infer_affine(x: TensorType, w: TensorType, b: TensorType) -> TensorType:
    require_dtype(x.dtype, FLOATS)
    fits = x.ndim == w.ndim == 2 and b.ndim == 1 and x.dtype == w.dtype == b.dtype
    if not fits or x.shape[1] != w.shape[0] or w.shape[1] != b.shape[0]:
        raise Rejected("needs x[m, k], w[k, n] and b[n]")
    return x.with_shape((x.shape[0], w.shape[1]))


def _affine_vjp(g: Node, x: Node, w: Node) -> tuple[Node, Node, Node]:
    return matmul(g, transposed(w)), matmul(transposed(x), g), sum_(g, axes=(0,))


_affine_samples = (Sample(((4, 3), (3, 2), (2,)), {}, (Domain(-2, 2),) * 3),)

affine: Op = gate(
    "affine",
    infer=_infer_affine,
    expand=lambda x, w, b: _product_plus(x, w, b),
    reference=lambda x, w, b: x @ w + b,
    vjp=lambda g, out, x, w, b: _affine_vjp(g, x, w),
    samples=_affine_samples,
)


def _product_plus(x: Node, w: Node, b: Node) -> Node:
    product_ = matmul(x, w)
    return product_ + broadcast(b, product_.shape)


def _affine_followed_by(activation: Op, slope: Callable[[Node, Node], Node]) -> Op:
    """``activation(x @ w + b)``; ``slope(g, out)`` is the cotangent before the activation."""
    return gate(
        f"affine_{activation.name}",
        infer=_infer_affine,
        expand=lambda x, w, b: activation(affine(x, w, b)),
        reference=lambda x, w, b: activation.reference(x @ w + b),
        vjp=lambda g, out, x, w, b: _affine_vjp(slope(g, out), x, w),
        samples=_affine_samples,
    )


affine_relu: Op = _affine_followed_by(relu, lambda g, out: where(out <= 0, filled(g, 0), g))
affine_sigmoid: Op = _affine_followed_by(sigmoid, lambda g, out: g * sigmoid_slope(out))
affine_tanh: Op = _affine_followed_by(tanh, lambda g, out: g * tanh_slope(out))
