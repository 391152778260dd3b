"""The vectorisable elementary functions: accuracy, special values, and packed machine code."""

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
    jitted_loop,
    loop_fixtures,
    on_processors,
    run,
    ulp_errors,
)

from graphc.runtime import vmath, vmath_trigonometric

CIRCULAR = ("sin", "cos")
NAMES = ("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "softplus", *CIRCULAR)
CASES = [pytest.param(name, kind, id=f"{name}_{kind}") for name in NAMES for kind in TYPES]

# Enough bits for the largest float64 modulo pi/2.
BITS = {"sin": 1300, "cos": 1300}

# How far from zero a function still has something to compute, per type.
REACH = {"f32": 105.0, "f64": 750.0}

EXACT = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log1p": mpmath.log1p,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
}
NUMPY = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: x.dtype.type(1) / (x.dtype.type(1) + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x.dtype.type(0), x),
    "sin": np.sin,
    "cos": np.cos,
}


def function_of(name, kind):
    return getattr(vmath_trigonometric if name in CIRCULAR else vmath, f"{name}_{kind}")


def chosen_points(kind):
    """Where ranges, exponents, or special treatment begin and end, with both neighbours of each."""
    dtype = TYPES[kind]
    info = np.finfo(dtype)
    points = [0.5, 1.0, 2.0, 3.0, 1e-4, np.sqrt(0.5), np.sqrt(2), np.sqrt(2) - 1, np.sqrt(0.5) - 1]
    points += [float(info.smallest_subnormal), float(info.tiny), float(info.eps), float(info.max)]
    points += [k * np.log(2) / 2 for k in (1, 2, 3, 4, 5, 99, 101)]
    points += [np.log(float(info.max)), -np.log(float(info.tiny))]
    points += [-np.log(float(info.smallest_subnormal)) + d for d in (-1.0, 0.0, 0.5, 0.69)]
    points += [2.0**-k for k in (1, 8, 13, 15, 16, 24, 25, 29, 30, 31, 52, 53, 60, 61)]
    points += [2.0**k - 1 for k in (3, 23, 24, 25, 52, 53, 54, 60, 61, 100)]
    points += [9.0, 9.01, 10.0, 17.3, 18.7, 19.06, 20.0, 36.7, 37.4, 40.0]
    points = np.array(points, dtype)
    points = np.concatenate([points, -points])
    with np.errstate(over="ignore"):
        neighbours = [np.nextafter(points, dtype(side)) for side in (-np.inf, np.inf)]
    return np.concatenate([points, *neighbours])


def around_the_limit(kind, count=300):
    """Up to where pi/2 in parts does, and beyond."""
    limit = vmath_trigonometric.LIMIT
    x = np.random.default_rng(2).uniform(0, 1.1 * limit, count).astype(TYPES[kind])
    limits = np.nextafter(TYPES[kind](limit), TYPES[kind]([0, limit, np.inf]))
    return np.concatenate([x, -x, limits, -limits])


def close_to_multiples(kind):
    """Floats of every exponent that are unusually close to multiples of pi/2.

    m 2**e is close to k pi/2 where k/m is a convergent, or nearly, of 2**e / (pi/2).
    """
    info = np.finfo(TYPES[kind])
    found = []
    with mpmath.workprec(1500):
        for exponent in [*range(-1, 20), *range(20, info.maxexp, info.maxexp // 12)]:
            scale = mpmath.ldexp(2 / mpmath.pi, exponent - info.nmant)
            found += [
                mpmath.ldexp(m, exponent - info.nmant)
                for m in denominators(scale, 2 ** (info.nmant + 1))
                if m >= 2**info.nmant
            ]
    x = np.array([float(value) for value in found], TYPES[kind])
    return np.concatenate([x, -x])


def denominators(x, bound):
    """Of the fractions below the bound that approximate x best, and of some in between."""
    before, last = 1, 0
    while True:
        whole = int(mpmath.floor(x))
        for step in range(max(whole - 3, 1), whole + 1):
            if last * step + before < bound:
                yield last * step + before
        before, last = last, last * whole + before
        if last >= bound:
            return
        x = 1 / (x - whole)


def sample(name, kind, count=1000):
    """Chosen points, and random ones: log-uniform over all floats and where it matters, uniform."""
    dtype = TYPES[kind]
    info = np.finfo(dtype)
    rng = np.random.default_rng([NAMES.index(name), info.bits])
    reach = REACH[kind]
    whole = np.exp2(rng.uniform(np.log2(float(info.smallest_subnormal)), info.maxexp - 1e-3, count))
    centre = np.exp2(rng.uniform(-12, np.log2(reach), count))
    x = np.concatenate([whole, centre]) * rng.choice([-1.0, 1.0], 2 * count)
    x = np.concatenate([x, rng.uniform(-reach, reach, count), rng.uniform(0.5, 2.0, count)])
    x = np.concatenate([x, rng.uniform(-2.0, 0.5, count)]).astype(dtype)
    x = np.concatenate([x, chosen_points(kind)])
    if name in CIRCULAR:
        x = np.concatenate([x, around_the_limit(kind), close_to_multiples(kind)])
    if name == "log":
        x = np.abs(x)
    if name == "log1p":
        x = np.where(x < -1, -x, x)
    lowest = {"log": 0.0, "log1p": -1.0}.get(name, -np.inf)
    return x[np.isfinite(x) & (x != 0) & (x > lowest)]


def worst(name, x, got):
    errors = ulp_errors(EXACT[name], x, got, BITS.get(name, 160))
    assert not np.isnan(errors).any()
    return errors.max()


loops, all_loops = loop_fixtures(NAMES, function_of)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_error_is_what_the_documentation_says(all_loops, name, kind):
    function = function_of(name, kind)
    documented = float(re.search(r"to (\d\.\d+) ulp", function.__doc__)[1])
    limit = documented if HAS_FMA else 2.0
    x = sample(name, kind)
    assert worst(name, x, run(all_loops[name, kind], x)) <= limit <= 2.0


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_plain_python_is_within_two_ulp_and_keeps_the_type(name, kind):
    x = sample(name, kind, count=200)
    results = apply(function_of(name, kind), x)
    assert {type(result) for result in results} == {TYPES[kind]}
    assert worst(name, x, np.array(results)) <= 2.0


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_loop_agrees_with_single_calls(loops, name, kind):
    x = np.append(sample(name, kind, count=100), TYPES[kind]([np.nan, np.inf, -np.inf, 0.0, -0.0]))
    single = np.array(apply(jitted_call(function_of(name, kind)), x), TYPES[kind])
    np.testing.assert_array_equal(run(loops[name, kind], x), single)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_results_do_not_depend_on_the_place(all_loops, name, kind):
    """Vectors, shorter vectors at the end, and single numbers come to the same."""
    x = sample(name, kind, count=40)
    single = [run(all_loops[name, kind], x[k : k + 1]) for k in range(x.size)]
    for first in (0, 1, 5, 11):
        np.testing.assert_array_equal(
            run(all_loops[name, kind], x[first:]), np.concatenate(single)[first:]
        )


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_special_values_are_those_of_numpy(all_loops, name, kind):
    dtype = TYPES[kind]
    info = np.finfo(dtype)
    tiny = info.smallest_subnormal
    values = [np.nan, np.inf, 0.0, 1.0, 2.0, tiny, info.tiny, info.max, 88.8, 103.0, 710.0, 745.0]
    x = np.array([sign * value for value in values for sign in (1, -1)], dtype)
    with np.errstate(all="ignore"):
        expected = NUMPY[name](x)
    for got in (
        run(all_loops[name, kind], x),
        np.array(apply(jitted_call(function_of(name, kind)), x), dtype),
        np.array(apply(function_of(name, kind), x), dtype),
    ):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
        special = np.isinf(expected) | (expected == 0) | np.isinf(x) | (x == 0)
        if name == "sigmoid":  # NumPy's exp(-x) overflows before the quotient underflows.
            special &= np.isinf(x) | (expected != 0)
        special &= ~np.isnan(expected)
        np.testing.assert_array_equal(
            got[special].view(f"u{info.bits // 8}"), expected[special].view(f"u{info.bits // 8}")
        )


@pytest.mark.skipif(not HAS_FMA, reason="needs a CPU with AVX2 and FMA")
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_loops_are_packed(loops, name, kind):
    run(loops[name, kind], TYPES[kind]([1.0]))
    (assembly,) = loops[name, kind].inspect_asm().values()
    assert PACKED[kind].search(assembly)


@pytest.mark.parametrize("kind", TYPES)
def test_processors_without_fused_products_find_the_same_exponential(kind):
    constants = {"f32": vmath.F32, "f64": vmath.F64}[kind]
    exp = function_of("exp", kind)
    x = np.linspace(constants.exp_min, np.log(np.finfo(TYPES[kind]).max), 5000, dtype=TYPES[kind])
    found = run(jitted_loop(on_processors(exp, kind, fuses=False)), x)
    assert np.any((found > 0) & (found < np.finfo(TYPES[kind]).tiny))
    np.testing.assert_array_equal(found, run(jitted_loop(on_processors(exp, kind, fuses=True)), x))


@pytest.mark.skipif(not HAS_FMA, reason="needs a CPU with AVX2 and FMA")
@pytest.mark.parametrize("kind", TYPES)
def test_sine_and_cosine_of_one_number_share_their_work(loops, kind):
    sin, cos = (function_of(name, kind) for name in CIRCULAR)

    @numba.njit(error_model="numpy", fastmath={"contract"})
    def both(x, out):
        for i in range(x.size):
            value = x[i]
            out[i] = sin(value) + cos(value)

    x = np.linspace(-9, 9, 1001, dtype=TYPES[kind])
    np.testing.assert_array_equal(
        run(both, x), run(loops["sin", kind], x) + run(loops["cos", kind], x)
    )
    products = []
    for loop in (both, loops["sin", kind], loops["cos", kind]):
        (assembly,) = loop.inspect_asm().values()
        products.append(len(PACKED[kind].findall(assembly)))
    assert products[0] < 0.75 * (products[1] + products[2])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", CIRCULAR)
def test_few_large_arguments_do_not_change_the_results_of_others(all_loops, name, kind):
    x = np.linspace(-50, 50, 1003, dtype=TYPES[kind])
    expected = run(all_loops[name, kind], x)
    large = np.array([0, 5, 17, 500, 1002])
    x[large] = [1e7, -3e30, np.inf, 2e5, -1e6]
    expected[large] = [function_of(name, kind)(value) for value in x[large]]
    np.testing.assert_array_equal(run(all_loops[name, kind], x), expected)


def test_gates_of_several_functions_are_packed_and_right():
    @numba.njit(error_model="numpy", fastmath={"contract"})
    def gate(x, y, out):
        for i in range(x.size):
            out[i] = vmath.tanh_f32(x[i]) * vmath.sigmoid_f32(y[i]) + vmath.softplus_f32(x[i])

    x = np.linspace(-9, 9, 1001, dtype=np.float32)
    y = x[::-1].copy()
    out = np.empty_like(x)
    gate(x, y, out)
    expected = np.tanh(x) / (1 + np.exp(-y)) + np.logaddexp(np.float32(0), x)
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)
    (assembly,) = gate.inspect_asm().values()
    assert not HAS_FMA or PACKED["f32"].search(assembly)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_check_of_accuracy_rejects_four_ulp(loops, name, kind):
    x = sample(name, kind, count=20)
    got = run(loops[name, kind], x)
    inside = np.isfinite(got) & (np.abs(got) < np.finfo(got.dtype).max / 2)
    x, got = x[inside], got[inside]
    assert worst(name, x, got) <= 2.0
    for i in (0, x.size // 2, x.size - 1):
        off = got.copy()
        off[i] += 4 * np.spacing(np.abs(off[i]))
        assert worst(name, x, off) > 2.0


def test_the_check_of_accuracy_measures_known_errors():
    one = np.ones(1, np.float32)
    e = np.float32(np.e)
    below, above = (
        ulp_errors(mpmath.exp, one, np.array([v])) for v in (e, np.nextafter(e, np.float32(9)))
    )
    assert below[0] < 0.5
    assert 0.5 < above[0] < 1.5
