"""The tests' own teeth: something wrong of each kind must be caught."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import (
    HARD_FLOATS,
    gradient_mismatch,
    gradients,
    inputs_for,
    reference_values,
    same_bits,
)
from random_graphs import Program
from test_ops import Case, value_problems
from test_random_graphs import check

import graphc as gx
from graphc.compile import Pass, run_pipeline
from graphc.dsl import Tensor
from graphc.facts import Domain
from graphc.ir import REGISTRY, Graph, transform, uniform_value
from graphc.ops import elementwise as ew
from graphc.rewrite.tables import choose
from graphc.types import FLOATS
from graphc.verify import verify

DOMAIN = Domain(-2.0, 2.0, also=(0.0, -0.0))
POINTS = [np.array([0.3, -1.2, 1.7])]


@pytest.fixture
def declare():
    """Declares elementwise ops of one float operand, for one test."""
    before = set(REGISTRY)

    def op(name, reference, code, vjp):
        return ew.elementwise(
            name, dtypes=FLOATS, reference=reference, code=code, vjp=vjp, samples=(DOMAIN,)
        )

    yield op
    for name in set(REGISTRY) - before:
        del REGISTRY[name]


def sine(declare, factor):
    """A sine whose derivative is off by ``factor``."""
    return declare("sine", np.sin, "np.sin({0})", lambda g, out, x: (factor * (g * ew.cos(x)),))


def sine_of_second_order(declare, factor):
    """A sine whose derivative is right, and whose second derivative is off by ``factor``."""
    cosine = declare(
        "cosine", np.cos, "np.cos({0})", lambda g, out, x: (factor * (-(g * ew.sin(x))),)
    )
    return declare("sine", np.sin, "np.sin({0})", lambda g, out, x: (g * cosine(x),))


# Derivatives.


def first_order_problem(op):
    inputs = inputs_for(POINTS)
    return gradient_mismatch([op(*inputs)], inputs, POINTS)


def second_order_problem(op):
    inputs = inputs_for(POINTS)
    return gradient_mismatch(gradients([op(*inputs)], inputs, 7), inputs, POINTS)


@pytest.mark.parametrize("factor", [1.001, 0.999, -1.0])
def test_wrong_first_derivative(declare, factor):
    op = sine(declare, factor)
    x = gx.input("x", (3,))
    assert first_order_problem(op)
    with pytest.raises(gx.GradientMismatch):
        gx.check_grad(gx.sum(Tensor(op(x.node))), x, {x: POINTS[0]})


@pytest.mark.parametrize("factor", [1.001, 0.999, -1.0])
def test_wrong_second_derivative(declare, factor):
    op = sine_of_second_order(declare, factor)
    x = gx.input("x", (3,))
    total = gx.sum(Tensor(op(x.node)))
    assert not first_order_problem(op)
    assert second_order_problem(op)
    gx.check_grad(total, x, {x: POINTS[0]})
    with pytest.raises(gx.GradientMismatch):
        gx.check_grad(gx.grad(total, x), x, {x: POINTS[0]})


@pytest.mark.parametrize("build", [sine, sine_of_second_order])
def test_right_derivative_passes(declare, build):
    op = build(declare, 1.0)
    x = gx.input("x", (3,))
    assert not first_order_problem(op)
    assert not second_order_problem(op)
    gx.check_grad(gx.grad(gx.sum(Tensor(op(x.node))), x), x, {x: POINTS[0]})


# Rewrites.


def changed_bits(run_pass):
    """Those of some expressions that a pass changes, bit by bit, at hard values."""
    array = np.array([*HARD_FLOATS, 5e-324, 1e308])
    x = gx.input("x", array.shape)
    expressions = {
        "x + 0.0": x + 0.0,
        "x + -0.0": x + -0.0,
        "x - 0.0": x - 0.0,
        "0.0 - x": 0.0 - x,
        "x * 1.0": x * 1.0,
        "x * 0.0": x * 0.0,
        "x / 1.0": x / 1.0,
        "x ** 1.0": x**1.0,
        "-(-x)": -gx.negative(x),
        "x - x": x - x,
        "where": gx.where(x == x, x, x),
    }
    outputs = [tensor.node for tensor in expressions.values()]
    graph = run_pass(Graph("f", (x.node,), tuple(outputs)))
    before = reference_values(outputs, [x.node], [array])
    after = reference_values(graph.outputs, graph.inputs, [array])
    pairs = zip(expressions, before, after, strict=True)
    return [text for text, a, b in pairs if not same_bits(a, b)]


def drop_zero(node):
    """x + 0 -> x, which is wrong for -0.0"""
    is_sum = node.op is ew.add and uniform_value(node.args[1]) == 0
    return node.args[0] if is_sum else node


def drop_product_with_zero(node):
    """x * 0 -> 0, which is wrong for nan, infinities and negative numbers"""
    is_zero = node.op is ew.multiply and uniform_value(node.args[1]) == 0
    return node.args[1] if is_zero else node


def test_rewrite_that_is_wrong_for_special_values():
    assert changed_bits(lambda graph: transform(graph, drop_zero)) == ["x + 0.0"]
    assert changed_bits(lambda graph: transform(graph, drop_product_with_zero)) == ["x * 0.0"]


def test_own_rewrites_change_no_bit():
    assert changed_bits(choose({"stabler": False}).rewrite) == []


PROGRAM = """
x = gx.input("x", ("N", "M"))
y = gx.tanh(x) * 0.5
inputs = [x]
results = [y, gx.grad(gx.sum(y), x)]
names = ["y", "gradient of x"]
"""


def test_rewrite_that_is_off_by_a_thousandth():
    program = Program(PROGRAM, np.dtype(np.float64))

    def stretched(node):
        return node * 1.001 if node.op is ew.tanh else node

    check(program)
    # The product has the tanh as its operand, which is not met again: the rule fires once.
    wrong = Pass(lambda graph: transform(graph, stretched))
    with pytest.raises(AssertionError, match="import graphc as gx"):
        check(program, (wrong,))


# Code.


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        (np.tanh, "vmath.tanh_{suffix}({0}) * {type}(1.001)"),
        (np.tanh, "vmath.tanh_{suffix}({0}) * (1 + 4 * np.finfo({type}).eps)"),
        (lambda x: x, "{0} + {type}(0)"),
        (np.abs, "{0}"),
    ],
)
def test_wrong_code(declare, reference, code):
    op = declare("wrong", reference, code, lambda g, out, x: (g,))
    for dtype in FLOATS:
        problems = value_problems([Case(ew.exp, 0, dtype), Case(op, 0, dtype)])
        assert len(problems) == 2
        assert all(problem.startswith("wrong-0") for problem in problems)


# Graphs.


def chain_of_two():
    x = gx.input("x", (3,)).node
    inner = ew.exp(x)
    return inner, Graph("f", (x,), (ew.sin(inner),))


def test_sound_graph_passes():
    _, graph = chain_of_two()
    assert verify(graph) is graph


def test_cyclic_graph():
    inner, graph = chain_of_two()
    object.__setattr__(inner, "args", (graph.outputs[0],))
    with pytest.raises(gx.InvalidGraph, match="cycle"):
        verify(graph)


@pytest.mark.parametrize(
    "change", [lambda t: t.with_dtype(np.dtype(np.int32)), lambda t: t.with_shape((4,))]
)
def test_node_of_a_wrong_type(change):
    inner, graph = chain_of_two()
    object.__setattr__(inner, "type", change(inner.type))
    with pytest.raises(gx.InvalidGraph, match="should have"):
        verify(graph)


def test_input_that_is_not_declared():
    _, graph = chain_of_two()
    with pytest.raises(gx.InvalidGraph, match="'x' is not an input"):
        verify(Graph("f", (), graph.outputs))


def test_pass_that_breaks_a_graph():
    _, graph = chain_of_two()

    def forget_inputs(broken):
        return Graph(broken.name, (), broken.outputs)

    with pytest.raises(gx.InvalidGraph, match="'x' is not an input"):
        run_pipeline(graph, [Pass(forget_inputs)], inspect=verify)


def test_wrong_type_inside_a_gate():
    _, graph = chain_of_two()
    fused = run_pipeline(graph)["fused"]
    gate = fused.outputs[0].args[0]
    inner = gate.attrs["body"].outputs[0].args[0]
    object.__setattr__(inner, "type", inner.type.with_shape((4,)))
    with pytest.raises(gx.InvalidGraph, match="should have"):
        verify(fused)
