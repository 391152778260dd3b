"""Sine and cosine for generated loops, written by the rules of `vmath`.

x = k pi/2 + r with |r| <= pi/4 or little more; then sine and cosine of r are computed, and the last two
bits of k tell which one it is, and its sign. Sine and cosine of one number have all of this in common, so
LLVM computes it once. Up to `LIMIT` pi/2 in parts does (Cody & Waite 1980); beyond, where k has too many
bits for their products to be exact, the C library computes, behind a branch.

The polynomials are minimax approximations as in `vmath`. The accuracy quoted is the largest error
found, in units in the last place (ulp), on a machine with fused multiply-add.
"""

from __future__ import annotations

from typing import Any

from numpy import float32, float64

from graphc.runtime.inline import (
    beyond,
    bits,
    copy_sign,
    from_bits,
    inline,
    narrow,
    polynomial,
    select,
    widen,
)
from graphc.runtime.vmath import F32, F64

LIMIT = 1e5
"""So |k| < 2**16, and its products with numbers of 37 bits are exact in float64."""

_TWO_OVER_PI = 0.6366197723675814
_HALF_PI_HIGH = 1.5707963267923333
_HALF_PI_MIDDLE = 2.5633441515839558e-12
_HALF_PI_LOW = 1.0562999066987428e-23
"""pi/2 in parts: 37 bits, 35 bits further down, and the rest."""
_HALF_PI_REST = 2.563344151594519e-12
"""What the highest part leaves."""

# (r - sin(r)) / r**3 and (cos(r) - 1 + r**2 / 2) / r**4 as polynomials in r**2.
_SIN_32 = (0.00019503069, -0.008332071, 0.16666654)
_COS_32 = (2.4419198e-05, -0.0013887194, 0.04166664)
_SIN_64 = (
    -1.5896229171447076e-10,
    2.5050747747160026e-08,
    -2.7557313621297318e-06,
    0.00019841269829589338,
    -0.008333333333322118,
    0.1666666666666663,
)
_COS_64 = (
    -1.1358535797669163e-11,
    2.0875700828589992e-09,
    -2.755731417920398e-07,
    2.480158728885141e-05,
    -0.0013888888888873056,
    0.041666666666666595,
)


def _sin_cos_f32(x: Any) -> tuple[Any, Any, Any]:
    """Return the sine and the cosine of r, and an integer that ends with the bits of k."""
    rounded = x * _TWO_OVER_PI + F32.round
    k = widen(rounded - F32.round)
    r = narrow((widen(x) - k * _HALF_PI_HIGH) - k * _HALF_PI_REST)
    square = r * r
    sine = copy_sign(r - (r * square) * polynomial(square, _SIN_32), r)
    cosine = 1.0 + square * (square * polynomial(square, _COS_32) - 0.5)
    return sine, cosine, bits(rounded)


def _sin_cos_f64(x: Any) -> tuple[Any, Any, Any]:
    """Return the sine and the cosine of r, and an integer that ends with the bits of k."""
    rounded = x * _TWO_OVER_PI + F64.round
    k = rounded - F64.round
    high = x - k * _HALF_PI_HIGH
    middle = k * _HALF_PI_MIDDLE
    r = high - middle
    # r is too large by this.
    excess = k * _HALF_PI_LOW - ((high - r) - middle)
    square = r * r
    sine = r - ((r * square) * polynomial(square, _SIN_64) + excess)
    cosine = 1.0 + ((square * square) * polynomial(square, _COS_64) + (r * excess - 0.5 * square))
    return sine, cosine, bits(rounded)


def _turned(first: Any, second: Any, quadrant: Any, digits: int) -> Any:
    """The first one, second one, and both negated, by the last bits of the quadrant's number."""
    value = select((quadrant & 1) == 0, first, second)
    return from_bits(bits(value) + ((quadrant & 2) << digits), value)


def _sin_near_f32(x: Any) -> Any:
    sine, cosine, k = _sin_cos_f32(x)
    return _turned(sine, cosine, k, 30)


def _cos_near_f32(x: Any) -> Any:
    sine, cosine, k = _sin_cos_f32(x)
    return _turned(cosine, -sine, k, 30)


def _sin_near_f64(x: Any) -> Any:
    sine, cosine, k = _sin_cos_f64(x)
    return _turned(sine, cosine, k, 62)


def _cos_near_f64(x: Any) -> Any:
    sine, cosine, k = _sin_cos_f64(x)
    return _turned(cosine, -sine, k, 62)


@inline(float32)
def sin_f32(x: float32) -> float32:
    """Sine of any x, to 2.00 ulp.

    sin(nan) = nan, sin(inf) = nan, sin(-0.0) = -0.0.
    """
    return beyond(LIMIT, "sin", x, _sin_near_f32(x))


@inline(float64)
def sin_f64(x: float64) -> float64:
    """Sine of any x, to 2.00 ulp. Special values as sin_f32."""
    return beyond(LIMIT, "sin", x, _sin_near_f64(x))


@inline(float32)
def cos_f32(x: float32) -> float32:
    """Cosine of any x, to 2.00 ulp.

    cos(nan) = nan, cos(inf) = nan.
    """
    return beyond(LIMIT, "cos", x, _cos_near_f32(x))


@inline(float64)
def cos_f64(x: float64) -> float64:
    """Cosine of any x, to 2.00 ulp. Special values as cos_f32."""
    return beyond(LIMIT, "cos", x, _cos_near_f64(x))
