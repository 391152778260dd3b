"""Which values gates compute again instead of reading them, and that nothing else changes by it."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
from helpers import run_source, same_bits, source_of
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gx
from graphc.compile import Pass, declared_graph, pipeline, run_pipeline
from graphc.dump import dump
from graphc.function import Function, Plan
from graphc.fuse.group import LARGEST_GATE, fuse
from graphc.fuse.memory import plan_memory
from graphc.fuse.recompute import Value, best_of_all, cheapest, cost, minimum_cut
from graphc.fuse.roles import Role, role
from graphc.rewrite.tables import choose
from graphc.verify import verify

NEVER = math.inf


def fused(inputs, outputs, bytes_per_operation=2.0):
    """The fused graph when an operation costs as much as so many bytes moved."""
    last = Pass(partial(fuse, bytes_per_operation=bytes_per_operation), stage="fused")
    graph = declared_graph(inputs, outputs, "f")
    return run_pipeline(graph, (*pipeline(choose())[:-1], last), inspect=verify)["fused"]


def compiled(inputs, outputs, bytes_per_operation=2.0):
    graph = fused(inputs, outputs, bytes_per_operation)
    stages = {"declared": declared_graph(inputs, outputs, "f"), "fused": graph}
    return Function(Plan(stages, source_of(graph), plan_memory(graph), outputs, False))


def recomputed(graph):
    """The ops that the dump says are computed again, in order."""
    lines = [line for line in dump(graph).splitlines() if "# recomputed" in line]
    return [line.split(" = ")[1].split("(")[0].strip() for line in lines]


def stored(graph):
    """The arrays that gates hand to each other or to the caller."""
    bodies = [node.attrs["body"] for node in graph.nodes() if "body" in node.attrs]
    return sum(len(node.shape) > 0 for body in bodies for node in body.outputs)


# The cut.


@st.composite
def problems(draw):
    """Values 0 ... n - 1, whose operands come before them; some can only be stored."""
    values = {}
    for k in range(draw(st.integers(1, 7))):
        operands = draw(st.sets(st.integers(0, k - 1))) if k else set()
        recompute = draw(st.sampled_from([NEVER, 0, 1, 2, 3, 5, 8]))
        values[k] = Value(draw(st.integers(0, 12)), recompute, tuple(operands), draw(st.booleans()))
    return values


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(problems())
def test_no_choice_costs_less_than_the_cut(values):
    subsets = itertools.chain.from_iterable(
        itertools.combinations(values, n) for n in range(len(values) + 1)
    )
    assert cost(values, cheapest(values)) == min(cost(values, chosen) for chosen in subsets)


@settings(max_examples=100, derandomize=True, database=None, deadline=None)
@given(problems())
def test_few_choices_are_made_as_by_the_cut(values):
    assert best_of_all(values) == minimum_cut(values)


def test_the_cut_weighs_a_shared_operand_once():
    shared = {"x": Value(0, NEVER), "u": Value(100, 6, ("x",))}
    readers = {k: Value(5, 1, ("u",), needed=True) for k in "vw"}
    assert cheapest(shared | {"v": readers["v"]}) == set()
    assert cheapest(shared | readers) == {"u", "v", "w"}
    assert cost(shared | readers, {"u", "v", "w"}) == 8


# What is chosen in graphs.


@pytest.fixture
def x():
    return gx.input("x", ("N", 8))


def centered(y):
    """What needs ``y`` in two gates: the maximum of a column is known behind the loop over rows only."""
    return y - y.max(axis=0, keepdims=True)


def test_a_cheap_chain_is_computed_again(x):
    graph = fused([x], centered(gx.maximum(-x, 0.5)))
    # Two operations of 2 bytes and a read of x, which nothing else reads there, against 16 bytes.
    assert recomputed(graph) == ["negative", "maximum"]
    assert stored(graph) == 2


def test_an_expensive_value_is_kept(x):
    # exp has cost 10: 20 bytes, and 16 for storing it.
    graph = fused([x], centered(gx.exp(x)))
    assert recomputed(graph) == []
    assert stored(graph) == 3
    assert recomputed(fused([x], centered(gx.exp(x)), bytes_per_operation=0.5)) == ["exp"]


def test_a_kept_value_is_where_a_chain_begins(x):
    # The exp is kept for two cheap values that follow it: storing each of them would cost more.
    y = gx.exp(x)
    outputs = [centered(y + 1), y * gx.sum(y - 1, axis=0, keepdims=True)]
    graph = fused([x], outputs)
    assert "exp" not in recomputed(graph)
    assert recomputed(graph) == ["add"]


def test_with_free_arithmetic_everything_and_with_priceless_nothing_is_computed_again(x):
    outputs = centered(gx.tanh(gx.exp(x) * gx.sin(x)))
    assert recomputed(fused([x], outputs, 0)) == ["exp", "sin", "multiply", "tanh"]
    assert recomputed(fused([x], outputs, NEVER)) == []


def test_what_must_be_an_array_is_read(x):
    """A result, an operand of a product, and what is read through an index map."""
    y = gx.exp(x)
    w = gx.input("w", (8, 8))
    for outputs in ([centered(y), y], [centered(y), y @ w], [centered(y), y[:, ::-1] * x]):
        assert recomputed(fused([x, w], outputs, 0)) == []


def test_reading_many_arrays_costs_too():
    inputs = [gx.input(name, ("N", 8)) for name in "abcd"]
    a, b, c, d = inputs
    # Four reads of 8 bytes are more than one write and one read, even if sums were free.
    assert recomputed(fused(inputs, centered(a + b + c + d), 0)) == []
    assert recomputed(fused(inputs[:1], centered(a + 1), 0)) == ["add"]


def test_a_value_of_many_readers_is_stored():
    """Eight operations in each of many gates are more than one write."""
    x = gx.input("x", ("N", 8))
    y = x
    for k in range(5):
        y = gx.maximum(y, 0.1 * k) * 0.5
    total = y
    for _ in range(6):
        total = gx.minimum(centered(total), y)
    assert recomputed(fused([x], total)).count("multiply") == 0


def test_gates_stay_short():
    x = gx.input("x", ("N", 8))
    y = x
    for k in range(LARGEST_GATE // 2 + 100):
        y = gx.maximum(y * 0.5, 0.001 * k)
    graph = fused([x], centered(y) + y.sum(axis=0), 0)
    bodies = [node.attrs["body"] for node in graph.nodes() if "body" in node.attrs]
    computed = [
        sum(role(n) in (Role.LOOP, Role.REDUCE) for n in body.nodes() if n not in body.inputs)
        for body in bodies
    ]
    assert len(bodies) > 2
    assert max(computed) == LARGEST_GATE


# What does not change.


def softmax_network(dtype):
    """Products of matrices stand between the gates; the activation is needed before and behind them."""
    x, y = gx.input("x", ("N", 6), dtype), gx.input("y", ("N",), gx.int64)
    weights = [
        gx.input("W", (6, 7), dtype),
        gx.input("b", (7,), dtype),
        gx.input("V", (7, 5), dtype),
    ]
    W, b, V = weights
    z = x @ W + b
    loss = gx.mean(gx.nn.softmax_cross_entropy(gx.tanh((z * gx.nn.sigmoid(z)) @ V), y))
    return [x, y, *weights], [loss, *gx.grad(loss, weights)]


def batch_norm(dtype):
    """Statistics of columns stand between the gates."""
    x, target = gx.input("x", ("N", 16), dtype), gx.input("target", ("N", 16), dtype)
    gain, bias = gx.input("gain", (16,), dtype), gx.input("bias", (16,), dtype)
    c = x - x.mean(axis=0, keepdims=True)
    scale = gx.sqrt(gx.mean(c * c, axis=0, keepdims=True) + 1e-5)
    loss = gx.mean((gx.tanh(c / scale * gain + bias) - target) ** 2)
    return [x, target, gain, bias], [loss, *gx.grad(loss, [x, gain, bias])]


def arrays_for(inputs, n):
    rng = np.random.default_rng(5)
    shapes = [tuple(d if isinstance(d, int) else n for d in t.shape) for t in inputs]
    return [
        rng.integers(0, 5, shape) if t.dtype.kind == "i" else rng.normal(size=shape).astype(t.dtype)
        for t, shape in zip(inputs, shapes, strict=True)
    ]


NETWORKS = [softmax_network, batch_norm]


@pytest.mark.parametrize("dtype", [gx.float32, gx.float64])
@pytest.mark.parametrize("network", NETWORKS)
def test_results_are_equal_bit_by_bit(network, dtype):
    inputs, outputs = network(dtype)
    arrays = arrays_for(inputs, 9)
    graphs = [fused(inputs, outputs, price) for price in (NEVER, 2.0, 0)]
    assert recomputed(graphs[0]) == []
    assert recomputed(graphs[2])
    without, *others = [run_source(graph, arrays) for graph in graphs]
    for found in others:
        assert all(map(same_bits, map(np.asarray, found), map(np.asarray, without)))


def test_a_batch_norm_needs_fewer_arrays():
    inputs, outputs = batch_norm(gx.float64)
    assert stored(fused(inputs, outputs)) < stored(fused(inputs, outputs, NEVER))


def test_the_dump_is_the_same_every_time():
    inputs, outputs = batch_norm(gx.float64)
    assert dump(fused(inputs, outputs)) == dump(fused(inputs, outputs))


# Values that are computed at several places.


def arrays_of(rng, inputs, n, dtype):
    """Arrays in which products are not exact."""
    shapes = [tuple(d if isinstance(d, int) else n for d in t.shape) for t in inputs]
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [gx.float32, gx.float64])
@pytest.mark.parametrize("columns", [1, 2, 32])
def test_two_gates_that_compute_a_value_agree_in_every_bit(columns, dtype):
    """Merged into one rounding in one gate and not in the other, no element would equal its maximum."""
    x = gx.input("x", ("N", columns), dtype)
    w, b = gx.input("w", (columns,), dtype), gx.input("b", (columns,), dtype)
    y = x * w
    z = y + b
    is_largest = z == z.max(axis=0, keepdims=True)
    outputs = [gx.sum(gx.where(is_largest, 1, 0), axis=0), gx.max(y, axis=0)]
    f = compiled([x, w, b], outputs, 0)
    assert f.dump().count("# recomputed") == 2
    rng = np.random.default_rng(3)
    for n in (1, 3, 200):
        found = f(*arrays_of(rng, [x, w, b], n, dtype))
        np.testing.assert_array_equal(found[0], 1)
    assert "@exact_gate" in f.dump("source")


@pytest.mark.parametrize("dtype", [gx.float32, gx.float64])
@pytest.mark.parametrize("columns", [1, 2, 3, 8, 32])
@pytest.mark.parametrize("scale", ["element", "row", "column"])
def test_two_loops_that_compute_a_value_agree_in_every_bit(scale, columns, dtype):
    """In one gate a cheap value is computed again by a later loop."""
    x = gx.input("x", ("N", columns), dtype)
    w = {
        "element": gx.input("w", ("N", columns), dtype),
        "row": gx.input("w", ("N", 1), dtype),
        "column": gx.input("w", (columns,), dtype),
    }[scale]
    v = gx.input("v", ("N", 1), dtype)
    z = x * w - v if scale == "element" else x - v * w
    is_largest = z == z.max(axis=1, keepdims=True)
    f = gx.compile([x, w, v], gx.sum(gx.where(is_largest, 1, 0), axis=1), cache=False)
    assert f.dump("source").count("def gate_") == 1
    rng = np.random.default_rng(3)
    for n in (1, 2, 200):
        np.testing.assert_array_equal(f(*arrays_of(rng, [x, w, v], n, dtype)), 1)


def test_only_gates_with_products_at_several_places_are_without_contraction(x):
    def source(outputs):
        return gx.compile([x], outputs, cache=False).dump("source")

    assert "exact_gate" not in source(gx.exp(x))
    # The product is computed once, and what is computed twice has one operation to round.
    assert "exact_gate" not in source(x * 0.1 + 1)
    assert "# recomputed" in dump(fused([x], centered(-x)))
    assert "exact_gate" not in source(centered(-x))
    assert source(centered(x * 0.1 + 1)).count("@exact_gate") == 2
