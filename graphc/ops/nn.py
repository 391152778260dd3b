"""Gates of neural networks, defined by other ops, each with its own derivative."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy

from graphc.facts import Definition, Domain, Sample, ScalarCode
from graphc.ir import Array, Node, Op, Rejected, filled
from graphc.ops.definitions import derivative_gate, gate
from graphc.ops.discrete import sign
from graphc.ops.elementwise import (
    absolute,
    chain,
    exp,
    relu,
    sigmoid,
    softplus,
    square,
    tanh,
    where,
)
from graphc.ops.families import require_dtype
from graphc.ops.special import erfc
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


def _decay(x: Node) -> Node:
    """exp(-abs(x)), which never overflows, and has all its digits where it is small."""
    return exp(-absolute(x))


def _expand_logistic_slope(x: Node) -> Node:
    decay = _decay(x)
    return logistic_density(x) * (sign(x) * ((decay - 1) / (decay + 1)))


def _logistic_density_reference(x: Array) -> Any:
    decay = np.exp(-np.abs(x))
    return decay / np.square(1 + decay)


def _logistic_slope_vjp(g: Node, out: Node, x: Node) -> tuple[Node]:
    density = logistic_density(x)
    return (g * (density * (1 - 6 * density)),)


_LOGISTIC = (Sample(((6,),), {}, (Domain(-3, 3, also=(0.0, np.nan, np.inf, -100.0, 100.0)),)),)

logistic_density_slope: Op = gate(
    "logistic_density_slope",
    infer=_infer_activation,
    expand=_expand_logistic_slope,
    reference=lambda x: -_logistic_density_reference(x) * np.tanh(x / 2),
    vjp=_logistic_slope_vjp,
    samples=_LOGISTIC,
)

logistic_density: Op = gate(
    "logistic_density",
    infer=_infer_activation,
    expand=lambda x: _decay(x) / square(1 + _decay(x)),
    reference=_logistic_density_reference,
    vjp=lambda g, out, x: (g * logistic_density_slope(x),),
    samples=_LOGISTIC,
)
"""sigmoid(x) * sigmoid(-x), the slope of sigmoid(x), by one exponential; right where it is small, too."""

log_logistic_density: Op = gate(
    "log_logistic_density",
    infer=_infer_activation,
    expand=lambda x: -(absolute(x) + 2 * softplus(-absolute(x))),
    reference=lambda x: -(np.abs(x) + 2 * np.log1p(np.exp(-np.abs(x)))),
    vjp=lambda g, out, x: (-(g * tanh(0.5 * x)),),
    samples=_LOGISTIC,
)
"""log(sigmoid(x)) + log(sigmoid(-x)), which is -abs(x) far from 0."""


silu_slope: Op = derivative_gate(
    "silu_slope",
    infer=_infer_activation,
    expand=lambda x: sigmoid(x) + silu(x) * sigmoid(-x),
    samples=(Sample(((6,),), {}, (Domain(-3, 3, also=(0.0, np.nan, -100.0, 100.0)),)),),
)

silu: Op = gate(
    "silu",
    infer=_infer_activation,
    expand=lambda x: x * sigmoid(x),
    reference=lambda x: x * sigmoid.reference(x),
    vjp=lambda g, out, x: (g * silu_slope(x),),
    samples=(Sample(((6,),), {}, (Domain(-3, 3, also=(0.0, np.nan, np.inf, -100.0, 100.0)),)),),
)
"""x * sigmoid(x) (Elfwing et al., 2018)."""


_ROOT_HALF = math.sqrt(0.5)


def _expand_gelu_slope(x: Node) -> Node:
    density = exp(-0.5 * square(x)) * (1 / math.sqrt(2 * math.pi))
    return 0.5 * erfc(-_ROOT_HALF * x) + x * density


gelu_slope: Op = derivative_gate(
    "gelu_slope",
    infer=_infer_activation,
    expand=_expand_gelu_slope,
    samples=(Sample(((6,),), {}, (Domain(-3, 3, also=(0.0, np.nan, -10.0, 100.0)),)),),
)

gelu: Op = gate(
    "gelu",
    infer=_infer_activation,
    expand=lambda x: x * (0.5 * erfc(-_ROOT_HALF * x)),
    reference=lambda x: x * (x.dtype.type(0.5) * scipy.special.erfc(x * x.dtype.type(-_ROOT_HALF))),
    vjp=lambda g, out, x: (g * gelu_slope(x),),
    samples=(Sample(((6,),), {}, (Domain(-3, 3, also=(0.0, np.nan, np.inf, -10.0, 100.0)),)),),
)
"""x times the normal distribution function (Hendrycks and Gimpel, 2016), without cancellation for x < 0."""


def _gelu_tanh_reference(x: Array, *, scale: float, cubic: float) -> Any:
    t = x.dtype.type
    return x * sigmoid.reference(t(2 * scale) * (x + t(cubic) * (x * np.square(x))))


def _gelu_exponent(x: Node, scale: float, cubic: float) -> Node:
    return 2 * scale * (x + cubic * (x * square(x)))


def _expand_gelu_tanh_slope(x: Node, *, scale: float, cubic: float) -> Node:
    u = _gelu_exponent(x, scale, cubic)
    out = gelu_tanh(x, scale=scale, cubic=cubic)
    slope = 2 * scale * (1 + 3 * cubic * square(x))
    # Far from 0 the square overflows, where one of the other factors is exactly 0.
    return sigmoid(u) + chain(out, chain(sigmoid(-u), slope))


_GELU_TANH = (
    Sample(
        ((6,),),
        {"scale": 0.7978845608028654, "cubic": 0.044715},
        (Domain(-3, 3, also=(0.0, np.nan, -10.0, 10.0)),),
    ),
)

gelu_tanh_slope: Op = derivative_gate(
    "gelu_tanh_slope",
    infer=_infer_activation,
    expand=_expand_gelu_tanh_slope,
    samples=_GELU_TANH,
)

gelu_tanh: Op = gate(
    "gelu_tanh",
    infer=_infer_activation,
    expand=lambda x, *, scale, cubic: x * sigmoid(_gelu_exponent(x, scale, cubic)),
    reference=_gelu_tanh_reference,
    vjp=lambda g, out, x, **attrs: (g * gelu_tanh_slope(x, **attrs),),
    samples=_GELU_TANH,
)
"""0.5 * x * (1 + tanh(scale * (x + cubic * x**3))), written with a sigmoid that does not cancel."""


def _hinge_vjp(g: Node, out: Node, z: Node) -> tuple[Node]:
    return (where(z >= 1, filled(g, 0), -g),)


hinge: Op = gate(
    "hinge",
    infer=_infer_activation,
    expand=lambda z: relu(1 - z),
    reference=lambda z: np.maximum(0, z.dtype.type(1) - z),
    vjp=_hinge_vjp,
    samples=(Sample(((6,),), {}, (Domain(-3, 3, also=(1.0, np.nan, np.inf, -np.inf)),)),),
)
"""max(0, 1 - z) for the product z of a label -1 or 1 and a score; the slope at z = 1 is 0."""
