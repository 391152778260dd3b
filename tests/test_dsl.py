"""What a user writes: operators, NumPy's functions, indexing, and what a tensor refuses."""

from __future__ import annotations

import operator

import numpy as np
import pytest

import graphc as gx

X = np.array([[1.5, -2.0, 3.0], [0.5, 4.0, -1.0]])
I = np.array([[5, -7, 2], [3, 0, -4]])  # noqa: E741 - integers


def value_of(build, array=X):
    x = gx.input("x", array.shape, array.dtype)
    return gx.evaluate(build(x), {x: array})


BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
]


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.__name__)
@pytest.mark.parametrize(
    "other", [2, 2.5, True, np.float32(1.5), np.array([2.0, 3.0, 1.0]), np.float64(0.5)], ids=repr
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_operators_in_both_directions(op, other):
    for build in (lambda x: op(x, other), lambda x: op(other, x)):
        found, expected = value_of(build), build(X)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize(
    "op", [operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift]
)
def test_integer_operators(op):
    for build in (lambda x: op(x, 3), lambda x: op(6, abs(x))):
        np.testing.assert_array_equal(value_of(build, I), build(I))


@pytest.mark.parametrize("array", [X.astype(np.float32), X, I.astype(np.int32), I, I > 2], ids=str)
@pytest.mark.parametrize("scalar", [True, 3, 2.5])
def test_python_numbers_are_weak(array, scalar):
    found = value_of(
        lambda x: gx.where(x != 0, x, scalar) if x.dtype == bool else x * scalar, array
    )
    expected = np.where(array != 0, array, scalar) if array.dtype == bool else array * scalar
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_unary_operators_and_builtins():
    np.testing.assert_array_equal(value_of(lambda x: -x), -X)
    np.testing.assert_array_equal(value_of(lambda x: +x), X)
    np.testing.assert_array_equal(value_of(abs), abs(X))
    np.testing.assert_array_equal(value_of(lambda x: round(x, 0)), np.round(X))
    np.testing.assert_array_equal(value_of(lambda x: ~(x > 0)), ~(X > 0))
    quotient, rest = value_of(lambda x: list(divmod(x, 2)))
    np.testing.assert_array_equal(quotient, X // 2)
    np.testing.assert_array_equal(rest, X % 2)


def test_arrays_on_the_left_give_tensors():
    x = gx.input("x", (2, 3))
    for result in (X + x, X @ x.T, np.exp(x), np.float64(2) * x, np.sum(x), np.maximum(X, x)):
        assert isinstance(result, gx.Tensor)
    assert isinstance(np.concatenate([x, x]), gx.Tensor)
    np.testing.assert_allclose(value_of(lambda x: X @ x.T), X @ X.T)
    np.testing.assert_allclose(value_of(lambda x: np.mean(x, axis=1)), X.mean(axis=1))


KEYS = [
    0,
    -1,
    (1, 2),
    slice(None),
    slice(1, None),
    (slice(None), slice(None, None, 2)),
    (slice(None), slice(None, None, -1)),
    (slice(1, -5, -1), 0),
    (slice(5, 9),),
    Ellipsis,
    (Ellipsis, 1),
    (None, slice(None), 1),
    (slice(None), None, slice(-2, None)),
    (0, slice(2, 0, -1), None),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_basic_indexing(key):
    np.testing.assert_array_equal(value_of(lambda x: x[key]), X[key])


SYMBOLIC_KEYS = [
    slice(1, None),
    slice(None, -1),
    slice(None, 3),
    slice(-3, None),
    slice(None, None, 2),
]
SYMBOLIC_KEYS += [
    slice(None, None, -1),
    slice(1, -1, 3),
    slice(None, None, -2),
    slice(4, 1, -1),
    0,
    -1,
]


@pytest.mark.parametrize("key", SYMBOLIC_KEYS, ids=str)
def test_indexing_an_axis_with_a_name(key):
    x = gx.input("x", ("N",))
    values, slope = x[key], gx.grad(gx.sum(gx.square(x[key])), x)
    f = gx.compile([x], [values, slope], cache=False)
    for count in (5, 6, 9):
        array = np.arange(1.0, count + 1)
        found, gradient = f(array)
        np.testing.assert_array_equal(found, array[key])
        expected = np.zeros(count)
        expected[key] = 2 * array[key]
        np.testing.assert_array_equal(gradient, expected)


def test_gathering_by_brackets():
    np.testing.assert_array_equal(value_of(lambda x: x[[1, 0, 1]]), X[[1, 0, 1]])
    np.testing.assert_array_equal(value_of(lambda x: x[np.array([[0], [1]])]), X[[[0], [1]]])


def test_methods_and_attributes():
    x = gx.input("x", ("N", 3), gx.float32)
    assert x.ndim == 2
    assert x.dtype == np.float32
    assert str(x.shape[0]) == "N"
    assert str(x.size) == "3*N"
    assert x.T.shape == (3, x.shape[0])
    assert x.reshape(-1).shape == x.ravel().shape == (x.size,)
    assert x.reshape(3, -1).shape == (3, x.shape[0])
    assert x.transpose(1, 0).shape == x.T.shape
    assert [row.shape for row in x.T] == [(x.shape[0],)] * 3
    assert repr(x) == "<Tensor x: f32[N,3]>"
    for name in ("sum", "mean", "prod", "max", "min"):
        np.testing.assert_allclose(
            value_of(lambda x, name=name: getattr(x, name)(axis=1, keepdims=True)),
            getattr(X, name)(axis=1, keepdims=True),
        )
        np.testing.assert_allclose(value_of(lambda x, n=name: getattr(x, n)()), getattr(X, name)())


def test_a_size_is_a_value():
    x = gx.input("x", ("N",))
    mean = x.sum() / x.shape[0]
    assert float(gx.evaluate(mean, {x: [1.0, 2.0, 6.0]})) == 3.0
    f = gx.compile([x], [mean, gx.constant(x.shape[0] + 1), x * x.shape[0]], cache=False)
    found = f([1.0, 2.0, 6.0])
    assert float(found[0]) == 3.0
    assert int(found[1]) == 4
    assert found[1].dtype == np.int64


PRODUCTS = [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4))]
PRODUCTS += [
    ((5, 2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (4, 3, 2)),
    ((3,), (5, 3, 2)),
    ((5, 2, 3), (3,)),
]


@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
def test_matmul_shapes(shapes):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape) for shape in shapes)
    x, y = gx.input("x", a.shape), gx.input("y", b.shape)
    f = gx.compile([x, y], x @ y, cache=False)
    np.testing.assert_allclose(f(a, b), a @ b, rtol=1e-12)
    gx.check_grad(gx.sum(gx.sin(x @ y)), [x, y], {x: a, y: b})


def test_integer_and_boolean_products():
    np.testing.assert_array_equal(value_of(lambda x: x @ x.T, I), I @ I.T)
    mask = I > 1
    np.testing.assert_array_equal(value_of(lambda x: x @ x.T, mask), mask @ mask.T)


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_take_along_axis(axis, count):
    rng = np.random.default_rng(0)
    shape = [2, 3, 4]
    values = rng.normal(size=shape)
    shape[axis] = count
    places = rng.integers(-2, 2, shape)
    x = gx.input("x", values.shape)
    found = gx.take_along_axis(x, places, axis=axis)
    given = {x: values}
    np.testing.assert_array_equal(
        gx.evaluate(found, given), np.take_along_axis(values, places, axis)
    )
    assert gx.check_grad(gx.sum(gx.sin(found)), x, given) < 1e-7


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (bool, gx.GraphTypeError, "no truth value"),
        (float, gx.GraphTypeError, "cannot become a float"),
        (int, gx.GraphTypeError, "cannot become an int"),
        (np.asarray, gx.GraphTypeError, "cannot become an array"),
        (len, gx.GraphTypeError, "named size"),
        (list, gx.GraphTypeError, "named size"),
        (lambda x: x[1.5], gx.GraphTypeError, "index of kind float"),
        (lambda x: x[True], gx.GraphTypeError, "index of kind bool"),
        (lambda x: x[0, 0, 0], gx.GraphIndexError, "3 indices for 2 axes"),
        (lambda x: x[:, 3], gx.GraphIndexError, "3 is out of bounds for axis 1"),
        (lambda x: x[..., ...], gx.GraphIndexError, "ellipsis"),
        (lambda x: x[:, ::0], gx.GraphIndexError, "step"),
        (lambda x: x + "a", gx.GraphTypeError, "not numeric"),
        (lambda x: x + 1j, gx.GraphTypeError, "complex"),
        (lambda x: x + None, gx.GraphTypeError, "not numeric"),
        (lambda x: x + np.ones(4), gx.GraphValueError, r"do not broadcast.*f64\[N,3\].*f64\[4\]"),
        (lambda x: x.sum(axis=2), gx.GraphValueError, "axis 2 is out of range"),
        (lambda x: x.sum(axis=(0, 0)), gx.GraphValueError, "repeated"),
        (lambda x: x.reshape(-1, -1), gx.GraphValueError, "more than one size is -1"),
        (lambda x: x[0].reshape(2, 2), gx.GraphValueError, "number of elements differs"),
        (lambda x: gx.exp(x) & 1, gx.GraphTypeError, "bitwise_and: does not accept float64"),
        (lambda x: x.astype("float16"), gx.GraphTypeError, "float16"),
        (lambda x: gx.take(x, [0.5], 0), gx.GraphTypeError, "not an integer tensor"),
        (lambda x: gx.take_along_axis(x, [0]), gx.GraphValueError, "as many axes"),
        (lambda x: gx.take_along_axis(x, [[0]]), gx.GraphValueError, "one index for each row"),
        (lambda x: gx.concat([x, x.T]), gx.GraphValueError, "concat"),
        (lambda x: gx.concat([]), gx.GraphValueError, "at least one"),
        (lambda x: gx.nn.softmax_cross_entropy(x, x[:, 0].T), gx.GraphValueError, "probability"),
        (lambda x: gx.nn.hinge_loss(x, x[:, 0]), gx.GraphTypeError, "labels are not integers"),
        (lambda x: gx.constant("abc"), gx.GraphTypeError, "not numeric"),
        (lambda x: gx.constant([[1], [2, 3]]), gx.GraphTypeError, "not numeric"),
        (lambda x: gx.constant(np.uint8(3)), gx.GraphTypeError, "uint8"),
        (lambda x: x[0].astype(gx.int32) + 2**40, gx.GraphValueError, "does not fit int32"),
        (lambda x: x.astype(gx.int64) ** -1, gx.GraphValueError, "negative integer powers"),
        (lambda x: gx.matmul(x, 2.0), gx.GraphValueError, "0-d operand"),
        (lambda x: gx.squeeze(x, 1), gx.GraphValueError, "size 1"),
        (lambda x: gx.broadcast_to(x, (3,)), gx.GraphValueError, "cannot be broadcast"),
    ],
)
def test_refusals(use, error, message):
    x = gx.input("x", ("N", 3))
    with pytest.raises(error, match=message):
        use(x)


@pytest.mark.parametrize("name", ["x; import os", "class", "1x", "", "a-b", "None", "x\n"])
def test_names_never_become_code(name):
    for declare in (lambda: gx.input(name), lambda: gx.input("x", (name,))):
        with pytest.raises(gx.GraphValueError, match="identifier|keyword"):
            declare()
    with pytest.raises(gx.GraphValueError, match="identifier|keyword"):
        gx.compile([x := gx.input("x")], x + 1, name=name)


@pytest.mark.parametrize("shape", [(-1,), (2.5,), (None,), (True,)])
def test_bad_sizes(shape):
    with pytest.raises(gx.GraphValueError, match="is not a size"):
        gx.input("x", shape)


@pytest.mark.parametrize("name", ["np", "range", "kernels", "jit", "print", "i", "N", "θ", "vmath"])
def test_names_that_generated_code_uses_itself(name):
    x = gx.input(name, ("N", 2))
    f = gx.compile([x], [gx.exp(x).sum(axis=0) + x.shape[0], x.T @ x], name="f", cache=False)
    found = f(**{name: X.T[:, :2]})
    np.testing.assert_allclose(found[0], np.exp(X.T).sum(axis=0) + 3)
