"""Gates around products: squared distances, and products with a bias and an activation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc.facts import Domain, Sample
from graphc.ir import Node, Op, Rejected, broadcast, filled
from graphc.ops.definitions import WIDE, derivative_gate, gate
from graphc.ops.elementwise import relu, sigmoid, sigmoid_slope, square, tanh, tanh_slope, where
from graphc.ops.families import require_dtype, require_one_type
from graphc.ops.linalg import matmul, transposed
from graphc.ops.reduce import spread, sum_
from graphc.ops.shape import expand_dims
from graphc.types import FLOATS, TensorType


def _infer_distances(a: TensorType, b: TensorType) -> TensorType:
    require_dtype(a.dtype, FLOATS)
    if a.ndim != 2 or b.ndim != 2 or a.dtype != b.dtype or a.shape[1] != b.shape[1]:
        raise Rejected("needs two sets of points with equal coordinates")
    return a.with_shape((a.shape[0], b.shape[0]))


def _differences(a: Node, b: Node) -> Node:
    shape = (a.shape[0], b.shape[0], a.shape[1])
    return broadcast(expand_dims(a, axes=(1,)), shape) - broadcast(b, shape)


def _infer_distances_gradient(
    g: TensorType, a: TensorType, b: TensorType, *, of: int
) -> TensorType:
    require_one_type((_infer_distances(a, b), g))
    return (a, b)[of]


def _expand_distances_gradient(g: Node, a: Node, b: Node, *, of: int) -> Node:
    difference = _differences(a, b)
    pulled = spread(2 * g, difference, (2,)) * difference
    return -sum_(pulled, axes=(0,)) if of else sum_(pulled, axes=(1,))


squared_distances_gradient: Op = derivative_gate(
    "squared_distances_gradient",
    infer=_infer_distances_gradient,
    expand=_expand_distances_gradient,
    samples=(
        Sample(((4, 2), (4, 3), (2, 3)), {"of": 0}, (WIDE, WIDE, WIDE)),
        Sample(((4, 2), (4, 3), (2, 3)), {"of": 1}, (WIDE, WIDE, WIDE)),
    ),
)
"""The cotangent of the operand number ``of``."""


def _distances_vjp(g: Node, out: Node, a: Node, b: Node) -> tuple[Node, Node]:
    by_a = squared_distances_gradient(g, a, b, of=0)
    return by_a, squared_distances_gradient(g, a, b, of=1)


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
