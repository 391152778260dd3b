"""Elementary functions for generated loops: branch-free, so that LLVM vectorises their callers.

A loop such as ``out[i] = vmath.exp_f32(x[i])`` becomes packed code: every function is straight-line
arithmetic, where special cases are selects, powers of two are assembled from bits, and rounding to an
integer is the addition of a large constant. `inline` says how they get into their callers. Each
exists for float32 and float64, and takes and returns one number of that type.

The accuracy quoted is the largest error found, in units in the last place (ulp), on a machine with
fused multiply-add: for all floats in float32, for 5 million in float64. Without it,
it stays below 2 but for softplus, 2.05.

All polynomials are minimax approximations, computed with the Remez exchange algorithm in 160-bit
arithmetic so as to minimise the error relative to the function they are part of, and then rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy import float32, float64

from graphc.runtime.inline import (
    at_least,
    at_most,
    bits,
    constant,
    copy_sign,
    entries,
    from_bits,
    has_table,
    inline,
    lookup,
    polynomial,
    raised,
    select,
    times_power,
)

_INF = float("inf")
_NAN = float("nan")
Coefficients = tuple[float, ...]


@dataclass(frozen=True)
class Constants:
    """What differs between the types. Coefficients start with that of the highest power."""

    digits: int
    """Of the significand, without the first, which is not stored."""
    bias: int
    """Of the exponent field."""
    log2_e: float
    ln2: float
    ln2_high: float
    """log(2) in two parts (Cody & Waite 1980): this one's product with an exponent is exact."""
    ln2_low: float
    exp_max: float
    """Past the largest argument with a finite exponential."""
    exp_min: float
    """Exponentials of smaller arguments round to zero."""
    expm1_min: float
    """exp(x) - 1 rounds to -1 below."""
    tanh_max: float
    """tanh(x) rounds to 1 above."""
    sigmoid_max: float
    """So does 1 / (1 + exp(-x))."""
    expm1: Coefficients
    """(exp(r) - 1 - r) / r**2 for |r| <= log(2) / 2."""
    powers: Coefficients
    """Powers of two from 1 on: a table of one register."""
    powers_low: Coefficients
    """What their rounding loses, relative to them."""
    expm1_near: Coefficients
    """The same for |r| <= log(2) / 32 in float32, log(2) / 16 in float64."""
    tanh: Coefficients
    """(tanh(h) / h - 1) / h**2 as a polynomial in h**2, for |h| < 0.2558."""
    log: Coefficients
    """2 atanh(s) / s - 2, divided by s**2, as a polynomial in s**2, for s up to 1/5."""
    log_wide: Coefficients
    """The same for s up to 1/3."""

    @property
    def round(self) -> float:
        """Adding this leaves no bits for a fraction: the sum has the integer in its low bits."""
        return float(1.5 * 2.0**self.digits)

    @property
    def biased(self) -> float:
        """The same for integers that are to be exponents: shifted to the exponent field, the sum
        is a power of two."""
        return self.round + self.bias

    @property
    def one(self) -> int:
        """The bits of 1.0."""
        return self.bias << self.digits

    @property
    def half_digit(self) -> int:
        """The bit that is worth 1/2 if those of the exponent are worth integers."""
        return 1 << (self.digits - 1)

    @property
    def whole(self) -> int:
        """The bits of 2**digits, whose last bit is worth 1."""
        return self.one + (self.digits << self.digits)

    @property
    def field(self) -> int:
        """The bits of the exponent field."""
        return (2 * self.bias + 1) << self.digits


F32 = Constants(
    digits=23,
    bias=127,
    log2_e=1.442695,
    ln2=0.6931472,
    ln2_high=355 / 512,
    ln2_low=-0.00021219444,
    exp_max=89.0,
    exp_min=-104.0,
    expm1_min=-20.0,
    tanh_max=10.0,
    sigmoid_max=20.0,
    expm1=(0.0013882543, 0.0083665196, 0.0416672, 0.16666543, 0.49999997),
    powers=(
        *(1.0, 1.0442737, 1.0905077, 1.1387886, 1.1892071, 1.2418578, 1.2968396, 1.3542556),
        *(1.4142135, 1.4768262, 1.5422108, 1.6104903, 1.6817929, 1.7562522, 1.8340081, 1.9152066),
    ),
    powers_low=(
        *(0.0, 4.628547e-08, -1.1992158e-08, 4.7297824e-08),
        *(3.193418e-08, 3.6210572e-08, -3.099072e-08, -7.475213e-09),
        *(1.7114271e-08, -3.0476834e-08, 5.233334e-09, 6.1075918e-09),
        *(-1.4719605e-08, -5.258795e-09, -6.1282597e-09, 5.1406093e-09),
    ),
    expm1_near=(0.16667058, 0.5000162),
    tanh=(-0.0513183, 0.13323413, -0.33333227),
    log=(0.2987253, 0.39977515, 0.66666776),
    log_wide=(0.28024352, 0.27999166, 0.40021697, 0.6666641),
)
F64 = Constants(
    digits=52,
    bias=1023,
    log2_e=1.4426950408889634,
    ln2=0.6931471805599453,
    ln2_high=0.6931471803691238,
    ln2_low=1.9082149292705877e-10,
    exp_max=710.0,
    exp_min=-746.0,
    expm1_min=-40.0,
    tanh_max=20.0,
    sigmoid_max=40.0,
    expm1=(
        2.5053753203499624e-08,
        2.762603732364633e-07,
        2.7557407603395096e-06,
        2.4801505275283553e-05,
        0.00019841269718949832,
        0.0013888888931563536,
        0.008333333333389573,
        0.04166666666657676,
        0.16666666666666588,
        0.5000000000000006,
    ),
    powers=(
        *(1.0, 1.0905077326652577, 1.189207115002721, 1.2968395546510096),
        *(1.4142135623730951, 1.5422108254079407, 1.681792830507429, 1.8340080864093424),
    ),
    powers_low=(
        *(0.0, -2.7939114859515733e-17, 3.3484623336251524e-17, 1.9572585293112036e-17),
        *(-6.835808657661922e-17, 5.1548301170786783e-17),
        *(4.875160526227062e-17, 1.790126907604513e-17),
    ),
    expm1_near=(
        0.00019842472829200073,
        0.0013889782208986847,
        0.008333333316522645,
        0.041666666569621175,
        0.16666666666667407,
        0.50000000000003,
    ),
    tanh=(
        -0.0013121250483668382,
        0.003577361483578401,
        -0.008862440986850044,
        0.021869464945332113,
        -0.053968253592919284,
        0.1333333333304993,
        -0.3333333333333261,
    ),
    log=(
        0.1536885312572869,
        0.15250103545126614,
        0.18186360313896827,
        0.22222138398076002,
        0.2857142939655466,
        0.3999999999615464,
        0.6666666666667272,
    ),
    log_wide=(
        0.1701854042,
        0.08340111265334144,
        0.1210608398234414,
        0.13300973879930034,
        0.153865599000506,
        0.18181743926040694,
        0.2222222396969851,
        0.2857142854785442,
        0.4000000000015724,
        0.6666666666666631,
    ),
)


class ExpParts(NamedTuple):
    """e**x as (1 + e) * h * 2**floor(k)."""

    e: Any
    """To a small part of its last place; 1 + e is e**r for a small r."""
    h: Any
    k: Any
    rounded: Any
    """k plus the shift, for `raised`."""


def exp_parts(c: Constants, x: Any, shift: int = 0, exact: bool = False) -> ExpParts:
    """Return e**x in parts, for x from ``exp_min`` to ``exp_max``.

    h is 1 with k an integer, or, where numbers are looked up, 2 to the power of the fraction of k (Tang
    1989). Then r is smaller by the length of the table, and h is rounded, unless it is to be exact: then e
    has what rounding loses.
    """
    steps = entries(x) if has_table(x) else 1
    # The last bit of the sum is worth 1 / steps.
    round_and_shift = c.round / steps + shift
    rounded = x * c.log2_e + round_and_shift
    k = rounded - round_and_shift
    r = (x - k * c.ln2_high) - k * c.ln2_low
    if steps == 1:
        return ExpParts(r + r * r * polynomial(r, c.expm1), constant(1.0, x), k, rounded)
    first = r + lookup(c.powers_low, bits(rounded)) if exact else r
    e = first + r * r * polynomial(r, c.expm1_near)
    return ExpParts(e, lookup(c.powers, bits(rounded)), k, rounded)


def exp_within(c: Constants, x: Any, exact: bool = False) -> Any:
    """e**x for x from ``exp_min`` to ``exp_max``, to little more than half an ulp if it is to be exact."""
    e, h, k, _ = exp_parts(c, x, exact=exact)
    return times_power(h + h * e, k)


def log1p_near(f: Any, coefficients: Coefficients) -> Any:
    """log(1 + f) as in fdlibm: with s = f / (2 + f) it is 2 atanh(s), and 2 s = f - s f."""
    s = f / (f + 2.0)
    square = s * s
    return f - s * (f - square * polynomial(square, coefficients))


def split(c: Constants, x: Any) -> tuple[Any, Any, Any]:
    """Return k, m and 2**-k with x = 2**k * m and m from 3/4 to 3/2, for x normal and positive.

    2**-k is right for k < bias.
    """
    shifted = bits(x) + c.half_digit
    # The exponent field as the low bits of 2**digits is a float without a conversion from integer.
    k = from_bits((shifted >> c.digits) | c.whole, x) - (2.0**c.digits + c.bias)
    m = from_bits((shifted & (c.half_digit + c.half_digit - 1)) + (c.one - c.half_digit), x)
    return k, m, from_bits(2 * c.one - (shifted & c.field), x)


def exp_bounded(c: Constants, x: Any) -> Any:
    """x, or the nearest argument that an exponential has to compute."""
    return at_least(at_most(x, c.exp_max), c.exp_min)


def _exp(c: Constants, x: Any) -> Any:
    return exp_within(c, exp_bounded(c, x))


def _expm1(c: Constants, x: Any) -> Any:
    # 2**k * (e**r - 1) + (2**k - 1), halved until the end because 2**k itself may overflow.
    y = at_least(at_most(x, c.exp_max), c.expm1_min)
    rounded = y * c.log2_e + (c.biased - 1.0)
    k = rounded - (c.biased - 1.0)
    r = (y - k * c.ln2_high) - k * c.ln2_low
    power = from_bits(bits(rounded) << c.digits, x)
    half = power * (r * r * polynomial(r, c.expm1)) + (power * r + (power - 0.5))
    return copy_sign(half + half, x)


def _log(c: Constants, x: Any) -> Any:
    subnormal = x < 2.0 ** (1 - c.bias)
    shift = c.digits + 2.0
    k, m, _ = split(c, select(subnormal, x * 2.0**shift, x))
    k = select(subnormal, k - shift, k)
    result = k * c.ln2 + log1p_near(m - 1.0, c.log)
    result = select(x < _INF, result, x)
    result = select(x < 0.0, _NAN, result)
    return select(x == 0.0, -_INF, result)


def _log1p(c: Constants, x: Any) -> Any:
    # With 1 + x = 2**k * (1 + f), f is x / 2**k + (1 / 2**k - 1), which rounds once at most. That is
    # exact while k and x are small. Where 1 / 2**k might be no float, x is divided by a power first.
    shift = (c.bias + 1) // 4
    huge = x > 2.0 ** (2 * shift)
    y = select(huge, x * 2.0**-shift, x)
    k, _, inverse = split(c, 1.0 + y)
    k = select(huge, k + shift, k)
    result = k * c.ln2 + log1p_near(y * inverse + (inverse - 1.0), c.log)
    result = select(x < _INF, copy_sign(result, x), x)
    result = select(x < -1.0, _NAN, result)
    return select(x == -1.0, -_INF, result)


def _tanh(c: Constants, x: Any) -> Any:
    # With 2 |x| = k log(2) + 2 h, s = 2**k and t = tanh(h) it is (s - 1 + (s + 1) t) / (s + 1 + (s - 1) t):
    # exact for k = 0, so k is 0 as far as 1/4, below which the quotient would round worst. Above 1/2
    # it is 1 minus 2 (1 - t) over the same.
    y = at_most(abs(x), c.tanh_max)
    rounded = (y - 0.0823) * (2.0 * c.log2_e) + c.biased
    k = rounded - c.biased
    h = (y - k * (0.5 * c.ln2_high)) - k * (0.5 * c.ln2_low)
    square = h * h
    t = h + h * (square * polynomial(square, c.tanh))
    s = from_bits(bits(rounded) << c.digits, x)
    more, less = s + 1.0, s - 1.0
    small = y < 0.55
    quotient = select(small, more * t + less, 2.0 - 2.0 * t) / (less * t + more)
    return copy_sign(select(small, quotient, 1.0 - quotient), x)


def _sigmoid(c: Constants, x: Any) -> Any:
    # 1 / (1 + exp(-x)), where both terms of the sum are multiplied by a power of two that is so small that
    # the exponential does not overflow where the quotient is subnormal. What is small is summed first.
    y = at_most(at_least(-x, -c.sigmoid_max), -c.exp_min)
    shift = -(c.bias + 1) // 2
    e, h, _, rounded = exp_parts(c, y, shift, exact=True)
    one, power = 2.0**shift, raised(h, rounded)
    return one / (at_least(power, one) + (at_most(power, one) + power * e))


def _softplus(c: Constants, x: Any) -> Any:
    # log(1 + exp(-|x|)) and the positive part of x.
    z = exp_within(c, at_least(-abs(x), c.exp_min), exact=True)
    return at_least(x, 0.0) + log1p_near(z, c.log_wide)


@inline(float32)
def exp_f32(x: float32) -> float32:
    """e**x for any x, to 1.05 ulp, also where the result is subnormal.

    exp(nan) = nan, exp(inf) = inf, exp(-inf) = 0; overflows to inf.
    """
    return _exp(F32, x)


@inline(float64)
def exp_f64(x: float64) -> float64:
    """e**x for any x, to 1.05 ulp. Special values as exp_f32."""
    return _exp(F64, x)


@inline(float32)
def expm1_f32(x: float32) -> float32:
    """e**x - 1 for any x, to 1.32 ulp.

    expm1(nan) = nan, expm1(inf) = inf, expm1(-inf) = -1, expm1(-0.0) = -0.0; overflows to inf.
    """
    return _expm1(F32, x)


@inline(float64)
def expm1_f64(x: float64) -> float64:
    """e**x - 1 for any x, to 1.76 ulp. Special values as expm1_f32."""
    return _expm1(F64, x)


@inline(float32)
def log_f32(x: float32) -> float32:
    """Natural logarithm of x >= 0, to 1.34 ulp, also where x is subnormal.

    log(nan) = nan, log(inf) = inf, log(0) = -inf for either sign of 0, log(x < 0) = nan.
    """
    return _log(F32, x)


@inline(float64)
def log_f64(x: float64) -> float64:
    """Natural logarithm of x >= 0, to 1.33 ulp. Special values as log_f32."""
    return _log(F64, x)


@inline(float32)
def log1p_f32(x: float32) -> float32:
    """log(1 + x) for x >= -1, to 1.34 ulp.

    log1p(nan) = nan, log1p(inf) = inf, log1p(-1) = -inf, log1p(x < -1) = nan, log1p(-0.0) = -0.0.
    """
    return _log1p(F32, x)


@inline(float64)
def log1p_f64(x: float64) -> float64:
    """log(1 + x) for x >= -1, to 1.33 ulp. Special values as log1p_f32."""
    return _log1p(F64, x)


@inline(float32)
def tanh_f32(x: float32) -> float32:
    """Hyperbolic tangent of any x, to 1.75 ulp.

    tanh(nan) = nan, tanh(inf) = 1, tanh(-inf) = -1, tanh(-0.0) = -0.0.
    """
    return _tanh(F32, x)


@inline(float64)
def tanh_f64(x: float64) -> float64:
    """Hyperbolic tangent of any x, to 1.86 ulp. Special values as tanh_f32."""
    return _tanh(F64, x)


@inline(float32)
def sigmoid_f32(x: float32) -> float32:
    """1 / (1 + e**-x) for any x, to 2.00 ulp, also where the result is subnormal.

    sigmoid(nan) = nan, sigmoid(inf) = 1, sigmoid(-inf) = 0.
    """
    return _sigmoid(F32, x)


@inline(float64)
def sigmoid_f64(x: float64) -> float64:
    """1 / (1 + e**-x) for any x, to 1.97 ulp. Special values as sigmoid_f32."""
    return _sigmoid(F64, x)


@inline(float32)
def softplus_f32(x: float32) -> float32:
    """log(1 + e**x) for any x, to 1.89 ulp, also where the result is subnormal.

    softplus(nan) = nan, softplus(inf) = inf, softplus(-inf) = 0.
    """
    return _softplus(F32, x)


@inline(float64)
def softplus_f64(x: float64) -> float64:
    """log(1 + e**x) for any x, to 1.77 ulp. Special values as softplus_f32."""
    return _softplus(F64, x)
