"""The first optimiser: each rule, and that nothing changes bit by bit on hard values."""

from __future__ import annotations

import re

import numpy as np
import pytest

import graphc as gx
from graphc import reference
from graphc.compile import declared_graph, pipeline, run_pipeline
from graphc.dump import dump
from graphc.ir import BROADCAST_TO, CONSTANT, INPUT, walk
from graphc.rewrite.tables import choose
from graphc.verify import verify

HARD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324, 1e308, 1.5, -2.25])


def simplified(build, shape=("N",), dtype=gx.float64):
    x = gx.input("x", shape, dtype)
    graph = declared_graph([x], [build(x)], "f")
    return graph, verify(choose({"stabler": False}).rewrite(graph))


def ops(graph):
    skipped = (INPUT, CONSTANT, BROADCAST_TO)
    return [node.op.name for node in walk(graph.outputs) if node.op not in skipped]


# What is computed once before it is spread over an axis.
BEFORE = ["multiply", "sin", "multiply"]
RULES = [
    (lambda x: x * 1, []),
    (lambda x: 1 * x, []),
    (lambda x: x / 1, []),
    (lambda x: x - 0, []),
    (lambda x: x + (-0.0), []),
    (lambda x: x**1, []),
    (lambda x: x**2, ["square"]),
    (lambda x: gx.negative(-x), []),
    (lambda x: x * (2.0 * gx.constant(3.0)), ["multiply"]),
    (lambda x: x + gx.sqrt(gx.constant(4.0)), ["add"]),
    (lambda x: gx.where(gx.constant(True), x, 2 * x), []),
    (lambda x: gx.where(gx.constant(False), x, 2 * x), ["multiply"]),
    (lambda x: gx.where(x > 0, x, x), []),
    (lambda x: gx.broadcast_to(gx.broadcast_to(x, (2, x.shape[0])), (3, 2, x.shape[0])), []),
    (lambda x: x.reshape(1, -1).reshape(-1), []),
    (lambda x: x.reshape(1, -1).T.T.reshape(1, 1, -1), ["expand_dims"]),
    (lambda x: gx.expand_dims(gx.constant(2.0), 0) * x, ["multiply"]),
    (lambda x: x * gx.sin(gx.broadcast_to(x[0] * 2, x.shape)), ["slice", "squeeze", *BEFORE]),
    # These would be wrong for some value, or are not this optimiser's business.
    (lambda x: x + 0, ["add"]),
    (lambda x: x * 0, ["multiply"]),
    (lambda x: 0 - x, ["subtract"]),
]


@pytest.mark.parametrize(("build", "expected"), RULES)
def test_rules_fire_and_stay_exact(build, expected):
    graph, better = simplified(build)
    assert ops(better) == expected
    one, other = reference.evaluate(graph, [HARD]), reference.evaluate(better, [HARD])
    np.testing.assert_array_equal(one[0].view(np.int64), other[0].view(np.int64))


def test_integers_have_a_zero_that_absorbs():
    _, better = simplified(lambda x: x * 0, dtype=gx.int64)
    assert ops(better) == []
    _, better = simplified(lambda x: (x & 0) | -1, dtype=gx.int32)
    assert ops(better) == []


def test_a_requirement_of_an_inner_reshape_is_kept():
    _, better = simplified(lambda x: x.reshape(3, 4).reshape(-1))
    with pytest.raises(gx.GraphValueError, match="N == 12"):
        reference.evaluate(better, [np.zeros(5)])


def test_large_constants_are_not_computed_while_compiling():
    big = np.arange(9e4).reshape(300, 300)
    _, better = simplified(lambda x: gx.exp(gx.constant(big))[0, 0] + x)
    assert "exp" in ops(better)


def test_a_transpose_becomes_a_flag_of_the_product():
    x, y = gx.input("x", ("N", 3)), gx.input("y", ("N", 4))
    f = gx.compile([x, y], x.T @ y, cache=False)
    assert "permute_dims" not in f.dump()
    assert "transpose_a=True" in f.dump()
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3)), rng.normal(size=(5, 4))
    np.testing.assert_allclose(f(a, b), a.T @ b)


def test_passes_leave_valid_graphs_and_values_alone():
    x, w = gx.input("x", ("N", 3)), gx.input("w", (3,))
    z = gx.nn.log_softmax(x * w)
    loss = gx.mean(z**2) + gx.sum(gx.logsumexp(x, axis=1)) / x.shape[0]
    graph = declared_graph([x, w], [loss, *gx.grad(loss, [x, w])], "f")
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(4, 3)), rng.normal(size=3)]
    expected = reference.evaluate(graph, arrays)
    seen = []

    def inspect(step):
        seen.append(step)
        verify(step)
        for one, other in zip(reference.evaluate(step, arrays), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)

    run_pipeline(graph, inspect=inspect)
    assert len(seen) == len(pipeline(choose())) + 1


def test_dead_code_is_gone():
    x = gx.input("x", ("N",))
    dead = gx.exp(x) * 3
    f = gx.compile([x], gx.sin(x), cache=False)
    assert "exp" not in f.dump("declared")
    assert "exp" not in f.dump("source")
    assert dead.shape == x.shape


def test_notes_move_along():
    x = gx.input("x", ("N",))
    hidden = gx.tanh(x) * 1
    f = gx.compile([x], gx.grad(gx.sum(gx.sin(hidden)), x), cache=False)
    assert re.search(r"%hidden: f64\[N\] += tanh\(%x\)", f.dump("gates"))
    assert "# grad of %x, test_rewrite.py:" in f.dump()
    assert dump(declared_graph([x], [hidden], "f")).count("test_rewrite.py:") == 2
