"""Products of matrices in flat buffers against NumPy, jitted and as plain Python."""

from __future__ import annotations

import itertools
import threading

import numba
import numpy as np
import pytest
from jitted import NUMBERS, either, jit, numbers, readonly, undefined

from graphc.runtime import blas

FLAGS = tuple(itertools.product((False, True), repeat=2))


def product(transpose_a, transpose_b):
    # The flags are literals, as in generated code.
    if transpose_a and transpose_b:
        return lambda a, b, out, m, k, n: blas.matmul(a, b, out, True, True, m, k, n)
    if transpose_a:
        return lambda a, b, out, m, k, n: blas.matmul(a, b, out, True, False, m, k, n)
    if transpose_b:
        return lambda a, b, out, m, k, n: blas.matmul(a, b, out, False, True, m, k, n)
    return lambda a, b, out, m, k, n: blas.matmul(a, b, out, False, False, m, k, n)


def products(a, b, out, transpose_a, transpose_b, m, k, n, count):
    blas.batched_matmul(a, b, out, transpose_a, transpose_b, m, k, n, count)


def operand(shape, dtype, transposed, seed):
    x = numbers(shape, dtype, seed)
    return np.ascontiguousarray(x.swapaxes(-1, -2)) if transposed else x, x


SIZES = (*itertools.product((0, 1, 2, 5), repeat=3), (33, 17, 65))


@either
@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("flags", FLAGS)
def test_product_of_matrices(dtype, flags, compiled):
    run = compiled(product(*flags))
    for m, k, n in SIZES:
        a, plain_a = operand((m, k), dtype, flags[0], 1)
        b, plain_b = operand((k, n), dtype, flags[1], 2)
        out = undefined((m, n), dtype)
        run(a.reshape(-1), b.reshape(-1), out.reshape(-1), m, k, n)
        np.testing.assert_array_equal(out, plain_a @ plain_b, str((m, k, n)))


@either
@pytest.mark.parametrize("dtype", NUMBERS)
def test_product_of_stacks(dtype, compiled):
    run = compiled(products)
    for flags, (m, k, n), count in itertools.product(FLAGS, SIZES[::5], (0, 1, 3)):
        a, plain_a = operand((count, m, k), dtype, flags[0], 1)
        b, plain_b = operand((count, k, n), dtype, flags[1], 2)
        out = undefined((count, m, n), dtype)
        run(*(x.reshape(-1) for x in (a, b, out)), *flags, m, k, n, count)
        np.testing.assert_array_equal(out, plain_a @ plain_b, str((flags, count, m, k, n)))


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_operands_of_products_may_be_readonly(dtype):
    a, b = readonly(numbers((3, 4), dtype)), readonly(numbers((4, 2), dtype))
    out = undefined((3, 2), dtype)
    jit(product(False, False))(a, b, out, 3, 4, 2)
    np.testing.assert_array_equal(out, a @ b)
    stack = undefined((1, 3, 2), dtype)
    jit(products)(readonly(a[None]), readonly(b[None]), stack, False, False, 3, 4, 2, 1)
    np.testing.assert_array_equal(stack, out[None])


def test_products_of_what_does_not_fit_do_not_compile():
    run = jit(product(False, False))
    x = np.ones((2, 2))
    for a, b, out in [
        (x, x, readonly(x)),
        (x, x, x.astype(np.float32)),
        (x, x.T, x),
        (x, x[:, 0], x),
        (x > 0, x > 0, x > 0),
    ]:
        with pytest.raises(numba.TypingError):
            run(a, b, out, 2, 2, 2)


@either
@pytest.mark.parametrize("shape", [(1, 3, 4), (4, 3, 1), (1, 3, 1), (4, 3, 2)])
def test_special_values_in_products(shape, compiled):
    m, k, n = shape
    run = compiled(product(False, False))
    for value in (np.nan, np.inf):
        a, b = np.ones((m, k)), np.zeros((k, n))
        a[0, 1] = value
        out = undefined((m, n), np.float64)
        run(a.reshape(-1), b.reshape(-1), out.reshape(-1), m, k, n)
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(out, (a[:, :, None] * b).sum(1))


def test_integer_products_wrap_around():
    a = np.full((2, 2), 2**30, np.int32)
    out = np.empty_like(a)
    jit(product(False, False))(a, a + 1, out, 2, 2, 2)
    np.testing.assert_array_equal(out, a @ (a + 1))


def test_products_in_threads():
    @jit
    def repeated(a, b, out):
        for _ in range(200):
            blas.matmul(a, b, out, False, True, a.shape[0], a.shape[1], b.shape[0])

    operands = [numbers((size, 64), np.float32, size) for size in (64, 64, 1, 1)]
    results = [undefined((len(x), len(x)), np.float32) for x in operands]
    repeated(operands[0], operands[0], results[0].copy())
    threads = [
        threading.Thread(target=repeated, args=(x, x, out))
        for x, out in zip(operands, results, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x, out in zip(operands, results, strict=True):
        np.testing.assert_array_equal(out, x @ x.T)


def test_arrays_of_any_number_of_axes_are_buffers_to_jitted_code():
    a, b = numbers((2, 3, 4), np.float64), numbers((4, 5), np.float64)
    out = undefined((6, 5), np.float64)
    jit(product(False, False))(a, b, out, 6, 4, 5)
    np.testing.assert_array_equal(out, a.reshape(6, 4) @ b)


@either
def test_products_write_no_more_than_their_size(compiled):
    memory = np.full(10, 7.0)
    a, b = np.ones(6), np.ones(6)
    compiled(product(False, False))(a, b, memory[2:], 2, 3, 2)
    np.testing.assert_array_equal(memory, [7, 7, 3, 3, 3, 3, 7, 7, 7, 7])
    compiled(products)(a, b, memory[1:], False, True, 1, 2, 1, 3)
    np.testing.assert_array_equal(memory, [7, 2, 2, 2, 3, 3, 7, 7, 7, 7])
