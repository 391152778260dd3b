"""gx.grad: fan-in, seeds, second order, what has no gradient; gx.check_grad."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.ir import walk


def ops_of(*tensors):
    return [node.op.name for node in walk([t.node for t in tensors])]


def test_fan_in_is_a_node_of_its_own():
    x = gx.input("x")
    slope = gx.grad(gx.sin(x) * gx.exp(x) + x, x)
    assert ops_of(slope).count("accumulate") == 1
    accumulate = next(n for n in walk([slope.node]) if n.op.name == "accumulate")
    assert len(accumulate.args) == 3
    assert "accumulate(" in gx.dump(slope)


def test_gradients_have_the_form_that_was_asked_for():
    x, y = gx.input("x", (3,)), gx.input("y", ())
    loss = gx.sum(x) * y
    assert isinstance(gx.grad(loss, x), gx.Tensor)
    one, two = gx.grad(loss, [x, y])
    assert (one.shape, two.shape) == ((3,), ())
    assert gx.grad(loss, []) == []


def test_seed():
    x = gx.input("x", (3,))
    values = gx.evaluate(gx.grad(x**2, x, seed=np.array([1.0, 0.0, 2.0])), {x: [1.0, 2.0, 3.0]})
    np.testing.assert_array_equal(values, [2.0, 0.0, 12.0])
    values = gx.evaluate(gx.grad(x**2, x, seed=2), {x: [1.0, 2.0, 3.0]})
    np.testing.assert_array_equal(values, [4.0, 8.0, 12.0])


def test_what_the_output_does_not_depend_on_gets_zeros():
    x, y = gx.input("x"), gx.input("y", ("N", 2), gx.float32)
    zeros = gx.evaluate(gx.grad(x * 2, [y]), {x: 1.0, y: np.ones((3, 2))})
    np.testing.assert_array_equal(zeros[0], np.zeros((3, 2), np.float32))
    f = gx.compile([x, y], gx.grad(x * 2, y), cache=False)
    np.testing.assert_array_equal(f(1.0, np.ones((3, 2))), np.zeros((3, 2)))


def test_gradients_of_values_inside_the_graph():
    x = gx.input("x")
    power = gx.exp(-x)
    below = 1 + power
    s = 1 / below
    found = gx.evaluate(gx.grad(s, [s, below, power, x]), {x: 1.0})
    np.testing.assert_allclose(found, [1.0, -0.5344466, -0.5344466, 0.19661193], rtol=1e-6)
    assert "sigmoid" not in ops_of(*gx.grad(s, [power]))
    assert "sigmoid" in ops_of(gx.grad(s, x))


def test_higher_orders():
    x = gx.input("x")
    y = gx.tanh(x) * x**3
    derivatives = [y]
    for _ in range(3):
        derivatives.append(gx.grad(derivatives[-1], x))
    found = np.array(gx.evaluate(derivatives, {x: 0.7}))
    t = np.tanh(0.7)
    first = (1 - t**2) * 0.7**3 + 3 * 0.7**2 * t
    assert found[1] == pytest.approx(first)
    step = 1e-5
    for order in (1, 2):
        ahead, behind = (gx.evaluate(derivatives[order], {x: 0.7 + d}) for d in (step, -step))
        assert found[order + 1] == pytest.approx((ahead - behind) / (2 * step), rel=1e-7)


def test_stop_gradient():
    x = gx.input("x")
    slope = gx.grad(x * gx.stop_gradient(x * x), x)
    f = gx.compile([x], [slope, gx.stop_gradient(x) * 1], cache=False)
    assert [float(v) for v in f(3.0)] == [9.0, 3.0]


def test_gradients_through_casts_and_integers():
    x = gx.input("x", (3,), gx.float32)
    wide = gx.sum(x.astype(gx.float64) ** 2)
    assert gx.grad(wide, x).dtype == np.float32
    cut = gx.sum(x.astype(gx.int64) * 2.0)
    np.testing.assert_array_equal(gx.evaluate(gx.grad(cut, x), {x: [1.0, 2.0, 3.0]}), np.zeros(3))


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda x, i: gx.grad(x, x), gx.GradientError, r"not a scalar.*f64\[3\].*Sum it up"),
        (lambda x, i: gx.grad(gx.sum(x), i), gx.GradientError, "'i' is of dtype int64"),
        (lambda x, i: gx.grad(gx.sum(i), x), gx.GradientError, "output is not of a float dtype"),
        (lambda x, i: gx.grad(x, x, seed=np.ones(4)), gx.GraphValueError, "seed"),
        (lambda x, i: gx.grad(gx.sum(x), "x"), gx.GraphTypeError, "needs tensors, not str"),
    ],
)
def test_clear_errors(ask, error, message):
    x, i = gx.input("x", (3,)), gx.input("i", (3,), gx.int64)
    with pytest.raises(error, match=message):
        ask(x, i)


def test_the_sigmoid_gate_is_stable():
    for dtype in (gx.float32, gx.float64):
        x = gx.input("x", ("N",), dtype)
        for spelling in (
            1 / (1 + gx.exp(-x)),
            (1 + gx.exp(-x)) ** -1,
            gx.reciprocal(gx.exp(-x) + 1),
        ):
            slope = gx.grad(gx.sum(spelling), x)
            f = gx.compile([x], [spelling, slope], cache=False)
            value, gradient = f(np.array([-1000.0, 0.0, 1000.0], dtype))
            np.testing.assert_array_equal(value, [0.0, 0.5, 1.0])
            np.testing.assert_array_equal(gradient, [0.0, 0.25, 0.0])
            assert "sigmoid(" in f.dump("gates")
            assert "exp(" not in f.dump("gates")


def test_check_grad_accepts_right_and_names_wrong_elements():
    x, y = gx.input("x", (2, 3), gx.float32), gx.input("y", (3,))
    values = {x: np.arange(6).reshape(2, 3) / 7 + 0.1, y: [0.3, 0.2, 0.1]}
    assert gx.check_grad(gx.tanh(x) * y, [x, y], values) < 1e-6
    wrong = gx.sin(x) + gx.stop_gradient(x) * 0.01
    with pytest.raises(
        gx.GradientMismatch, match=r"with respect to x\[0, 0\] is 1\.\d+ but numerically 1\.\d+"
    ):
        gx.check_grad(wrong, x, values)


def first_extremes(x, axes, argument):
    """1 at the first extreme element along axes, or the first nan, and 0 elsewhere."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    moved = np.transpose(x, (*kept, *axes))
    rows = moved.reshape(-1, np.prod([x.shape[axis] for axis in axes]))
    found = np.zeros_like(rows)
    found[np.arange(len(rows)), argument(rows, axis=1)] = 1
    return np.transpose(found.reshape(moved.shape), np.argsort((*kept, *axes)))


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("name", ["max", "min"])
def test_the_first_extreme_element_along_any_axes_has_the_gradient(name, axes):
    rng = np.random.default_rng(len(axes))
    values = rng.integers(-2, 3, (4, 3, 5)).astype(np.float64)
    values[0, 1, 2] = values[3, 1, 2] = values[1, 0, 0] = np.nan
    x = gx.input("x", ("N", "K", 5))
    extreme = getattr(gx, name)(x, axis=axes)
    slope = gx.compile([x], gx.grad(gx.sum(extreme), x), cache=False)
    expected = first_extremes(values, axes, getattr(np, f"arg{name}"))
    np.testing.assert_array_equal(slope(values), expected)


@pytest.mark.parametrize("axes", [0, 1, (0, 2)])
def test_nothing_is_transposed_for_the_gradient_of_a_maximum(axes):
    x = gx.input("x", ("N", 7, 5))
    f = gx.compile([x], gx.grad(gx.sum(gx.max(x, axis=axes) ** 2), x), cache=False)
    assert "transpose" not in f.dump("source")
    assert "permute" not in f.dump("gates")


@pytest.mark.parametrize("axis", [0, 1, 2, None])
def test_the_place_of_an_extreme_along_any_axis(axis):
    values = np.random.default_rng(0).integers(-2, 3, (4, 3, 5)).astype(np.float32)
    x = gx.input("x", ("N", "K", 5), gx.float32)
    f = gx.compile([x], [gx.argmax(x, axis=axis), gx.argmin(x, axis=axis)], cache=False)
    largest, smallest = f(values)
    np.testing.assert_array_equal(largest, values.argmax(axis))
    np.testing.assert_array_equal(smallest, values.argmin(axis))
