"""Where intermediate arrays lie: what is needed at one time never overlaps, and calls allocate nothing."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers import run_source, same_bits
from jitted import allocations
from random_graphs import covering_programs, for_programs

import graphc as gx
from graphc import reference
from graphc.compile import declared_graph, run_pipeline
from graphc.dsl import Tensor
from graphc.fuse.chunks import chunks
from graphc.fuse.memory import ALIGNMENT, computed_value, plan_memory
from graphc.fuse.roles import Role, role
from graphc.ir import Node, requirements
from graphc.types import Dimension, evaluate_size, product

FLOAT64 = np.dtype(np.float64)
SIZES = [
    {"N": n, "M": m} for n, m in ((0, 0), (1, 1), (1, 40), (40, 1), (3, 7), (8, 8), (1000, 33))
]


def fused(inputs, outputs):
    return run_pipeline(declared_graph(inputs, outputs, "f"))["fused"]


def planned(inputs, outputs):
    return plan_memory(fused(inputs, outputs))


# Nothing overlaps.


@dataclass(frozen=True)
class Life:
    """A value in the workspace: its bytes, the first and the last step that need it."""

    value: Node
    bytes: Dimension
    first: int
    last: int

    @property
    def name(self):
        """What it is: the partial totals of a gate have its own name."""
        return self.value.attrs["name"] if "body" in self.value.attrs else self.value.op.name


def last_needed(graph):
    """For every node the last step that reads it, also through items, views and index maps."""
    steps = {node: step for step, node in enumerate(graph.nodes())}
    found = dict(steps)
    for node in reversed(steps):
        passes_on = node.op.name == "item" or role(node) in (Role.READ, Role.VIEW)
        for arg in node.args:
            found[arg] = max(found[arg], found[node] if passes_on else steps[node])
    return found


def bytes_of(value, shape):
    return product(shape) * value.dtype.itemsize


def lives(graph, threads):
    """The lives of all values in the workspace, found from the graph alone."""
    nodes, last = graph.nodes(), last_needed(graph)
    results = {computed_value(node) for node in graph.outputs}
    ends = {}
    for node in nodes:
        if node.op.name == "item":
            value = computed_value(node)
            ends[value] = max(ends.get(value, 0), last[node])
    found = []
    for step, node in enumerate(nodes):
        if "body" in node.attrs:
            values = node.attrs["body"].outputs
            found += [Life(v, bytes_of(v, v.shape), step, ends.get(v, step)) for v in values]
            found += lives_inside(node, step, threads)
        elif role(node) is Role.KERNEL:
            found.append(Life(node, bytes_of(node, node.shape), step, last[node]))
    return [life for life in found if life.value not in results]


def lives_inside(gate, step, threads):
    """What a gate keeps for itself: scratch, for each thread if it is overwritten, and partial totals."""
    schedule = gate.attrs["schedule"]
    chunked = chunks(gate.attrs["body"], schedule, threads)
    for value, lacking in schedule.scratch:
        copies = threads if lacking and chunked and chunked.threads > 1 else 1
        yield Life(value, copies * bytes_of(value, schedule.shape(value)), step, step)
    if chunked and chunked.parts:
        totals = (part.count * part.node.dtype.itemsize for part in chunked.parts)
        yield Life(gate, sum(totals), step, step)


def are_accepted(graph, sizes):
    """Whether a call with these sizes is not refused."""
    bodies = [node.attrs["body"] for node in graph.nodes() if "body" in node.attrs]
    try:
        for requirement in requirements(n for g in (graph, *bodies) for n in g.nodes()):
            requirement.check(sizes)
    except gx.GraphValueError:
        return False
    return True


@dataclass(frozen=True)
class Span:
    """Where a value lies at some sizes."""

    life: Life
    start: int
    end: int

    def meets(self, other):
        """Whether both need one byte at one time."""
        in_space = max(self.start, other.start) < min(self.end, other.end)
        first, last = max(self.life.first, other.life.first), min(self.life.last, other.life.last)
        return in_space and first <= last

    def replaces(self, other, plan):
        """Whether it takes the place of the other in the step that is the end of it."""
        is_planned = plan.replaced.get(self.life.value) is other.life.value
        is_same = (self.start, self.end) == (other.start, other.end)
        return is_planned and is_same and self.life.first == other.life.last


def spans(graph, plan, sizes, threads=1):
    """Where all values lie."""
    offsets, found = plan.offsets(), []
    for life in lives(graph, threads):
        start = evaluate_size(offsets[life.value], sizes)
        found.append(Span(life, start, start + evaluate_size(life.bytes, sizes)))
    return found


def overlaps(graph):
    """What is wrong with the plan of a fused graph at any of `SIZES`, for one thread and for three."""
    return [problem for threads in (1, 3) for problem in overlaps_with(graph, threads)]


def overlaps_with(graph, threads):
    plan = plan_memory(graph, threads)
    if {life.value for life in lives(graph, threads)} != set(plan.offsets()):
        return ["other values are placed than are computed"]
    found = []
    for sizes in SIZES:
        if are_accepted(graph, sizes):
            total = evaluate_size(plan.total, sizes)
            wrong = wrong_spans(spans(graph, plan, sizes, threads), plan, total)
            found += [f"{problem} at {sizes} with {threads} threads" for problem in wrong]
    return found


def wrong_spans(placed, plan, total):
    """Those outside the workspace, at odd places, or where others are."""
    for k, one in enumerate(placed):
        if one.start % ALIGNMENT or not 0 <= one.start <= one.end <= total:
            yield f"{one.life.name} is from {one.start} to {one.end} of {total}"
        for other in placed[:k]:
            is_meant = one.replaces(other, plan) or other.replaces(one, plan)
            if one.meets(other) and not is_meant:
                yield f"{one.life.name} is where {other.life.name} is"


def network(x):
    w, v = gx.input("w", (12, 12)), gx.input("v", (12, 12))
    z = x @ w
    h = gx.nn.softmax(z, axis=0) * z
    loss = gx.sum(gx.tanh(h @ v) * h[::-1])
    return [x, w, v], [loss, *gx.grad(loss, [w, v])]


@pytest.fixture
def x():
    return gx.input("x", ("N", 12))


def test_nothing_overlaps_in_a_network(x):
    graph = fused(*network(x))
    assert len(plan_memory(graph).placements) > 5
    assert overlaps(graph) == []


def test_the_check_finds_an_overlap(x):
    """Negative control: a plan with all values at one place."""
    graph = fused(*network(x))
    plan = plan_memory(graph)
    placed = spans(graph, plan, {"N": 10})
    total = plan.total.evaluate({"N": 10})
    assert list(wrong_spans(placed, plan, total)) == []
    at_once = [replace(span, start=0, end=span.end - span.start) for span in placed]
    assert any(" is where " in problem for problem in wrong_spans(at_once, plan, total))
    shifted = [replace(placed[0], start=8), *placed[1:]]
    assert any(" is from 8 to " in problem for problem in wrong_spans(shifted, plan, total))
    assert list(wrong_spans(placed, plan, total - 64)) != []
    assert list(wrong_spans(placed, replace(plan, replaced={}), total)) != []


@pytest.mark.parametrize("k", range(len(covering_programs(FLOAT64))))
def test_nothing_overlaps_with_any_kind_of_step(k):
    graph = run_pipeline(covering_programs(FLOAT64)[k].graph())["fused"]
    assert overlaps(graph) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_overlaps_in_random_graphs(dtype):
    def check(program):
        assert overlaps(run_pipeline(program.graph())["fused"]) == [], program.text

    for_programs(check, np.dtype(dtype), 150, 2000)


# How much memory.


def test_a_chain_of_any_length_needs_two_arrays(x):
    w = gx.input("w", (12, 12))
    totals = []
    for depth in (2, 3, 10):
        y = x
        for _ in range(depth):
            y = gx.sin(y @ w)
        totals.append(str(planned([x, w], [y @ w]).total))
    assert totals[0] == totals[1] == totals[2]
    # Two arrays of 12 columns of 8 bytes; each is a multiple of 64 bytes.
    assert planned([x, w], [y @ w]).total.evaluate({"N": 10}) == 2 * (10 * 12 * 8 // 64 * 64)


def test_the_peak_is_a_formula_in_named_sizes(x):
    """It is what the function asks for at every size."""
    inputs, outputs = network(x)
    plan = planned(inputs, outputs)
    assert plan.total.names() == {"N"}
    for n in (0, 1, 5, 100):
        sizes = {"N": n}
        ends = [
            evaluate_size(p.offset, sizes) + evaluate_size(p.size, sizes) for p in plan.placements
        ]
        assert evaluate_size(plan.total, sizes) == max(ends)
    f = gx.compile(inputs, outputs, cache=False)
    assert f"shapes[{2 + 2}] = {plan.total}\n" in f.dump("source")
    assert f.dump("memory").startswith(f"workspace of f: {plan.total} bytes\n")


def test_sizes_that_cannot_be_compared_have_places_of_their_own():
    """Neither fits into the other for certain: at each of two calls another one is larger."""
    a, b, w = gx.input("a", ("N", 9)), gx.input("b", ("M", 9)), gx.input("w", (9, 9))
    outputs = [gx.exp(a @ w) @ w, gx.exp(b @ w) @ w]
    plan = planned([a, b, w], outputs)
    assert plan.total.names() == {"N", "M"}
    assert overlaps(fused([a, b, w], outputs)) == []


def test_a_place_is_shared_where_one_size_is_never_larger():
    a, w = gx.input("a", ("N", 9)), gx.input("w", (9, 9))
    v = gx.input("v", (9, 18))
    small = [gx.exp(a @ w) @ w, gx.sin((a * 2) @ v) @ gx.constant(np.ones((18, 2)))]
    one, both = planned([a, w, v], small[:1]), planned([a, w, v], small)
    bound = planned([a, w, v], small[1:])
    sizes = {"N": 100}
    alone = [evaluate_size(plan.total, sizes) for plan in (one, bound)]
    assert max(alone) <= evaluate_size(both.total, sizes) < sum(alone)


def test_a_row_of_scratch_is_as_long_as_a_row(x):
    p = gx.nn.softmax(x)
    plan = planned([x], [gx.sum(p * gx.sin(p), axis=1)])
    assert [(p.offset, p.size) for p in plan.placements] == [(0, 128)]
    assert plan.total == 128


def test_a_graph_of_one_gate_needs_no_workspace(x):
    assert planned([x], [x * 2, gx.sum(x), gx.exp(x)]).total == 0


# In the place of an operand.


W = gx.input("w", (12, 12))


def replaced(x, outputs):
    """The ops of the values that are written over an operand; results must be the reference's."""
    graph = fused([x, W], outputs)
    assert overlaps(graph) == []
    rng = np.random.default_rng(0)
    f = gx.compile([x, W], outputs, cache=False)
    for n in (1, 2, 13):
        arrays = [rng.normal(size=(n, 12)), rng.normal(size=(12, 12))]
        expected = gx.evaluate(outputs, dict(zip([x, W], arrays, strict=True)))
        for found in (run_source(graph, arrays), f(*arrays)):
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)
    return sorted(result.op.name for result in plan_memory(graph).replaced)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (lambda y: [gx.exp(y) @ W], ["exp"]),
        # The operand is read for the last time for the second result.
        (lambda y: [gx.exp(y) @ W, gx.sin(y) @ W], ["sin"]),
        # Every element is read before the row it is in is written.
        (lambda y: [gx.nn.softmax(y) @ W], ["multiply"]),
        (lambda y: [gx.exp(y + y.sum(axis=1, keepdims=True)) @ W], ["exp"]),
    ],
    ids=["element", "two results", "softmax", "row"],
)
def test_a_result_takes_the_place_of_an_operand_that_dies(outputs, expected, x):
    assert replaced(x, outputs(x @ W)) == expected


@pytest.mark.parametrize(
    "outputs",
    [
        lambda y: [gx.exp(y) @ W, y @ W],
        lambda y: [gx.exp(y) @ W, y],
        lambda y: [(gx.exp(y) + y[:, ::-1]) @ W],
        lambda y: [(gx.exp(y) + y[::-1]) @ W],
        lambda y: [(gx.exp(y) + y[:1]) @ W],
        lambda y: [(gx.exp(y) + gx.concat([y[:, 1:], y[:, :1]], axis=1)) @ W],
        lambda y: [(gx.exp(y) + gx.take(y, [0] * 12, axis=1)) @ W],
        lambda y: [(y > 0) @ gx.constant(np.ones((12, 9), bool))],
        lambda y: [gx.astype(gx.exp(y), gx.float32) @ gx.astype(W, gx.float32)],
        lambda y: [gx.exp(y[:, :9]) @ W[:9]],
        lambda y: [gx.exp(y.T) @ y],
    ],
    ids=[
        "needed later",
        "a result",
        "other columns",
        "other rows",
        "first row",
        "shifted columns",
        "gathered",
        "another size of element",
        "another dtype",
        "a part of it",
        "transposed",
    ],
)
def test_an_operand_that_is_read_otherwise_keeps_its_place(outputs, x):
    assert replaced(x, outputs(x @ W)) == []


def test_an_operand_that_a_later_loop_reads_keeps_its_place(x):
    """The exponentials are complete before the operand is read for the second time."""
    y = x @ W
    e = gx.exp(y)
    total = e.sum(axis=1, keepdims=True)
    # Both are read behind the total, so that only what is written last may take the place.
    found = replaced(x, [e @ W, (gx.sin(y) * total) @ W])
    assert "exp" not in found
    # Here both results come before the total is known, and nothing reads the operand again.
    assert replaced(x, [e @ W, total]) == ["exp"]


def test_an_operand_that_is_read_after_what_a_result_holds_first_keeps_its_place(x):
    """The exponentials lie in the memory of the result, before the operand is read for the last time."""
    y = x @ W
    e = gx.exp(y)
    z = e / e.sum(axis=1, keepdims=True) - y
    (gate,) = [n for n in fused([x, W], [z @ W]).nodes() if "body" in n.attrs]
    assert [(kept.op.name, result.op.name) for kept, result in gate.attrs["schedule"].hosted] == [
        ("exp", "subtract")
    ]
    assert replaced(x, [z @ W]) == []


def test_an_operand_under_two_names_keeps_its_place(x):
    """A view of an array is the same memory."""
    y = x @ W
    flat = gx.reshape(y, -1)
    outputs = [gx.exp(y) @ W, gx.sum(flat[::-1] * gx.exp(flat))]
    replaced(x, outputs)
    outputs = [(gx.exp(y) + gx.reshape(flat, y.shape)[::-1]) @ W]
    assert replaced(x, outputs) == []


def test_inputs_are_not_written(x):
    f = gx.compile([x], [gx.exp(x), gx.nn.softmax(x)], cache=False)
    assert plan_memory(fused([x], [gx.exp(x) * 2])).replaced == {}
    array = np.ones((3, 12))
    array.flags.writeable = False
    f(array)
    assert (array == 1).all()


# What the workspace held does not matter.

GARBAGE = [0x00, 0xFF, 0x7F, 0xA5]
"""Zeros; -1 and nan; the largest numbers; anything."""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_workspace_full_of_garbage_gives_the_same_results(dtype):
    def check(program):
        graph = program.graph()
        arrays = program.arrays([Tensor(node) for node in graph.inputs], {"N": 3, "M": 2}, 0)
        if not all(np.all(np.isfinite(a)) for a in reference.evaluate(graph, arrays)):
            return
        last = run_pipeline(graph)["fused"]
        first, *others = [run_source(last, arrays, garbage=byte) for byte in GARBAGE]
        for found in others:
            assert all(map(same_bits, found, first)), program.text

    for_programs(check, np.dtype(dtype), 40, 2001)


def test_results_do_not_depend_on_earlier_calls(x):
    """The workspace of a call holds what the last one left there, also if that was larger or failed."""
    inputs, outputs = network(x)
    f = gx.compile(inputs, outputs, cache=False)
    rng = np.random.default_rng(0)
    calls = [
        [rng.normal(size=(n, 12)), rng.normal(size=(12, 12)), rng.normal(size=(12, 12))]
        for n in (5, 100, 1, 7)
    ]
    fresh = [gx.compile(inputs, outputs, cache=False)(*arrays) for arrays in calls]
    poison = [np.full((100, 12), np.nan), *calls[0][1:]]
    for arrays, expected in zip(calls, fresh, strict=True):
        f(*poison)
        assert all(map(same_bits, f(*arrays), expected))


# Allocations.


def memory_of(call):
    """The most bytes in use during a call beyond those before it, and those that are left."""
    gc.collect()
    tracemalloc.start()
    try:
        call()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        kept = call()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del kept
    return peak - before, after - before


SOME_OBJECTS = 4000
"""Bytes of tuples, lists and array objects that a call makes in Python, whatever the sizes are."""


@pytest.fixture(scope="module")
def called():
    """A compiled network, arguments, and buffers for its results."""
    x = gx.input("x", ("N", 12))
    inputs, outputs = network(x)
    outputs.append(gx.exp(x @ inputs[1]))
    f = gx.compile(inputs, outputs, cache=False)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in ((3000, 12), (12, 12), (12, 12))]
    return f, arrays, f(*arrays)


def test_calls_with_buffers_allocate_nothing(called):
    f, arrays, out = called
    assert plan_memory(f._plan.stages["fused"]).total.evaluate({"N": 3000}) > 500_000
    peak, _ = memory_of(lambda: f(*arrays, out=out))
    assert peak < SOME_OBJECTS
    with allocations() as counts:
        for _ in range(10):
            f(*arrays, out=out)
    assert counts == [0, 0]


def test_calls_without_buffers_allocate_results_alone(called):
    f, arrays, results = called
    wanted = sum(result.nbytes for result in results)
    peak, left = memory_of(lambda: f(*arrays))
    assert wanted <= left <= peak < wanted + SOME_OBJECTS
    with allocations() as counts:
        f(*arrays)
    assert counts == [0, 0]


def test_smaller_calls_use_the_workspace_that_is_there(called):
    f, (x, *weights), _ = called
    out = f(x[:100], *weights)
    f(x, *weights)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        f(x[:100], *weights, out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - before < SOME_OBJECTS


def test_memory_is_given_back_with_the_function(x):
    inputs, outputs = network(x)
    arrays = [np.ones((20_000, 12)), np.ones((12, 12)), np.ones((12, 12))]
    tracemalloc.start()
    try:
        f = gx.compile(inputs, outputs, cache=False)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        f(*arrays)
        assert tracemalloc.get_traced_memory()[0] - before > 1_000_000
        del f
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < before + SOME_OBJECTS
    finally:
        tracemalloc.stop()
