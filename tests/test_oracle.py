"""The multi-precision oracle: every op against its NumPy reference, cancellations, distances in ulps."""

import math

import mpmath
import numpy as np
import oracle
import pytest
import scipy.special
from helpers import (
    differs,
    floats_among,
    gradients,
    inputs_for,
    largest,
    reference_values,
    smooth_arrays,
    value_arrays,
)
from mpmath import mp, mpf
from oracle import exact_values, ulps
from test_ops import CASES, by_name

import graphc as gx
from graphc import autodiff, nn
from graphc.facts import NONDIFFERENTIABLE, Domain, ScalarCode
from graphc.ir import REGISTRY, Graph, filled
from graphc.ops import elementwise as ew
from graphc.types import ALL_DTYPES, is_float

LEAVES = {"held", "input", "constant", "size"}
WITHOUT_ORACLE = {"composite", "fused", "item"}
COVERED = [case for case in CASES if case.op.name not in WITHOUT_ORACLE]
# NumPy's own error in an elementary function.
REFERENCE_ULPS = 4


def exact(outputs, inputs, arrays, **options):
    return exact_values(Graph("g", tuple(inputs), tuple(outputs)), arrays, **options)


def value_of(tensor, values, **options):
    """The true value of one tensor, given arrays for its inputs."""
    inputs = [x.node for x in values]
    return exact([tensor.node], inputs, [np.asarray(v) for v in values.values()], **options)[0]


def relative_error(found, wanted):
    """The largest error of an array of numbers, relative to numbers that are known."""
    with mpmath.workprec(4000):
        pairs = zip(np.ravel(found), np.ravel(np.asarray(wanted, object)), strict=True)
        return np.max([float(abs(mp.convert(a) / mp.convert(b) - 1)) for a, b in pairs])


# Every op.


def test_ops_without_an_oracle_are_listed():
    assert set(REGISTRY) - {case.op.name for case in COVERED} == LEAVES | WITHOUT_ORACLE


def mismatch(op, arrays, found, wanted):
    """Empty if the true value is the reference's but for the rounding of an op; else what differs."""
    if not is_float(wanted.dtype):
        return "" if np.array_equal(found, wanted) else f"{found} instead of {wanted}"
    if isinstance(op.lowering, ScalarCode):
        wrong = ulps(wanted, found) > REFERENCE_ULPS
        at = [array[wrong] for array in arrays]
        return f"{found[wrong]} instead of {wanted[wrong]} at {at}" if wrong.any() else ""
    rtol = 1e-12 if wanted.dtype == np.float64 else 1e-6
    return differs(found.astype(wanted.dtype), wanted, scale=largest(*arrays), rtol=rtol)


@by_name(COVERED)
def test_true_values_are_those_of_the_reference(case):
    arrays = value_arrays(case.op, case.sample, case.dtype)
    inputs = inputs_for(arrays)
    outputs = [case.op(*inputs, **case.sample.attrs)]
    found = exact(outputs, inputs, arrays)[0]
    wanted = reference_values(outputs, inputs, arrays)[0]
    assert found.shape == wanted.shape
    assert not mismatch(case.op, arrays, found, wanted)


@pytest.mark.parametrize("order", [1, 2])
def test_true_gradients_are_those_of_the_reference(order):
    problems = []
    for case in (case for case in COVERED if case.is_differentiable and case.dtype == np.float64):
        arrays = smooth_arrays(case.op, case.sample, case.dtype)[-1]
        inputs = inputs_for(arrays)
        outputs = [case.op(*inputs, **case.sample.attrs)]
        for _ in range(order):
            outputs = gradients(outputs, [inputs[k] for k in floats_among(inputs)], 1)
        wanted = reference_values(outputs, inputs, arrays)
        for a, b in zip(exact(outputs, inputs, arrays), wanted, strict=True):
            problem = differs(a.astype(np.float64), b, scale=largest(*arrays))
            problems += [f"{case}: {problem}"] if problem else []
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", ["add", "exp", "maximum", "floor_divide", "sum"])
def test_a_wrong_function_is_noticed(name):
    op = REGISTRY[name]
    arrays = value_arrays(op, op.samples[0], np.dtype(np.float64))
    wanted = np.asarray(op.reference(*arrays, **op.samples[0].attrs))
    with np.errstate(all="ignore"):
        wrong = oracle.numbers(np.where(np.isfinite(wanted), wanted * (1 + 1e-11), wanted))
        right = oracle.numbers(wanted)
    assert mismatch(op, arrays, wrong, wanted)
    assert not mismatch(op, arrays, right, wanted)


@pytest.mark.parametrize("name", ["erf", "erfc", "erfcx", "log_erfc"])
def test_error_functions_against_scipy(name):
    x = np.array([-3.0, -0.5, 0.0, 1e-20, 0.7, 4.0, np.inf, -np.inf, np.nan, 1e200, -1e200])
    x = x if name in ("erf", "erfc") else np.append(x, [100.0, 1e30])
    at_half = scipy.special.log_ndtr(-x * np.sqrt(2)) + np.log(2)
    wanted = at_half if name == "log_erfc" else getattr(scipy.special, name)(x)
    with mpmath.workprec(1000), np.errstate(all="ignore"):
        found = np.frompyfunc(oracle._real(oracle.FUNCTIONS[name]), 1, 1)(oracle.numbers(x))
    # SciPy's logarithm is of half the function, and cancels near 0.
    atol = 1e-15 if name == "log_erfc" else 0
    np.testing.assert_allclose(found.astype(np.float64), wanted, rtol=1e-13, atol=atol)


EDGES = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, np.inf, -np.inf, np.nan, 1e300, -1e-300])


@pytest.mark.parametrize(
    "name",
    ["add", "multiply", "divide", "power", "maximum", "minimum", "remainder", "floor_divide"],
)
def test_two_operands_at_the_edges(name):
    x, y = (values.ravel() for values in np.meshgrid(EDGES, EDGES))
    nodes = inputs_for([x, y])
    output = REGISTRY[name](*nodes)
    found = exact([output], nodes, [x, y])[0]
    wanted = reference_values([output], nodes, [x, y])[0]
    assert not mismatch(output.op, [x, y], found, wanted)


def test_sign_of_zero_reaches_a_division():
    x = gx.input("x", (12,))
    signed = [x, -x, x * 3, x / 2, gx.sqrt(x), gx.tanh(x), x + x, gx.reshape(x, (12,)), 1 / (1 / x)]
    for tensor in signed:
        found = value_of(1 / tensor, {x: EDGES})
        assert np.all(ulps(gx.evaluate(1 / tensor, {x: EDGES}), found) <= REFERENCE_ULPS)


def test_unknown_op_of_floats_is_an_error():
    x = gx.input("x", (2,))
    stranger = ew.elementwise(
        "stranger",
        dtypes=ew.FLOATS,
        reference=np.exp,
        code="{0}",
        vjp=NONDIFFERENTIABLE,
        samples=(Domain(0, 1),),
    )
    try:
        with pytest.raises(NotImplementedError, match="does not know stranger"):
            exact([stranger(x.node)], [x.node], [np.ones(2)])
    finally:
        del REGISTRY["stranger"]


def test_sizes_are_bound_and_inputs_are_exact():
    x = gx.input("x", ("N", 2), gx.float32)
    array = np.array([[0.1, 1e30], [0.1, -1e30], [0.1, 1.0]], np.float32)
    found = value_of(gx.mean(x, 0), {x: array})
    with mpmath.workprec(200):
        wanted = [mpf(float(np.float32(0.1))), mpf(1) / 3]
    assert relative_error(found, wanted) < 1e-50


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_casts_of_results_that_no_float_holds(dtype):
    x = gx.input("x", ())
    found = value_of(gx.astype(gx.exp(x), dtype), {x: -1000.0})
    if is_float(dtype):
        assert relative_error(found, mp.exp(-1000)) < 1e-15
    else:
        assert found.dtype == dtype
        assert found == (dtype == np.bool_)


# Cancellation: what floats lose is there, in values and in gradients.


def sech_squared(x):
    return 1 / mp.cosh(x) ** 2


CANCELLATIONS = {
    "log(1 + x)": (lambda x: gx.log(1 + x), 1e-20, mp.log1p, lambda x: 1 / (1 + x)),
    "exp(x) - 1": (lambda x: gx.exp(x) - 1, 1e-20, mp.expm1, mp.exp),
    "(exp(x) - 1) / x": (
        lambda x: (gx.exp(x) - 1) / x,
        1e-20,
        lambda x: mp.expm1(x) / x,
        lambda x: (x * mp.exp(x) - mp.expm1(x)) / x**2,
    ),
    "1 - sigmoid(x)": (
        lambda x: 1 - nn.sigmoid(x),
        40.0,
        lambda x: 1 / (1 + mp.exp(x)),
        lambda x: -mp.exp(x) / (1 + mp.exp(x)) ** 2,
    ),
    "1 - tanh(x)**2": (
        lambda x: 1 - gx.tanh(x) ** 2,
        20.0,
        sech_squared,
        lambda x: -2 * mp.tanh(x) * sech_squared(x),
    ),
    "log(exp(x) + 1)": (
        lambda x: gx.log(gx.exp(x) + 1),
        1000.0,
        lambda x: x + mp.log1p(mp.exp(-x)),
        lambda x: 1 / (1 + mp.exp(-x)),
    ),
}


@pytest.mark.parametrize("name", CANCELLATIONS)
def test_cancellation(name):
    build, at, true_value, true_slope = CANCELLATIONS[name]
    x = gx.input("x", ())
    y = build(x)
    with mpmath.workprec(4000):
        value, slope = true_value(mpf(at)), true_slope(mpf(at))
    plain_slope = gx.Tensor(autodiff.backward(y.node, [x.node], filled(y.node, 1))[0])
    for tensor, wanted in ((y, value), (plain_slope, slope), (gx.grad(y, x), slope)):
        assert relative_error(value_of(tensor, {x: at}), wanted) < 1e-40
    # Floats lose all of it.
    assert ulps(gx.evaluate(y, {x: at}), np.asarray(value, object)) > 1e6


def test_logarithm_of_a_sum_of_large_exponentials():
    x = gx.input("x", (3,))
    at = np.array([1000.0, 1000.5, -1000.0])
    y = gx.log(gx.sum(gx.exp(x)))
    with mpmath.workprec(4000):
        shares = [mp.exp(mpf(v) - 1000) for v in at]
        value, slopes = 1000 + mp.log(sum(shares)), [share / sum(shares) for share in shares]
    plain_slope = gx.Tensor(autodiff.backward(y.node, [x.node], filled(y.node, 1))[0])
    assert relative_error(value_of(y, {x: at}), value) < 1e-40
    for gradient in (plain_slope, gx.grad(y, x), gx.grad(gx.logsumexp(x), x)):
        assert relative_error(value_of(gradient, {x: at}), slopes) < 1e-40
    assert np.isinf(ulps(gx.evaluate(y, {x: at}), np.asarray(value, object)))


def test_default_precision_suffices_for_a_square_of_a_small_exponential():
    x = gx.input("x", ())
    with mpmath.workprec(100):
        wanted = sech_squared(mpf(1000))
    y = 1 - gx.tanh(x) ** 2
    assert relative_error(value_of(y, {x: 1000.0}), wanted) < 1e-25
    assert value_of(y, {x: 1000.0}, bits=2500) == 0


# Distances.

F32, F64 = np.float32, np.float64
TINY, LARGEST = F64(5e-324), np.finfo(F64).max
NAN, INF = mpf("nan"), mpf("inf")


@pytest.mark.parametrize(
    ("found", "true_value", "distance"),
    [
        (F64(1), mpf(1), 0),
        (np.nextafter(F64(1), F64(2)), mpf(1), 1),
        (np.nextafter(F64(1), F64(0)), mpf(1), 0.5),
        (np.nextafter(F32(1), F32(2)), mpf(1), 1),
        (F32(-3), mpf(-3) + mpf(2) ** -24, 0.25),
        # Half way to the float below 1 the nearest float is 1.
        (F64(1), mp.fsub(1, mpf(2) ** -54, exact=True), 0.25),
        (F64(2), mpf(1), 2**52),
        (F64(-1), mpf(1), 2**53),
        (F64(0), mpf(0), 0),
        (F64(-0.0), mpf(0), 0),
        (TINY, mpf(0), 1),
        (F64(0), 1.5 * mpf(5e-324), 1.5),
        (F64(0), mpf("1e-400"), float(mpf("1e-400") / mpf(5e-324))),
        (np.finfo(F64).tiny, mpf(5e-324), 2**52 - 1),
        (F32(0), mpf(2) ** -149, 1),
        (F64(INF), INF, 0),
        (F64(-INF), -INF, 0),
        (F64(-INF), INF, math.inf),
        (F64(np.nan), NAN, 0),
        (F64(np.nan), mpf(1), math.inf),
        (F64(np.nan), INF, math.inf),
        (F64(1), NAN, math.inf),
        (F64(INF), NAN, math.inf),
        (F64(INF), mpf(1), math.inf),
        (F64(INF), mpf(float(LARGEST)), math.inf),
        (F64(1), INF, math.inf),
        (LARGEST, INF, math.inf),
        (F64(INF), mpf("1e400"), 0),
        (F64(-INF), mpf("-1e400"), 0),
        (F64(-INF), mpf("1e400"), math.inf),
        (F64(INF), mpf(2) ** 1024, 0),
        (LARGEST, mpf(2) ** 1024, 1),
        (F32(INF), mpf(2) ** 128, 0),
        (F32(INF), mpf(2) ** 127, math.inf),
    ],
)
def test_distance_in_ulps(found, true_value, distance):
    assert ulps(np.asarray(found), np.asarray(true_value, object)) == distance


@pytest.mark.parametrize("dtype", [F32, F64])
def test_distance_counts_the_floats_between(dtype):
    bits = np.dtype(f"i{np.dtype(dtype).itemsize}")
    scales = np.ldexp(np.ones(60, dtype), np.resize([-100, -10, 0, 10, 100], 60))
    x = np.random.default_rng(0).uniform(1.1, 1.9, 60).astype(dtype) * scales
    x = np.append(x, np.finfo(dtype).smallest_subnormal * np.array([1, 7, 1000], dtype))
    steps = np.resize(np.array([0, 1, 3, 1000], bits), x.size)
    moved = (x.view(bits) + steps).view(dtype)
    np.testing.assert_array_equal(ulps(moved, oracle.numbers(x)), steps)


def test_distance_needs_equal_shapes():
    with pytest.raises(ValueError, match="shapes differ"):
        ulps(np.ones(2), np.asarray(mpf(1), object))


def test_distance_does_not_depend_on_the_precision_around_it():
    with mpmath.workprec(300):
        true_value = mpf(1) + mpf(2) ** -60
    for bits in (10, 53, 300):
        with mpmath.workprec(bits):
            distance = ulps(np.array([1.0]), np.array([true_value]))
        assert distance == 2.0**-8
