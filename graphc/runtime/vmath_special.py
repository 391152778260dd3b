"""The error function and its relatives for generated loops, written by the rules of `vmath`.

All four rest on two polynomials: one gives erf near 0, the other erfcx for x >= 0. In the tail
erfc(x) = exp(-x**2) erfcx(x). Pairs of numbers carry what rounding loses wherever it would show: in
x**2 above all, since an error there is relative in the exponential.

The polynomials are minimax approximations as in `vmath`. The accuracy quoted is the largest error
found, in units in the last place (ulp), on a machine with fused multiply-add: for all floats in
float32, for 300,000 in float64.
"""

from numpy import float32, float64, uint32, uint64

from graphc.runtime.vmath import (
    _EXP_MIN_F32,
    _EXP_MIN_F64,
    _INF_F32,
    _INF_F64,
    _MAX_F32,
    _MAX_F64,
    _add,
    _add_any,
    _exp_parts_f32,
    _exp_parts_f64,
    _inline,
    _log_parts_f32,
    _log_parts_f64,
    _power_f32,
    _power_f64,
    _split_f32,
    _split_f64,
    _two_powers_f32,
    _two_powers_f64,
    _vector,
)

# From here on erf rounds to 1, and 2 - erfc(x) to 2 with some digits to spare.
_ERF_ONE_F32 = float32(5.0)
_ERF_ONE_F64 = float64(7.0)
# From here on erfc rounds to 0.
_ERFC_ZERO_F32 = float32(10.1)
_ERFC_ZERO_F64 = float64(27.3)
# The least argument for which erfcx is finite.
_ERFCX_MIN_F32 = float32(-9.382414)
_ERFCX_MIN_F64 = float64(-26.62873571375149)
# The largest argument whose square is finite.
_SQUARE_MAX_F32 = float32(2.0**64 * (1 - 2.0**-24))
_SQUARE_MAX_F64 = float64(2.0**512 * (1 - 2.0**-53))


@_inline
def _square_f32(x: float32) -> tuple[float32, float32]:
    """Return x**2, rounded, and what was lost in rounding, for |x| < 2**64.

    The high half of the digits has an exact square (Dekker 1971).
    """
    high = uint32(uint32(float32(x).view(uint32)) & uint32(0xFFFFF000)).view(float32)
    return _add(high * high, (x - high) * (x + high))


@_inline
def _exp_sum_f32(a: float32, b: float32) -> tuple[float32, float32, float32, float32]:
    """Return p, low, s, t with exp(a + b) = (p + low) * s * t, for b so small that exp(b) is 1 + b.

    s and t are powers of two.
    """
    k, r, c = _exp_parts_f32(a)
    s, t = _two_powers_f32(k)
    r, c = _add(r, c)
    p, low = _add(float32(1.0), r)
    return p, low + (c + b * p), s, t


@_inline
def _erf_near_f32(x: float32) -> tuple[float32, float32]:
    """Return h, low with h + low = erf(x), for |x| <= 1/2; other x count as the nearer end."""
    x = max(min(x, float32(0.5)), float32(-0.5))
    z = x * x
    p = float32(0.0047179903)
    p = p * z + float32(-0.026757184)
    p = p * z + float32(0.112828225)
    p = p * z + float32(-0.37612608)
    p = p * z + float32(0.12837917)
    return _add(x, x * p)


@_inline
def _erfcx_parts_f32(x: float32) -> tuple[float32, float32]:
    """Return q, c with q + c = erfcx(x), for finite x >= 0; c is the smaller part.

    (x + 7/8) erfcx(x), from 0.88 down to 0.56, is a polynomial in t = (x - a) / (x + a), which runs
    from -1 to 1 (Shepherd & Laframboise 1981, with other constants: 7/8 makes it flat at 0, where
    the rounding of t would otherwise show).
    """
    t = (x - float32(3.0)) / (x + float32(3.0))
    p = float32(3.5634086e-05)
    p = p * t + float32(-2.902791e-05)
    p = p * t + float32(-0.00034808097)
    p = p * t + float32(0.00072043546)
    p = p * t + float32(0.0015158928)
    p = p * t + float32(-0.010284143)
    p = p * t + float32(0.025010858)
    p = p * t + float32(-0.032762222)
    p = p * t + float32(0.008528609)
    p = p * t + float32(0.06832029)
    p = p * t + float32(-0.19014812)
    p = p * t + float32(-0.02512054)
    h, low = _add(float32(0.71875), p)
    d, lost = _add_any(float32(0.875), x)
    inverse = float32(1.0) / d
    q = h * inverse
    return q, ((h - q * d) + (low - q * lost)) * inverse


@_inline
def _erfc_tail_f32(x: float32, q: float32, c: float32) -> tuple[float32, float32, float32, float32]:
    """Return h, low, s, t with erfc(x) = (h + low) * s * t, for x >= 0 with erfcx(x) = q + c."""
    square, lost = _square_f32(x)
    p, low, s, t = _exp_sum_f32(max(-square, _EXP_MIN_F32), -lost)
    return p * q, p * c + low * q, s, t


@_inline
def _erfc_head_f32(x: float32, tail: float32, low: float32) -> tuple[float32, float32]:
    """Return h, c with h + c = erfc(x) for x <= 1/2, where tail + low = erfc(-x) if x <= -1/2."""
    n, c = _erf_near_f32(x)
    near = x > float32(-0.5)
    total, lost = _add(float32(1.0) if near else float32(2.0), -(n if near else tail))
    return total, lost - (c if near else low)


@_vector
def erf_f32(x: float32) -> float32:
    """Error function of any x, 2 / sqrt(pi) times the integral of e**(-t**2) from 0 to x, to 0.99 ulp.

    erf(nan) = nan, erf(inf) = 1, erf(-inf) = -1, erf(-0.0) = -0.0.
    """
    near, _ = _erf_near_f32(x)
    y = min(abs(x), _ERF_ONE_F32)
    q, c = _erfcx_parts_f32(y)
    h, low, s, t = _erfc_tail_f32(y, q, c)
    total, lost = _add(float32(1.0), -h * s * t)
    far = total + (lost - low * s * t)
    far = -far if x < float32(0.0) else far
    return near if abs(x) < float32(0.5) else far


@_vector
def erfc_f32(x: float32) -> float32:
    """1 - erf(x) for any x, to 1.50 ulp, also where the result is subnormal.

    erfc(nan) = nan, erfc(inf) = 0, erfc(-inf) = 2.
    """
    y = min(abs(x), _ERFC_ZERO_F32)
    q, c = _erfcx_parts_f32(y)
    h, low, s, t = _erfc_tail_f32(y, q, c)
    total, lost = _erfc_head_f32(x, h * s * t, low * s * t)
    return total + lost if x < float32(0.5) else (h + low) * s * t


@_vector
def erfcx_f32(x: float32) -> float32:
    """e**(x**2) * erfc(x) for any x, to 1.23 ulp, also where the result is subnormal.

    erfcx(nan) = nan, erfcx(inf) = 0, erfcx(-inf) = inf; overflows to inf.
    """
    q, c = _erfcx_parts_f32(min(abs(x), _MAX_F32))
    # For x < 0 it is 2 exp(x**2) - erfcx(-x), halved until the end because it may overflow.
    square, lost = _square_f32(max(min(x, float32(0.0)), _ERFCX_MIN_F32))
    p, low, s, t = _exp_sum_f32(square, lost)
    h, lost = _add(p * s * t, float32(-0.5) * q)
    below = (h + (lost + (low * s * t - float32(0.5) * c))) * float32(2.0)
    below = _INF_F32 if x < _ERFCX_MIN_F32 else below
    above = q + c if x < _INF_F32 else float32(1.0) / x
    return below if x < float32(0.0) else above


@_vector
def log_erfc_f32(x: float32) -> float32:
    """log(erfc(x)) for any x, to 1.22 ulp, also where erfc(x) underflows.

    log_erfc(nan) = nan, log_erfc(inf) = -inf, log_erfc(-inf) = log(2), log_erfc(0.0) = -0.0,
    log_erfc(-0.0) = 0.0: its sign is that of -x throughout. Overflows to -inf.
    """
    # Above 1/2 this is log(erfcx(x)) - x**2, where both terms have one sign, else log(erfc(x)).
    far = x > float32(0.5)
    y = abs(min(max(x, -_ERF_ONE_F32), _SQUARE_MAX_F32))
    q, c = _erfcx_parts_f32(y)
    h, low, s, t = _erfc_tail_f32(y, q, c)
    total, lost = _erfc_head_f32(x, h * s * t, low * s * t)
    k, m = _split_f32(q if far else total)
    f, tail = _add(m - float32(1.0), (c if far else lost) * _power_f32(-k))
    h, t = _log_parts_f32(k, f, tail)
    square, lost = _square_f32(y)
    total, back = _add_any(-square if far else float32(0.0), h)
    result = total + (back + (t - (lost if far else float32(0.0))))
    result = -_INF_F32 if x > _SQUARE_MAX_F32 else result
    return -x if x == float32(0.0) else result


@_inline
def _square_f64(x: float64) -> tuple[float64, float64]:
    """As _square_f32, for |x| < 2**512."""
    high = uint64(uint64(float64(x).view(uint64)) & uint64(0xFFFFFFFFF8000000)).view(float64)
    return _add(high * high, (x - high) * (x + high))


@_inline
def _exp_sum_f64(a: float64, b: float64) -> tuple[float64, float64, float64, float64]:
    """As _exp_sum_f32."""
    k, r, c = _exp_parts_f64(a)
    s, t = _two_powers_f64(k)
    r, c = _add(r, c)
    p, low = _add(float64(1.0), r)
    return p, low + (c + b * p), s, t


@_inline
def _erf_near_f64(x: float64) -> tuple[float64, float64]:
    """As _erf_near_f32."""
    x = max(min(x, float64(0.5)), float64(-0.5))
    z = x * x
    p = float64(1.4723215353508247e-06)
    p = p * z + float64(-1.4845583855143466e-05)
    p = p * z + float64(0.00012053324323886661)
    p = p * z + float64(-0.0008548297524748163)
    p = p * z + float64(0.005223977370332408)
    p = p * z + float64(-0.026866170632716322)
    p = p * z + float64(0.11283791670924816)
    p = p * z + float64(-0.37612638903183465)
    p = p * z + float64(0.12837916709551256)
    return _add(x, x * p)


@_inline
def _erfcx_parts_f64(x: float64) -> tuple[float64, float64]:
    """As _erfcx_parts_f32."""
    t = (x - float64(3.75)) / (x + float64(3.75))
    p = float64(1.847773289862425e-10)
    p = p * t + float64(1.9128688436271656e-10)
    p = p * t + float64(-2.2960621318078725e-09)
    p = p * t + float64(-2.2917905062437e-09)
    p = p * t + float64(1.737864353620244e-08)
    p = p * t + float64(1.496920315644745e-08)
    p = p * t + float64(-1.1733291849687455e-07)
    p = p * t + float64(-5.575424155902961e-08)
    p = p * t + float64(8.068524951546426e-07)
    p = p * t + float64(-2.3953374512279083e-07)
    p = p * t + float64(-5.441246754015219e-06)
    p = p * t + float64(8.873350641267442e-06)
    p = p * t + float64(2.7168391654091538e-05)
    p = p * t + float64(-0.0001271150016050858)
    p = p * t + float64(8.968334735556235e-05)
    p = p * t + float64(0.0008682371778556677)
    p = p * t + float64(-0.004197178875106087)
    p = p * t + float64(0.011098405776661952)
    p = p * t + float64(-0.020292990304913088)
    p = p * t + float64(0.02560128806956851)
    p = p * t + float64(-0.015925348058812454)
    p = p * t + float64(-0.020201091576398603)
    p = p * t + float64(0.0865457328364655)
    p = p * t + float64(-0.17265352360355843)
    p = p * t + float64(-0.045397539102946756)
    h, low = _add(float64(0.71875), p)
    d, lost = _add_any(float64(0.875), x)
    inverse = float64(1.0) / d
    q = h * inverse
    return q, ((h - q * d) + (low - q * lost)) * inverse


@_inline
def _erfc_tail_f64(x: float64, q: float64, c: float64) -> tuple[float64, float64, float64, float64]:
    """As _erfc_tail_f32."""
    square, lost = _square_f64(x)
    p, low, s, t = _exp_sum_f64(max(-square, _EXP_MIN_F64), -lost)
    return p * q, p * c + low * q, s, t


@_inline
def _erfc_head_f64(x: float64, tail: float64, low: float64) -> tuple[float64, float64]:
    """As _erfc_head_f32."""
    n, c = _erf_near_f64(x)
    near = x > float64(-0.5)
    total, lost = _add(float64(1.0) if near else float64(2.0), -(n if near else tail))
    return total, lost - (c if near else low)


@_vector
def erf_f64(x: float64) -> float64:
    """Error function of any x, to 0.96 ulp. Special values as erf_f32."""
    near, _ = _erf_near_f64(x)
    y = min(abs(x), _ERF_ONE_F64)
    q, c = _erfcx_parts_f64(y)
    h, low, s, t = _erfc_tail_f64(y, q, c)
    total, lost = _add(float64(1.0), -h * s * t)
    far = total + (lost - low * s * t)
    far = -far if x < float64(0.0) else far
    return near if abs(x) < float64(0.5) else far


@_vector
def erfc_f64(x: float64) -> float64:
    """1 - erf(x) for any x, to 1.51 ulp. Special values as erfc_f32."""
    y = min(abs(x), _ERFC_ZERO_F64)
    q, c = _erfcx_parts_f64(y)
    h, low, s, t = _erfc_tail_f64(y, q, c)
    total, lost = _erfc_head_f64(x, h * s * t, low * s * t)
    return total + lost if x < float64(0.5) else (h + low) * s * t


@_vector
def erfcx_f64(x: float64) -> float64:
    """e**(x**2) * erfc(x) for any x, to 1.08 ulp. Special values as erfcx_f32."""
    q, c = _erfcx_parts_f64(min(abs(x), _MAX_F64))
    # For x < 0 it is 2 exp(x**2) - erfcx(-x), halved until the end because it may overflow.
    square, lost = _square_f64(max(min(x, float64(0.0)), _ERFCX_MIN_F64))
    p, low, s, t = _exp_sum_f64(square, lost)
    h, lost = _add(p * s * t, float64(-0.5) * q)
    below = (h + (lost + (low * s * t - float64(0.5) * c))) * float64(2.0)
    below = _INF_F64 if x < _ERFCX_MIN_F64 else below
    above = q + c if x < _INF_F64 else float64(1.0) / x
    return below if x < float64(0.0) else above


@_vector
def log_erfc_f64(x: float64) -> float64:
    """log(erfc(x)) for any x, to 1.16 ulp. Special values as log_erfc_f32."""
    # Above 1/2 this is log(erfcx(x)) - x**2, where both terms have one sign, else log(erfc(x)).
    far = x > float64(0.5)
    y = abs(min(max(x, -_ERF_ONE_F64), _SQUARE_MAX_F64))
    q, c = _erfcx_parts_f64(y)
    h, low, s, t = _erfc_tail_f64(y, q, c)
    total, lost = _erfc_head_f64(x, h * s * t, low * s * t)
    k, m = _split_f64(q if far else total)
    f, tail = _add(m - float64(1.0), (c if far else lost) * _power_f64(-k))
    h, t = _log_parts_f64(k, f, tail)
    square, lost = _square_f64(y)
    total, back = _add_any(-square if far else float64(0.0), h)
    result = total + (back + (t - (lost if far else float64(0.0))))
    result = -_INF_F64 if x > _SQUARE_MAX_F64 else result
    return -x if x == float64(0.0) else result
