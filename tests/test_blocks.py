"""Products in blocks of the result: the same bits for any number of threads, and the values of NumPy."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

import graphc as gx
from graphc.runtime import blas, blocks, forms, pool

jit = numba.njit(error_model="numpy", nogil=True)

FLOATS = (np.float32, np.float64)
FLAGS = tuple(itertools.product((False, True), repeat=2))
MARGIN = 64

# Around the edges of tiles, of blocks of several tiles, and of blocks of terms; by rows and by columns.
SIZES = (
    (5, 9, 7),
    (33, 600, 32),
    (35, 513, 67),
    (130, 1025, 100),
    (257, 260, 129),
    (20, 700, 515),
    (1003, 37, 40),
    (9, 300, 1000),
    (67, 1100, 1),
    (1, 700, 900),
)


def multiplied(threads):
    """A product by so many threads."""
    if threads == 1:
        return jit(lambda a, b, o, s, t, m, k, n: blas.matmul(a, b, o, s, t, m, k, n))
    if threads == 2:
        return jit(lambda a, b, o, s, t, m, k, n: blas.matmul(a, b, o, s, t, m, k, n, 2))
    return jit(lambda a, b, o, s, t, m, k, n: blas.matmul(a, b, o, s, t, m, k, n, 3))


@pytest.fixture(scope="module")
def products():
    """Products by 1, 2 and 3 threads, which are there."""
    pool.prepare(3)
    return [multiplied(threads) for threads in (1, 2, 3)]


def operands(sizes, flags, dtype, *leading):
    rows, inner, columns = sizes
    rng = np.random.default_rng(0)
    shapes = (
        (inner, rows) if flags[0] else (rows, inner),
        (columns, inner) if flags[1] else (inner, columns),
    )
    a, b = (rng.normal(size=(*leading, *shape)).astype(dtype) for shape in shapes)
    return a, b


def plain(x, transposed):
    return np.swapaxes(x, -1, -2) if transposed else x


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("sizes", SIZES)
def test_any_number_of_threads_gives_the_same_bits(products, sizes, flags, dtype):
    rows, inner, columns = sizes
    a, b = operands(sizes, flags, dtype)
    inside = slice(MARGIN, MARGIN + rows * columns)
    found = []
    for product in products:
        memory = np.full(rows * columns + 2 * MARGIN, np.nan, dtype)
        product(a.ravel(), b.ravel(), memory[inside], *flags, *sizes)
        assert np.isnan(memory[: inside.start]).all()
        assert np.isnan(memory[inside.stop :]).all()
        found.append(memory[inside].reshape(rows, columns))
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
    first, second = (plain(x, t).astype(np.longdouble) for x, t in zip((a, b), flags, strict=True))
    bound = inner * np.finfo(dtype).eps * (abs(first) @ abs(second))
    assert (abs(found[0] - first @ second) <= bound).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("flags", FLAGS)
def test_an_element_has_the_same_bits_in_a_part_of_the_product(products, flags, dtype):
    # Whatever tiles and blocks it lies in: what makes the number of threads not matter.
    sizes = rows, inner, columns = 200, 700, 192
    a, b = operands(sizes, flags, dtype)
    whole, part = np.empty((rows, columns), dtype), np.empty((rows - 71, columns - 64), dtype)
    products[1](a.ravel(), b.ravel(), whole.reshape(-1), *flags, *sizes)
    less_a = np.ascontiguousarray(a[:, 71:] if flags[0] else a[71:])
    less_b = np.ascontiguousarray(b[64:] if flags[1] else b[:, 64:])
    products[0](
        less_a.ravel(), less_b.ravel(), part.reshape(-1), *flags, rows - 71, inner, columns - 64
    )
    if forms.has_wide_registers():
        assert whole[71:, 64:].tobytes() == part.tobytes()
    np.testing.assert_allclose(part, whole[71:, 64:], rtol=0, atol=1e-2)


def test_the_sizes_here_are_cut_into_blocks():
    # Else the tests above would compare one thread with itself.
    large = [m * k * n >= 4 * blocks.LEAST_WORK for m, k, n in SIZES]
    assert sum(large) >= len(SIZES) // 2


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("count", [0, 1, 3, 8, 25])
def test_stacks_of_products(flags, dtype, count):
    """Of few matrices each is cut, of many every thread has some."""
    sizes = 150, 200, 96
    a, b = operands(sizes, flags, dtype, count)
    kind = gx.float32 if dtype is np.float32 else gx.float64
    x = gx.input("x", ("B", 200, "N") if flags[0] else ("B", "N", 200), kind)
    y = gx.input("y", ("B", 96, 200) if flags[1] else ("B", 200, 96), kind)
    product = plain_tensor(x, flags[0]) @ plain_tensor(y, flags[1])
    found = [gx.compile([x, y], product, threads=threads)(a, b) for threads in (1, 2, 3)]
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
    expected = np.matmul(plain(a, flags[0]), plain(b, flags[1]))
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-2)


def test_small_products_of_a_known_number():
    x, w = gx.input("x", (40, 10, "N"), gx.float64), gx.input("w", (40, 10, 10), gx.float64)
    y = gx.sum((w @ x) ** 2, axis=(1, 2))
    a, b = (
        np.random.default_rng(0).normal(size=(40, 10, 300)),
        np.random.default_rng(1).random((40, 10, 10)),
    )
    results = [y, *gx.grad(gx.sum(y), [x, w])]
    found = [gx.compile([x, w], results, threads=threads)(a, b) for threads in (1, 2, 3)]
    for one, *others in zip(*found, strict=True):
        assert all(one.tobytes() == other.tobytes() for other in others)
    np.testing.assert_allclose(found[0][0], ((b @ a) ** 2).sum((1, 2)), rtol=1e-12)


def plain_tensor(x, transposed):
    return gx.swapaxes(x, -1, -2) if transposed else x


def test_many_callers_at_once():
    x, w = gx.input("x", ("N", 300), gx.float32), gx.input("w", (300, 128), gx.float32)
    loss = gx.sum((x @ w) ** 2)
    results = [loss, *gx.grad(loss, [x, w])]
    one, several = (gx.compile([x, w], results, threads=threads) for threads in (1, 3))
    assert "128, 3)" in several.dump("source")
    (_, b), lengths = operands((1, 300, 128), (False, False), np.float32), (7, 65, 200, 400)
    cases = [operands((n, 300, 1), (False, False), np.float32)[0] for n in lengths] * 10
    expected = [[np.asarray(r).tobytes() for r in one(a, b)] for a in cases]
    with ThreadPoolExecutor(8) as pool_of_callers:
        found = list(pool_of_callers.map(lambda a: several(a, b), cases))
    assert [[np.asarray(r).tobytes() for r in each] for each in found] == expected
