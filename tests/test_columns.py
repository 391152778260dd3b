"""Sums over a short last axis read what is read again and again by columns."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.ops.linalg import transpose_copy
from graphc.ops.reduce import sum_by_columns


def pairs(x, y):
    """The differences of all rows of two matrices."""
    return gx.expand_dims(x, 1) - y


def squares(x, y):
    return gx.sum(pairs(x, y) ** 2, axis=-1)


def bells(x, y):
    return gx.sum(gx.exp(-0.5 * squares(x, y)))


def nearest(x, y):
    return gx.sum(gx.min(gx.sum(gx.abs(pairs(x, y)), axis=-1), axis=1))


def forces(x, y):
    return gx.sum(pairs(x, y) / (squares(x, y)[:, :, None] + 0.1) ** 1.5, axis=1)


def matrices(width, dtype=gx.float64):
    return gx.input("x", ("N", width), dtype), gx.input("y", ("K", width), dtype)


def ops_of(f):
    """The ops of a compiled function, outside its gates and in them."""
    for node in f._plan.stages["fused"].nodes():
        yield node.op
        if "body" in node.attrs:
            yield from (inner.op for inner in node.attrs["body"].nodes())


def reads_by_columns(inputs, outputs):
    return transpose_copy in ops_of(gx.compile(inputs, outputs, cache=False))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("width", [2, 3, 8, 16])
@pytest.mark.parametrize("function", [bells, nearest, forces])
def test_values_and_gradients(function, width, threads):
    rng = np.random.default_rng(width)
    x, y = matrices(width)
    loss = gx.sum(function(x, y))
    results = [function(x, y), *gx.grad(loss, [x, y])]
    f = gx.compile([x, y], results, cache=False, threads=threads)
    assert transpose_copy in ops_of(f)
    for rows, others in ((1, 1), (2, 3), (1, 40), (300, 1), (37, 65)):
        a, b = rng.normal(size=(rows, width)), rng.normal(size=(others, width))
        expected = gx.evaluate(results, {x: a, y: b})
        for found, wanted in zip(f(a, b), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_is_read_may_be_a_sum_over_any_axis(axis):
    rng = np.random.default_rng(axis)
    x, p = gx.input("x", ("N", 8)), gx.input("p", ("K", 8, "M") if axis == 2 else ("K", "K", 8))
    loss = bells(x, gx.sum(p, axis=axis))
    results = [loss, *gx.grad(loss, [x, p])]
    a = rng.normal(size=(20, 8)), 0.1 * rng.normal(size=(30, 8, 4) if axis == 2 else (9, 9, 8))
    found = gx.compile([x, p], results, cache=False)(*a)
    for one, other in zip(found, gx.evaluate(results, {x: a[0], p: a[1]}), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_read_may_be_joined_to_numbers(order):
    x, y = matrices(8)
    pieces = [y, gx.constant(np.zeros((2, 8)))][::order]
    results = gx.grad(bells(x, gx.concat(pieces, axis=0)), [x, y])
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 8)), rng.normal(size=(30, 8))
    found = gx.compile([x, y], results, cache=False)(a, b)
    for one, other in zip(found, gx.evaluate(results, {x: a, y: b}), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_sums_of_rows_are_kept_by_columns():
    x, y = matrices(8)
    loss = bells(x, y)
    assert sum_by_columns in ops_of(gx.compile([x, y], gx.grad(loss, y), cache=False))
    assert sum_by_columns not in ops_of(gx.compile([x, y], loss, cache=False))


def test_a_stack_of_matrices():
    rng = np.random.default_rng(0)
    x, y = gx.input("x", ("B", "N", 1, 3)), gx.input("y", ("B", "K", 3))
    loss = gx.sum(gx.sqrt(gx.sum((x - gx.expand_dims(y, 1)) ** 2, axis=-1) + 1))
    results = [loss, *gx.grad(loss, [x, y])]
    f = gx.compile([x, y], results, cache=False)
    assert sum_by_columns in ops_of(f)
    a, b = rng.normal(size=(2, 9, 1, 3)), rng.normal(size=(2, 5, 3))
    for found, wanted in zip(f(a, b), gx.evaluate(results, {x: a, y: b}), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_what_gains_nothing_is_read_as_it_lies():
    x, y = matrices(8)
    assert reads_by_columns([x, y], squares(x, y))
    wide = matrices(32)
    assert not reads_by_columns(wide, squares(*wide))
    single = matrices(1)
    assert not reads_by_columns(single, squares(*single))
    few = gx.input("x", ("N", 8)), gx.input("y", (4, 8))
    assert not reads_by_columns(few, squares(*few))
    once = gx.input("x", (4, "K", 8)), gx.input("y", ("K", 8))
    assert not reads_by_columns(once, gx.sum((once[0] - once[1]) ** 2, axis=-1))


def test_differences_that_are_a_result_are_written_in_order():
    x, y = matrices(8)
    assert not reads_by_columns([x, y], [squares(x, y), pairs(x, y)])


def test_names_and_lines_stay():
    x, y = matrices(3)
    distances = squares(x, y)
    text = gx.compile([x, y], distances, cache=False).dump()
    assert "%distances" in text
    assert "test_columns.py" in text
