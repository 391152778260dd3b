"""Reads at shifted places: what is computed there instead of stored, and loops without conditions inside."""

from __future__ import annotations

import re

import numpy as np
import pytest
from helpers import run_source

import graphc as gx
from graphc.compile import declared_graph, run_pipeline
from graphc.fuse.chunks import BLOCK
from graphc.fuse.displaced import MOST
from graphc.fuse.memory import plan_memory


def fused(inputs, outputs):
    return run_pipeline(declared_graph(inputs, outputs, "f"))["fused"]


def arrays_between(inputs, outputs):
    """The ops of the arrays that gates leave to later gates, or keep for their own later loops."""
    plan = plan_memory(fused(inputs, outputs))
    return [p.value.op.name for p in plan.placements if p.value.shape]


@pytest.fixture
def x():
    return gx.input("x", ("N",))


# Programs.


def with_gradients(inputs, loss):
    return inputs, [loss, *gx.grad(loss, inputs)]


def differences(dtype):
    x = gx.input("x", ("N",), dtype)
    u = x * x
    return with_gradients([x], gx.sum((u[1:] - u[:-1]) ** 2))


def valley(dtype):
    x = gx.input("x", ("N",), dtype)
    return with_gradients([x], gx.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def windows(x, w):
    count = x.shape[0] - w.shape[0] + 1
    terms = [w[k] * x[k : count + k] for k in range(w.shape[0])]
    return sum(terms[1:], terms[0])


def convolution(dtype):
    x, w = gx.input("x", ("N",), dtype), gx.input("w", (5,), dtype)
    y = windows(x, w)
    return with_gradients([x, w], gx.sum(gx.tanh(y) * y))


def padded(dtype):
    x = gx.input("x", ("N",), dtype)
    zero = gx.constant(np.zeros(1, np.dtype(dtype)))
    p = gx.concat([zero, x, zero])
    return with_gradients([x], gx.sum((p[2:] - 2 * p[1:-1] + p[:-2]) ** 2))


def diffusion(dtype):
    x = gx.input("x", ("N",), dtype)
    v = x
    for _ in range(3):
        v = gx.concat([v[:1], v[1:-1] + 0.1 * (v[2:] - 2 * v[1:-1] + v[:-2]), v[-1:]])
    inputs, outputs = with_gradients([x], gx.sum(v * v))
    return inputs, [*outputs, v]


def steps(dtype):
    x = gx.input("x", ("N",), dtype)
    y = 3 * x + 1
    return with_gradients([x], gx.sum(y[1::2] ** 3) + gx.sum(y[::-1] * x) + 5 * y[0] - y[-1])


def grid(dtype):
    u = gx.input("x", ("N", "M"), dtype)
    inner = u[1:-1, 1:-1]
    around = u[1:-1, 2:] + u[1:-1, :-2] + u[2:, 1:-1] + u[:-2, 1:-1]
    # Of terms of one sign, so that rounding is small beside their sum.
    return with_gradients([u], gx.sum((around - 4 * inner) ** 2 * (9 + inner)))


PROGRAMS = [differences, valley, convolution, padded, diffusion, steps, grid]
SHORTEST = {convolution: 5, diffusion: 2, grid: 2, padded: 0}
LENGTHS = (*range(9), 15, 16, 17, 31, 33, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 2, 2 * BLOCK + 3)


def arguments(inputs, n, rng):
    lengths = {"N": n, "M": n % 37 + 2}
    shapes = [tuple(lengths.get(str(s), s) for s in x.shape) for x in inputs]
    return [rng.normal(size=shape).astype(x.dtype) for shape, x in zip(shapes, inputs, strict=True)]


@pytest.mark.parametrize("dtype", [gx.float32, gx.float64], ids=str)
@pytest.mark.parametrize("program", PROGRAMS)
def test_results_are_the_references_at_every_length(program, dtype):
    inputs, outputs = program(dtype)
    f = gx.compile(inputs, outputs, cache=False)
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        if n < SHORTEST.get(program, 1):
            continue
        arrays = arguments(inputs, n, rng)
        expected = gx.evaluate(outputs, dict(zip(inputs, arrays, strict=True)))
        for found, wanted in zip(f(*arrays), expected, strict=True):
            scale = np.abs(wanted).max(initial=1) * 64 * np.finfo(found.dtype).eps
            np.testing.assert_allclose(found, wanted, rtol=0, atol=scale)


@pytest.mark.parametrize("program", PROGRAMS)
def test_nothing_is_read_outside_an_array(program):
    """NumPy raises beyond the end, and what lies before the start is not the value."""
    inputs, outputs = program(gx.float64)
    graph = fused(inputs, outputs)
    rng = np.random.default_rng(1)
    for n in range(SHORTEST.get(program, 1), 24):
        arrays = arguments(inputs, n, rng)
        expected = gx.evaluate(outputs, dict(zip(inputs, arrays, strict=True)))
        for found, wanted in zip(run_source(graph, arrays), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("program", PROGRAMS)
def test_any_number_of_threads_gives_the_same_bits(program):
    inputs, outputs = program(gx.float64)
    one, two = (gx.compile(inputs, outputs, threads=n, cache=False) for n in (1, 2))
    arrays = arguments(inputs, 40_000, np.random.default_rng(2))
    for first, second in zip(one(*arrays), two(*arrays), strict=True):
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("program", PROGRAMS)
def test_gradients_are_those_of_differences(program):
    inputs, (loss, *_) = program(gx.float64)
    n = 6
    values = dict(zip(inputs, arguments(inputs, n, np.random.default_rng(3)), strict=True))
    assert gx.check_grad(loss, inputs, values) < 1e-6


# What is stored.


@pytest.mark.parametrize("program", [differences, valley])
def test_gradients_of_differences_need_no_array(program):
    assert arrays_between(*program(gx.float64)) == []


def test_the_gradient_of_a_convolution_reads_the_one_array_that_its_terms_share():
    inputs, (loss, dx, _) = convolution(gx.float64)
    assert len(arrays_between(inputs, [loss, dx])) == 1


def neighbours(y):
    return y[1:] * y[:-1]


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (lambda x: x + 1, 0),
        (lambda x: abs(abs(x + 1) - 2), 0),
        (lambda x: gx.exp(x), 1),
        # Twice so many are more than may be computed again.
        (lambda x: abs(abs(x + 1) - 2) * abs(x - 3), 1),
        # Another rounding would be another choice.
        (lambda x: gx.where(x + 1 > 0, x, 2 * x), 1),
        (lambda x: gx.floor(x + 0.1), 1),
    ],
    ids=["one operation", "four", "an expensive one", "many", "a choice", "a step"],
)
def test_cheap_values_are_computed_where_they_are_read(value, count, x):
    assert len(arrays_between([x], [neighbours(value(x))])) == count


def test_the_limit_is_for_all_readers(x):
    y = x + 1
    few = [y[k : x.shape[0] - MOST + k] for k in range(MOST)]
    many = [y[k : x.shape[0] - MOST - 1 + k] for k in range(MOST + 1)]
    assert arrays_between([x], [gx.sum(gx.sin(sum(few[1:], few[0])))]) == []
    assert arrays_between([x], [gx.sum(gx.sin(sum(many[1:], many[0])))]) == ["add"]


def test_what_is_an_array_anyway_is_read():
    x, w = gx.input("x", ("N", 4)), gx.input("w", (4, 4))
    y = x + 1
    for outputs in ([y, y[1:] * y[:-1]], [y @ w, y[1:] * y[:-1]]):
        (gate,) = [
            node.attrs["body"]
            for node in fused([x, w], outputs).nodes()
            if "body" in node.attrs
            and any(n.op.name == "multiply" for n in node.attrs["body"].nodes())
        ]
        adds = [n for n in gate.nodes() if n.op.name == "add" and n not in gate.inputs]
        assert adds == []


# Rounding.


@pytest.mark.parametrize(
    "value",
    [
        lambda x: x * x,
        lambda x: x * x * 0.3 + x,
        lambda x: 0.7 * x,
        lambda x: (x + 0.1) * (x - 0.3),
    ],
)
def test_the_difference_of_equal_values_at_two_places_is_zero(value, x):
    y = value(x)
    change = y[1:] - y[:-1]
    results = [change, gx.grad(gx.sum(abs(change)), x)]
    f = gx.compile([x], results, cache=False)
    for number in np.random.default_rng(4).normal(size=20):
        for found in f(np.full(100, number)):
            assert (found == 0).all()


def test_the_difference_to_the_value_at_its_own_place_is_zero_too(x):
    y = x * x * 0.3
    shifted = gx.concat([y[1:], y[:1]]) - y
    f = gx.compile([x], shifted, cache=False)
    for number in np.random.default_rng(5).normal(size=20):
        assert (f(np.full(100, number)) == 0).all()


# Loops in parts.


def interiors(source):
    """The bodies of the loops over the interior of a range, also of those in one another."""
    found = re.findall(
        r"^( *)for \w+ in range\(low\d*, high\d*\):\n((?:\1    .*\n)+)", source, re.M
    )
    inner = [each for _, body in found for each in interiors(body)]
    return [body for _, body in found] + inner


@pytest.mark.parametrize("program", [valley, convolution, padded, diffusion, grid])
def test_the_interior_of_a_range_has_no_conditions(program):
    inputs, outputs = program(gx.float64)
    bodies = interiors(gx.compile(inputs, outputs, cache=False).dump("source"))
    innermost = [body for body in bodies if "for " not in body]
    assert innermost
    for body in innermost:
        assert not re.search(r"\bif\b|select", body)


@pytest.mark.parametrize(
    ("outputs", "count"),
    [
        (lambda x: [gx.concat([x[:3], x])], 1),
        # Where the parts meet in the middle, or the range is short, there is nothing to gain.
        (lambda x: [gx.concat([x, x])], 0),
        (lambda x: [x[1:] + x[:-1]], 0),
        (lambda x: [gx.concat([x[:3], x])[:12]], 0),
    ],
)
def test_ranges_are_cut_near_their_ends(outputs, count, x):
    assert len(interiors(gx.compile([x], outputs(x), cache=False).dump("source"))) == count
