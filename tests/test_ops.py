"""Every op of the registry: type rule, reference, generated code, derivatives, and stated facts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pytest
from helpers import (
    FLOAT_DTYPES,
    HARD_FLOATS,
    compiled,
    differs,
    floats_among,
    gradient_mismatch,
    gradients,
    inputs_for,
    largest,
    reference_values,
    run_plain,
    same_bits,
    smooth_arrays,
    ulp_distance,
    value_arrays,
    weights_like,
)

import graphc as gx
from graphc import autodiff, nn
from graphc.compile import run_pipeline
from graphc.facts import FORBIDDEN, FusedCode, Leaf, NonDifferentiable, Sample, ScalarCode
from graphc.ir import REGISTRY, Graph, Op, filled
from graphc.ops import elementwise as ew
from graphc.ops import index as index_ops
from graphc.ops import linalg
from graphc.types import ALL_DTYPES, is_float

WITHOUT_SAMPLES = {"input", "constant", "size", "held", "composite", "fused", "item"}
LARGEST_CHUNK = 25
ULPS = 2
NO_SIGN_OF_ZERO = {"maximum", "minimum", "relu"}


@dataclass(frozen=True)
class Case:
    """One op, one of its samples, one dtype."""

    op: Op
    position: int
    dtype: np.dtype

    @property
    def sample(self) -> Sample:
        return self.op.samples[self.position]

    @property
    def is_differentiable(self) -> bool:
        has_rule = not isinstance(self.op.vjp, NonDifferentiable | FORBIDDEN)
        # A cast rounds, which no numerical derivative survives: it has a test of its own.
        return has_rule and is_float(self.dtype) and self.op is not ew.cast

    def __str__(self) -> str:
        return f"{self.op.name}-{self.position}-{self.dtype.name}"


CASES = [
    Case(op, position, dtype)
    for op in list(REGISTRY.values())
    for dtype in op.dtypes
    for position in range(len(op.samples))
]
DIFFERENTIABLE = [case for case in CASES if case.is_differentiable]


def by_name(cases):
    return pytest.mark.parametrize("case", cases, ids=str)


def chunks(cases):
    """Cases of one dtype, few enough to be compiled together."""
    found = []
    for dtype in ALL_DTYPES:
        same = [case for case in cases if case.dtype == dtype]
        found += [same[i : i + LARGEST_CHUNK] for i in range(0, len(same), LARGEST_CHUNK)]
    return found


def by_chunk(cases):
    return pytest.mark.parametrize(
        "cases", chunks(cases), ids=lambda chunk: f"{chunk[0]}..{chunk[-1]}"
    )


def test_every_op_has_samples():
    assert {name for name, op in REGISTRY.items() if not op.samples} == WITHOUT_SAMPLES
    for name in WITHOUT_SAMPLES:
        assert isinstance(REGISTRY[name].lowering, Leaf | FusedCode)


# Values.


def arguments_and_outputs(cases):
    """For all cases: their arrays, their input nodes, their output."""
    arrays = [value_arrays(case.op, case.sample, case.dtype) for case in cases]
    inputs = [inputs_for(values, f"x{k}_") for k, values in enumerate(arrays)]
    outputs = [
        case.op(*nodes, **case.sample.attrs) for case, nodes in zip(cases, inputs, strict=True)
    ]
    return arrays, inputs, outputs


def value_differs(case, arrays, found, wanted):
    """Empty if the values agree as the op's kind demands."""
    if not isinstance(case.op.lowering, ScalarCode) or not is_float(wanted.dtype):
        return differs(found, wanted, scale=largest(*arrays))
    problem = differs(found, wanted, rtol=np.inf)
    if problem:
        return problem
    unequal = ulp_distance(found, wanted) > ULPS
    if case.op.name not in NO_SIGN_OF_ZERO:
        unequal |= (wanted == 0) & (np.signbit(found) != np.signbit(wanted))
    at = [array[unequal] for array in arrays]
    return f"{found[unequal]} instead of {wanted[unequal]} at {at}" if unequal.any() else ""


@by_name(CASES)
def test_type_rule_agrees_with_reference(case):
    arrays = value_arrays(case.op, case.sample, case.dtype)
    node = case.op(*inputs_for(arrays), **case.sample.attrs)
    result = np.asarray(case.op.reference(*arrays, **case.sample.attrs))
    assert (node.dtype, node.shape) == (result.dtype, result.shape)


def value_problems(cases):
    """What differs from the reference when all cases are compiled together, a line each."""
    arrays, inputs, outputs = arguments_and_outputs(cases)
    flat_inputs, flat_arrays = list(chain(*inputs)), list(chain(*arrays))
    wanted = reference_values(outputs, flat_inputs, flat_arrays)
    plain = run_plain(outputs, flat_inputs, flat_arrays)
    jitted = compiled(outputs, flat_inputs)(*flat_arrays)
    problems = []
    for k, case in enumerate(cases):
        for way, found in (("by Python", plain[k]), ("jitted", jitted[k])):
            problem = value_differs(case, arrays[k], found, wanted[k])
            problems += [f"{case} {way}: {problem}"] if problem else []
    return problems


@by_chunk(CASES)
def test_generated_code_by_python_and_jitted(cases):
    problems = value_problems(cases)
    assert not problems, "\n".join(problems)


# Derivatives.


@by_name([case for case in DIFFERENTIABLE if case.dtype == np.float64])
@pytest.mark.parametrize("order", [1, 2])
def test_gradient_against_central_differences(case, order):
    for arrays in smooth_arrays(case.op, case.sample, case.dtype):
        inputs = inputs_for(arrays)
        outputs = [case.op(*inputs, **case.sample.attrs)]
        if order == 2:
            outputs = gradients(outputs, [inputs[k] for k in floats_among(inputs)], 7)
        assert not gradient_mismatch(outputs, inputs, arrays)


def gradients_of_case(case, arrays, prefix):
    """The inputs and the gradient nodes of one case."""
    inputs = inputs_for(arrays, prefix)
    output = case.op(*inputs, **case.sample.attrs)
    return inputs, gradients([output], [inputs[k] for k in floats_among(inputs)], 3)


@by_chunk([case for case in DIFFERENTIABLE if case.dtype == np.float32])
def test_float32_gradient_compiled(cases):
    flat_inputs, flat_arrays, flat_outputs, wanted = [], [], [], []
    for k, case in enumerate(cases):
        arrays = smooth_arrays(case.op, case.sample, case.dtype)[-1]
        inputs, outputs = gradients_of_case(case, arrays, f"x{k}_")
        wide_arrays = [a.astype(np.float64) if is_float(a.dtype) else a for a in arrays]
        wide_inputs, wide = gradients_of_case(case, wide_arrays, "x")
        wanted.append(reference_values(wide, wide_inputs, wide_arrays))
        flat_inputs += inputs
        flat_arrays += arrays
        flat_outputs += outputs
    found = iter(compiled(flat_outputs, flat_inputs)(*flat_arrays))
    problems = []
    for case, expected in zip(cases, wanted, strict=True):
        for k, (wide, narrow) in enumerate(zip(expected, found, strict=False)):
            problem = differs(np.float64(narrow), wide, scale=largest(*expected), rtol=1e-4)
            problems += [f"{case} argument {k}: {problem}"] if problem else []
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_gradient_of_cast(dtype):
    x, arrays = gx.input("x", (3,)), [np.array([0.25, -1.5, 2.0])]
    wide = ew.cast(ew.cast(x.node, dtype=dtype), dtype=x.dtype)
    found = reference_values(gradients([wide], [x.node], 0), [x.node], arrays)[0]
    weights = weights_like(wide, 0).attrs["value"].array
    expected = weights.astype(dtype) if is_float(dtype) else np.zeros(3)
    np.testing.assert_array_equal(found, expected)


def takes_floats(op):
    return bool(op.samples) and bool(op.samples[0].shapes) and np.dtype(np.float64) in op.dtypes


@pytest.mark.parametrize(
    "name",
    [n for n, op in REGISTRY.items() if isinstance(op.vjp, NonDifferentiable) and takes_floats(op)],
)
def test_piecewise_constant_op_has_zero_gradient(name):
    op = REGISTRY[name]
    arrays = value_arrays(op, op.samples[0], np.dtype(np.float64))
    inputs = inputs_for(arrays)
    output = op(*inputs, **op.samples[0].attrs)
    output = output if is_float(output.dtype) else ew.cast(output, dtype=np.dtype(np.float64))
    for gradient, node in zip(gradients([output], inputs, 0), inputs, strict=True):
        assert gradient.type == node.type
        assert not np.any(reference_values([gradient], inputs, arrays)[0])


def test_forbidden_derivative_raises():
    x = gx.input("x", (2, 3))
    internal = REGISTRY["max_or_lowest"](x.node, axes=(1,))
    gate = run_pipeline(Graph("f", (x.node,), (gx.exp(x).node,)))["fused"].outputs[0]
    forbidden = {name for name, op in REGISTRY.items() if isinstance(op.vjp, FORBIDDEN)}
    assert forbidden == {"max_or_lowest", "fused", "composite", "item"}
    for node in (internal, gate):
        with pytest.raises(gx.GradientError, match="has no derivative"):
            autodiff.backward(node, [x.node], filled(node, 1))


# Facts.


def hard_values(dtype):
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        return np.array([0, 1, -1, 2, -7, limits.min, limits.max], dtype)
    limits = np.finfo(dtype)
    edges = (limits.smallest_subnormal, -limits.smallest_subnormal, limits.tiny, limits.max)
    return np.array([*HARD_FLOATS, *edges], dtype)


def stated_facts(dtype):
    """(label, op, arguments, expected result) of each unit and absorbing element for ``dtype``."""
    values = hard_values(dtype)
    for op in REGISTRY.values():
        if dtype not in op.dtypes:
            continue
        for fact in ("left_unit", "right_unit", "left_absorbing", "right_absorbing"):
            element = getattr(op, fact)(dtype)
            if element is None:
                continue
            constant = np.full_like(values, element)
            arguments = (constant, values) if fact.startswith("left") else (values, constant)
            yield f"{op.name} {fact}", op, arguments, values if "unit" in fact else constant


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_units_and_absorbing_elements_hold_bit_by_bit(dtype):
    facts = list(stated_facts(dtype))
    inputs = [inputs_for(arguments, f"x{k}_") for k, (_, _, arguments, _) in enumerate(facts)]
    outputs = [op(*nodes) for (_, op, _, _), nodes in zip(facts, inputs, strict=True)]
    arrays = [array for _, _, arguments, _ in facts for array in arguments]
    jitted = compiled(outputs, list(chain(*inputs)))(*arrays)
    wrong = [
        label
        for (label, op, arguments, expected), found in zip(facts, jitted, strict=True)
        if not same_bits(np.asarray(op.reference(*arguments)), expected)
        or not same_bits(found, expected)
    ]
    assert facts
    assert not wrong


COMMUTATIVE = [(op, dtype) for op in REGISTRY.values() if op.commutative for dtype in op.dtypes]


@pytest.mark.parametrize(("op", "dtype"), COMMUTATIVE, ids=lambda value: str(value))
def test_commutative_op_commutes_bit_by_bit(op, dtype):
    x, y = map(np.ravel, np.meshgrid(hard_values(dtype), hard_values(dtype)))
    assert same_bits(op.reference(x, y), op.reference(y, x))


@pytest.mark.parametrize(("op", "dtype"), COMMUTATIVE, ids=lambda value: str(value))
def test_commutative_op_has_canonical_order(op, dtype):
    x, y = inputs_for([np.zeros(3, dtype)] * 2)
    one = filled(x, 1)
    assert op(x, y) is op(y, x)
    assert op(one, x) is op(x, one)
    assert op(one, x).args == (x, one)


# Where the gradient goes.


def gradient_at(build, *arrays):
    """The gradient of ``sum(build(...))`` by every float array; compiled it is the same."""
    tensors = [gx.input(f"x{i}", np.shape(a), np.asarray(a).dtype) for i, a in enumerate(arrays)]
    found = gx.grad(gx.sum(build(*tensors)), [t for t in tensors if is_float(t.dtype)])
    by_reference = gx.evaluate(found, dict(zip(tensors, arrays, strict=True)))
    by_code = gx.compile(tensors, found, cache=False)(*arrays)
    for a, b in zip(by_reference, by_code, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    return by_reference if len(by_reference) > 1 else by_reference[0]


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize("op", [gx.maximum, gx.minimum])
def test_tie_routes_to_the_first_operand(op):
    x = np.array([1.0, 0.0, -0.0, NAN, NAN])
    y = np.array([1.0, -0.0, 0.0, NAN, 1.0])
    dx, dy = gradient_at(op, x, y)
    np.testing.assert_array_equal(dx, np.ones(5))
    np.testing.assert_array_equal(dy, np.zeros(5))


@pytest.mark.parametrize("op", [gx.maximum, gx.minimum])
def test_nan_in_the_second_operand_takes_the_gradient(op):
    dx, dy = gradient_at(op, np.array([1.0]), np.array([NAN]))
    assert (dx, dy) == (0.0, 1.0)


def test_relu_at_zero_has_no_gradient():
    found = gradient_at(nn.relu, np.array([-1.0, -0.0, 0.0, 2.0]))
    np.testing.assert_array_equal(found, [0.0, 0.0, 0.0, 1.0])


@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2), (1, 2)])
@pytest.mark.parametrize("op", [gx.max, gx.min])
def test_reduction_routes_to_the_first_that_attains_it(op, axis):
    x = np.random.default_rng(0).integers(0, 2, (2, 3, 4)).astype(np.float64)
    axes = tuple(range(3)) if axis is None else np.atleast_1d(axis)
    kept = [a for a in range(3) if a not in axes]
    expected = np.zeros_like(x)
    for place in np.ndindex(*(x.shape[a] for a in kept)):
        chosen = [slice(None)] * 3
        for a, i in zip(kept, place, strict=True):
            chosen[a] = i
        part = x[tuple(chosen)]
        first = np.argmax(part) if op is gx.max else np.argmin(part)
        expected[tuple(chosen)][np.unravel_index(first, part.shape)] = 1.0
    np.testing.assert_array_equal(gradient_at(lambda t: op(t, axis), x), expected)


@pytest.mark.parametrize("op", [gx.max, gx.min])
def test_reduction_routes_to_the_first_nan(op):
    x = np.array([[1.0, NAN, 5.0, NAN], [2.0, 3.0, 3.0, 2.0]])
    expected = np.zeros((2, 4))
    expected[0, 1] = expected[1, 1 if op is gx.max else 0] = 1.0
    np.testing.assert_array_equal(gradient_at(lambda t: op(t, 1), x), expected)


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_gradient_of_prod_at_zeros(zeros, axis):
    x = np.random.default_rng(1).uniform(0.5, 2, (2, 4))
    x.ravel()[[0, 1, 4][:zeros]] = 0.0
    t = gx.input("t", x.shape)
    product = gx.prod(t, axis)
    first = gx.grad(gx.sum(product * (1 + product)), t)
    weights = np.random.default_rng(2).uniform(0.5, 1.5, x.shape)
    for output in (product, first):
        assert not gradient_mismatch([output.node], [t.node], [x])
    second = gx.grad(gx.sum(first * weights), t)
    values = gx.evaluate([first, second], {t: x})
    assert np.all(np.isfinite(values))
    for found, wanted in zip(gx.compile([t], [first, second], cache=False)(x), values, strict=True):
        assert not differs(found, wanted, scale=1.0)


@pytest.mark.parametrize(
    ("build", "at", "expected"),
    [
        (lambda x: gx.where(x > 0, gx.log(x), 0), [0.0, 2.0, -1.0], [0.0, 0.5, 0.0]),
        (lambda x: gx.sqrt(gx.sum(x * x)) * 0, [0.0, 0.0], [0.0, 0.0]),
        (lambda x: gx.where(x > 0, x**0.5, 0), [0.0, 4.0, -1.0], [0.0, 0.25, 0.0]),
        (lambda x: gx.where(x > 0, gx.sqrt(x), 0), [0.0, 4.0, -1.0], [0.0, 0.25, 0.0]),
        (lambda x: gx.where(x < 1, gx.exp(x), x), [0.0, 1000.0], [1.0, 1.0]),
        (lambda x: gx.where(x < 1, gx.expm1(x), x), [0.0, 1000.0], [1.0, 1.0]),
        (lambda x: gx.where(x > 0, 1 / x, 0), [0.0, 2.0], [0.0, -0.25]),
        (lambda x: gx.where(x > -1, gx.log1p(x), 0), [-1.0, 1.0], [0.0, 0.5]),
        (lambda x: gx.where(x != 0, gx.reciprocal(x), 0), [0.0, 2.0], [0.0, -0.25]),
        (lambda x: gx.where(x > 0, gx.logsumexp(gx.stack([x, -x]), 0), x), [0.0], [1.0]),
    ],
)
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_gradient_is_finite_beside_a_branch_not_taken(build, at, expected, dtype):
    found = gradient_at(build, np.array(at, dtype))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_gradient_of_a_norm_at_zero():
    def norm(x):
        return gx.sqrt(gx.sum(x * x))

    np.testing.assert_array_equal(gradient_at(norm, np.zeros(3)), np.zeros(3))
    np.testing.assert_allclose(gradient_at(norm, np.array([3.0, 4.0])), [0.6, 0.8])


# Gathering.


@pytest.mark.parametrize("index", [3, -4, 1000, -(2**62)])
@pytest.mark.parametrize("name", ["take", "pick", "scatter_add", "take_scalar"])
def test_index_out_of_range_raises(name, index):
    x, y = gx.input("x", (2, 3)), gx.input("y", (2,), gx.int64)
    s = gx.input("s", (), gx.int64)
    built = {
        "take": gx.take(x, y, axis=1),
        "pick": gx.Tensor(index_ops.pick(x.node, y.node)),
        "scatter_add": gx.Tensor(index_ops.scatter_add(y.node, x[:, 0].node, axis=0, size=3)),
        "take_scalar": gx.take(x, s, axis=1),
    }[name]
    values = {x: np.ones((2, 3)), y: np.array([0, index]), s: np.array(index)}
    with pytest.raises(gx.GraphIndexError):
        gx.evaluate(built, values)
    function = gx.compile([x, y, s], built, cache=False)
    with pytest.raises(gx.GraphIndexError):
        function(*values.values())
    function(values[x], np.array([0, -3]), 0)


@pytest.mark.parametrize("axis", [0, 1])
def test_repeated_index_accumulates(axis):
    x = np.arange(12.0).reshape(3, 4)
    index = np.array([[0, 2, -1], [0, 0, -3]])
    found = gradient_at(lambda t, i: gx.take(t, i, axis), x, index)
    expected = np.zeros_like(x)
    np.add.at(np.moveaxis(expected, axis, 0), index.ravel(), 1.0)
    np.testing.assert_array_equal(found, expected)


def test_pick_gradient_lands_on_the_chosen():
    found = gradient_at(
        lambda t, i: gx.Tensor(index_ops.pick(t.node, i.node)),
        np.ones((3, 2)),
        np.array([1, 0, -1]),
    )
    np.testing.assert_array_equal(found, [[0, 1], [1, 0], [0, 1]])


# Nothing to compute on.


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_reductions_over_an_empty_axis(dtype):
    x = gx.input("x", ("N", 2), dtype)
    outputs = [gx.sum(x, 0), gx.prod(x, 0), gx.mean(x, 0), gx.logsumexp(x, 0)]
    outputs += [nn.softmax(x, 0), nn.log_softmax(x, 0), gx.all(x > 0, 0), gx.any(x > 0, 0)]
    empty = np.empty((0, 2), dtype)
    expected = [[0, 0], [1, 1], [NAN, NAN], [-INF, -INF], empty, empty, [1, 1], [0, 0]]
    for found in (gx.evaluate(outputs, {x: empty}), gx.compile([x], outputs, cache=False)(empty)):
        for value, wanted, output in zip(found, expected, outputs, strict=True):
            assert value.dtype == output.dtype
            np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize("op", [gx.max, gx.min, gx.argmax, gx.argmin])
def test_extreme_of_an_empty_axis_raises(op):
    x = gx.input("x", ("N", 2))
    result = op(x, 0)
    empty = np.empty((0, 2))
    with pytest.raises(gx.GraphValueError, match="empty axis"):
        gx.evaluate(result, {x: empty})
    with pytest.raises(gx.GraphValueError, match="empty axis"):
        gx.compile([x], result, cache=False)(empty)
    with pytest.raises(gx.GraphValueError, match="empty axis"):
        op(gx.input("y", (0, 2)), 0)


def test_empty_arrays_through_elementwise_ops():
    x, n = gx.input("x", ("N", 3)), gx.input("n", (0,), gx.int32)
    outputs = [gx.exp(x) + 1, gx.where(x > 0, x, 2.0), gx.sum(gx.tanh(x), 1), gx.sum(x * x), n * n]
    outputs += [gx.transpose(x), gx.concat([x, x]), gx.reshape(x, -1)]
    arrays = {x: np.empty((0, 3)), n: np.empty(0, np.int32)}
    wanted = gx.evaluate(outputs, arrays)
    found = gx.compile([x, n], outputs, cache=False)(*arrays.values())
    assert [v.shape for v in found] == [(0, 3), (0, 3), (0,), (), (0,), (3, 0), (0, 3), (0,)]
    assert all(same_bits(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("dtype", [*FLOAT_DTYPES, np.dtype(np.int64)], ids=str)
@pytest.mark.parametrize("sizes", list(itertools.product([0, 2], repeat=3)), ids=str)
def test_matmul_with_sizes_of_zero(sizes, dtype):
    m, k, n = sizes
    a, b = np.ones((m, k), dtype), np.ones((k, n), dtype)
    for transpose_a, transpose_b in itertools.product([False, True], repeat=2):
        arrays = [a.T.copy() if transpose_a else a, b.T.copy() if transpose_b else b]
        nodes = inputs_for(arrays)
        product = linalg.matmul(*nodes, transpose_a=transpose_a, transpose_b=transpose_b)
        for found in (
            reference_values([product], nodes, arrays)[0],
            run_plain([product], nodes, arrays)[0],
        ):
            np.testing.assert_array_equal(found, np.full((m, n), k, dtype))


@pytest.mark.parametrize("dtype", [*FLOAT_DTYPES, np.dtype(np.int64)], ids=str)
def test_batched_matmul_with_sizes_of_zero(dtype):
    a, b = gx.input("a", ("B", "M", "K"), dtype), gx.input("b", ("B", "K", "N"), dtype)
    c, d = gx.input("c", ("M", "K"), dtype), gx.input("d", ("K", "N"), dtype)
    f = gx.compile([a, b, c, d], [a @ b, c @ d], cache=False)
    for batch, m, k, n in itertools.product([0, 2], repeat=4):
        shapes = (batch, m, k), (batch, k, n), (m, k), (k, n)
        batched, flat = f(*(np.ones(s, dtype) for s in shapes))
        np.testing.assert_array_equal(batched, np.full((batch, m, n), k, dtype))
        np.testing.assert_array_equal(flat, np.full((m, n), k, dtype))
