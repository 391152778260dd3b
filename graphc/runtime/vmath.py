"""Elementary functions for generated loops: branch-free, so that LLVM vectorises their callers.

A loop such as ``out[i] = vmath.exp_f32(x[i])`` inlines the function and becomes packed code, as
every function is straight-line arithmetic: special cases are selects at the end, powers of two are
assembled from bits, and rounding to an integer is the addition of a large constant.

Rules the code keeps, because speed or the last digits depend on them:

- Constants in float32 functions are ``float32(...)``: a bare literal would mean float64 to Numba.
- Integers are cast back to their width after each operation: Numba widens int32 to int64.
- Arithmetic is IEEE except that a product and a sum may fuse; all is correct with and without.
- Nothing overflows or is invalid on the way, so that the plain Python functions do not warn.
- Inlining is forced: LLVM's own estimate of the cost stops at the longer functions.

Each function exists for float32 and float64, and takes and returns one number of that type. The
plain Python function behind each (``exp_f32.py_func``) works on NumPy scalars of that type.

The accuracy quoted is the largest error found, in units in the last place (ulp), on a machine with
fused multiply-add: for all floats in float32, for 360,000 in float64.

All polynomials are minimax approximations, computed with the Remez exchange algorithm in 200-bit
arithmetic so as to minimise the error relative to the function they are part of, and then rounded.
"""

from typing import Any, TypeVar

import numpy as np
from numba import njit
from numba.extending import register_jitable
from numpy import float32, float64, int32, int64, uint32, uint64

_vector = njit(error_model="numpy", fastmath={"contract"}, nogil=True, cache=True, forceinline=True)
# Helpers stay plain Python in plain Python: a compiled one would return Python's float there.
_inline = register_jitable(error_model="numpy", fastmath={"contract"}, forceinline=True)

_Float = TypeVar("_Float", float32, float64)

_INF_F32 = float32(np.inf)
_NAN_F32 = float32(np.nan)
_MAX_F32 = float32(np.finfo(np.float32).max)
_INF_F64 = float64(np.inf)
_NAN_F64 = float64(np.nan)
_MAX_F64 = float64(np.finfo(np.float64).max)

_SQRT2_F32 = float32(1.4142135)
_SQRT2_F64 = float64(1.4142135623730951)
_LOG2_E_F32 = float32(1.442695)
_LOG2_E_F64 = float64(1.4426950408889634)

# log(2) in two parts (Cody & Waite 1980): the first has so few bits that its product with any
# exponent is exact, the second is what remains of log(2).
_LN2_HIGH_F32 = float32(355 / 512)
_LN2_LOW_F32 = float32(-0.00021219444)
_LN2_HIGH_F64 = float64(0.6931471803691238)
_LN2_LOW_F64 = float64(1.9082149292705877e-10)

# Adding this leaves no bits for a fraction, so it rounds to an integer, found in the low bits.
_ROUND_F32 = float32(1.5 * 2.0**23)
_ROUND_F64 = float64(1.5 * 2.0**52)
# The same with the bias of the exponent field: shifted there, the low bits are 2**integer.
_BIASED_F32 = float32(1.5 * 2.0**23 + 127)
_BIASED_F64 = float64(1.5 * 2.0**52 + 1023)

# The largest arguments with a finite exponential; below the least ones it rounds to zero.
_EXP_MAX_F32 = float32(88.72283)
_EXP_MIN_F32 = float32(-104.0)
_EXP_MAX_F64 = float64(709.782712893384)
_EXP_MIN_F64 = float64(-746.0)


@_inline
def _add(a: _Float, b: _Float) -> tuple[_Float, _Float]:
    """Return a + b, rounded, and what was lost in rounding, for |a| >= |b| or a = 0 (Dekker)."""
    total = a + b
    return total, (a - total) + b


@_inline
def _add_any(a: _Float, b: _Float) -> tuple[_Float, _Float]:
    """Return a + b, rounded, and what was lost in rounding (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


@_inline
def _power_f32(n: float32) -> float32:
    """2**n for a whole number n from -126 to 127."""
    bits: Any = float32(n + _BIASED_F32).view(int32)
    return int32(bits << 23).view(float32)


@_inline
def _two_powers_f32(n: float32) -> tuple[float32, float32]:
    """Two factors of 2**n, for when that itself overflows or is subnormal but the result is not.

    Multiplication by the first is exact, that by the second rounds once.
    """
    half = (n * float32(0.5) + _ROUND_F32) - _ROUND_F32
    return _power_f32(half), _power_f32(n - half)


@_inline
def _exp_parts_f32(x: float32) -> tuple[float32, float32, float32]:
    """Return k, r, c with exp(x) = 2**k * (1 + r + c), for x from -104 to 89.

    x = k log(2) + r with |r| <= log(2) / 2, and exp(r) = 1 + r + r**2 * polynomial(r), as in Tang
    1989 but without his table. The smaller part c also has what r lost in rounding.
    """
    k = (x * _LOG2_E_F32 + _ROUND_F32) - _ROUND_F32
    high = x - k * _LN2_HIGH_F32
    r = high - k * _LN2_LOW_F32
    c = float32(0.00019845844)
    c = c * r + float32(0.0013940927)
    c = c * r + float32(0.008333391)
    c = c * r + float32(0.04166636)
    c = c * r + float32(0.16666666)
    c = c * r + float32(0.5)
    return k, r, r * r * c + ((high - r) - k * _LN2_LOW_F32)


@_inline
def _split_f32(x: float32) -> tuple[float32, float32]:
    """Return k, m with x = 2**k * m and m from sqrt(1/2) to sqrt(2), for x normal and positive."""
    bits = float32(x).view(uint32)
    m = uint32(uint32(bits & uint32(0x7FFFFF)) | uint32(0x3F800000)).view(float32)
    # The exponent field as the low bits of 2**23 is a float without a conversion from integer.
    k = uint32(uint32(bits >> uint32(23)) | uint32(0x4B000000)).view(float32)
    k = k - float32(2.0**23 + 127)
    big = m > _SQRT2_F32
    m = m * (float32(0.5) if big else float32(1.0))
    return k + (float32(1.0) if big else float32(0.0)), m


@_inline
def _log_parts_f32(k: float32, f: float32, tail: float32) -> tuple[float32, float32]:
    """Return h, t with h + t = k log(2) + log(1 + f) + tail, for f from -0.293 to 0.415.

    log(1 + f) = f - f**2 / 2 + f**3 * polynomial(f), as in Cephes. h is the sum of the two large
    terms and t has all small ones, so that hardly more than the rounding of h + t is lost.
    """
    p = float32(0.06746638)
    p = p * f + float32(-0.116756506)
    p = p * f + float32(0.11888163)
    p = p * f + float32(-0.1240559)
    p = p * f + float32(0.14219552)
    p = p * f + float32(-0.16667996)
    p = p * f + float32(0.20002119)
    p = p * f + float32(-0.2500001)
    p = p * f + float32(0.33333313)
    square = f * f
    p = p * f * square - float32(0.5) * square
    h, lost = _add(k * _LN2_HIGH_F32, f)
    return h, lost + (tail + (k * _LN2_LOW_F32 + p))


@_vector
def exp_f32(x: float32) -> float32:
    """e**x for any x, to 0.85 ulp, also where the result is subnormal.

    exp(nan) = nan, exp(inf) = inf, exp(-inf) = 0; overflows to inf.
    """
    k, r, c = _exp_parts_f32(max(min(x, _EXP_MAX_F32), _EXP_MIN_F32))
    s, t = _two_powers_f32(k)
    return _INF_F32 if x > _EXP_MAX_F32 else (float32(1.0) + (r + c)) * s * t


@_vector
def expm1_f32(x: float32) -> float32:
    """e**x - 1 for any x, to 0.88 ulp.

    expm1(nan) = nan, expm1(inf) = inf, expm1(-inf) = -1, expm1(-0.0) = -0.0; overflows to inf.
    """
    k, r, c = _exp_parts_f32(max(min(x, _EXP_MAX_F32), float32(-20.0)))
    # (2**k - 1) + 2**k * (r + c), halved until the end because 2**k itself may overflow.
    s = _power_f32(k - float32(1.0))
    base = s - float32(0.5)
    lost = (s - base) - float32(0.5)
    h, low = _add(base, s * r)
    result = (h + (low + (lost + s * c))) * float32(2.0)
    result = _INF_F32 if x > _EXP_MAX_F32 else result
    return x if abs(x) < float32(2.0**-30) else result


@_vector
def log_f32(x: float32) -> float32:
    """Natural logarithm of x >= 0, to 0.81 ulp, also where x is subnormal.

    log(nan) = nan, log(inf) = inf, log(0) = -inf for either sign of 0, log(x < 0) = nan.
    """
    subnormal = abs(x) < float32(2.0**-126)
    k, m = _split_f32(x * (float32(2.0**25) if subnormal else float32(1.0)))
    k = k - (float32(25.0) if subnormal else float32(0.0))
    h, t = _log_parts_f32(k, m - float32(1.0), float32(-0.0))
    result = h + t if x < _INF_F32 else x
    result = _NAN_F32 if x < float32(0.0) else result
    return -_INF_F32 if x == float32(0.0) else result


@_vector
def log1p_f32(x: float32) -> float32:
    """log(1 + x) for x >= -1, to 0.93 ulp.

    log1p(nan) = nan, log1p(inf) = inf, log1p(-1) = -inf, log1p(x < -1) = nan, log1p(-0.0) = -0.0.
    """
    # What 1 + x loses in rounding is added back once the exponent is split off.
    u, lost = _add_any(float32(1.0), max(min(x, _MAX_F32), float32(-1.0)))
    k, m = _split_f32(u)
    # Beyond 2**60 what was lost is far too small to matter, but 2**-k might not be a float.
    f, tail = _add(m - float32(1.0), lost * _power_f32(-min(k, float32(60.0))))
    h, t = _log_parts_f32(k, f, tail)
    result = h + t if x < _INF_F32 else x
    result = _NAN_F32 if x < float32(-1.0) else result
    result = -_INF_F32 if x == float32(-1.0) else result
    return x if abs(x) < float32(2.0**-30) else result


@_vector
def tanh_f32(x: float32) -> float32:
    """Hyperbolic tangent of any x, to 0.78 ulp.

    tanh(nan) = nan, tanh(inf) = 1, tanh(-inf) = -1, tanh(-0.0) = -0.0.
    """
    # With e = expm1(-2 |x|), tanh |x| = -e / (2 + e). Each is a sum of two numbers, e = h + low and
    # 2 + e = d + (lost + low); a step of Newton's method corrects h / d for the small ones.
    k, r, c = _exp_parts_f32(float32(2.0) * max(-abs(x), float32(-10.0)))
    s = _power_f32(k)
    base, lost = _add(float32(-1.0), s)
    h, low = _add(base, s * r)
    h, low = _add(h, low + (lost + s * c))
    d, lost = _add(float32(2.0), h)
    inverse = float32(1.0) / d
    q = h * inverse
    q = q + ((h - q * d) + (low - q * (lost + low))) * inverse
    result = -q if x > float32(0.0) else q
    return x if abs(x) < float32(2.0**-15) else result


@_vector
def sigmoid_f32(x: float32) -> float32:
    """1 / (1 + e**-x) for any x, to 0.77 ulp, also where the result is subnormal.

    sigmoid(nan) = nan, sigmoid(inf) = 1, sigmoid(-inf) = 0.
    """
    # With z = exp(-|x|) this is 1 / (1 + z) for x >= 0, else z / (1 + z), divided as in tanh. The
    # power of two in z is applied to the quotient last: that underflows gradually, rounding once.
    k, r, c = _exp_parts_f32(max(-abs(x), _EXP_MIN_F32))
    s, t = _two_powers_f32(k)
    r, c = _add(r, c)
    p, low = _add(float32(1.0), r)
    low = low + c
    d, lost = _add(float32(1.0), p * s * t)
    lost = lost + low * s * t
    negative = x < float32(0.0)
    p = p if negative else float32(1.0)
    low = low if negative else float32(0.0)
    inverse = float32(1.0) / d
    q = p * inverse
    q = q + ((p - q * d) + (low - q * lost)) * inverse
    return q * (s if negative else float32(1.0)) * (t if negative else float32(1.0))


@_vector
def softplus_f32(x: float32) -> float32:
    """log(1 + e**x) for any x, to 1.06 ulp, also where the result is subnormal.

    softplus(nan) = nan, softplus(inf) = inf, softplus(-inf) = 0.
    """
    # max(x, 0) + log(1 + z) with z = exp(-|x|) = p + low, where 1 + z is from 1 to 2.
    y = max(-abs(x), _EXP_MIN_F32)
    k, r, c = _exp_parts_f32(y)
    s, t = _two_powers_f32(k)
    r, c = _add(r, c)
    p, low = _add(float32(1.0), r)
    u, lost = _add(float32(1.0), p * s * t)
    lost = lost + (low + c) * s * t
    big = u > _SQRT2_F32
    s = float32(0.5) if big else float32(1.0)
    f, tail = _add(u * s - float32(1.0), lost * s)
    h, t = _log_parts_f32(float32(1.0) if big else float32(0.0), f, tail)
    base = -y if x > float32(0.0) else float32(0.0)
    total, lost = _add_any(base, h)
    return x if x > -_EXP_MIN_F32 else total + (lost + t)


@_inline
def _power_f64(n: float64) -> float64:
    """As _power_f32."""
    bits: Any = float64(n + _BIASED_F64).view(int64)
    return int64(bits << 52).view(float64)


@_inline
def _two_powers_f64(n: float64) -> tuple[float64, float64]:
    """As _two_powers_f32."""
    half = (n * float64(0.5) + _ROUND_F64) - _ROUND_F64
    return _power_f64(half), _power_f64(n - half)


@_inline
def _exp_parts_f64(x: float64) -> tuple[float64, float64, float64]:
    """As _exp_parts_f32."""
    k = (x * _LOG2_E_F64 + _ROUND_F64) - _ROUND_F64
    high = x - k * _LN2_HIGH_F64
    r = high - k * _LN2_LOW_F64
    c = float64(2.0875263631631077e-09)
    c = c * r + float64(2.5109312523088688e-08)
    c = c * r + float64(2.755740385435197e-07)
    c = c * r + float64(2.7557243492659093e-06)
    c = c * r + float64(2.4801587169913353e-05)
    c = c * r + float64(0.00019841269886758996)
    c = c * r + float64(0.0013888888888964337)
    c = c * r + float64(0.008333333333321414)
    c = c * r + float64(0.041666666666666505)
    c = c * r + float64(0.16666666666666677)
    c = c * r + float64(0.5)
    return k, r, r * r * c + ((high - r) - k * _LN2_LOW_F64)


@_inline
def _split_f64(x: float64) -> tuple[float64, float64]:
    """As _split_f32."""
    bits = float64(x).view(uint64)
    m = uint64(uint64(bits & uint64(0xFFFFFFFFFFFFF)) | uint64(0x3FF0000000000000)).view(float64)
    k = uint64(uint64(bits >> uint64(52)) | uint64(0x4330000000000000)).view(float64)
    k = k - float64(2.0**52 + 1023)
    big = m > _SQRT2_F64
    m = m * (float64(0.5) if big else float64(1.0))
    return k + (float64(1.0) if big else float64(0.0)), m


@_inline
def _log_parts_f64(k: float64, f: float64, tail: float64) -> tuple[float64, float64]:
    """As _log_parts_f32, but log(1 + f) as in fdlibm: one division for a dozen terms.

    It is f - f**2 / 2 + q * (f**2 / 2 + q**2 * polynomial(q**2)) with q = f / (2 + f).
    """
    q = f / (float64(2.0) + f)
    z = q * q
    p = float64(0.14796121369497872)
    p = p * z + float64(0.15314034517516442)
    p = p * z + float64(0.18183564903085547)
    p = p * z + float64(0.22222198563200032)
    p = p * z + float64(0.2857142874247182)
    p = p * z + float64(0.3999999999941437)
    p = p * z + float64(0.6666666666666734)
    half = float64(0.5) * f * f
    p = q * (half + z * p) - half
    h, lost = _add(k * _LN2_HIGH_F64, f)
    return h, lost + (tail + (k * _LN2_LOW_F64 + p))


@_vector
def exp_f64(x: float64) -> float64:
    """e**x for any x, to 0.82 ulp. Special values as exp_f32."""
    k, r, c = _exp_parts_f64(max(min(x, _EXP_MAX_F64), _EXP_MIN_F64))
    s, t = _two_powers_f64(k)
    return _INF_F64 if x > _EXP_MAX_F64 else (float64(1.0) + (r + c)) * s * t


@_vector
def expm1_f64(x: float64) -> float64:
    """e**x - 1 for any x, to 1.04 ulp. Special values as expm1_f32."""
    k, r, c = _exp_parts_f64(max(min(x, _EXP_MAX_F64), float64(-40.0)))
    s = _power_f64(k - float64(1.0))
    base = s - float64(0.5)
    lost = (s - base) - float64(0.5)
    h, low = _add(base, s * r)
    result = (h + (low + (lost + s * c))) * float64(2.0)
    result = _INF_F64 if x > _EXP_MAX_F64 else result
    return x if abs(x) < float64(2.0**-60) else result


@_vector
def log_f64(x: float64) -> float64:
    """Natural logarithm of x >= 0, to 0.82 ulp. Special values as log_f32."""
    subnormal = abs(x) < float64(2.0**-1022)
    k, m = _split_f64(x * (float64(2.0**54) if subnormal else float64(1.0)))
    k = k - (float64(54.0) if subnormal else float64(0.0))
    h, t = _log_parts_f64(k, m - float64(1.0), float64(-0.0))
    result = h + t if x < _INF_F64 else x
    result = _NAN_F64 if x < float64(0.0) else result
    return -_INF_F64 if x == float64(0.0) else result


@_vector
def log1p_f64(x: float64) -> float64:
    """log(1 + x) for x >= -1, to 0.85 ulp. Special values as log1p_f32."""
    u, lost = _add_any(float64(1.0), max(min(x, _MAX_F64), float64(-1.0)))
    k, m = _split_f64(u)
    f, tail = _add(m - float64(1.0), lost * _power_f64(-min(k, float64(60.0))))
    h, t = _log_parts_f64(k, f, tail)
    result = h + t if x < _INF_F64 else x
    result = _NAN_F64 if x < float64(-1.0) else result
    result = -_INF_F64 if x == float64(-1.0) else result
    return x if abs(x) < float64(2.0**-60) else result


@_vector
def tanh_f64(x: float64) -> float64:
    """Hyperbolic tangent of any x, to 0.74 ulp. Special values as tanh_f32."""
    k, r, c = _exp_parts_f64(float64(2.0) * max(-abs(x), float64(-20.0)))
    s = _power_f64(k)
    base, lost = _add(float64(-1.0), s)
    h, low = _add(base, s * r)
    h, low = _add(h, low + (lost + s * c))
    d, lost = _add(float64(2.0), h)
    inverse = float64(1.0) / d
    q = h * inverse
    q = q + ((h - q * d) + (low - q * (lost + low))) * inverse
    result = -q if x > float64(0.0) else q
    return x if abs(x) < float64(2.0**-29) else result


@_vector
def sigmoid_f64(x: float64) -> float64:
    """1 / (1 + e**-x) for any x, to 0.76 ulp. Special values as sigmoid_f32."""
    k, r, c = _exp_parts_f64(max(-abs(x), _EXP_MIN_F64))
    s, t = _two_powers_f64(k)
    r, c = _add(r, c)
    p, low = _add(float64(1.0), r)
    low = low + c
    d, lost = _add(float64(1.0), p * s * t)
    lost = lost + low * s * t
    negative = x < float64(0.0)
    p = p if negative else float64(1.0)
    low = low if negative else float64(0.0)
    inverse = float64(1.0) / d
    q = p * inverse
    q = q + ((p - q * d) + (low - q * lost)) * inverse
    return q * (s if negative else float64(1.0)) * (t if negative else float64(1.0))


@_vector
def softplus_f64(x: float64) -> float64:
    """log(1 + e**x) for any x, to 0.97 ulp. Special values as softplus_f32."""
    y = max(-abs(x), _EXP_MIN_F64)
    k, r, c = _exp_parts_f64(y)
    s, t = _two_powers_f64(k)
    r, c = _add(r, c)
    p, low = _add(float64(1.0), r)
    u, lost = _add(float64(1.0), p * s * t)
    lost = lost + (low + c) * s * t
    big = u > _SQRT2_F64
    s = float64(0.5) if big else float64(1.0)
    f, tail = _add(u * s - float64(1.0), lost * s)
    h, t = _log_parts_f64(float64(1.0) if big else float64(0.0), f, tail)
    base = -y if x > float64(0.0) else float64(0.0)
    total, lost = _add_any(base, h)
    return x if x > -_EXP_MIN_F64 else total + (lost + t)
