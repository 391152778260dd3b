"""Matrices that a loop would read across their rows are transposed in memory first."""

from __future__ import annotations

import numpy as np
import pytest
from jitted import either
from test_assembly import packed, pytestmark  # noqa: F401
from test_columns import ops_of

import graphc as gx
from graphc.ops.linalg import transpose_copy
from graphc.ops.shape import permute_dims
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


def contrastive(x, labels):
    """The mean cross-entropy of the rows, and of the columns, as both sides of a contrastive loss."""
    losses = gx.nn.softmax_cross_entropy(x, labels), gx.nn.softmax_cross_entropy(x.T, labels)
    return gx.mean(losses[0]) + gx.mean(losses[1])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [gx.float32, gx.float64])
def test_losses_over_rows_and_over_columns_transpose_nothing(dtype, threads):
    x, labels = gx.input("x", ("N", "N"), dtype), gx.input("labels", ("N",), gx.int64)
    loss = contrastive(x, labels)
    results = [loss, gx.grad(loss, x)]
    f = gx.compile([x, labels], results, cache=False, threads=threads)
    assert transpose_copy not in ops_of(f)
    for size in (1, 2, 40, 150):
        rng = np.random.default_rng(size)
        a = rng.normal(size=(size, size), scale=5).astype(dtype.name)
        chosen = rng.integers(0, size, size)
        wanted = gx.evaluate(results, {x: a, labels: chosen})
        for found, expected in zip(f(a, chosen), wanted, strict=True):
            rtol = 100 * np.finfo(a.dtype).eps
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol / size)


@pytest.mark.parametrize("total", [gx.sum, gx.max, gx.prod])
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_reductions_of_permuted_axes_read_the_array_itself(order, axes, total):
    x = gx.input("x", ("N", "M", 3))
    result = total(gx.permute_dims(x, order), axis=axes)
    f = gx.compile([x], result, cache=False)
    values = np.random.default_rng(0).normal(size=(4, 5, 3))
    np.testing.assert_allclose(f(values), gx.evaluate(result, {x: values}), rtol=1e-13)
    permuted = [node for node in inner_nodes(f) if node.op is permute_dims]
    assert all(len(node.shape) < 3 for node in permuted)


def inner_nodes(f):
    for node in f._plan.stages["fused"].nodes():
        yield from node.attrs["body"].nodes() if "body" in node.attrs else (node,)


def test_an_element_of_a_transposed_row_is_computed_from_elements():
    x, places = gx.input("x", ("N", "M")), gx.input("places", ("M",), gx.int64)
    picked = gx.take_along_axis(gx.exp(x * 2 + 1).T, places[:, None], axis=1)[:, 0]
    f = gx.compile([x, places], picked, cache=False)
    assert "M*N" not in f.dump("memory")
    a, chosen = np.random.default_rng(0).normal(size=(4, 6)), np.array([0, 3, -1, 2, 1, -4])
    np.testing.assert_allclose(f(a, chosen), np.exp(a * 2 + 1)[chosen, range(6)], rtol=1e-14)
