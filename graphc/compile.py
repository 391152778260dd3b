"""The pipeline, from the declared graph to the function, and what a user calls to run it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import reference, structure
from graphc.arguments import as_array
from graphc.codegen.expressions import MODULES
from graphc.codegen.module import module_source
from graphc.dsl import Tensor, fail, lift, name_after, require_identifier
from graphc.dump import dump as graph_text
from graphc.errors import GraphTypeError, GraphValueError, compose
from graphc.function import Function, Plan
from graphc.fuse.axes import reduce_in_order, reduce_over_all
from graphc.fuse.columns import by_columns
from graphc.fuse.displaced import compute_where_read
from graphc.fuse.group import fuse
from graphc.fuse.layout import long_axes_last
from graphc.fuse.materialize import materialize
from graphc.fuse.memory import plan_memory
from graphc.fuse.onehot import look_up
from graphc.fuse.products import inline_products
from graphc.fuse.split_sums import share_sums
from graphc.fuse.transposes import read_in_order
from graphc.ir import INPUT, Graph, Node, requirements, walk
from graphc.rewrite.lower import expand, settle
from graphc.rewrite.tables import Rewrites, RuleSet, choose
from graphc.runtime.pool import MOST_THREADS
from graphc.types import Size


@dataclass(frozen=True)
class Pass:
    """One step of the pipeline; ``stage`` names its result for those who want to look at it."""

    run: Callable[[Graph], Graph]
    stage: str = ""


def pipeline(rules: RuleSet) -> tuple[Pass, ...]:
    """From the declared graph to gates that are loop nests and kernels."""
    return (
        Pass(settle),
        Pass(rules.rewrite),
        Pass(rules.join, stage="gates"),
        Pass(expand),
        Pass(rules.simplify),
        Pass(reduce_in_order),
        Pass(look_up),
        Pass(share_sums),
        Pass(inline_products),
        Pass(reduce_over_all),
        Pass(long_axes_last),
        Pass(by_columns),
        Pass(compute_where_read),
        Pass(materialize),
        Pass(read_in_order),
        Pass(fuse, stage="fused"),
    )


def run_pipeline(
    graph: Graph, passes: Sequence[Pass] | None = None, inspect: Callable[[Graph], object] = id
) -> dict[str, Graph]:
    """The graph at every named stage; ``inspect`` sees the graph after each pass."""
    stages = {"declared": graph}
    inspect(graph)
    for step in pipeline(choose()) if passes is None else passes:
        graph = step.run(graph)
        inspect(graph)
        if step.stage:
            stages[step.stage] = graph
    return stages


def compile(
    inputs: Sequence[Tensor],
    outputs: Any,
    *,
    name: str = "f",
    rewrites: Rewrites = True,
    cache: bool = True,
    threads: int = 1,
) -> Function:
    """Compiles a graph to a `Function` of ``inputs``, for every value of the named sizes at once.

    ``outputs`` is a tensor or a list, tuple or dict of tensors, nested at will; calls return the same
    structure. ``name`` names the function in dumps and generated code. With ``cache`` the generated module
    and its machine code are kept on disk, and the next process that compiles the same graph loads them.

    ``rewrites`` chooses the rules of the optimiser: True for all that are exact or bring a value closer to
    the true one, False for none, or a mapping that switches groups (``simplify``, ``stabilize``, ``gates``),
    labels (``reassociates``, ``assumes_finite``), single rules, and rules of your own (`graphc.rule`) on or
    off: ``{"gates": False, "reassociates": True}``.

    With ``threads`` more than one, loops over many elements run in chunks on so many threads; results are bit
    by bit those of one thread. So do matrix products of up to 2^26 terms with AVX-512; what BLAS computes has
    the threads of BLAS in any case.

    Raises `GraphTypeError` for inputs that are not inputs and for ``threads`` that is not a whole number;
    `GraphValueError` for ``threads`` below 1 or above 256, for inputs that are missing or share a name, for a
    name that is not an identifier, for a size that no input binds, and for the name of a rewrite that does
    not exist.

    >>> import graphc as gx
    >>> x, y, z = gx.input("x"), gx.input("y"), gx.input("z")
    >>> f = gx.compile([x, y, z], (x + y) * z)
    >>> f(-2.0, 5.0, -4.0)
    array(-12.)
    """
    name_after(sys._getframe(1).f_locals)
    graph = declared_graph(inputs, outputs, name)
    threads = _checked_threads(name, threads)
    rules = choose(rewrites)
    stages = run_pipeline(graph, pipeline(rules))
    # A rule may drop a value that refuses some sizes, as v - v: the call refuses them all the same.
    required = requirements(graph.nodes())
    memory = plan_memory(stages["fused"], threads)
    source = module_source(stages["fused"], memory, cache=cache, required=required, threads=threads)
    return Function(Plan(stages, source, memory, outputs, cache, rules.log, threads))


def _checked_threads(name: str, threads: object) -> int:
    if isinstance(threads, bool) or not isinstance(threads, int | np.integer):
        raise GraphTypeError(
            compose(name, f"threads is {threads!r}", fix="give a whole number, 1 or more")
        )
    if not 1 <= threads <= MOST_THREADS:
        problem = f"threads is {threads}"
        raise GraphValueError(compose(name, problem, fix=f"give 1 to {MOST_THREADS}"))
    return int(threads)


def declared_graph(inputs: Sequence[Tensor], outputs: Any, name: str) -> Graph:
    """The graph of the given inputs and nested outputs, checked."""
    require_identifier("compile", name)
    given = [_input_node(tensor) for tensor in ([inputs] if isinstance(inputs, Tensor) else inputs)]
    results = tuple(lift(output, "compile") for output in structure.flatten(outputs))
    if not results:
        raise GraphValueError(compose(name, "has no outputs"))
    graph = Graph(name, tuple(given), results)
    _check_inputs(graph)
    _check_sizes(graph)
    return graph


def _input_node(tensor: object) -> Node:
    if not isinstance(tensor, Tensor) or tensor.node.op is not INPUT:
        raise GraphTypeError(
            compose("compile", f"{tensor!r} is not an input", fix="declare it with gx.input")
        )
    return tensor.node


def _check_inputs(graph: Graph) -> None:
    names: set[str] = set()
    for node in graph.inputs:
        name = node.attrs["name"]
        if name in names or name == "out":
            problem = "is the keyword for result buffers" if name == "out" else "is there twice"
            raise GraphValueError(compose(graph.name, f"the input name {name!r} {problem}"))
        names.add(name)
    for node in graph.nodes():
        if node.op is INPUT and node not in graph.inputs:
            problem = f"an output depends on {node.attrs['name']!r}, which is not among the inputs"
            raise GraphValueError(compose(graph.name, problem))


def _check_sizes(graph: Graph) -> None:
    sizes = [size for node in graph.nodes() for size in node.shape if isinstance(size, Size)]
    bound = {size.name for node in graph.inputs for size in node.shape if isinstance(size, Size)}
    for size in sizes:
        for name in sorted(size.names()):
            if name not in bound:
                problem = f"no input has an axis of size {name}, so {size} is unknown at the call"
                raise GraphValueError(compose(graph.name, problem))
            if name in MODULES:
                problem = f"the size name {name!r} is one that generated code uses itself"
                raise GraphValueError(compose(graph.name, problem))


def _reachable_inputs(outputs: Sequence[Node]) -> tuple[Node, ...]:
    found = [node for node in walk(outputs) if node.op is INPUT]
    return tuple(sorted(found, key=lambda node: node.serial))


def dump(outputs: Any, name: str = "f") -> str:
    """The declared graph of ``outputs`` (a tensor, or nested lists, tuples, dicts) as text, not compiled.

    >>> import graphc as gx
    >>> x = gx.input("x")
    >>> print(gx.dump(gx.sin(x)).splitlines()[0])
    graph f(%x: f64[]) {
    """
    name_after(sys._getframe(1).f_locals)
    results = tuple(lift(output, "dump") for output in structure.flatten(outputs))
    return graph_text(Graph(name, _reachable_inputs(results), results))


def evaluate(outputs: Any, values: Mapping[Tensor, Any]) -> Any:
    """The values of ``outputs`` by the NumPy reference, without compiling, in the same structure.

    ``values`` gives an array for every input that ``outputs`` depend on. Conversions and errors are those
    of a compiled function.

    >>> import graphc as gx
    >>> x = gx.input("x", ("N",))
    >>> gx.evaluate([x.sum(), x.max()], {x: [1.0, 2.0]})
    [array(3.), array(2.)]
    """
    results = tuple(lift(output, "evaluate") for output in structure.flatten(outputs))
    by_node = {_input_node(tensor): value for tensor, value in values.items()}
    inputs = _reachable_inputs(results)
    for node in inputs:
        if node not in by_node:
            raise fail("evaluate", f"no value for the input {node.attrs['name']!r}", node)
    given = (*inputs, *(node for node in by_node if node not in inputs))
    arrays = [as_array(n.attrs["name"], n.tensor_type, by_node[n]) for n in given]
    found = reference.evaluate(Graph("evaluate", given, results), arrays)
    return structure.like(outputs, iter([array.copy() for array in found]))
