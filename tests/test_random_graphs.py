"""Random graphs: compiled against the reference, every pass against the graph as declared.

150 graphs in a normal run; ``pytest -m slow`` tries 2,000, half of them of each float type.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers import FLOAT_DTYPES, source_of
from hypothesis import Phase, given, settings
from random_graphs import (
    SIZES,
    Program,
    allowed_error,
    compare,
    covering_programs,
    for_programs,
    is_mean_of_nothing,
    outcome,
    programs,
    quietly,
)

import graphc as gx
from graphc import reference
from graphc.compile import Pass, pipeline, run_pipeline
from graphc.dsl import Tensor
from graphc.ir import Graph
from graphc.rewrite.tables import choose
from graphc.verify import verify

# Of each float type.
EXAMPLES = 75
SLOW_EXAMPLES = 1000
# Small tests keep several workers busy to the end.
PORTIONS = 5
SLOW_PORTIONS = 25


def all_passes() -> tuple[Pass, ...]:
    """The pipeline with the rules that are on by default."""
    return pipeline(choose())


def passes(program: Program, steps: Sequence[Pass]) -> list[Graph]:
    """The graph as declared and after every pass, each verified."""
    found: list[Graph] = []
    run_pipeline(program.graph(), steps, inspect=lambda g: found.append(verify(g)))
    return found


def problem_at(program, stages, function, arrays):
    """What differs between the reference, every pass, and the compiled function for some arrays."""
    wanted = outcome(stages[0], arrays)
    if isinstance(wanted, type):
        with pytest.raises(wanted):
            function(*arrays)
        return ""
    if is_mean_of_nothing(stages[0], arrays):
        function(*arrays)
        return ""
    atol = allowed_error(program, stages[0], arrays)
    problems = [
        compare(f"pass {k}", reference.evaluate(stage, arrays), wanted, atol)
        for k, stage in enumerate(stages[1:])
    ]
    problems.append(compare("compiled", function(*arrays), wanted, atol))
    wrong = [problem for problem in problems if problem]
    return "\n".join([*wrong, program.standalone(arrays, atol)]) if wrong else ""


def check(program: Program, before: Sequence[Pass] = ()) -> None:
    """Raises AssertionError with a program that repeats the failure; ``before`` run first."""
    stages = passes(program, (*before, *all_passes()))
    declared = stages[0]
    assert source_of(stages[-1]) == source_of(passes(program, (*before, *all_passes()))[-1]), (
        program.text
    )
    function = gx.compile(
        [Tensor(node) for node in declared.inputs],
        [Tensor(node) for node in declared.outputs],
        cache=False,
    )
    for number, sizes in enumerate(SIZES):
        tensors = [Tensor(node) for node in declared.inputs]
        arrays = program.arrays(tensors, sizes, number)
        problem = problem_at(program, stages, function, arrays)
        assert not problem, problem


@pytest.mark.parametrize("number", range(PORTIONS))
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_random_graphs(dtype, number):
    for_programs(check, dtype, EXAMPLES // PORTIONS, number)


COVERING = [program for dtype in FLOAT_DTYPES for program in covering_programs(dtype)]


@pytest.mark.parametrize("k", range(len(COVERING)))
def test_every_kind_of_step(k):
    check(COVERING[k])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(SLOW_PORTIONS))
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_many_random_graphs(dtype, number):
    for_programs(check, dtype, SLOW_EXAMPLES // SLOW_PORTIONS, PORTIONS + number)


# The program that a failure prints.


def one_program(dtype):
    found = []

    @settings(quietly, max_examples=5, phases=[Phase.generate])
    @given(programs(dtype))
    def keep(program):
        found.append(program)

    keep()
    return max(found, key=lambda program: len(program.text))


def execute(text, tmp_path):
    path = tmp_path / "failure.py"
    path.write_text(text)
    root = str(Path(gx.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.run([sys.executable, path], capture_output=True, text=True, env=environment)


def test_printed_program_stands_alone(tmp_path):
    program = one_program(np.dtype(np.float64))
    inputs, results = program.build()
    arrays = program.arrays(inputs, SIZES[0], 0)
    graph = Graph("f", tuple(t.node for t in inputs), tuple(t.node for t in results))
    text = program.standalone(arrays, allowed_error(program, graph, arrays))
    finished = execute(text, tmp_path)
    assert finished.stdout == "equal\n", finished.stderr
    wrong = text.replace("assert_allclose(found, value,", "assert_allclose(found, value + 1,")
    assert wrong != text
    assert "AssertionError" in execute(wrong, tmp_path).stderr
