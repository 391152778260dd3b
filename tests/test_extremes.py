"""Where the extremes of rows and columns are: the first, or the first nan, as NumPy says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from jitted import FLOATS, NUMBERS, numbers

import graphc as gx


@pytest.fixture(scope="module")
def functions():
    """For every dtype a function of the indices of all extremes of a matrix, and their values."""

    def build(dtype):
        x = gx.input("x", ("N", "M"), dtype)
        indices = [find(x, axis=a) for find in (gx.argmax, gx.argmin) for a in (0, 1, None)]
        return gx.compile([x], [*indices, gx.max(x, axis=1), gx.min(x, axis=0)], cache=False)

    return {dtype: build(dtype) for dtype in NUMBERS}


def of_numpy(x):
    indices = [find(x, axis=a) for find in (np.argmax, np.argmin) for a in (0, 1, None)]
    return [*indices, np.max(x, axis=1), np.min(x, axis=0)]


@pytest.mark.parametrize("dtype", NUMBERS)
def test_indices_of_extremes(dtype, functions):
    for shape in ((1, 1), (2, 1), (1, 2), (20, 50), (50, 3)):
        # Ties are many: whole numbers from -9 to 9.
        x = numbers(shape, dtype, sum(shape))
        for found, expected in zip(functions[dtype](x), of_numpy(x), strict=True):
            assert found.dtype == np.asarray(expected).dtype
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_indices_of_equal_and_of_the_largest_elements(dtype, functions):
    limits = np.finfo(dtype) if dtype in FLOATS else np.iinfo(dtype)
    for value in (limits.min, limits.max, 0):
        x = np.full((3, 4), value, dtype)
        for found, expected in zip(functions[dtype](x), of_numpy(x), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_indices_of_special_values(dtype, functions):
    values = (np.nan, np.inf, -np.inf, 0.0, -0.0)
    x = np.array(list(itertools.product(values, repeat=3)), dtype)
    for rows in (x, x.T.copy(), x[1:]):
        for found, expected in zip(functions[dtype](rows), of_numpy(rows), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_first_nan_wins_wherever_it_is(dtype, functions):
    for first, second in itertools.combinations((0, 1, 30, 69), 2):
        x = numbers((1, 70), dtype)
        x[0, first] = x[0, second] = np.nan
        found = functions[dtype](x)
        assert found[1].tolist() == found[4].tolist() == [first]
        assert found[2] == found[5] == first


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_no_elements_have_no_extremes(shape, functions):
    with pytest.raises(gx.GraphValueError):
        functions[np.float64](np.empty(shape))
