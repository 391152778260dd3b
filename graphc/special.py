"""``gx.special``: special functions, under the names that SciPy gives them where it has them.

Each takes and returns a float32 or float64 tensor of any shape, to within 2 units in the last place;
integers and bools become float64 first.
"""

from __future__ import annotations

from graphc import dsl
from graphc.dsl import Tensor, TensorLike
from graphc.ir import Op
from graphc.ops import special


def _apply(op: Op, x: TensorLike) -> Tensor:
    return Tensor(op(*dsl.aligned(op.name, [x], inexact=True)))


def erf(x: TensorLike) -> Tensor:
    """The error function, ``2 / sqrt(pi)`` times the integral of ``exp(-t**2)`` from 0 to ``x``.

    >>> import graphc as gx
    >>> gx.evaluate(gx.special.erf(gx.constant([0.0, 0.5])), {}).round(8)
    array([0.        , 0.52049988])
    """
    return _apply(special.erf, x)


def erfc(x: TensorLike) -> Tensor:
    """``1 - erf(x)`` without cancellation, down to where it underflows at 27 (at 10 in float32).

    >>> import graphc as gx
    >>> print(f"{gx.evaluate(gx.special.erfc(10.0), {}):.10e}")
    2.0884875838e-45
    """
    return _apply(special.erfc, x)


def erfcx(x: TensorLike) -> Tensor:
    """``exp(x**2) * erfc(x)`` without underflow: about ``1 / (x * sqrt(pi))`` for large ``x``.

    The derivative is ``2 * x * erfcx(x) - 2 / sqrt(pi)``, whose error is absolute for large ``x``.

    >>> import graphc as gx
    >>> float(gx.evaluate(gx.special.erfcx(0.0), {}))
    1.0
    """
    return _apply(special.erfcx, x)


def log_erfc(x: TensorLike) -> Tensor:
    """``log(erfc(x))`` without underflow or cancellation; the derivative is finite for finite ``x``.

    The logarithm of the normal distribution function is ``log_erfc(-x / sqrt(2)) - log(2)``.

    >>> import graphc as gx
    >>> print(f"{gx.evaluate(gx.special.log_erfc(100.0), {}):.8f}")
    -10005.17758512
    """
    return _apply(special.log_erfc, x)
