"""The loops of gates: which nodes share one, what later loops read again, and nothing computed in vain."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest
from helpers import run_source, source_of
from random_graphs import SIZES, covering_programs, for_programs

import graphc as gx
from graphc import reference
from graphc.compile import declared_graph, run_pipeline
from graphc.dsl import Tensor
from graphc.fuse.roles import Role, role
from graphc.fuse.schedule import Loop

FLOAT64 = np.dtype(np.float64)


def fused(inputs, outputs):
    return run_pipeline(declared_graph(inputs, outputs, "f"))["fused"]


def schedules(graph):
    """The schedule of every gate, in order."""
    return [node.attrs["schedule"] for node in graph.nodes() if "body" in node.attrs]


def tree(steps):
    """Every loop is a tuple: its size, and then what an iteration does, by the names of the ops."""
    return tuple(
        (str(step.size), *tree(step.body)) if isinstance(step, Loop) else step.op.name
        for step in steps
    )


def trees(inputs, outputs):
    """The loops of each gate."""
    return [tree(schedule.steps) for schedule in schedules(fused(inputs, outputs))]


def scratch(inputs, outputs):
    """What the gates keep beside their results: ops, and their shapes in memory."""
    return [
        (node.op.name, tuple(map(str, schedule.shape(node))))
        for schedule in schedules(fused(inputs, outputs))
        for node, _ in schedule.scratch
    ]


def hosted(inputs, outputs):
    """What gates keep where a result will be written: the ops of both."""
    return [
        (node.op.name, result.op.name)
        for schedule in schedules(fused(inputs, outputs))
        for node, result in schedule.hosted
    ]


@pytest.fixture
def x():
    return gx.input("x", ("N", 512))


@pytest.fixture
def z():
    return gx.input("z", ("N", "K", 5))


# Rows.


MAXIMUM = [("512", "max_or_lowest"), "minimum", "maximum"]
"""Of a row, made finite."""


EXPONENTIALS = [("512", "subtract", "exp", "sum"), "reciprocal"]
"""Of a row, and one over their sum."""


def test_softmax_is_three_loops_over_a_row(x):
    outputs = [gx.nn.softmax(x)]
    assert trees([x], outputs) == [(("N", *MAXIMUM, *EXPONENTIALS, ("512", "multiply")),)]
    # The exponentials of a row are kept where its probabilities will be.
    assert hosted([x], outputs) == [("exp", "multiply")]
    assert scratch([x], outputs) == []


def test_a_row_that_no_result_can_hold_is_kept_beside_the_results(x):
    p = gx.nn.softmax(x)
    total = gx.sum(p * gx.sin(p), axis=1)
    assert scratch([x], [total]) == [("exp", ("512",))]
    assert hosted([x], [total]) == []


def test_softmax_with_its_gradient_is_four(x):
    seed = gx.input("seed", ("N", 512))
    s = gx.nn.softmax(x)
    gradient = gx.grad(gx.sum(s * seed), x)
    rows = ("N", *MAXIMUM, *EXPONENTIALS, ("512", "multiply", "multiply", "sum"))
    # A result is read again; what is none is one operation on the exponentials, which are kept.
    assert trees([x, seed], [s, gradient]) == [((*rows, ("512", "subtract", "multiply")),)]
    assert trees([x, seed], [gradient]) == [((*rows, ("512", "subtract", "multiply", "multiply")),)]
    for outputs, result in (([s, gradient], s), ([gradient], gradient)):
        assert hosted([x, seed], outputs) == [("exp", "multiply")]
        (schedule,) = schedules(fused([x, seed], outputs))
        assert schedule.hosted[0][1].tensor_type == result.node.tensor_type
        assert scratch([x, seed], outputs) == []


def test_cross_entropy_keeps_no_row(x):
    y = gx.input("y", ("N",), gx.int64)
    loss = gx.mean(gx.nn.softmax_cross_entropy(x, y))
    (gate,) = trees([x, y], [loss])
    (rows,) = gate
    assert [step for step in rows if isinstance(step, tuple)] == [
        ("512", "max_or_lowest"),
        ("512", "subtract", "exp", "equal", "where", "sum", "where", "sum"),
    ]
    assert rows[-1] == "sum"
    assert scratch([x, y], [loss]) == []


def test_cross_entropy_with_its_gradient_is_three_loops_over_a_row(x):
    y = gx.input("y", ("N",), gx.int64)
    loss = gx.mean(gx.nn.softmax_cross_entropy(x, y))
    outputs = [loss, gx.grad(loss, x)]
    ((rows,),) = trees([x, y], outputs)
    inner = [step for step in rows if isinstance(step, tuple)]
    assert [step[0] for step in inner] == ["512", "512", "512"]
    # The sum for the probabilities is that of the two sums for the logarithm; one product is left.
    assert inner[1][1:] == ("subtract", "exp", "equal", *("where", "sum") * 2)
    assert inner[2][1:] == ("equal", "multiply", "where")
    assert hosted([x, y], outputs) == [("exp", "where")]
    assert scratch([x, y], outputs) == []


def layer_norm(x):
    gain, bias = gx.input("gain", (512,)), gx.input("bias", (512,))
    c = x - x.mean(axis=1, keepdims=True)
    scale = gx.sqrt(gx.mean(c * c, axis=1, keepdims=True) + 1e-5)
    return [x, gain, bias], c / scale * gain + bias


def test_layer_norm_is_three_loops_over_a_row(x):
    inputs, y = layer_norm(x)
    rows = (
        "N",
        ("512", "sum"),
        "multiply",
        ("512", "subtract", "square", "sum"),
        "multiply",
        "add",
        "sqrt",
        ("512", "subtract", "divide", "multiply", "add"),
    )
    assert trees(inputs, [y]) == [(rows,)]
    # A difference is computed again for less than it costs to keep.
    assert scratch(inputs, [y]) == []


def test_layer_norm_with_all_gradients_is_one_loop_over_rows(x):
    inputs, y = layer_norm(x)
    seed = gx.input("seed", ("N", 512))
    outputs = [y, *gx.grad(gx.sum(y * seed), inputs)]
    ((rows,),) = trees([*inputs, seed], outputs)
    assert rows[0] == "N"
    assert len([step for step in rows if isinstance(step, tuple)]) == 4
    kept = [op for op, _ in hosted([*inputs, seed], outputs)]
    kept += [op for op, _ in scratch([*inputs, seed], outputs)]
    assert kept == ["divide"]


# Sums.


@pytest.mark.parametrize("axis", [0, 1, 2, (0, 1), (1, 2), (0, 2)], ids=str)
def test_a_sum_over_any_axes_is_one_pass(axis, z):
    assert trees([z], [gx.sum(gx.exp(z), axis)]) == [(("N", ("K", ("5", "exp", "sum"))),)]
    assert scratch([z], [gx.sum(gx.exp(z), axis)]) == []


def test_what_needs_a_total_over_the_outermost_axis_is_another_gate(z):
    outputs = [z - gx.sum(z, axis=0, keepdims=True)]
    assert trees([z], outputs) == [
        (("N", ("K", ("5", "sum"))),),
        (("N", ("K", ("5", "subtract"))),),
    ]


def test_what_needs_a_total_over_the_middle_axis_is_another_loop_inside(z):
    outputs = [z - gx.sum(z, axis=1, keepdims=True)]
    assert trees([z], outputs) == [(("N", ("K", ("5", "sum")), ("K", ("5", "subtract"))),)]
    # Of one n at a time.
    assert scratch([z], outputs) == [("sum", ("5",))]


def test_what_needs_a_total_over_the_last_axis_reads_a_variable(z):
    outputs = [z - gx.sum(z, axis=2, keepdims=True)]
    assert trees([z], outputs) == [(("N", ("K", ("5", "sum"), ("5", "subtract"))),)]
    assert scratch([z], outputs) == []


@pytest.mark.parametrize("total", [gx.max, gx.sum])
def test_a_total_is_read_by_rows_and_by_columns_in_one_loop(total):
    """Its own two axes are the first and the second of some loops, and the first and the last of others."""
    cube = gx.input("cube", ("N", 16, 16))
    of_columns = total(cube, axis=1)
    outputs = [gx.sum(of_columns**2), gx.sum(cube * of_columns[:, None, :], axis=1)]
    values = np.random.default_rng(0).normal(size=(3, 16, 16))
    f = gx.compile([cube], outputs, cache=False)
    for found, expected in zip(f(values), gx.evaluate(outputs, {cube: values}), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


def test_rows_of_rows(z):
    """From [N,K,5] to [N,K] to [N] in one pass."""
    largest = gx.max(gx.sum(gx.exp(z), axis=2), axis=1)
    assert trees([z], [largest]) == [(("N", ("K", ("5", "exp", "sum"), "max")),)]
    assert scratch([z], [largest]) == []
    longest = gx.sqrt(largest) + 1
    assert trees([z], [longest]) == [(("N", ("K", ("5", "exp", "sum"), "max"), "sqrt", "add"),)]
    total = gx.sum(longest)
    assert trees([z], [total]) == [
        (("N", ("K", ("5", "exp", "sum"), "max"), "sqrt", "add", "sum"),)
    ]


def test_rows_of_rows_and_back(z):
    """A softmax over K of sums over the last axis, multiplied with what was added up."""
    weights = gx.nn.softmax(gx.sum(z * z, axis=2), axis=1)
    outputs = [z * gx.expand_dims(weights, 2)]
    rows = (
        "N",
        ("K", ("5", "square", "sum"), "max_or_lowest"),
        "minimum",
        "maximum",
        ("K", "subtract", "exp", "sum"),
        "reciprocal",
        ("K", "multiply", ("5", "multiply")),
    )
    assert trees([z], outputs) == [(rows,)]
    assert scratch([z], outputs) == [("sum", ("K",)), ("exp", ("K",))]


def test_values_of_fewer_axes_stand_between_the_loops(x):
    v = gx.input("v", ("N",))
    outputs = [x * gx.expand_dims(gx.exp(v), 1), v + 1]
    assert trees([v, x], outputs) == [(("N", "exp", ("512", "multiply"), "add"),)]


# Flat loops.


def test_elements_of_one_shape_are_one_flat_loop(x):
    y = gx.input("y", ("N", 512))
    outputs = [x * y + 1, gx.sum(x * y), gx.max(x)]
    graph = fused([x, y], outputs)
    assert [(tree(s.steps), s.flat) for s in schedules(graph)] == [
        ((("512*N", "multiply", "add", "sum", "max"),), True)
    ]


@pytest.mark.parametrize(
    "outputs",
    [
        lambda x, y, row: [x * y, gx.sum(x * y, axis=1)],
        lambda x, y, row: [x * row],
        lambda x, y, row: [x * y[:, ::-1]],
        lambda x, y, row: [x - x[:1]],
    ],
)
def test_what_needs_an_index_is_not_flat(outputs, x):
    y, row = gx.input("y", ("N", 512)), gx.input("row", (512,))
    assert [s.flat for s in schedules(fused([x, y, row], outputs(x, y, row)))] == [False]


def test_a_number_for_all_elements_is_flat(x):
    v = gx.input("v")
    assert [s.flat for s in schedules(fused([x, v], [x * v, gx.sum(x - v)]))] == [True]


# Computed again, or kept.


@pytest.mark.parametrize(
    ("value", "copies", "kept"),
    [
        (lambda x: x + 1, 2, 0),
        (lambda x: x * 2 + 1, 2, 0),
        (lambda x: gx.maximum(x * 2 + 1, 0.5), 1, 1),
        (lambda x: gx.exp(x), 1, 1),
    ],
    ids=["one operation", "two", "three", "an expensive one"],
)
def test_cheap_values_are_computed_in_every_loop_that_reads_them(value, copies, kept, x):
    y = value(x)
    graph = fused([x], [y * gx.sum(y * y, axis=1, keepdims=True)])
    (schedule,) = schedules(graph)
    steps = [node for step in schedule.steps for node in step.nodes()]
    assert steps.count(y.node) == copies
    assert [node for node, _ in schedule.hosted] == [y.node] * kept
    assert schedule.scratch == ()


def test_what_is_read_at_another_index_is_kept(x):
    y = gx.exp(x)
    assert trees([x], [y[:, ::-1] + y]) == [(("N", ("512", "exp"), ("512", "add")),)]
    assert scratch([x], [y[:, ::-1] + y]) == [("exp", ("512",))]
    # And of other rows, it is what another gate has stored.
    assert len(trees([x], [y[::-1] + y])) == 2


def test_results_are_not_computed_again(x):
    y = x + 1
    (schedule,) = schedules(fused([x], [y, y * gx.sum(y * y, axis=1, keepdims=True)]))
    steps = [node for step in schedule.steps for node in step.nodes()]
    assert steps.count(y.node) == 1
    assert schedule.scratch == ()


# Sums in two parts.


def sums(inputs, outputs):
    """How many sums over rows there are."""
    gates = schedules(fused(inputs, outputs))
    return [[n.op.name for n in s.nodes()].count("sum") for s in gates]


def test_a_softmax_alone_has_one_sum(x):
    assert sums([x], [gx.nn.softmax(x)]) == [1]
    assert sums([x], [gx.logsumexp(x, axis=1)]) == [2]


def with_logsumexp(x):
    """A softmax and the logarithm of what it is divided by."""
    return [gx.logsumexp(x, axis=1), gx.nn.softmax(x)]


@pytest.mark.parametrize(
    ("outputs", "count"),
    [
        (with_logsumexp, 2),
        (lambda x: [gx.nn.log_softmax(x), gx.nn.softmax(x)], 2),
        # The second pair is of what the first one's sums have become.
        (lambda x: [*with_logsumexp(x), *with_logsumexp(x + gx.nn.softmax(x))], 4),
    ],
    ids=["logsumexp", "log_softmax", "of a softmax"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sum_that_is_there_in_two_parts_is_not_computed_again(outputs, count, dtype):
    x = gx.input("x", ("N", 8), getattr(gx, np.dtype(dtype).name))
    results = outputs(x)
    assert sum(sums([x], results)) == count
    f = gx.compile([x], results, cache=False)
    array = np.random.default_rng(0).normal(size=(50, 8)).astype(dtype)
    array[:5] = [
        [0] * 8,
        [1e5] * 8,
        [-np.inf, *[0] * 7],
        [np.nan, *[0] * 7],
        [np.inf, *[0] * 7],
    ]
    array[5:9, 3:5] = 30.0
    for found, wanted in zip(f(array), gx.evaluate(results, {x: array}), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=8 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize(
    "parts",
    [
        lambda p, w: [gx.where(p == 1, 0.0, p), gx.where(p == 1, 2.0, 0.0)],
        lambda p, w: [gx.where(p == 1, 0.0, w), gx.where(p == 1, 1.0, 0.0)],
        lambda p, w: [gx.where(p > 1, 0.0, p), gx.where(p > 1, 1.0, 0.0)],
        lambda p, w: [gx.where(p == 1, 0.0, p), gx.where(w == 1, 1.0, 0.0)],
        lambda p, w: [gx.where(p == 1, 1.0, p), gx.where(p == 1, 1.0, 0.0)],
        lambda p, w: [gx.where(p == 1, 0.0, p)],
    ],
)
def test_sums_that_are_not_the_two_parts_of_another_are_left(parts, x):
    w = gx.input("w", ("N", 512))
    results = [gx.sum(value, axis=1) for value in [x, *parts(x, w)]]
    assert sum(sums([x, w], results)) == len(results)
    both = [gx.where(x == 1, 0.0, x), gx.where(x == 1, 1.0, 0.0)]
    assert sum(sums([x], [gx.sum(value, axis=1) for value in [x, *both]])) == 2
    assert sum(sums([x], [gx.sum(x, axis=0), *(gx.sum(value, axis=1) for value in both)])) == 3


# Where a result will be.


def holders(others):
    """The ops of results that hold the exponentials of a row first; results must be the reference's.

    ``others`` makes the results of the exponentials and their sums.
    """
    x = gx.input("x", ("N", 512))
    e = gx.exp(x)
    outputs = others(e, gx.sum(e, axis=1, keepdims=True))
    graph = fused([x], outputs)
    array = np.random.default_rng(0).normal(size=(5, 512))
    expected = gx.evaluate(outputs, {x: array})
    for found in (run_source(graph, [array]), gx.compile([x], outputs, cache=False)(array)):
        for one, other in zip(found, expected, strict=True):
            # Sums of hundreds of terms of both signs.
            scale = np.max(np.abs(other), initial=0)
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12 * scale)
    return [result for kept, result in hosted([x], outputs) if kept == "exp"]


@pytest.mark.parametrize(
    ("others", "holder"),
    [
        (lambda e, s: [e - s], ["subtract"]),
        # The last of those that read it: nobody reads it after.
        (lambda e, s: [e - s, e * s], ["multiply"]),
        (lambda e, s: [gx.sin(e), e - s], ["subtract"]),
        # Read again behind the only result that is an array like it.
        (lambda e, s: [e - s, gx.sum(e * gx.sum(gx.sin(e - s), 1, keepdims=True), 1)], []),
        (lambda e, s: [e[:, ::-1] - s], []),
        (lambda e, s: [gx.astype(e - s, gx.float32)], []),
        (lambda e, s: [gx.concat([e - s, s], axis=1)], []),
    ],
    ids=["a row", "two", "one before", "read later", "other columns", "another dtype", "longer"],
)
def test_exponentials_lie_where_a_result_will_be(others, holder):
    assert holders(others) == holder


# Nothing is computed in vain.


def computed_in_vain(source, buffers):
    """Variables that no later line reads, and those of ``buffers`` that a gate has and does not use."""
    found = []
    for function in ast.parse(source).body:
        if not isinstance(function, ast.FunctionDef):
            continue
        nodes = list(ast.walk(function))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        read = {name.id for name in names if isinstance(name.ctx, ast.Load)}
        counters = {node.target.id for node in nodes if isinstance(node, ast.For)}
        known = {name.id for name in names if isinstance(name.ctx, ast.Store)} - counters
        known.update(argument.arg for argument in function.args.args if argument.arg in buffers)
        found += [f"{function.name}: {name}" for name in sorted(known - read)]
    return found


def written_only(graph):
    """Scratch that is written and never read."""
    found = []
    for node in graph.nodes():
        if "body" not in node.attrs:
            continue
        schedule = node.attrs["schedule"]
        kept = {value for value, _ in schedule.scratch}
        steps = [n for step in schedule.steps for n in (nodes_of(step))]
        read = {arg for n in steps for arg in reads_through(n)}
        found += [value.op.name for value in kept if value not in read]
    return found


def nodes_of(step):
    return step.nodes() if isinstance(step, Loop) else [step]


def reads_through(node):
    pending, found = list(node.args), []
    while pending:
        arg = pending.pop()
        found.append(arg)
        if role(arg) is Role.READ:
            pending.extend(arg.args)
    return found


def problems(graph):
    """What is wrong with the loops of a fused graph."""
    buffers = set(re.findall(r"(\w+) = buffers\.", source_of(graph).text))
    found = [*computed_in_vain(source_of(graph).text, buffers), *written_only(graph)]
    for schedule in schedules(graph):
        steps = [node for step in schedule.steps for node in nodes_of(step)]
        totals = [node for node in steps if role(node) is Role.REDUCE]
        if len(totals) != len(set(totals)):
            found.append("a total is computed twice")
    return found


def test_the_check_finds_what_is_computed_in_vain():
    source = "def gate_f(x, y, t, N):\n    a = x[0]\n    b = a + 1\n    y[0] = a\n"
    assert computed_in_vain(source, {"t"}) == ["gate_f: b", "gate_f: t"]


@pytest.mark.parametrize("k", range(len(covering_programs(FLOAT64))))
def test_nothing_is_computed_in_vain(k):
    program = covering_programs(FLOAT64)[k]
    assert problems(run_pipeline(program.graph())["fused"]) == []


def test_nothing_is_computed_in_vain_in_random_graphs():
    def check(program):
        assert problems(run_pipeline(program.graph())["fused"]) == [], program.text

    for_programs(check, FLOAT64, 100, 1000)


# What the loops compute.


@pytest.mark.parametrize("sizes", [(0, 3), (1, 1), (3, 0), (4, 2)], ids=str)
def test_loops_compute_what_the_reference_does(sizes, z):
    n, k = sizes
    weights = gx.nn.softmax(gx.sum(z * z, axis=2), axis=1)
    y = -z
    outputs = [
        z * gx.expand_dims(weights, 2),
        z - gx.sum(z, axis=1, keepdims=True),
        z - gx.sum(z, axis=0, keepdims=True),
        gx.sum(y * y, axis=(0, 2)),
        gx.sum(y[:, ::-1] * y, axis=1),
        gx.prod(z[..., ::2] + 1, axis=0),
    ]
    array = np.random.default_rng(0).normal(size=(n, k, 5))
    graph = declared_graph([z], outputs, "f")
    found = run_source(run_pipeline(graph)["fused"], [array])
    for one, other in zip(found, reference.evaluate(graph, [array]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_random_loops_run_by_python_compute_what_the_reference_does():
    def check(program):
        graph = program.graph()
        arrays = program.arrays([Tensor(node) for node in graph.inputs], SIZES[0], 0)
        wanted = reference.evaluate(graph, arrays)
        if all(np.all(np.isfinite(w)) for w in wanted):
            found = run_source(run_pipeline(graph)["fused"], arrays)
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)

    for_programs(check, FLOAT64, 60, 1001)
