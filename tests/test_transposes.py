"""Matrices that a loop would read across their rows are transposed in memory first."""

from __future__ import annotations

import numpy as np
import pytest
from jitted import either
from test_assembly import packed, pytestmark  # noqa: F401
from test_columns import ops_of

import graphc as gx
from graphc.ops.linalg import transpose_copy
from graphc.runtime import kernels


def copies(inputs, outputs):
    return list(ops_of(gx.compile(inputs, outputs, cache=False))).count(transpose_copy)


@either
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_])
def test_kernel(dtype, compiled):
    run = compiled(lambda x, out, c, r, n: kernels.transpose(x, out, c, r, n))
    sizes = ((1, 1, 1), (2, 3, 5), (1, 8, 8), (1, 16, 33), (3, 40, 17), (2, 7, 20), (2, 0, 4))
    for count, rows, columns in sizes:
        x = np.random.default_rng(rows).integers(0, 100, (count, rows, columns)) % 90
        x = (x % 2 if dtype == np.bool_ else x).astype(dtype)
        out = np.ones((count, columns, rows), dtype)
        run(x.reshape(-1), out.reshape(-1), count, rows, columns)
        np.testing.assert_array_equal(out, x.swapaxes(1, 2))


def test_a_loop_over_a_transpose_is_vectorised():
    x = gx.input("x", ("N", "N"))
    f = gx.compile([x], gx.tanh(x + x.T), cache=False)
    assert transpose_copy in ops_of(f)
    assert packed(f, "div")["div"]


def test_values():
    x, y = gx.input("x", ("B", "N", "M")), gx.input("y", ("B", "M", "N"))
    back = gx.swapaxes(x, 1, 2)
    results = [
        gx.exp(back - y),
        back,
        back * back,
        gx.sum(back * y, axis=2),
        gx.grad(gx.sum(y * back * back), x),
    ]
    f = gx.compile([x, y], results, cache=False)
    for sizes in ((1, 1, 1), (2, 3, 20), (3, 17, 16), (0, 3, 4), (2, 0, 4)):
        rng = np.random.default_rng(sum(sizes))
        a, b = rng.normal(size=sizes), rng.normal(size=(sizes[0], sizes[2], sizes[1]))
        for found, wanted in zip(f(a, b), gx.evaluate(results, {x: a, y: b}), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-13)


def test_a_transposed_result_is_one_copy():
    x = gx.input("x", ("N", "M"))
    assert copies([x], [x.T]) == 1
    first, second = gx.compile([x], [x.T, x.T], cache=False)(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(first, second)
    assert not np.shares_memory(first, second)


def test_the_transpose_of_a_product_is_a_product():
    z, w = gx.input("z", ("N", 20)), gx.input("w", (20, 20))
    results = [(w @ z.T).T + z @ w]
    assert copies([z, w], results) == 0
    assert copies([z, w], [*results, gx.sum(gx.exp(w @ z.T), axis=0)]) > 0
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(300, 20)), rng.normal(size=(20, 20))
    (found,) = gx.compile([z, w], results, cache=False)(a, b)
    np.testing.assert_allclose(found, (b @ a.T).T + a @ b, rtol=1e-12, atol=1e-12)


def test_what_needs_no_copy():
    x, y = gx.input("x", ("N", "M")), gx.input("y", ("M",))
    assert copies([x, y], gx.exp(x) + y) == 0
    small = gx.input("x", (30, 30))
    assert copies([small], small + small.T) == 0
    assert copies([x, y], x.T @ gx.expand_dims(gx.sum(x, axis=1), 1)) == 0
