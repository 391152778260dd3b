"""Powers with small constant exponents: accuracy, special values, and packed machine code."""

import mpmath
import numpy as np
import pytest
from test_assembly import packed
from vector_functions import HAS_FMA, TYPES, ulp_errors

import graphc as gx

EXPONENTS = (-3, -2, -1, -0.5, 0.5, 1.5, 2, 2.5, 3, 4)


@pytest.fixture(scope="module", params=TYPES.values(), ids=TYPES)
def powers(request):
    """The function of all powers at once."""
    x = gx.input("x", ("N",), request.param)
    return request.param, gx.compile([x], [x**exponent for exponent in EXPONENTS], cache=False)


def test_within_two_ulp(powers):
    dtype, f = powers
    info = np.finfo(dtype)
    rng = np.random.default_rng(1)
    whole = np.exp2(rng.uniform(np.log2(info.smallest_subnormal), info.maxexp - 1e-3, 1000))
    x = np.concatenate([whole, rng.uniform(0.5, 2, 2000)]).astype(dtype)
    for exponent, got in zip(EXPONENTS, f(x), strict=True):
        errors = ulp_errors(lambda v, e=exponent: mpmath.power(v, e), x, got)
        assert errors.max() <= 2.0, exponent


def test_special_values_are_those_of_numpy(powers):
    dtype, f = powers
    info = np.finfo(dtype)
    x = np.array([0.0, np.inf, 1.0, 0.25, 4.0, info.max, info.smallest_subnormal], dtype)
    x = np.concatenate([x, -x, [np.nan]]).astype(dtype)
    for exponent, got in zip(EXPONENTS, f(x), strict=True):
        with np.errstate(all="ignore"):
            # With a number as exponent NumPy would take roots of its own, which are nan at -inf.
            expected = np.power(x, np.full_like(x, exponent))
        known = ~np.isnan(expected)
        np.testing.assert_array_equal(np.isnan(got), ~known)
        np.testing.assert_array_max_ulp(got[known], expected[known], 2)
        np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(expected[known]))


@pytest.mark.skipif(not HAS_FMA, reason="needs a CPU with AVX2 and FMA")
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_loops_are_packed(exponent):
    x = gx.input("x", ("N",))
    f = gx.compile([x], x**exponent + 1, cache=False)
    assert packed(f, "mul|div|sqrt|fmadd")["mul|div|sqrt|fmadd"]


def test_powers_of_integers_are_left_to_what_refuses_negative_ones():
    n = gx.input("n", ("N",), gx.int64)
    f = gx.compile([n], n ** gx.constant(-2), cache=False)
    assert "integer_power" in f.dump("source")
