"""The rewriting of whole graphs: twice is once, and no value is lost.

Each is tried on the gallery's programs, and on 150 random graphs; ``pytest -m slow`` tries 2,000 of these,
half of them of each float type, and the gallery compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import pages
import pytest
from helpers import FLOAT_DTYPES
from random_graphs import (
    SIZES,
    Program,
    allowed_error,
    compare,
    for_programs,
    is_mean_of_nothing,
    outcome,
    rounding_error,
)

import circuits
import digits
import graphc as gx
import three_layer
import two_layer
from gallery import PROGRAMS
from graphc import reference
from graphc.compile import declared_graph
from graphc.dsl import Tensor
from graphc.dump import one_line
from graphc.ir import Graph
from graphc.rewrite.lower import settle
from graphc.rewrite.tables import Rewrites, choose

EXAMPLES = 75
SLOW_EXAMPLES = 1000
# Small tests keep several workers busy to the end.
SLOW_PORTIONS = 10
FLOAT64 = np.dtype(np.float64)

every_program = pytest.mark.parametrize("name", PROGRAMS)
every_dtype = pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
many_portions = pytest.mark.parametrize("number", range(1, SLOW_PORTIONS + 1))


# Twice is once.


def changes(graph: Graph, first: Rewrites = True) -> list[str]:
    """What a second rewriting does to a rewritten graph: the rules, and outputs that are other nodes."""
    once = choose(first).rewrite(settle(graph))
    rules = choose()
    twice = rules.rewrite(once)
    fired = [f"{f.rule.name}: {one_line(f.before)} -> {one_line(f.after)}" for f in rules.log]
    pairs = enumerate(zip(once.outputs, twice.outputs, strict=True))
    return fired + [f"output {k}" for k, (one, other) in pairs if one is not other]


@every_program
def test_gallery_twice(name: str) -> None:
    """Alone and with gradients, of rewritten formulas and of those that were declared."""
    for rewrites in (None, True, False):
        assert changes(pages.program_graph(name, rewrites)) == []


def graphs_of(run: Callable[..., Any], *arguments: Any) -> list[Graph]:
    """The graphs that a function compiles before it calls one of them."""
    found: list[Graph] = []

    class Called(Exception):
        """There is nothing compiled to call."""

    def keep(inputs: Sequence[Tensor], outputs: Any, name: str) -> Callable[..., Any]:
        found.append(declared_graph(inputs, outputs, name))

        def call(*_: Any) -> None:
            raise Called

        return call

    keeping = SimpleNamespace(**{**vars(gx), "compile": keep})
    with suppress(Called):
        FunctionType(run.__code__, {**run.__globals__, "gx": keeping})(*arguments)
    return found


def example_graphs() -> dict[str, Graph]:
    """The graphs that the examples compile, by name."""
    graphs = [graph for circuit in circuits.CIRCUITS for graph in graphs_of(circuit)]
    graphs += graphs_of(digits.compile_network) + graphs_of(two_layer.compiled_step)
    for name in three_layer.ACTIVATIONS:
        graphs += graphs_of(three_layer.run, name, None, None, np.random.default_rng(0))
    return {graph.name: graph for graph in graphs}


def test_examples_twice() -> None:
    """All graphs that the examples compile."""
    graphs = example_graphs()
    assert len(graphs) == len(circuits.CIRCUITS) + 3 + len(three_layer.ACTIVATIONS)
    assert [(name, line) for name, graph in graphs.items() for line in changes(graph)] == []


def test_second_rewriting_is_looked_at() -> None:
    """Without the gates at first, they are found the second time."""
    graph = pages.program_graph("two_layer_sigmoid")
    assert any("sum_of_squares" in line for line in changes(graph, {"gates": False}))
    assert any(line.startswith("output") for line in changes(graph, {"gates": False}))


def check_twice(program: Program) -> None:
    """Raises AssertionError with the program."""
    found = changes(program.graph())
    assert not found, "\n".join([program.text, *found])


@every_dtype
def test_random_graphs_twice(dtype: np.dtype) -> None:
    """Some values and all gradients."""
    for_programs(check_twice, dtype, EXAMPLES, 0)


@pytest.mark.slow
@many_portions
@every_dtype
def test_many_random_graphs_twice(dtype: np.dtype, number: int) -> None:
    """The same of many more."""
    for_programs(check_twice, dtype, SLOW_EXAMPLES // SLOW_PORTIONS, number)


# Nothing is lost.


def as_declared(program: Program) -> Program:
    """The program with gradients of what was declared, not of gates."""
    plain = "gx.grad(loss, wrt, rewrites=False)"
    assert program.text.count("gx.grad(loss, wrt)") == 1
    return Program(program.text.replace("gx.grad(loss, wrt)", plain), program.dtype)


def check_values(program: Program, rewrites: Rewrites = True) -> None:
    """Raises AssertionError with the program and the sizes at which a value is lost."""
    plain = as_declared(program).graph()
    gates = pages.at_gates(program.graph(), rewrites)
    for number, sizes in enumerate(SIZES):
        arrays = program.arrays([Tensor(node) for node in plain.inputs], sizes, number)
        wanted, found = outcome(plain, arrays), outcome(gates, arrays)
        if wanted is gx.GraphValueError:
            continue  # the compiled function refuses these sizes, whatever is left of the graph
        if isinstance(wanted, type) or isinstance(found, type):
            assert found is wanted, f"{program.text}{sizes}: {found} instead of {wanted}"
        elif not is_mean_of_nothing(plain, arrays):
            problem = compare("rewritten", found, wanted, allowed_error(program, plain, arrays))
            assert not problem, f"{program.text}{sizes}: {problem}"


@every_dtype
def test_random_graphs_keep_their_values(dtype: np.dtype) -> None:
    """Differentiated and rewritten, against differentiated as declared."""
    for_programs(check_values, dtype, EXAMPLES, 0)


@pytest.mark.slow
@many_portions
@every_dtype
def test_many_random_graphs_keep_their_values(dtype: np.dtype, number: int) -> None:
    """The same of many more."""
    for_programs(check_values, dtype, SLOW_EXAMPLES // SLOW_PORTIONS, number)


@every_program
@every_dtype
def test_gallery_keeps_its_values(name: str, dtype: np.dtype) -> None:
    """Outputs and gradients, for as many rows as usual and for one."""
    plain = pages.program_graph(name, False, dtype)
    gates = pages.at_gates(pages.program_graph(name, True, dtype))
    for sizes in ({}, {"N": 1, "M": 1}):
        arrays = PROGRAMS[name].arrays(sizes=sizes, dtype=dtype)
        wanted, found = reference.evaluate(plain, arrays), reference.evaluate(gates, arrays)
        assert not compare(name, found, wanted, rounding_error(dtype, plain, arrays))


@pytest.mark.slow
@every_program
def test_compiled_gallery_keeps_its_values(name: str) -> None:
    """The same of compiled functions with the rules on and off."""
    arrays = PROGRAMS[name].arrays()
    plain = pages.program_graph(name, False)
    wanted, allowed = reference.evaluate(plain, arrays), rounding_error(FLOAT64, plain, arrays)
    for rewrites in (True, False):
        graph = pages.program_graph(name, rewrites)
        inputs, outputs = [[Tensor(n) for n in nodes] for nodes in (graph.inputs, graph.outputs)]
        f = gx.compile(inputs, outputs, name=name, rewrites=rewrites, cache=False)
        assert not compare(f"rewrites={rewrites}", f(*arrays), wanted, allowed)


def test_refused_sizes_stay_refused() -> None:
    """Though no value is left that refuses them."""
    i = gx.input("i", ("N", "M"), gx.int64)
    v = gx.min(i, axis=0)
    f = gx.compile([i], [v == v, v - v, v * 0], name="f", cache=False)
    assert "min(" not in f.dump("gates")
    np.testing.assert_array_equal(f(np.ones((2, 3), np.int64)), [[1] * 3, [0] * 3, [0] * 3])
    buffers = [np.ones(3, bool), np.ones(3, np.int64), np.ones(3, np.int64)]
    for out in (None, buffers):
        with pytest.raises(gx.GraphValueError, match="min of an empty axis: needs N >= 1"):
            f(np.ones((0, 3), np.int64), out=out)
    with pytest.raises(ValueError, match="sizes of the arguments do not fit"):
        f.jitted(np.ones((0, 3), np.int64))


@gx.rule("EXACT")
def almost_cos(x: Any) -> tuple[Any, Any]:
    """cos(x) -> sin(x + 1.5707)"""
    return gx.cos(x), gx.sin(x + 1.5707)


@every_dtype
def test_lost_value_is_noticed(dtype: np.dtype) -> None:
    """A rule that is wrong in its last digits, in a value and in a gradient alone."""
    text = """
x0 = gx.input("x0", ("N",), "{dtype}")
v0 = {function}(x0)
inputs, wrt = [x0], [x0]
loss = gx.sum(v0)
results = [v0, *gx.grad(loss, wrt)]
"""
    for function in ("gx.cos", "gx.sin"):
        program = Program(text.format(dtype=dtype.name, function=function), dtype)
        check_values(program)
        with pytest.raises(AssertionError, match="result [01]: "):
            check_values(program, {almost_cos: True})
