"""What the hand-written rows are made of: exponentials for finite arguments and products into arrays.

The exponentials are leaner than those of `graphc.runtime.vmath`, because a hand-written program knows that
no argument is infinite or nan: arguments are clamped to where the result is a normal number.
"""

import numpy as np
from numba import njit
from numba.extending import overload, register_jitable
from numpy import float32, float64, int32, int64

jit = njit(error_model="numpy", fastmath={"contract"}, nogil=True, cache=True)
"""For loops: products and sums may be fused; sums are reordered by `accumulate.add` alone."""

inline = register_jitable(error_model="numpy", fastmath={"contract"}, forceinline=True)

_JIT_OPTIONS = {"error_model": "numpy", "fastmath": {"contract"}, "forceinline": True}


@inline
def _exp_f32(x):
    """To 1 ulp; the polynomial is the one of `graphc.runtime.vmath`."""
    x = max(min(x, float32(88.0)), float32(-87.0))
    biased = x * float32(1.442695) + float32(1.5 * 2.0**23 + 127)
    k = biased - float32(1.5 * 2.0**23 + 127)
    r = x - k * float32(355 / 512) - k * float32(-0.00021219444)
    p = float32(0.00019845844)
    p = p * r + float32(0.0013940927)
    p = p * r + float32(0.008333391)
    p = p * r + float32(0.04166636)
    p = p * r + float32(0.16666666)
    p = p * r + float32(0.5)
    power = int32(float32(biased).view(int32) << 23).view(float32)
    return (float32(1.0) + (r + r * r * p)) * power


@inline
def _exp_f64(x):
    """To 1 ulp; the polynomial is the one of `graphc.runtime.vmath`."""
    x = max(min(x, 709.0), -708.0)
    biased = x * 1.4426950408889634 + (1.5 * 2.0**52 + 1023)
    k = biased - (1.5 * 2.0**52 + 1023)
    r = x - k * 0.6931471803691238 - k * 1.9082149292705877e-10
    p = 2.0875263631631077e-09
    p = p * r + 2.5109312523088688e-08
    p = p * r + 2.755740385435197e-07
    p = p * r + 2.7557243492659093e-06
    p = p * r + 2.4801587169913353e-05
    p = p * r + 0.00019841269886758996
    p = p * r + 0.0013888888888964337
    p = p * r + 0.008333333333321414
    p = p * r + 0.041666666666666505
    p = p * r + 0.16666666666666677
    p = p * r + 0.5
    power = int64(float64(biased).view(int64) << 52).view(float64)
    return (1.0 + (r + r * r * p)) * power


def exp(x):
    """e**x of a finite float32 or float64; outside the normal range it stops at the range's ends."""
    return _exp_f32(x) if x.dtype == np.float32 else _exp_f64(x)


@overload(exp, jit_options=_JIT_OPTIONS)
def _overload_exp(x):
    function = _exp_f32 if x.bitwidth == 32 else _exp_f64

    def exp_of(x):
        return function(x)

    return exp_of


def sigmoid(x):
    """1 / (1 + e**-x)."""
    one = x.dtype.type(1)
    return one / (one + exp(-x))


@overload(sigmoid, jit_options=_JIT_OPTIONS)
def _overload_sigmoid(x):
    one = float32(1) if x.bitwidth == 32 else float64(1)

    def sigmoid_of(x):
        return one / (one + exp(-x))

    return sigmoid_of


@jit
def times(a, b, out):
    """Writes a @ b, where a has few rows: a single row is a vector for BLAS."""
    if a.shape[0] == 1:
        np.dot(a[0], b, out[0])
    else:
        np.dot(a, b, out)


@jit
def times_transposed(a, b, out):
    """Writes a @ b.T."""
    if a.shape[0] == 1:
        np.dot(b, a[0], out[0])
    else:
        np.dot(a, b.T, out)


@jit
def transposed_times(a, b, out):
    """Writes a.T @ b: for a single row an outer product, which BLAS is slow at."""
    if a.shape[0] == 1:
        for i in range(a.shape[1]):
            factor = a[0, i]
            for j in range(b.shape[1]):
                out[i, j] = factor * b[0, j]
    else:
        np.dot(a.T, b, out)


@inline
def _sin_cos_polynomials(r):
    """sin and cos for |r| <= pi/4, by the minimax polynomials of fdlibm (Sun Microsystems, 1993)."""
    z = r * r
    p = 1.58969099521155010221e-10
    p = p * z - 2.50507602534068634195e-08
    p = p * z + 2.75573137070700676789e-06
    p = p * z - 1.98412698298579493134e-04
    p = p * z + 8.33333333332248946124e-03
    p = p * z - 1.66666666666666324348e-01
    q = -1.13596475577881948265e-11
    q = q * z + 2.08757232129817482790e-09
    q = q * z - 2.75573143513906633035e-07
    q = q * z + 2.48015872894767294178e-05
    q = q * z - 1.38888888888741095749e-03
    q = q * z + 4.16666666666666019037e-02
    return r + r * z * p, 1.0 - 0.5 * z + z * z * q


@inline
def sin_cos(x):
    """The sine and the cosine of a float64 below 100,000 in size, to 1e-16 absolute."""
    rounded = x * 0.6366197723675814 + 1.5 * 2.0**52
    k = rounded - 1.5 * 2.0**52
    r = x - k * 1.5707963267341256 - k * 6.077100506506192e-11
    s, c = _sin_cos_polynomials(r)
    quarter = float64(rounded).view(int64)
    is_odd = (quarter & 1) != 0
    sine, cosine = c if is_odd else s, s if is_odd else c
    sine = -sine if (quarter & 2) != 0 else sine
    return sine, -cosine if ((quarter + 1) & 2) != 0 else cosine


@inline
def _scaled_erfc(x):
    """exp(x**2) erfc(x) for x >= 0; the polynomial is the one of `graphc.runtime.vmath_special`."""
    inverse = 1.0 / ((x + 3.75) * (x + 0.875))
    t = (x - 3.75) * (x + 0.875) * inverse
    p = 1.847773289862425e-10
    p = p * t + 1.9128688436271656e-10
    p = p * t - 2.2960621318078725e-09
    p = p * t - 2.2917905062437e-09
    p = p * t + 1.737864353620244e-08
    p = p * t + 1.496920315644745e-08
    p = p * t - 1.1733291849687455e-07
    p = p * t - 5.575424155902961e-08
    p = p * t + 8.068524951546426e-07
    p = p * t - 2.3953374512279083e-07
    p = p * t - 5.441246754015219e-06
    p = p * t + 8.873350641267442e-06
    p = p * t + 2.7168391654091538e-05
    p = p * t - 0.0001271150016050858
    p = p * t + 8.968334735556235e-05
    p = p * t + 0.0008682371778556677
    p = p * t - 0.004197178875106087
    p = p * t + 0.011098405776661952
    p = p * t - 0.020292990304913088
    p = p * t + 0.02560128806956851
    p = p * t - 0.015925348058812454
    p = p * t - 0.020201091576398603
    p = p * t + 0.0865457328364655
    p = p * t - 0.17265352360355843
    p = p * t - 0.045397539102946756
    return (0.71875 + p) * (x + 3.75) * inverse


@inline
def normal_cdf(x, bell):
    """The normal distribution function of x, from ``bell`` = exp(-x**2 / 2), to 1e-15 absolute."""
    tail = 0.5 * bell * _scaled_erfc(abs(x) * 0.7071067811865476)
    return 1 - tail if x > 0 else tail
