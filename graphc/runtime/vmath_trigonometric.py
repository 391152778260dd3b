"""Sine and cosine for generated loops, written by the rules of `vmath`.

x = k pi/2 + r with |r| <= pi/4 or little more; then sine and cosine of r are computed, and the last two
bits of k tell which one it is, and its sign. Sine and cosine of one number have all of this in common, so
LLVM computes it once.

Up to `LIMIT` pi/2 in parts does (Cody & Waite 1980). Beyond, k has too many bits for exact products;
there x is multiplied, behind a branch, with those bits of 2/pi that matter for r and the last two bits of
k (Payne & Hanek 1983). The C library cannot be relied on there: glibc 2.36 is 20,000 ulp off for some
float64 near multiples of pi/2.

The polynomials are minimax approximations as in `vmath`. The accuracy quoted is the largest error
found, in units in the last place (ulp), on a machine with fused multiply-add: for all floats from 1e-5 in
float32, for 10 million in float64. Without it, it stays below 2.
"""

from __future__ import annotations

from typing import Any

from numpy import float32, float64

from graphc.runtime.inline import (
    as_float64,
    beyond,
    bits,
    copy_sign,
    from_bits,
    inline,
    narrow,
    polynomial,
    resized,
    select,
    widen,
    window,
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

_FIRST = 1035
"""Exponent fields from here on are those of numbers beyond the limit, which has 1039."""
_WORDS = 24
"""The bytes of a window of 2/pi: two bits for k, 190 for the fraction of x / (pi/2)."""


def _digits_of_pi(count: int) -> int:
    """pi times 2**count as an integer, by Machin's formula with 64 bits to spare."""

    def arctan_of_inverse(n: int) -> int:
        total, term, k = 0, (1 << (count + 64)) // n, 1
        while term:
            total += term // k if k % 4 == 1 else -(term // k)
            term, k = term // (n * n), k + 2
        return total

    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239)) >> 64


_TWO_OVER_PI_BITS = 8 * 127 - 40 + 190
_PI = _digits_of_pi(1400)
_TABLE = ((2 << (1400 + _TWO_OVER_PI_BITS)) // _PI).to_bytes(127 + _WORDS, "little")
"""2/pi, of which a window that starts 127 - j bytes from the end is that times 2**(8 j - 40), modulo 4."""
_HALF_PI_127 = _PI >> (1400 - 126)
"""pi/2 times 2**127."""

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


Parts = tuple[Any, Any, Any]
"""The sine and the cosine of r, and an integer that ends with the bits of k."""


def _from_r(r: Any, excess: Any) -> tuple[Any, Any]:
    """Return sine and cosine of r - excess, in float64."""
    square = r * r
    sine = r - ((r * square) * polynomial(square, _SIN_64) + excess)
    cosine = 1.0 + ((square * square) * polynomial(square, _COS_64) + (r * excess - 0.5 * square))
    return sine, cosine


def _near_f32(x: Any) -> Parts:
    rounded = x * _TWO_OVER_PI + F32.round
    k = widen(rounded - F32.round)
    r = narrow((widen(x) - k * _HALF_PI_HIGH) - k * _HALF_PI_REST)
    square = r * r
    sine = copy_sign(r - (r * square) * polynomial(square, _SIN_32), r)
    cosine = 1.0 + square * (square * polynomial(square, _COS_32) - 0.5)
    return sine, cosine, bits(rounded)


def _near_f64(x: Any) -> Parts:
    rounded = x * _TWO_OVER_PI + F64.round
    k = rounded - F64.round
    high = x - k * _HALF_PI_HIGH
    middle = k * _HALF_PI_MIDDLE
    r = high - middle
    return *_from_r(r, k * _HALF_PI_LOW - ((high - r) - middle)), bits(rounded)


def _far(x: Any) -> Parts:
    """In float64, for finite x beyond the limit; k is that of |x|, and so is r."""
    size = bits(abs(x))
    exponent = (size >> 52) - _FIRST
    significand = resized((size & ((1 << 52) - 1)) + (1 << 52), 192)
    word = window(_TABLE, 127 - (exponent >> 3), _WORDS)
    # In units of 2**-190 modulo 4, to 2**-130, where no float64 is closer to a multiple than 2**-62.
    quarters = resized(word * (significand << resized(exponent & 7, 192)), 192)
    k, fraction = quarters >> 190, quarters & ((1 << 190) - 1)
    upper = (fraction >> 189) == 1
    fraction = select(upper, (1 << 190) - fraction, fraction)
    r = resized((resized(fraction >> 62, 256) * _HALF_PI_127) >> 127, 128)
    high = as_float64(r >> 75) * 2.0**-53
    middle = as_float64((r >> 22) & ((1 << 53) - 1)) * 2.0**-106
    total = high + middle
    rest = ((high - total) + middle) + as_float64(r & ((1 << 22) - 1)) * 2.0**-128
    sine, cosine = _from_r(total, -rest)
    return select(upper, -sine, sine), cosine, resized(select(upper, k + 1, k), 64)


def _sin_of(parts: Parts, shift: int) -> Any:
    sine, cosine, k = parts
    return _turned(sine, cosine, k, shift)


def _cos_of(parts: Parts, shift: int) -> Any:
    sine, cosine, k = parts
    return _turned(cosine, -sine, k, shift)


def _turned(first: Any, second: Any, k: Any, shift: int) -> Any:
    """The first one, second one, and both negated, by the last bits of k; the shift is that to the sign."""
    value = select((k & 1) == 0, first, second)
    return from_bits(bits(value) + ((k & 2) << shift), value)


def _sin_far(x: Any) -> Any:
    value = _sin_of(_far(x), 62)
    # The difference is nan for infinities.
    return select(x < 0.0, -value, value) + (x - x)


def _cos_far(x: Any) -> Any:
    return _cos_of(_far(x), 62) + (x - x)


@inline(float32)
def sin_f32(x: float32) -> float32:
    """Sine of any x, to 1.55 ulp.

    sin(nan) = nan, sin(inf) = nan, sin(-0.0) = -0.0.
    """
    return beyond(LIMIT, _sin_far, x, _sin_of(_near_f32(x), 30))


@inline(float64)
def sin_f64(x: float64) -> float64:
    """Sine of any x, to 1.25 ulp. Special values as sin_f32."""
    return beyond(LIMIT, _sin_far, x, _sin_of(_near_f64(x), 62))


@inline(float32)
def cos_f32(x: float32) -> float32:
    """Cosine of any x, to 1.54 ulp.

    cos(nan) = nan, cos(inf) = nan.
    """
    return beyond(LIMIT, _cos_far, x, _cos_of(_near_f32(x), 30))


@inline(float64)
def cos_f64(x: float64) -> float64:
    """Cosine of any x, to 1.25 ulp. Special values as cos_f32."""
    return beyond(LIMIT, _cos_far, x, _cos_of(_near_f64(x), 62))
