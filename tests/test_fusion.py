"""Which gates a graph becomes, and what their generated code looks like."""

from __future__ import annotations

import re

import numpy as np
import pytest

import graphc as gx
from graphc.fuse.chunks import BLOCK
from graphc.fuse.group import LARGEST_GATE


def gates_of(f):
    return re.findall(r"^def (gate_\w+)", f.dump("source"), flags=re.M)


def check(inputs, outputs, arrays, gates):
    """Compiles, compares with the reference, and counts the gates."""
    f = gx.compile(inputs, outputs, cache=False)
    expected = gx.evaluate(outputs, dict(zip(inputs, arrays, strict=True)))
    for one, other in zip(f(*arrays), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    assert len(gates_of(f)) == gates, f.dump()
    return f


@pytest.fixture
def matrices():
    rng = np.random.default_rng(1)
    return [rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=4)]


def test_elementwise_chains_with_broadcasts_and_a_reduction_are_one_loop(matrices):
    x, row = gx.input("x", ("N", 3)), gx.input("row", (3,))
    y = gx.tanh(x * row + 1) ** 2
    f = check([x, row], [y, gx.sum(y), gx.sum(y, axis=1), gx.max(y, axis=0)], matrices[:2], 1)
    source = f.dump("source")
    # Maxima of columns: the loop runs in chunks.
    assert source.count("for i in range(first, last):") == source.count("for j in range(3):") == 1


def test_loops_over_contiguous_data_are_flat(matrices):
    x, y = gx.input("x", ("N", 3)), gx.input("y", ("N", 3))
    arrays = [matrices[0], matrices[0] + 1]
    f = check([x, y], [gx.sum(gx.square(x - y) * 0.5), x * y], arrays, 1)
    source = f.dump("source")
    # The sum over all elements is one of parts, so the loop goes over blocks.
    assert f"for start in range(0, 3*N, {BLOCK}):" in source
    assert f"for i in range(start, accumulate.minimum(start + {BLOCK}, 3*N)):" in source
    assert source.count("for ") == 2
    f = check([x, y], [x * y + 1], arrays, 1)
    assert "for i in range(3*N):" in f.dump("source")
    assert f.dump("source").count("for ") == 1


def test_a_value_that_needs_a_total_waits_for_it(matrices):
    x = gx.input("x", ("N", 3))
    check([x], [x - x.mean(axis=0)], matrices[:1], 2 + 1)
    check([x], [x / gx.sqrt(gx.sum(x * x))], matrices[:1], 2)


@pytest.mark.parametrize("total", [gx.sum, gx.max, gx.prod])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_total_of_another_gate_may_be_read_twice(total, axis, matrices):
    """It is an array there, with fewer axes than the loops that computed it."""
    x = gx.input("x", ("N", 3))
    s = total(x, axis=axis)
    outputs = [s, s * gx.tanh(s), s[::-1] * gx.exp(s[::-1]), x.T @ x]
    f = gx.compile([x], outputs, cache=False)
    for found, expected in zip(f(matrices[0]), gx.evaluate(outputs, {x: matrices[0]}), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_scalars_are_statements_of_the_driver():
    x, y = gx.input("x"), gx.input("y")
    check([x, y], [(x + gx.nn.sigmoid(y)) / (gx.nn.sigmoid(x) + (x + y) ** 2)], [3.0, -4.0], 0)


def test_index_maps_cost_no_loop_of_their_own(matrices):
    x, row = gx.input("x", ("N", 3)), gx.input("row", (3,))
    y = gx.concat([x[:, ::-1], x.T.T], axis=1) * gx.concat([row, row])
    check([x, row], [y + 1], matrices[:2], 1)


def test_unrelated_work_of_one_size_stays_apart(matrices):
    x, y = gx.input("x", (3,)), gx.input("y", (3,))
    check([x, y], [gx.exp(x), gx.sin(y)], [matrices[1], matrices[1]], 2)
    check([x, y], [gx.exp(x), gx.sin(x)], [matrices[1], matrices[1]], 1)


def test_a_cheap_value_is_computed_where_it_is_read(matrices):
    x, w, v = gx.input("x", ("N", 3)), gx.input("w", (3, 3)), gx.input("v", (3, 3))
    update = 0.9 * v - 0.1 * (x.T @ x)
    arrays = [matrices[0], np.eye(3), np.ones((3, 3))]
    f = check([x, w, v], [update, w + update], arrays, 1)
    # Two results, and a workspace for the product alone.
    assert f.dump("source").count("np.empty") == 3
    assert "workspace = np.empty(128, np.uint8)" in f.dump("source")


def test_a_gate_is_split_when_it_gets_too_long():
    x = gx.input("x", ("N",))
    y = x
    for _ in range(LARGEST_GATE):
        y = gx.maximum(y, 0.25) * 0.75
    f = gx.compile([x], y, cache=False)
    assert len(gates_of(f)) == 2
    array = np.linspace(-1, 1, 7)
    np.testing.assert_allclose(f(array), gx.evaluate(y, {x: array}))


def test_float32_stays_float32():
    x = gx.input("x", ("N",), gx.float32)
    f = gx.compile([x], gx.sum(2 * x + x.shape[0]) / 3, cache=False)
    types = f.jitted.nopython_signatures[0]
    assert "float64" not in str(types)
    assert "np.float32(2.0)" in f.dump("source")


def test_array_constants_live_in_the_module():
    x = gx.input("x", ("N", 70))
    table = np.random.default_rng(0).normal(size=(70, 5))
    small = np.array([1.5, -np.inf, np.nan, 0.1, -0.0])
    outputs = [x @ table, gx.where(gx.constant(small) > 0, small, x[0, :5]), gx.constant(small)]
    f = gx.compile([x], outputs, cache=False)
    array = np.ones((2, 70))
    for one, other in zip(f(array), gx.evaluate(outputs, {x: array}), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.int64, np.float32, np.float64])
def test_constants_of_every_dtype(dtype):
    x = gx.input("x", (3,), dtype)
    values = np.array([0, 1, 1]).astype(dtype)
    f = gx.compile(
        [x], [gx.where(x == values, x, gx.constant(values)), gx.constant(dtype(1))], cache=False
    )
    found = f(np.ones(3, dtype))
    np.testing.assert_array_equal(found[0], values)
    assert [a.dtype for a in found] == [dtype, dtype]


def test_large_constants_are_not_written_out():
    x = gx.input("x", (200,))
    table = np.random.default_rng(0).normal(size=(2000, 200))
    f = gx.compile([x], gx.sum(gx.square(table @ x)), name="large")
    assert len(f.dump("source")) < 4000
    array = np.ones(200)
    np.testing.assert_allclose(f(array), np.sum((table @ array) ** 2))


def test_long_chains_and_doublings_of_index_maps():
    x = gx.input("x", ("N",))
    y = x
    for _ in range(300):
        y = y[::-1][1:]
    z = x[:2]
    for _ in range(8):
        z = gx.concat([z, z + 0 if z.shape[0] == 2 else z])
    f = gx.compile([x], [y * 1.5, z * 2], cache=False)
    array = np.arange(305.0)
    expected = array
    for _ in range(300):
        expected = expected[::-1][1:]
    found = f(array)
    np.testing.assert_array_equal(found[0], expected * 1.5)
    np.testing.assert_array_equal(found[1], np.tile(array[:2], 256) * 2)


def test_many_scalars_stacked():
    x = gx.input("x", ("N",))
    parts = gx.stack([x[k] * k for k in range(40)])
    f = gx.compile([x], [parts, gx.grad(gx.sum(parts**2), x)], cache=False)
    array = np.arange(50.0)
    weights = np.arange(50.0) * (np.arange(50) < 40)
    found, slope = f(array)
    np.testing.assert_array_equal(found, (array * weights)[:40])
    np.testing.assert_array_equal(slope, 2 * array * weights**2)


def test_elements_of_a_stored_value_of_half_a_size_have_names_of_their_own():
    x = gx.input("x", ("N", "M"))
    e = gx.exp(x[:, ::2])
    outputs = [e, gx.sqrt(e - gx.sum(e, axis=1, keepdims=True) + 300.0) * e]
    array = np.random.default_rng(0).normal(size=(7, 9))
    found = gx.compile([x], outputs, cache=False)(array)
    for one, other in zip(found, gx.evaluate(outputs, {x: array}), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
