"""Bad input to compiled functions: each has its message; odd but good input is accepted."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx


@pytest.fixture(scope="module")
def f():
    """x[N,3] float32, k[N] int64, m[M] float64 -> a dict of two results."""
    x, k = gx.input("x", ("N", 3), gx.float32), gx.input("k", ("N",), gx.int64)
    m = gx.input("m", ("M",))
    return gx.compile([x, k, m], {"a": x * 2, "b": gx.take(m, k)}, cache=False)


def good(**changes):
    arrays = {"x": np.ones((2, 3), np.float32), "k": np.array([0, 1]), "m": np.arange(3.0)}
    return {**arrays, **changes}


class Unconvertible:
    def __array__(self, *args, **kwargs):
        raise ValueError("no array here")


BAD = [
    (
        {"x": np.ones(3, np.float32)},
        gx.GraphValueError,
        r"'x': needs 2 axes \(f32\[N,3\]\) but has 1",
    ),
    (
        {"x": np.ones((2, 4))},
        gx.GraphValueError,
        r"shape \(2, 4\) but f32\[N,3\] needs shape \(2, 3\)",
    ),
    ({"k": np.arange(5)}, gx.GraphValueError, r"'k': has shape \(5,\).*\(2,\).*'x'.*\(2, 3\)"),
    (
        {"k": [0.5, 1.0]},
        gx.GraphTypeError,
        r"'k': needs i64\[N\] but is float64.*lose data.*astype",
    ),
    ({"x": np.ones((2, 3), complex)}, gx.GraphTypeError, "complex128.*lose data"),
    ({"k": np.array([2**63, 0], np.uint64)}, gx.GraphTypeError, "uint64.*lose data"),
    ({"x": "abc"}, gx.GraphTypeError, "'x': needs .* not numeric"),
    ({"x": None}, gx.GraphTypeError, "NoneType of dtype object is not numeric"),
    ({"x": [[1, 2, 3], [4]]}, gx.GraphTypeError, "cannot become an array"),
    ({"x": Unconvertible()}, gx.GraphTypeError, "no array here"),
    ({"x": {"a": 1}}, gx.GraphTypeError, "not numeric"),
    ({"m": np.array(["2020-01-01"], "datetime64[D]")}, gx.GraphTypeError, "not numeric"),
    ({"k": [0, 3]}, gx.GraphIndexError, r"take: index 3 is out of bounds.*test_bad_input.py"),
    ({"k": [-4, 0]}, gx.GraphIndexError, "out of bounds"),
    ({"m": np.zeros(0)}, gx.GraphIndexError, "take"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD)
def test_bad_arguments(f, changes, error, message):
    with pytest.raises(error, match=message):
        f(**good(**changes))
    with pytest.raises(error, match=message):
        f(*good(**changes).values())


def test_a_tensor_is_not_an_argument(f):
    with pytest.raises(gx.GraphTypeError, match="not a tensor"):
        f(**good(x=gx.input("x", (2, 3))))


@pytest.mark.parametrize(
    ("args", "named", "message"),
    [
        (0, {}, r"f\(x, k, m\): misses 'x', 'k', 'm'"),
        (2, {}, "misses 'm'"),
        (4, {}, "takes 3 arguments but 4 were given"),
        (3, {"x": 1}, "argument 'x' is given twice"),
        (3, {"y": 1}, "has no argument 'y'"),
    ],
)
def test_unknown_missing_and_repeated_arguments(f, args, named, message):
    arrays = [*good().values(), 0][:args]
    with pytest.raises(gx.GraphTypeError, match=message):
        f(*arrays, **named)


def buffers(**changes):
    return {"a": np.zeros((2, 3), np.float32), "b": np.zeros(2), **changes}


def readonly(array):
    array.flags.writeable = False
    return array


SHARED = np.zeros(16, np.float32)


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (
            buffers(a=np.zeros((2, 3))),
            gx.GraphTypeError,
            r"out\[0\]: needs f32\[N,3\] but has dtype",
        ),
        (
            buffers(b=np.zeros(3)),
            gx.GraphValueError,
            r"out\[1\]: needs shape \(2,\) but has \(3,\)",
        ),
        (buffers(b=readonly(np.zeros(2))), gx.GraphValueError, r"out\[1\]: is read-only"),
        (buffers(b=[0.0, 0.0]), gx.GraphTypeError, "another structure"),
        (buffers(b=1.0), gx.GraphTypeError, "needs an array, not float"),
        ({"a": np.zeros((2, 3), np.float32)}, gx.GraphTypeError, "another structure"),
        ([np.zeros((2, 3), np.float32), np.zeros(2)], gx.GraphTypeError, "another structure"),
        (
            {"a": SHARED[:6].reshape(2, 3), "b": SHARED[4:8].view(np.float64)},
            gx.GraphValueError,
            r"out\[1\]: overlaps out\[0\]",
        ),
    ],
)
def test_bad_buffers(f, out, error, message):
    with pytest.raises(error, match=message):
        f(**good(), out=out)


@pytest.mark.parametrize(
    "x",
    [
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        np.arange(12, dtype=np.float32).reshape(4, 3)[::2],
        np.arange(12, dtype=np.float32).reshape(2, 6)[:, ::-2],
        readonly(np.arange(6, dtype=np.float32).reshape(2, 3)),
        np.arange(6).reshape(2, 3),
        np.arange(6.0).reshape(2, 3),
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.arange(6, dtype=np.float16).reshape(2, 3),
        np.array([[True, False, True]] * 2),
        [[1, 2, 3], [4, 5, 6]],
        np.frombuffer(
            b"\0" + np.arange(6, dtype=np.float32).tobytes(), np.float32, offset=1
        ).reshape(2, 3),
    ],
    ids=repr,
)
def test_odd_but_good_arrays(f, x):
    np.testing.assert_array_equal(f(**good(x=x))["a"], np.asarray(x, np.float32) * 2)


def test_integers_that_fit_are_converted():
    k = gx.input("k", ("N",), gx.int32)
    f = gx.compile([k], k + 1, cache=False)
    np.testing.assert_array_equal(f(np.array([1, 2])), [2, 3])
    np.testing.assert_array_equal(f(np.array([1, 2], np.uint64)), [2, 3])
    with pytest.raises(gx.GraphTypeError, match="lose data"):
        f(np.array([1, 2**40]))


@pytest.mark.parametrize("count", [0, 1])
def test_empty_arrays(f, count):
    found = f(np.ones((count, 3)), np.zeros(count, int), np.ones(1))
    assert found["a"].shape == (count, 3)
    assert found["b"].shape == (count,)
    assert f(np.ones((0, 3)), [], np.ones(1))["b"].shape == (0,)


def test_scalar_arguments():
    x, k = gx.input("x", (), gx.float32), gx.input("k", (), gx.int64)
    f = gx.compile([x, k], (x * 2, k + 1), cache=False)
    for value in (1.5, np.float32(1.5), np.float64(1.5), np.array(1.5), np.array(1.5, np.float32)):
        found = f(value, 3)
        assert [a.tolist() for a in found] == [3.0, 4]
        assert found[0].dtype == np.float32
    assert f(True, np.int32(7))[1] == 8
    with pytest.raises(gx.GraphTypeError, match=r"'k'.*float64.*lose data"):
        f(1.0, 2.5)
    with pytest.raises(gx.GraphTypeError, match="complex"):
        f(1j, 2)
    with pytest.raises(gx.GraphTypeError, match="does not fit 64 bits"):
        f(1.0, 2**70)
    with pytest.raises(gx.GraphValueError, match="needs 0 axes"):
        f([1.0], 2)


def test_reductions_over_nothing():
    x = gx.input("x", ("N", 2))
    results = [x.sum(), x.sum(axis=0), x.prod(axis=0), x.mean(axis=0), gx.logsumexp(x, axis=0)]
    results += [gx.all(x > 0), gx.any(x > 0)]
    f = gx.compile([x], results, cache=False)
    found = [array.tolist() for array in f(np.zeros((0, 2)))]
    expected = "[0.0, [0.0, 0.0], [1.0, 1.0], [nan, nan], [-inf, -inf], True, False]"
    assert str(found) == expected
    for name in ("max", "min", "argmax", "argmin"):
        g = gx.compile([x], getattr(x, name)(axis=0), cache=False)
        with pytest.raises(gx.GraphValueError, match=f"{name} of an empty axis: needs"):
            g(np.zeros((0, 2)))
        with pytest.raises(gx.GraphValueError, match=f"{name}: an empty axis has no {name}"):
            getattr(x[:0], name)(axis=0)


def test_sizes_that_are_compared_at_the_call():
    x = gx.input("x", ("N",))
    f = gx.compile([x], [x.reshape(3, 4), x[2:5]], cache=False)
    assert f(np.arange(12.0))[0].shape == (3, 4)
    with pytest.raises(gx.GraphValueError, match="reshape: needs N == 12 but N = 13"):
        f(np.arange(13.0))
    g = gx.compile([x], x[2:5], cache=False)
    with pytest.raises(gx.GraphValueError, match="slice of axis 0: needs .* but N = 4"):
        g(np.arange(4.0))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda x, y: gx.compile([x], x + y),
            gx.GraphValueError,
            "depends on 'y', which is not among",
        ),
        (lambda x, y: gx.compile([x, x], x), gx.GraphValueError, "'x' is there twice"),
        (lambda x, y: gx.compile([x, gx.input("x")], x), gx.GraphValueError, "'x' is there twice"),
        (lambda x, y: gx.compile([x + 1], x), gx.GraphTypeError, "is not an input"),
        (lambda x, y: gx.compile(["x"], x), gx.GraphTypeError, "'x' is not an input"),
        (lambda x, y: gx.compile([x], []), gx.GraphValueError, "no outputs"),
        (lambda x, y: gx.compile([x], "y"), gx.GraphTypeError, "not numeric"),
        (
            lambda x, y: gx.compile([o := gx.input("out")], o),
            gx.GraphValueError,
            "keyword for result",
        ),
        (lambda x, y: gx.compile([x], x, name="for"), gx.GraphValueError, "Python keyword"),
        (
            lambda x, y: gx.compile([v := gx.input("v", (x.shape[0] * 2,))], v),
            gx.GraphValueError,
            r"no input has an axis of size N, so 2\*N is unknown",
        ),
        (
            lambda x, y: gx.compile([v := gx.input("v", ("kernels",))], v),
            gx.GraphValueError,
            "generated code uses",
        ),
        (
            lambda x, y: gx.evaluate(x + y, {x: np.ones(3)}),
            gx.GraphValueError,
            "no value for .* 'y'",
        ),
        (lambda x, y: gx.evaluate(x, {x + 1: 1}), gx.GraphTypeError, "is not an input"),
    ],
)
def test_bad_graphs(build, error, message):
    x, y = gx.input("x", ("N",)), gx.input("y", ("N",))
    with pytest.raises(error, match=message):
        build(x, y)
