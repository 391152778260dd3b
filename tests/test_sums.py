"""How exact sums are, against NumPy's and the true ones; infinities and nans in sums of parts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import graphc as gx
from graphc.fuse.chunks import BLOCK

COUNT = 10_000_000

DISTRIBUTIONS = {
    "uniform": lambda rng, n: rng.uniform(0, 1, n),
    "normal": lambda rng, n: rng.normal(size=n),
    "far from zero": lambda rng, n: rng.normal(1e4, 1, n),
    "many magnitudes": lambda rng, n: rng.lognormal(0, 5, n),
    "equal": lambda rng, n: np.full(n, 0.1),
    "growing": lambda rng, n: np.sort(rng.exponential(size=n)),
}

every_distribution = pytest.mark.parametrize("name", DISTRIBUTIONS)


@pytest.fixture(scope="module")
def functions():
    """Sums of vectors, of rows and of columns, of each float type."""

    def build(dtype):
        x, z = gx.input("x", ("N",), dtype), gx.input("z", ("N", "M"), dtype)
        vector = gx.compile([x], [gx.sum(x), gx.mean(x), gx.sum(x * x)], cache=False)
        matrix = gx.compile(
            [z],
            [gx.sum(z, axis=1), gx.sum(z, axis=0), gx.sum(z), gx.sum(gx.max(z, axis=1))],
            cache=False,
        )
        return vector, matrix

    return {dtype: build(dtype) for dtype in (np.float32, np.float64)}


def root_mean_square(errors):
    return math.sqrt(np.mean(np.square(np.asarray(errors, np.float64))))


ULPS = 2
"""So many units in the last place are as good as exact: NumPy's error may be 0 by luck."""


def assert_as_exact(found, theirs, exact):
    """The errors of ``found`` are no more than four times NumPy's, in the mean over sums of one kind."""
    found, theirs, exact = (np.asarray(a) for a in (found, theirs, exact))
    unit = np.spacing(np.abs(exact).astype(found.dtype)).astype(np.float64)
    ours, numpys = (root_mean_square(each - exact) for each in (found, theirs))
    assert ours <= 4 * numpys + ULPS * root_mean_square(unit)


# One long vector. A sum of float32 in float64 is exact enough to be the true one.


@every_distribution
def test_sums_of_ten_million_single_floats(name, functions):
    call, _ = functions[np.float32]
    found, theirs, exact = [], [], []
    for seed in range(3):
        x = DISTRIBUTIONS[name](np.random.default_rng(seed), COUNT).astype(np.float32)
        found.append([float(value) for value in call(x)])
        wide = x.astype(np.float64)
        theirs.append([np.sum(x), np.mean(x), np.sum(x * x)])
        exact.append([wide.sum(), wide.mean(), np.square(wide).sum()])
    for k in range(3):
        columns = [np.array([row[k] for row in rows]) for rows in (found, theirs, exact)]
        assert_as_exact(columns[0].astype(np.float32), columns[1], columns[2])


@every_distribution
def test_sums_of_double_floats(name, functions):
    call, _ = functions[np.float64]
    found, theirs, exact = [], [], []
    for seed in range(3):
        x = DISTRIBUTIONS[name](np.random.default_rng(seed), COUNT // 10)
        found.append(call(x)[0])
        theirs.append(np.sum(x))
        exact.append(math.fsum(x))
    assert_as_exact(found, theirs, exact)


def test_the_sum_of_ten_million_double_floats(functions):
    call, _ = functions[np.float64]
    x = np.random.default_rng(0).normal(size=COUNT)
    assert_as_exact([call(x)[0]], [np.sum(x)], [math.fsum(x)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_that_cancel(dtype, functions):
    """Signs in turn: a lane of a vector has one sign, and lanes cancel only when they are added up."""
    call, _ = functions[dtype]
    x = np.random.default_rng(0).uniform(1, 2, COUNT // 10).astype(dtype)
    x[::2] *= -1
    error = abs(float(call(x)[0]) - math.fsum(x))
    assert error <= np.finfo(dtype).eps / 16 * math.fsum(np.abs(x))


@pytest.mark.parametrize("count", [0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_of_whole_numbers_are_exact_at_every_length(count, dtype, functions):
    call, _ = functions[dtype]
    x = np.random.default_rng(count).integers(-50, 50, count).astype(dtype)
    total, mean, squares = call(x)
    assert total == x.sum()
    assert squares == (x * x).sum()
    np.testing.assert_equal(float(mean), float(total / dtype(count)) if count else math.nan)


# Rows and columns.


SHAPES = [(1000, 10_000), (100_000, 100), (1_000_000, 8), (3, 3_000_000)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def matrices(name, shape, dtype):
    """Three matrices of a distribution."""
    for seed in range(3):
        values = DISTRIBUTIONS[name](np.random.default_rng(seed), math.prod(shape))
        yield values.astype(dtype).reshape(shape)


@every_shape
@pytest.mark.parametrize("name", ["uniform", "normal", "equal"])
def test_sums_of_rows_columns_and_all(name, shape, functions):
    _, call = functions[np.float32]
    found, theirs, exact = [], [], []
    for z in matrices(name, shape, np.float32):
        wide = z.astype(np.float64)
        found.append(call(z)[:3])
        theirs.append([z.sum(axis=1), z.sum(axis=0), z.sum()])
        exact.append([wide.sum(axis=1), wide.sum(axis=0), wide.sum()])
    for kind in range(3):
        assert_as_exact(*([row[kind] for row in rows] for rows in (found, theirs, exact)))


@pytest.mark.parametrize("shape", [(1000, 1000), (100_000, 10), (20, 50_000)], ids=str)
@pytest.mark.parametrize("name", ["normal", "many magnitudes"])
def test_sums_of_rows_columns_and_all_of_double_floats(name, shape, functions):
    _, call = functions[np.float64]
    found, theirs, exact = [], [], []
    for z in matrices(name, shape, np.float64):
        found.append(call(z)[:3])
        theirs.append([z.sum(axis=1), z.sum(axis=0), z.sum()])
        exact.append([[*map(math.fsum, z)], [*map(math.fsum, z.T)], math.fsum(z.ravel())])
    for kind in range(3):
        assert_as_exact(*([row[kind] for row in rows] for rows in (found, theirs, exact)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_shape
def test_sums_of_results_of_rows(shape, dtype, functions):
    """The loop of the sum has loops inside, which find the largest elements of the rows."""
    _, call = functions[dtype]
    found, theirs, exact = [], [], []
    for z in matrices("uniform", shape, dtype):
        largest = z.max(axis=1)
        found.append(call(z)[3])
        theirs.append(largest.sum())
        exact.append(math.fsum(largest))
    assert_as_exact(found, theirs, exact)


def single_columns(dtype, call):
    """The sum of the only column of three matrices: found, the sums of vectors, one by one, exact."""
    sums = []
    for z in matrices("uniform", (2_000_000, 1), dtype):
        column = z.ravel()
        in_turn = np.add.accumulate(column)[-1]
        sums.append((call(z)[1][0], column.sum(), in_turn, math.fsum(column)))
    return (np.array(each) for each in zip(*sums, strict=True))


def test_a_single_column_is_summed_like_a_vector(functions):
    """A column of a matrix is added up row by row, except by NumPy where it is the only one."""
    found, theirs, _, exact = single_columns(np.float32, functions[np.float32][1])
    assert_as_exact(found, theirs, exact)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_are_summed_in_chunks_of_rows(dtype, functions):
    """Far more exact than one row after the other."""
    found, _, in_turn, exact = single_columns(dtype, functions[dtype][1])
    assert root_mean_square(found - exact) < root_mean_square(in_turn - exact) / 10


def test_the_loss_over_a_million_rows_is_as_exact_as_numpys():
    """Each term is a result of loops of its own, so the loop over rows is not an innermost one."""
    x, y = gx.input("x", ("N", 4), gx.float32), gx.input("y", ("N",), gx.int64)
    losses = gx.nn.softmax_cross_entropy(x, y)
    f = gx.compile([x, y], [gx.mean(losses), losses], cache=False)
    g = gx.compile([x, y], gx.mean(losses), cache=False)
    rng = np.random.default_rng(0)
    found, theirs, exact = [], [], []
    for _ in range(3):
        arrays = [rng.normal(size=(1_000_000, 4)).astype(np.float32), rng.integers(0, 4, 1_000_000)]
        mean, each = f(*arrays)
        found.append([mean, g(*arrays)])
        theirs.append([np.mean(each)] * 2)
        exact.append([np.mean(each.astype(np.float64))] * 2)
    assert_as_exact(found, theirs, exact)


# Special values.

SPECIAL = (np.inf, -np.inf, np.nan, 1.0)
PLACES = (0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 3, 3 * BLOCK)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values_in_any_parts_sum_as_in_numpy(dtype, functions):
    call, _ = functions[dtype]
    for first, second in itertools.product(SPECIAL, repeat=2):
        for one, other in itertools.permutations(PLACES, 2):
            x = np.ones(3 * BLOCK + 1, dtype)
            x[one], x[other] = first, second
            with np.errstate(invalid="ignore"):
                expected = np.sum(x), np.mean(x), np.sum(x * x)
            np.testing.assert_array_equal(call(x), expected, str((first, second, one, other)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_that_are_too_large_are_infinite(dtype, functions):
    call, matrix = functions[dtype]
    largest = np.finfo(dtype).max
    for sign in (1, -1):
        x = np.zeros(3 * BLOCK, dtype)
        for one, other in itertools.combinations((0, 1, BLOCK, 3 * BLOCK - 1), 2):
            x[:] = 0
            x[one] = x[other] = sign * largest
            assert call(x)[0] == sign * np.inf
            rows, columns, total, _ = matrix(x.reshape(3, BLOCK))
            assert total == sign * np.inf
            assert np.isinf(rows).any() == (one // BLOCK == other // BLOCK)
            assert np.isinf(columns).any() == (one % BLOCK == other % BLOCK)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values_in_rows_and_columns_sum_as_in_numpy(dtype, functions):
    _, call = functions[dtype]
    rng = np.random.default_rng(0)
    for shape in ((3, 2 * BLOCK + 1), (BLOCK + 1, 3), (7, 1), (1, 7), (0, 3), (3, 0)):
        z = rng.integers(-5, 5, shape).astype(dtype)
        if z.size:
            z.ravel()[rng.integers(0, z.size, 6)] = rng.choice(SPECIAL, 6)
        with np.errstate(invalid="ignore"):
            expected = z.sum(axis=1), z.sum(axis=0), z.sum()
        if z.shape[1]:
            for one, other in zip(call(z), expected, strict=False):
                np.testing.assert_array_equal(one, other)
        else:
            with pytest.raises(gx.GraphValueError):
                call(z)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_of_long_sums(dtype):
    """A row of the gradient's own sums is summed like any other."""
    x, w = gx.input("x", ("N", "M"), dtype), gx.input("w", ("M",), dtype)
    loss = gx.sum(x * w)
    f = gx.compile([x, w], gx.grad(loss, [x, w]), cache=False)
    z = np.random.default_rng(0).integers(-9, 9, (30, 2 * BLOCK + 5)).astype(dtype)
    weights = np.arange(z.shape[1]).astype(dtype) % 7
    slope_x, slope_w = f(z, weights)
    np.testing.assert_array_equal(slope_x, np.broadcast_to(weights, z.shape))
    np.testing.assert_array_equal(slope_w, z.sum(axis=0))
