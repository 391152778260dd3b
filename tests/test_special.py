"""The error function and its relatives: accuracy, special values, tails, and their derivatives."""

import re

import mpmath
import numba
import numpy as np
import pytest
from vector_functions import (
    HAS_FMA,
    PACKED,
    TYPES,
    apply,
    jitted_call,
    loop_fixtures,
    run,
    ulp_errors,
)

import graphc as gx
from graphc.runtime import vmath, vmath_special

NAMES = ("erf", "erfc", "erfcx", "log_erfc")
CASES = [pytest.param(name, kind, id=f"{name}_{kind}") for name in NAMES for kind in TYPES]

# Beyond this erfc is 0 or 2 and erfcx overflows on the left, per type.
REACH = {"f32": 11.0, "f64": 28.0}

# Enough bits for exp(x**2) * erfc(x) and for 2 - erfc(x) wherever these functions are asked for.
BITS = 300


def exact_erfc(x):
    return mpmath.mpf(2 if x < 0 else 0) if abs(x) > 40 else mpmath.erfc(x)


def exact_erfcx(x):
    if x < -40:
        return mpmath.inf
    if x < 40:
        return mpmath.exp(x * x) * mpmath.erfc(x)
    # The asymptotic series (DLMF 7.12.1): its terms fall by 2**-11 each at first.
    total = term = mpmath.mpf(1)
    for k in range(1, 30):
        term *= -(2 * k - 1) / (2 * x * x)
        total += term
    return total / (x * mpmath.sqrt(mpmath.pi))


def exact_log_erfc(x):
    if x < 1:
        return mpmath.log(2) if x < -40 else mpmath.log1p(-mpmath.erf(x))
    return mpmath.log(exact_erfcx(x)) - x * x


EXACT = {
    "erf": mpmath.erf,
    "erfc": exact_erfc,
    "erfcx": exact_erfcx,
    "log_erfc": exact_log_erfc,
}


def edges(kind):
    """Where ranges or special treatment begin and end, with both neighbours of each."""
    dtype = TYPES[kind]
    info = np.finfo(dtype)
    points = [0.25, 0.5, 1.0, 2.0, 3.0, 3.75, 3.9, 5.0, 5.9, 6.0, 7.0, 9.0, 1e3, 1e18]
    points += [float(info.smallest_subnormal), float(info.tiny), float(info.eps), float(info.max)]
    points += [2.0**-k for k in (3, 12, 13, 24, 25, 31, 53, 54, 60)]
    points += {
        "f32": [9.194, 9.382414, 10.05, 10.06, 10.1, 2.0**63, 2.0**64, 1e30],
        "f64": [26.54, 26.62873571375149, 27.22, 27.23, 27.3, 2.0**511, 2.0**512, 1e200],
    }[kind]
    points = np.array(points, dtype)
    points = np.concatenate([points, -points])
    with np.errstate(over="ignore"):
        neighbours = [np.nextafter(points, dtype(side)) for side in (-np.inf, np.inf)]
    x = np.concatenate([points, *neighbours])
    return x[np.isfinite(x) & (x != 0)]


def sample(name, kind, count=800):
    """Edges, and random points: log-uniform over all floats, and uniform where it matters."""
    dtype = TYPES[kind]
    info = np.finfo(dtype)
    rng = np.random.default_rng([NAMES.index(name), info.bits])
    reach = REACH[kind]
    whole = np.exp2(rng.uniform(np.log2(float(info.smallest_subnormal)), info.maxexp - 1e-3, count))
    centre = np.exp2(rng.uniform(-12, np.log2(reach), count))
    x = np.concatenate([whole, centre]) * rng.choice([-1.0, 1.0], 2 * count)
    x = np.concatenate([x, *(rng.uniform(-r, r, count) for r in (1.0, 6.0, reach))])
    return np.concatenate([x.astype(dtype), edges(kind)])


def worst(name, x, got):
    errors = ulp_errors(EXACT[name], x, got, BITS)
    assert not np.isnan(errors).any()
    return errors.max()


def function_of(name, kind):
    return getattr(vmath_special, f"{name}_{kind}")


loops, all_loops = loop_fixtures(NAMES, function_of)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_error_is_what_the_documentation_says(all_loops, name, kind):
    documented = float(re.search(r"to (\d\.\d+) ulp", function_of(name, kind).__doc__)[1])
    limit = documented if HAS_FMA else 2.0
    x = sample(name, kind)
    assert worst(name, x, run(all_loops[name, kind], x)) <= limit <= 2.0


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_plain_python_is_within_two_ulp_and_keeps_the_type(name, kind):
    x = sample(name, kind, count=100)
    results = apply(function_of(name, kind), x)
    assert {type(result) for result in results} == {TYPES[kind]}
    assert worst(name, x, np.array(results)) <= 2.0


LOG2 = np.log(2.0)
SPECIAL_VALUES = {
    "erf": [np.nan, 1.0, -1.0, 0.0, -0.0],
    "erfc": [np.nan, 0.0, 2.0, 1.0, 1.0],
    "erfcx": [np.nan, 0.0, np.inf, 1.0, 1.0],
    "log_erfc": [np.nan, -np.inf, LOG2, -0.0, 0.0],
}


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_special_values(all_loops, name, kind):
    dtype = TYPES[kind]
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], dtype)
    expected = np.array(SPECIAL_VALUES[name], dtype)
    for got in (
        run(all_loops[name, kind], x),
        np.array(apply(jitted_call(function_of(name, kind)), x), dtype),
        np.array(apply(function_of(name, kind), x), dtype),
    ):
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(np.signbit(got[1:]), np.signbit(expected[1:]))


@pytest.mark.parametrize("kind", TYPES)
def test_tails_end_where_they_must(all_loops, kind):
    """The ends of the ranges, as functions of the type alone."""
    dtype = TYPES[kind]
    info = np.finfo(dtype)
    found = {name: run(all_loops[name, kind], edges(kind)) for name in NAMES}
    x = edges(kind)
    np.testing.assert_array_equal(found["erf"][abs(x) > 6], np.sign(x[abs(x) > 6]))
    np.testing.assert_array_equal(found["erfc"][x < -6], 2)
    np.testing.assert_array_equal(found["erfc"][x > REACH[kind]], 0)
    np.testing.assert_array_equal(found["erfcx"][x < -REACH[kind]], np.inf)
    assert np.all((found["erfcx"][x > 1] > 0) & (found["erfcx"][x > 1] < 1))
    assert np.any((found["erfc"] > 0) & (found["erfc"] < info.tiny))
    overflows = x >= dtype(2.0) ** (info.maxexp // 2)
    np.testing.assert_array_equal(np.isinf(found["log_erfc"]), overflows)
    assert overflows.any()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_monotone(all_loops, name, kind):
    """At steps so large that the exact values differ by more than the errors, or are equal."""
    dtype = TYPES[kind]
    x = np.linspace(-1.2 * REACH[kind], 1.2 * REACH[kind], 20_001).astype(dtype)
    got = run(all_loops[name, kind], x)
    steps = np.diff(got[np.isfinite(got)]) * (1 if name == "erf" else -1)
    slack = 2 * np.spacing(np.abs(got[np.isfinite(got)][1:]))
    assert np.all(steps >= -slack)
    assert np.any(steps > 0)


@pytest.mark.skipif(not HAS_FMA, reason="needs a CPU with AVX2 and FMA")
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_loops_are_packed(loops, name, kind):
    run(loops[name, kind], TYPES[kind]([1.0]))
    (assembly,) = loops[name, kind].inspect_asm().values()
    assert PACKED[kind].search(assembly)


@pytest.mark.skipif(not HAS_FMA, reason="needs a CPU with AVX2 and FMA")
@pytest.mark.parametrize("kind", TYPES)
def test_erfc_and_its_slope_share_an_exponential(loops, kind):
    erfc, exp = function_of("erfc", kind), getattr(vmath, f"exp_{kind}")

    @numba.njit(error_model="numpy", fastmath={"contract"})
    def both(x, out):
        for i in range(x.size):
            value = x[i]
            out[i] = erfc(value) + exp(-(value * value))

    @numba.njit(error_model="numpy", fastmath={"contract"})
    def slope(x, out):
        for i in range(x.size):
            value = x[i]
            out[i] = exp(-(value * value))

    x = np.linspace(-3, 3, 1001).astype(TYPES[kind])
    np.testing.assert_array_equal(run(both, x), run(loops["erfc", kind], x) + run(slope, x))
    products = []
    for loop in (both, loops["erfc", kind], slope):
        (assembly,) = loop.inspect_asm().values()
        products.append(len(PACKED[kind].findall(assembly)))
    assert products[0] < products[1] + 0.5 * products[2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_public_functions_and_their_gradients_in_the_tails(dtype):
    """Against the derivatives in 300-bit arithmetic, at points where naive formulas fail."""
    x = gx.input("x", ("N",), dtype)
    values = np.array([-30.0, -6.0, -3.0, -1e-3, 1e-3, 0.5, 3.0, 8.0, 30.0], dtype)
    slope = 2 / mpmath.sqrt(mpmath.pi)
    derivatives = {
        "erf": lambda v: slope * mpmath.exp(-v * v),
        "erfc": lambda v: -slope * mpmath.exp(-v * v),
        "log_erfc": lambda v: -slope / exact_erfcx(v),
    }
    for name, exact in derivatives.items():
        output = getattr(gx.special, name)(x)
        gradient = gx.grad(gx.sum(output), x)
        found = gx.compile([x], [output, gradient], cache=False)(values)
        for array, oracle in zip(found, (EXACT[name], exact), strict=True):
            with mpmath.workprec(BITS):
                wanted = np.array([float(oracle(mpmath.mpf(float(v)))) for v in values])
            assert array.dtype == dtype
            info = np.finfo(dtype)
            np.testing.assert_allclose(array, wanted, rtol=100 * info.eps, atol=info.tiny)


def test_log_erfc_has_a_second_derivative_far_to_the_left():
    x = gx.input("x", (3,))
    first = gx.grad(gx.sum(gx.special.log_erfc(x)), x)
    second = gx.grad(gx.sum(first), x)
    found = gx.compile([x], [first, second], cache=False)(np.array([-40.0, -1e3, -np.inf]))
    np.testing.assert_array_equal(found, np.zeros((2, 3)))


def test_integers_become_floats_and_other_types_are_refused():
    found = gx.evaluate(gx.special.erfc(gx.constant([0, 1])), {})
    np.testing.assert_allclose(found, [1.0, 0.15729920705028513], rtol=1e-15)
    with pytest.raises(gx.GraphTypeError):
        gx.special.erf("x")
