"""Squares, norms, variances, and normalisation by them: gates over axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.facts import Domain, Sample
from graphc.ir import Array, Node, Op, broadcast, filled
from graphc.ops.definitions import (
    OVER_COLUMNS,
    OVER_ROWS,
    OVER_TWO,
    WIDE,
    count_along,
    derivative_gate,
    gate,
    infer_rowwise,
    of_operands,
)
from graphc.ops.discrete import equal
from graphc.ops.elementwise import chain, sqrt, square, where
from graphc.ops.families import require_one_type
from graphc.ops.reduce import Axes, infer_reduced, infer_same, mean, spread, sum_
from graphc.types import TensorType

sum_of_squares: Op = gate(
    "sum_of_squares",
    infer=infer_reduced,
    expand=lambda x, *, axes: sum_(square(x), axes=axes),
    reference=lambda x, *, axes: np.sum(np.square(x), axis=axes),
    vjp=lambda g, out, x, *, axes: (spread(2 * g, x, axes) * x,),
    samples=(OVER_ROWS, OVER_TWO),
)


def _infer_reduced_gradient(*types: TensorType, axes: Axes) -> TensorType:
    """Of the operands the last is reduced, and the others are of the type of the result."""
    *reduced, x = types
    require_one_type((infer_reduced(x, axes=axes), *reduced))
    return x


def _expand_norm_gradient(g: Node, out: Node, x: Node, *, axes: Axes) -> Node:
    # At 0 the norm has no slope; 0 is the one that a person expects.
    length = spread(out, x, axes)
    direction = where(equal(length, filled(x, 0)), filled(x, 0), x / length)
    return chain(spread(g, x, axes), direction)


norm_gradient: Op = derivative_gate(
    "norm_gradient",
    infer=_infer_reduced_gradient,
    expand=_expand_norm_gradient,
    samples=(
        Sample(((3,), (3,), (3, 4)), {"axes": (1,)}, (WIDE, Domain(1, 3), WIDE)),
        Sample(((3,), (3,), (2, 3, 4)), {"axes": (0, 2)}, (WIDE, Domain(1, 3), WIDE)),
    ),
)

norm: Op = gate(
    "norm",
    infer=infer_reduced,
    expand=lambda x, *, axes: sqrt(sum_of_squares(x, axes=axes)),
    reference=lambda x, *, axes: np.sqrt(np.sum(np.square(x), axis=axes)),
    vjp=lambda g, out, x, *, axes: (norm_gradient(g, out, x, axes=axes),),
    samples=(OVER_ROWS, OVER_TWO),
)


def _expand_normalized_gradient(g: Node, out: Node, x: Node, *, axes: Axes) -> Node:
    along = g - out * spread(sum_(g * out, axes=axes), x, axes)
    return along / spread(norm(x, axes=axes), x, axes)


normalized_gradient: Op = derivative_gate(
    "normalized_gradient",
    infer=infer_rowwise,
    expand=_expand_normalized_gradient,
    samples=of_operands(3, OVER_ROWS, OVER_TWO),
)

normalized: Op = gate(
    "normalized",
    infer=infer_same,
    expand=lambda x, *, axes: x / spread(norm(x, axes=axes), x, axes),
    reference=lambda x, *, axes: x / np.sqrt(np.sum(np.square(x), axis=axes, keepdims=True)),
    vjp=lambda g, out, x, *, axes: (normalized_gradient(g, out, x, axes=axes),),
    samples=(OVER_ROWS, OVER_TWO),
)


def _centred(x: Node, axes: Axes) -> Node:
    return x - spread(mean(x, axes=axes), x, axes)


def _expand_variance_gradient(g: Node, x: Node, *, axes: Axes) -> Node:
    share = g * (2 / broadcast(count_along(x, axes), g.shape))
    return spread(share, x, axes) * _centred(x, axes)


variance_gradient: Op = derivative_gate(
    "variance_gradient",
    infer=_infer_reduced_gradient,
    expand=_expand_variance_gradient,
    samples=(
        Sample(((3,), (3, 4)), {"axes": (1,)}, (WIDE, WIDE)),
        Sample(((3,), (2, 3, 4)), {"axes": (0, 2)}, (WIDE, WIDE)),
    ),
)

variance: Op = gate(
    "variance",
    infer=infer_reduced,
    expand=lambda x, *, axes: mean(square(_centred(x, axes)), axes=axes),
    reference=lambda x, *, axes: np.var(x, axis=axes),
    vjp=lambda g, out, x, *, axes: (variance_gradient(g, x, axes=axes),),
    samples=(OVER_ROWS, OVER_COLUMNS, OVER_TWO),
)


# Normalisation to mean 0 and variance 1 (Ba et al., 2016; Ioffe and Szegedy, 2015), and to mean square 1
# (Zhang and Sennrich, 2019).


def _deviation(x: Node, axes: Axes, epsilon: float) -> Node:
    return spread(sqrt(variance(x, axes=axes) + epsilon), x, axes)


def _standardized_reference(x: Array, *, axes: Axes, epsilon: float) -> Any:
    centred = x - np.mean(x, axis=axes, keepdims=True)
    return centred / np.sqrt(np.var(x, axis=axes, keepdims=True) + x.dtype.type(epsilon))


def _expand_standardized_gradient(
    g: Node, out: Node, x: Node, *, axes: Axes, epsilon: float
) -> Node:
    along = out * spread(mean(g * out, axes=axes), x, axes)
    return (_centred(g, axes) - along) / _deviation(x, axes, epsilon)


def _with_epsilon(*samples: Sample) -> tuple[Sample, ...]:
    return tuple(Sample(s.shapes, {**s.attrs, "epsilon": 1e-3}, s.domains) for s in samples)


def _normalisation(
    name: str,
    samples: tuple[Sample, ...],
    *,
    expand: Callable[..., Node],
    reference: Callable[..., Any],
    gradient: Callable[..., Node],
) -> Op:
    """A gate that divides by a root, and the gate of its backward graph, ``gradient(g, out, x)``."""
    by_gradient = derivative_gate(
        f"{name}_gradient",
        infer=infer_rowwise,
        expand=gradient,
        samples=of_operands(3, *samples),
    )
    return gate(
        name,
        infer=infer_rowwise,
        expand=expand,
        reference=reference,
        vjp=lambda g, out, x, **attrs: (by_gradient(g, out, x, **attrs),),
        samples=samples,
    )


def _standardization(name: str, samples: tuple[Sample, ...]) -> Op:
    return _normalisation(
        name,
        samples,
        expand=lambda x, *, axes, epsilon: _centred(x, axes) / _deviation(x, axes, epsilon),
        reference=_standardized_reference,
        gradient=_expand_standardized_gradient,
    )


layer_norm: Op = _standardization("layer_norm", _with_epsilon(OVER_ROWS, OVER_TWO))
batch_norm: Op = _standardization("batch_norm", _with_epsilon(OVER_COLUMNS))


def _root_mean_square(x: Node, axes: Axes, epsilon: float) -> Node:
    return spread(sqrt(mean(square(x), axes=axes) + epsilon), x, axes)


def _rms_reference(x: Array, *, axes: Axes, epsilon: float) -> Any:
    return x / np.sqrt(np.mean(np.square(x), axis=axes, keepdims=True) + x.dtype.type(epsilon))


def _expand_rms_gradient(g: Node, out: Node, x: Node, *, axes: Axes, epsilon: float) -> Node:
    along = out * spread(mean(g * out, axes=axes), x, axes)
    return (g - along) / _root_mean_square(x, axes, epsilon)


rms_norm: Op = _normalisation(
    "rms_norm",
    _with_epsilon(OVER_ROWS, OVER_TWO),
    expand=lambda x, *, axes, epsilon: x / _root_mean_square(x, axes, epsilon),
    reference=_rms_reference,
    gradient=_expand_rms_gradient,
)


# Mean squared error.


def _infer_mse(x: TensorType, y: TensorType, *, axes: Axes) -> TensorType:
    require_one_type((x, y))
    return infer_reduced(x, axes=axes)


def _infer_mse_gradient(g: TensorType, x: TensorType, y: TensorType, *, axes: Axes) -> TensorType:
    require_one_type((_infer_mse(x, y, axes=axes), g))
    return x


def _expand_mse_gradient(g: Node, x: Node, y: Node, *, axes: Axes) -> Node:
    share = g * (2 / broadcast(count_along(x, axes), g.shape))
    return spread(share, x, axes) * (x - y)


mse_gradient: Op = derivative_gate(
    "mse_gradient",
    infer=_infer_mse_gradient,
    expand=_expand_mse_gradient,
    samples=(
        Sample(((), (3, 4), (3, 4)), {"axes": (0, 1)}, (WIDE, WIDE, WIDE)),
        Sample(((3,), (3, 4), (3, 4)), {"axes": (1,)}, (WIDE, WIDE, WIDE)),
    ),
)


def _mse_vjp(g: Node, out: Node, x: Node, y: Node, *, axes: Axes) -> tuple[Node, Node]:
    slope = mse_gradient(g, x, y, axes=axes)
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
