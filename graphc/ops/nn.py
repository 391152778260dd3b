"""Gates of neural networks, defined by other ops, each with its own derivative."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.facts import Definition, Domain, Sample, ScalarCode
from graphc.ir import Array, Node, Op, Rejected, filled
from graphc.ops.elementwise import exp, where
from graphc.ops.families import require_dtype
from graphc.types import FLOATS, TensorType


def _infer_activation(x: TensorType, **attrs: float) -> TensorType:
    require_dtype(x.dtype, FLOATS)
    for name, value in attrs.items():
        if not np.isfinite(value):
            raise Rejected(f"{name} is not finite", detail=f"{name} = {value}")
    return x


def _leaky_reference(x: Array, *, slope: float) -> Any:
    return np.where(x > 0, x, x.dtype.type(slope) * x)


leaky_relu: Op = Op(
    "leaky_relu",
    infer=_infer_activation,
    reference=_leaky_reference,
    lowering=Definition(lambda x, *, slope: where(x > 0, x, slope * x)),
    vjp=lambda g, out, x, *, slope: (where(x > 0, g, slope * g),),
    samples=(Sample(((6,),), {"slope": 0.1}, (Domain(-3, 3, also=(0.0, np.nan, np.inf)),)),),
    dtypes=FLOATS,
)


def _elu_reference(x: Array, *, alpha: float) -> Any:
    with np.errstate(all="ignore"):
        return np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(x))


def _elu_code(node: Node) -> str:
    alpha = f"{{type}}({node.attrs['alpha']!r})"
    below = f"{alpha} * vmath.expm1_{{suffix}}({{0}})"
    return f"scalar.select({{0}} > {{type}}(0), {{0}}, {below})"


elu: Op = Op(
    "elu",
    infer=_infer_activation,
    reference=_elu_reference,
    lowering=ScalarCode(_elu_code),
    # The unused branch of the exponential may overflow, but it is not positive where it is used.
    vjp=lambda g, out, x, *, alpha: (
        where(x > 0, g, g * (alpha * exp(where(x > 0, filled(x, 0), x)))),
    ),
    samples=(
        Sample(((6,),), {"alpha": 1.0}, (Domain(-3, 3, also=(0.0, np.nan, np.inf, -np.inf)),)),
    ),
    dtypes=FLOATS,
    cost=12,
)
