"""Short rows are vectorised along their own axis, `rolled` is a range, and long loops are interleaved."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest
from llvmlite import ir
from test_assembly import functions_of, library_of, pytestmark  # noqa: F401

import graphc as gx
from graphc.runtime.loops import COPIES, hints, is_short, rolled
from graphc.runtime.loops import SIZE as OPERATIONS

SIZE = ir.IntType(64)
GATHERS = r"\bv(?:gather\w+|movhp[ds]|insertps|unpckl?ps)\s"


def row_sums(width, dtype):
    x = gx.input("x", ("N", width), dtype)
    return gx.compile([x], gx.sum(x * x, axis=1), cache=False)


def text_of(f):
    return "\n".join(functions_of(f).values())


def test_is_a_range():
    assert list(rolled(3)) == [0, 1, 2]
    assert list(rolled(0)) == []


@pytest.mark.parametrize(("width", "dtype"), [(16, gx.float64), (50, gx.float64), (32, gx.float32)])
def test_rows_are_read_in_vectors(width, dtype):
    f = row_sums(width, dtype)
    assert f"loops.rolled({width})" in f.dump("source")
    assert not re.search(GATHERS, text_of(f))


def test_rows_of_a_few_numbers_are_read_together():
    """Then the loop over the rows is vectorised."""
    f = row_sums(3, gx.float64)
    assert "rolled" not in f.dump("source")
    assert "zmm" in text_of(f) or "ymm" in text_of(f)


def test_long_rows_and_rows_of_any_length_are_ranges():
    for width in (1000, "M"):
        assert "rolled" not in row_sums(width, gx.float64).dump("source")


def test_strides_are_left_to_the_loop_around():
    x, y = gx.input("x", ("N", 16)), gx.input("y", ("K", 16))
    f = gx.compile([x, y], gx.sum(gx.abs(gx.expand_dims(x, 1) - y), axis=-1), cache=False)
    assert "rolled" not in f.dump("source")


@pytest.mark.parametrize("dtype", [gx.float32, gx.float64])
def test_totals_in_memory_stay_in_registers(dtype):
    lanes = 64 // np.dtype(dtype).itemsize
    for width, stays in ((lanes, True), (lanes - 2, False), (16, True), (3 * lanes + 1, True)):
        x = gx.input("x", ("N", width), dtype)
        f = gx.compile([x], gx.sum(x, axis=0), cache=False)
        assert ("rolled" in f.dump("source")) is stays


@pytest.mark.parametrize("width", [1, 2, 7, 8, 9, 15, 16, 17, 50, 127, 128, 129])
def test_values_at_every_width(width):
    x = gx.input("x", ("N", width))
    results = [
        gx.sum(x * x, axis=1),
        gx.sum(x, axis=0),
        gx.nn.softmax(x, axis=1),
        gx.max(x, axis=1),
        gx.argmax(x, axis=1),
    ]
    f = gx.compile([x], results, cache=False)
    for rows in (0, 1, 3, 70):
        a = np.random.default_rng(rows).normal(size=(rows, width))
        for found, wanted in zip(f(a), gx.evaluate(results, {x: a}), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-14)


def vectors_at_a_time(f):
    """How many vectors an iteration of the first vectorised loop computes."""
    text = library_of(f).get_llvm_str()
    step = re.search(r"%index\.next\S* = add nuw i64 %index, (\d+)", text)
    width = re.search(r"fmul contract <(\d+) x", text)
    return int(step[1]) // int(width[1])


@pytest.mark.parametrize("dtype", [gx.float32, gx.float64])
def test_loops_compute_several_vectors_at_a_time(dtype):
    x = gx.input("x", ("N",), dtype)
    y = x
    for _ in range(8):
        y = gx.tanh(y) + x
    long = gx.compile([x], y, cache=False)
    assert vectors_at_a_time(gx.compile([x], gx.tanh(x), cache=False)) == 4
    assert vectors_at_a_time(long) == 2
    for n in (1, 7, 15, 16, 31, 33, 100):
        a = np.linspace(-3, 3, n).astype(dtype)
        wanted = gx.evaluate(y, {x: a})
        np.testing.assert_allclose(long(a), wanted, rtol=20 * np.finfo(dtype).eps)


def test_a_loop_in_which_nothing_is_left_to_compute():
    x = gx.input("x", ("N", "M", 3))
    s, r = gx.stack([x, x, x], 1), gx.reshape(x, -1)
    loss = gx.sum(s * (s * 0.5 + 0.9)) + gx.sum(r * (r * 0.5 + 1.1))
    results = [s, r, gx.grad(loss, x)]
    a = np.random.default_rng(0).normal(size=(4, 5, 3))
    found = gx.compile([x], results, cache=False)(a)
    for one, other in zip(found, gx.evaluate(results, {x: a}), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)


def hint(length, count):
    module = ir.Module()
    found = hints(module, False, count, length)
    return found and int(re.search(r"interleave.count\", i32 (\d+)", str(module))[1])


def test_vectors_side_by_side_by_the_length_of_a_loop():
    unknown = ir.Argument(ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), []), "f"), SIZE)
    assert hint(5, unknown) is None
    assert hint(100, unknown) == 4
    assert hint(1000, unknown) == 2
    assert hint(100, ir.Constant(SIZE, 1000)) == 4
    assert hint(100, ir.Constant(SIZE, 100)) is None


@pytest.mark.parametrize("dtype", [gx.float32, gx.float64])
def test_vectors_on_the_stack_do_not_cross_cache_lines(dtype):
    x, y = gx.input("x", ("N",), dtype), gx.input("y", ("N",), dtype)
    v = gx.special.erfc(x) * gx.tanh(y) + gx.special.log_erfc(x * y) + gx.nn.sigmoid(y - x)
    text = text_of(gx.compile([x, y], v, cache=False))
    stored = re.findall(r"vmov(u|a)p[sd]\s+%[yz]mm\d+, -?\d*\(%rsp\)", text)
    assert stored
    assert set(stored) == {"a"}


@pytest.mark.parametrize("dtype", [gx.float32, gx.float64])
def test_where_the_smallest_is_is_found_in_vectors_and_read_there(dtype):
    """The place is an index afterwards, of which nothing may be asked that LLVM answers inside the loop."""
    x, w = gx.input("x", ("N", "K"), dtype), gx.input("w", ("K",), dtype)
    smallest = gx.min(x, axis=1)
    results = [smallest, w[gx.argmin(x, axis=1)]]
    f = gx.compile([x, w], results, cache=False)
    assert re.search(r"@llvm\.smin\.v\d+i64", str(library_of(f)._final_module))
    a = np.random.default_rng(0).normal(size=(5, 37)).astype(dtype)
    b = np.arange(37).astype(dtype)
    np.testing.assert_array_equal(f(a, b)[1], b[a.argmin(axis=1)])


@pytest.mark.parametrize("dtype", [gx.float32, gx.float64])
@pytest.mark.parametrize("features", [5, 8, 16])
def test_gradients_of_distances_are_computed_in_vectors_of_neighbours(features, dtype):
    """Loops over features are written out before LLVM looks for what is the same for all neighbours."""
    x, y = gx.input("x", ("N", features), dtype), gx.input("y", ("K", features), dtype)
    distances = gx.sum(gx.abs(gx.expand_dims(x, 1) - y), axis=-1)
    gradients = gx.grad(gx.sum(gx.exp(-distances)), [x, y])
    f = gx.compile([x, y], gradients, cache=False)
    assert re.search(r"= fsub contract <\d+ x (float|double)>", str(library_of(f)._final_module))
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(n, features)).astype(dtype) for n in (7, 37)]
    for found, node in zip(f(*values), gradients, strict=True):
        expected = gx.evaluate(node, {x: values[0], y: values[1]})
        np.testing.assert_allclose(found, expected, 64 * np.finfo(dtype).eps, 1e-6)


def parts_of(text):
    return list(ast.walk(ast.parse(text)))


def test_loops_of_few_short_iterations_are_written_out():
    body = parts_of("out[i] = x[i] + 1")
    assert is_short(body, COPIES)
    assert not is_short(body, COPIES + 1)
    assert not is_short(parts_of("x = " + " + ".join("y" * OPERATIONS)), 2)


@pytest.mark.parametrize("text", ["for j in range(2): out[j] = 0", "x = y if z else 0"])
def test_loops_with_loops_or_branches_are_not_written_out(text):
    assert not is_short(parts_of(text), 2)
