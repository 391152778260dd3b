"""Sizes, promotion, types, and binding of sizes at a call."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.errors import GraphTypeError, GraphValueError
from graphc.types import (
    ALL_DTYPES,
    Requirement,
    Size,
    TensorType,
    as_dtype,
    bind_sizes,
    exact_quotient,
    float32,
    float64,
    promote,
)

N, M = Size.named("N"), Size.named("M")


def sizes() -> st.SearchStrategy[object]:
    """Sizes built by the operators, with a Python function that computes the same number."""
    leaves = st.one_of(
        st.integers(-4, 4).map(lambda c: (c, lambda n, m: c)),
        st.just((N, lambda n, m: n)),
        st.just((M, lambda n, m: m)),
    )

    def combine(children):
        pairs = st.tuples(children, children)
        return st.one_of(
            pairs.map(lambda p: (p[0][0] + p[1][0], lambda n, m: p[0][1](n, m) + p[1][1](n, m))),
            pairs.map(lambda p: (p[0][0] - p[1][0], lambda n, m: p[0][1](n, m) - p[1][1](n, m))),
            pairs.map(lambda p: (p[0][0] * p[1][0], lambda n, m: p[0][1](n, m) * p[1][1](n, m))),
            children.map(lambda c: (c[0] // 3, lambda n, m: c[1](n, m) // 3)),
        )

    return st.recursive(leaves, combine, max_leaves=8)


@given(sizes(), st.integers(0, 20), st.integers(0, 20))
def test_size_arithmetic_is_arithmetic(pair, n, m):
    size, number = pair
    found = size.evaluate({"N": n, "M": m}) if isinstance(size, Size) else size
    assert found == number(n, m)


@given(sizes(), st.integers(0, 20), st.integers(0, 20))
def test_size_text_is_python(pair, n, m):
    size, number = pair
    assert eval(str(size), {"N": n, "M": m}) == number(n, m)


@given(sizes(), st.integers(0, 9), st.integers(0, 9))
def test_never_negative_is_sound(pair, n, m):
    size, number = pair
    if isinstance(size, Size) and size.never_negative():
        assert number(n, m) >= 0


def test_equality_is_structural():
    assert 2 * N + M == M + N + N
    assert hash(2 * N + M) == hash(M + N + N)
    assert N != M
    assert N - N == 0
    assert isinstance((N + 3) - N, int)
    assert (4 * N + 2) // 2 == 2 * N + 1
    assert str((N + 1) // 2 * 2) == "2*((N + 1)//2)"


def test_a_size_has_no_truth_value():
    with pytest.raises(GraphTypeError, match="size N"):
        bool(N)


def test_exact_quotient():
    assert exact_quotient(64 * N, 16) == 4 * N
    assert exact_quotient(64 * N * M, N) == 64 * M
    assert exact_quotient(N, 3) is None
    assert exact_quotient(N, M) is None
    assert exact_quotient(12, 0) is None


@pytest.mark.parametrize("operands", list(itertools.product([*ALL_DTYPES, True, 2, 2.5], repeat=2)))
def test_promotion_is_numpys(operands):
    assert promote(*operands) == np.result_type(*operands)


@pytest.mark.parametrize("bad", ["float16", np.uint8, complex, "nonsense", None, object()])
def test_unsupported_dtypes(bad):
    with pytest.raises(GraphTypeError, match="float32"):
        as_dtype(bad)


def test_types_print_short():
    assert str(TensorType(float32, (N, 64))) == "f32[N,64]"
    assert str(TensorType(float64, ())) == "f64[]"


def test_sizes_are_bound_in_any_order():
    types = [("a", TensorType(float64, (N + 1,))), ("b", TensorType(float64, (N,)))]
    assert bind_sizes(types, [(4,), (3,)]) == {"N": 3}
    with pytest.raises(GraphValueError, match=r"'a': has shape \(5,\).*\(4,\).*'b'"):
        bind_sizes(types, [(5,), (3,)])


def test_requirements():
    assert Requirement(N + 1, ">=", 1, "r").is_known()
    assert not Requirement(N, ">=", 1, "r").is_known()
    assert Requirement(2, "==", 3, "r").is_impossible()
    Requirement(N, ">=", 3, "r").check({"N": 3})
    with pytest.raises(GraphValueError, match="r: needs N >= 3 but N = 2"):
        Requirement(N, ">=", 3, "r").check({"N": 2})
