"""The error function and its relatives for generated loops, written by the rules of `vmath`.

The three that have a tail rest on one polynomial, which gives erfcx for x >= 0: there
erfc(x) = exp(-x**2) erfcx(x). The logarithm needs erf near 0 besides. Pairs of numbers carry what
rounding loses wherever it would show: in x**2 above all, since an error there is relative in the
exponential.

The polynomials are minimax approximations as in `vmath`. The accuracy quoted is the largest error
found, in units in the last place (ulp), on a machine with fused multiply-add: for all floats in
float32, for 500,000 in float64, 5 million for erf and erfc.
Without it, it stays below 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import float32, float64

from graphc.runtime.inline import (
    at_least,
    at_most,
    bits,
    constant,
    copy_sign,
    from_bits,
    inline,
    polynomial,
    product_error,
    select,
    times_power,
)
from graphc.runtime.vmath import (
    F32,
    F64,
    Coefficients,
    Constants,
    exp_bounded,
    exp_parts,
    exp_within,
    log1p_near,
    split,
)

_INF = float("inf")


@dataclass(frozen=True)
class _Special:
    """What differs between the types, besides that of `vmath`."""

    c: Constants
    erf_one: float
    """From here on erf rounds to 1, and 2 - erfc(x) to 2 with some digits to spare."""
    erfc_zero: float
    """From here on erfc rounds to 0."""
    erfcx_min: float
    """The least argument for which erfcx is finite."""
    square_max: float
    """The largest argument whose square is finite."""
    largest: float
    """The largest float."""
    centre: float
    """The argument that the polynomial of erfcx is centred at."""
    erf_near: Coefficients
    """erf(x) / x - 1 as a polynomial in x**2, for |x| < 0.9."""
    erf_far: Coefficients
    """-log(1 - erf(x)) for x from 0.9 to ``erf_far_max``."""
    erf_far_max: float
    erfcx: Coefficients
    """(x + 7/8) erfcx(x) - 0.71875, see _erfcx_parts."""


_S32 = _Special(
    c=F32,
    erf_one=5.0,
    erfc_zero=10.1,
    erfcx_min=-9.382414,
    square_max=2.0**64 * (1 - 2.0**-24),
    largest=float(np.finfo(np.float32).max),
    centre=3.0,
    erf_near=(
        -0.0006090357,
        0.005011962,
        -0.026778908,
        0.11282141,
        -0.37612525,
        0.12837915,
    ),
    erf_far=(
        -0.00019727953,
        0.0030565623,
        -0.022280872,
        0.10404516,
        0.6370509,
        1.1277548,
        0.00017624597,
    ),
    erf_far_max=4.0,
    erfcx=(
        3.5634086e-05,
        -2.902791e-05,
        -0.00034808097,
        0.00072043546,
        0.0015158928,
        -0.010284143,
        0.025010858,
        -0.032762222,
        0.008528609,
        0.06832029,
        -0.19014812,
        -0.02512054,
    ),
)
_S64 = _Special(
    c=F64,
    erf_one=7.0,
    erfc_zero=27.3,
    erfcx_min=-26.62873571375149,
    square_max=2.0**512 * (1 - 2.0**-53),
    largest=float(np.finfo(np.float64).max),
    centre=3.75,
    erf_near=(
        1.0249235944150182e-08,
        -1.5541174865483908e-07,
        1.6374913580790125e-06,
        -1.4919843336333781e-05,
        0.00012055082676196881,
        -0.000854832006091063,
        0.00522397750426612,
        -0.026866170632789687,
        0.11283791670890464,
        -0.37612638903182427,
        0.12837916709551253,
    ),
    erf_far=(
        6.864662538941825e-12,
        -2.7871646153266475e-10,
        5.253236715371055e-09,
        -6.085299859336432e-08,
        4.821497951256078e-07,
        -2.736395781708254e-06,
        1.1178945995979499e-05,
        -3.095012833853581e-05,
        4.0872179705815676e-05,
        9.388395123011236e-05,
        -0.000705827565504749,
        0.0018359658562660027,
        -0.00033422399715626346,
        -0.019045512051656954,
        0.10273278275263563,
        0.63663288903833,
        1.128376511852041,
        2.4921730039743263e-07,
    ),
    erf_far_max=6.0,
    erfcx=(
        1.847773289862425e-10,
        1.9128688436271656e-10,
        -2.2960621318078725e-09,
        -2.2917905062437e-09,
        1.737864353620244e-08,
        1.496920315644745e-08,
        -1.1733291849687455e-07,
        -5.575424155902961e-08,
        8.068524951546426e-07,
        -2.3953374512279083e-07,
        -5.441246754015219e-06,
        8.873350641267442e-06,
        2.7168391654091538e-05,
        -0.0001271150016050858,
        8.968334735556235e-05,
        0.0008682371778556677,
        -0.004197178875106087,
        0.011098405776661952,
        -0.020292990304913088,
        0.02560128806956851,
        -0.015925348058812454,
        -0.020201091576398603,
        0.0865457328364655,
        -0.17265352360355843,
        -0.045397539102946756,
    ),
)


def _add(a: Any, b: Any) -> tuple[Any, Any]:
    """Return a + b, rounded, and what was lost in rounding, for |a| >= |b| or a = 0 (Dekker 1971)."""
    total = a + b
    return total, (a - total) + b


def _add_any(a: Any, b: Any) -> tuple[Any, Any]:
    """Return a + b, rounded, and what was lost in rounding (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _square(c: Constants, x: Any) -> tuple[Any, Any]:
    """Return x**2, rounded, and what was lost in rounding, where x**2 is finite.

    The high half of the digits has an exact square (Dekker 1971).
    """
    low_digits = c.digits // 2 + 1
    high = from_bits((bits(x) >> low_digits) << low_digits, x)
    return _add(high * high, (x - high) * (x + high))


def _exp_sum(c: Constants, a: Any, b: Any) -> tuple[Any, Any, Any]:
    """Return p, low, k with exp(a + b) = (p + low) * 2**k, for b so small that exp(b) is 1 + b."""
    k = (a * c.log2_e + c.round) - c.round
    high = a - k * c.ln2_high
    r = high - k * c.ln2_low
    r, low = _add(r, r * r * polynomial(r, c.expm1) + ((high - r) - k * c.ln2_low))
    p, lost = _add(1.0, r)
    return p, lost + (low + b * p), k


def _erf_near(s: _Special, x: Any) -> tuple[Any, Any]:
    """Return h, low with h + low = erf(x), for |x| < 0.9."""
    return _add(x, x * polynomial(x * x, s.erf_near))


def _erfcx_parts(s: _Special, x: Any) -> tuple[Any, Any]:
    """Return q, low with q + low = erfcx(x), for finite x >= 0; low is the smaller part.

    (x + 7/8) erfcx(x), from 0.88 down to 0.56, is a polynomial in t = (x - a) / (x + a), which runs
    from -1 to 1 (Shepherd & Laframboise 1981, with other constants: 7/8 makes it flat at 0, where
    the rounding of t would otherwise show).
    """
    t = (x - s.centre) / (x + s.centre)
    h, low = _add(0.71875, polynomial(t, s.erfcx))
    d, lost = _add_any(x, 0.875)
    inverse = 1.0 / d
    q = h * inverse
    return q, ((low - q * lost) - product_error(q, d, h)) * inverse


def _erfc_tail(s: _Special, x: Any, q: Any, c: Any) -> tuple[Any, Any, Any]:
    """Return h, low, n with erfc(x) = (h + low) * 2**n, for x >= 0 with erfcx(x) = q + c."""
    square, lost = _square(s.c, x)
    p, low, n = _exp_sum(s.c, at_least(-square, s.c.exp_min), -lost)
    return p * q, p * c + low * q, n


def _erfc_head(s: _Special, x: Any, tail: Any, low: Any) -> tuple[Any, Any]:
    """Return h, c with h + c = erfc(x) for x <= 1/2, where tail + low = erfc(-x) if x <= -1/2."""
    n, c = _erf_near(s, at_least(at_most(x, 0.5), -0.5))
    near = x > -0.5
    total, lost = _add(select(near, constant(1.0, x), 2.0), -select(near, n, tail))
    return total, lost - select(near, c, low)


def _erf(s: _Special, x: Any) -> Any:
    y = at_most(abs(x), s.erf_far_max)
    near = y + y * polynomial(y * y, s.erf_near)
    far = 1.0 - exp_within(s.c, -polynomial(y, s.erf_far))
    return copy_sign(select(y < 0.9, near, far), x)


def _erfc(s: _Special, x: Any) -> Any:
    # erfcx(y) exp(-x**2) for y = |x|, as q (1 + e) with all that rounding loses but for the last two
    # roundings: those of e, a small one, and of the sum. The exponential is that of vmath.exp, to the
    # instruction, so that it is computed once where the slope of erfc is needed too; its bounds also keep the
    # square from being fused with what follows, which would count what is lost twice.
    c = s.c
    y = at_most(abs(x), s.erfc_zero)
    q, low = _erfcx_parts(s, y)
    square = x * x
    lost = select(abs(x) < s.erfc_zero, product_error(x, x, square), 0.0)
    e, h, k, _ = exp_parts(c, exp_bounded(c, -square), exact=True)
    e = e - (lost + lost * e)
    tail = times_power(h * (q + (q * e + low * (1.0 + e))), k)
    return select(x < 0.0, 2.0 - tail, tail)


def _erfcx(s: _Special, x: Any) -> Any:
    q, c = _erfcx_parts(s, at_most(abs(x), s.largest))
    # For x < 0 it is 2 exp(x**2) - erfcx(-x), halved until the end because it may overflow.
    square, lost = _square(s.c, at_least(at_most(x, 0.0), s.erfcx_min))
    p, low, n = _exp_sum(s.c, square, lost)
    h, lost = _add(times_power(p, n), -0.5 * q)
    half = h + (lost + (times_power(low, n) - 0.5 * c))
    below = select(x < s.erfcx_min, _INF, half + half)
    above = select(x < _INF, q + c, 1.0 / x)
    return select(x < 0.0, below, above)


def _log_erfc(s: _Special, x: Any) -> Any:
    # Above 1/2 this is log(erfcx(x)) - x**2, where both terms have one sign, else log(erfc(x)).
    far = x > 0.5
    y = abs(at_most(at_least(x, -s.erf_one), s.square_max))
    q, c = _erfcx_parts(s, y)
    h, low, n = _erfc_tail(s, y, q, c)
    total, lost = _erfc_head(s, x, times_power(h, n), times_power(low, n))
    k, m, inverse = split(s.c, select(far, q, total))
    log = log1p_near((m - 1.0) + select(far, c, lost) * inverse, s.c.log)
    square, lost = _square(s.c, y)
    result = k * s.c.ln2 + (log - select(far, lost, 0.0))
    result = select(far, result - square, result)
    result = select(x > s.square_max, -_INF, result)
    return select(x == 0.0, -x, result)


@inline(float32)
def erf_f32(x: float32) -> float32:
    """Error function of any x, 2 / sqrt(pi) times the integral of e**(-t**2) from 0 to x, to 1.29 ulp.

    erf(nan) = nan, erf(inf) = 1, erf(-inf) = -1, erf(-0.0) = -0.0.
    """
    return _erf(_S32, x)


@inline(float64)
def erf_f64(x: float64) -> float64:
    """Error function of any x, to 1.29 ulp. Special values as erf_f32."""
    return _erf(_S64, x)


@inline(float32)
def erfc_f32(x: float32) -> float32:
    """1 - erf(x) for any x, to 1.77 ulp, also where the result is subnormal.

    erfc(nan) = nan, erfc(inf) = 0, erfc(-inf) = 2.
    """
    return _erfc(_S32, x)


@inline(float64)
def erfc_f64(x: float64) -> float64:
    """1 - erf(x) for any x, to 1.72 ulp. Special values as erfc_f32."""
    return _erfc(_S64, x)


@inline(float32)
def erfcx_f32(x: float32) -> float32:
    """e**(x**2) * erfc(x) for any x, to 1.23 ulp, also where the result is subnormal.

    erfcx(nan) = nan, erfcx(inf) = 0, erfcx(-inf) = inf; overflows to inf.
    """
    return _erfcx(_S32, x)


@inline(float64)
def erfcx_f64(x: float64) -> float64:
    """e**(x**2) * erfc(x) for any x, to 1.10 ulp. Special values as erfcx_f32."""
    return _erfcx(_S64, x)


@inline(float32)
def log_erfc_f32(x: float32) -> float32:
    """log(erfc(x)) for any x, to 1.86 ulp, also where erfc(x) underflows.

    log_erfc(nan) = nan, log_erfc(inf) = -inf, log_erfc(-inf) = log(2), log_erfc(0.0) = -0.0,
    log_erfc(-0.0) = 0.0: its sign is that of -x throughout. Overflows to -inf.
    """
    return _log_erfc(_S32, x)


@inline(float64)
def log_erfc_f64(x: float64) -> float64:
    """log(erfc(x)) for any x, to 1.88 ulp. Special values as log_erfc_f32."""
    return _log_erfc(_S64, x)
