"""The gallery's programs: values against NumPy, gradients against numerical ones. Nothing is compiled.

Their graphs, as declared and as gates, are compared with tests/golden/gallery/. `pages` says how to write
these files anew.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import pages
import pytest
import scipy.special
from helpers import same_as_file

import gallery
import graphc as gx
from gallery import PROGRAMS
from graphc.structure import flatten

GOLDEN = Path(__file__).parent / "golden" / "gallery"

every_program = pytest.mark.parametrize("name", PROGRAMS)


def in_numpy(name: str, arrays: list[np.ndarray], **functions: Any) -> Any:
    """What a program's formula gives when its ``gx`` is NumPy, plus ``functions``."""
    each = PROGRAMS[name]
    plain = SimpleNamespace(**{**vars(np), "special": scipy.special, **functions})
    formula = FunctionType(each.formula.__code__, {**each.formula.__globals__, "gx": plain})
    return formula(**dict(zip(each.inputs, arrays, strict=True)))


def test_there_are_twenty_five() -> None:
    """As many as the module says."""
    assert len(PROGRAMS) == 25
    assert gallery.__doc__.startswith("Twenty-five programs")


@every_program
@pytest.mark.parametrize("dtype", [gx.float32, gx.float64])
def test_builds_in_its_dtype(name: str, dtype: type) -> None:
    """Outputs and gradients have the dtype of the inputs: no constant widens them."""
    inputs, output, wrt = PROGRAMS[name].build(dtype)
    gradients = gx.grad(output, wrt) if wrt else []
    assert {out.dtype for out in [*flatten(output), *gradients]} == {np.dtype(dtype)}
    assert {i.dtype for i in inputs} <= {np.dtype(dtype), np.dtype(np.int64)}


@every_program
def test_gradients_are_the_numerical_ones(name: str) -> None:
    """By every input that the program names."""
    inputs, output, wrt = PROGRAMS[name].build()
    if name == "adam_step":
        assert wrt == []  # it differentiates inside; see the test of its values
    else:
        assert wrt != []
        gx.check_grad(output, wrt, dict(zip(inputs, PROGRAMS[name].arrays(), strict=True)))


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "adam_step"])
@pytest.mark.parametrize("sizes", [{}, {"N": 9, "M": 2}])
def test_value_is_numpys(name: str, sizes: dict[str, int]) -> None:
    """The formula on tensors gives what the same formula gives on arrays."""
    inputs, output, _ = PROGRAMS[name].build()
    arrays = PROGRAMS[name].arrays(seed=1, sizes=sizes)
    found = gx.evaluate(output, dict(zip(inputs, arrays, strict=True)))
    assert found.shape == ()
    np.testing.assert_allclose(found, in_numpy(name, arrays), rtol=1e-12)


def test_adam_step_is_numpys() -> None:
    """With the gradient of least squares derived by hand."""
    inputs, outputs, _ = PROGRAMS["adam_step"].build()
    arrays = PROGRAMS["adam_step"].arrays()
    x, y, w, *_ = arrays
    slope = 2 / len(y) * x.T @ (x @ w - y)
    wanted = in_numpy("adam_step", arrays, grad=lambda *_: slope)
    found = gx.evaluate(outputs, dict(zip(inputs, arrays, strict=True)))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert np.all(np.abs(found[1] - w) > 1e-6)


@every_program
def test_arrays_fit_the_inputs(name: str) -> None:
    """They have the shapes and dtypes declared, follow the seed, and are other ones for another seed."""
    inputs, *_ = PROGRAMS[name].build(gx.float32)
    sizes = {"N": 7, "M": 3}
    first, again, other = (PROGRAMS[name].arrays(seed, sizes, gx.float32) for seed in (0, 0, 1))
    for declared, array, same in zip(inputs, first, again, strict=True):
        assert array.dtype == declared.dtype
        assert array.shape == tuple(sizes.get(str(size), size) for size in declared.shape)
        np.testing.assert_array_equal(array, same)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_draws_stay_in_their_domains() -> None:
    """Signs, labels, counts, probabilities, covariances and intervals are what they are called."""
    rng = np.random.default_rng(0)
    assert set(gallery.signs(rng, (50,))) == {-1.0, 1.0}
    assert set(gallery.below(3)(rng, (50,))) == {0, 1, 2}
    drawn = gallery.counts(rng, (50,))
    assert np.all((drawn >= 0) & (drawn == np.round(drawn)))
    rows = gallery.probabilities(rng, (50, 3))
    assert np.all(rows > 0)
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-15)
    matrix = gallery.covariance(rng, (4, 4))
    np.testing.assert_array_equal(matrix, matrix.T)
    assert np.all(np.linalg.eigvalsh(matrix) >= 1)
    drawn = gallery.between(80.0, 120.0)(rng, (50,))
    assert np.all((drawn >= 80) & (drawn <= 120))


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    """One row a program, with more nodes where there are gradients and the value of its output."""
    gallery.main([])
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["program", "nodes"]
    assert [row.split()[0] for row in rows] == list(PROGRAMS)
    for row in rows:
        name, nodes, both, value, title = re.fullmatch(
            r"(\w+) +(\d+) +(\d+) +(-?\d+\.\d+)  (.+)", row
        ).groups()
        assert int(both) > int(nodes) > 0 or name == "adam_step"
        assert np.isfinite(float(value))
        assert title == PROGRAMS[name].title


def test_unknown_program_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The message lists those there are."""
    with pytest.raises(SystemExit):
        gallery.main(["nothing"])
    assert "logistic_regression" in capsys.readouterr().err


def test_nodes_are_counted() -> None:
    """Operations count; inputs, and constants where they are used, do not."""
    x = gx.input("x", ("N",))
    assert gallery.count_nodes(gx.dump(gx.sum(gx.exp(2 * x)))) == 3


@every_program
def test_graphs_are_golden(name: str) -> None:
    """Loss and gradients, as declared and at the stage *gates*."""
    same_as_file(GOLDEN / f"{name}.txt", pages.program_dumps(name))


def test_no_other_golden_files() -> None:
    """A program that is gone leaves no file behind."""
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(PROGRAMS)


IN_ANOTHER_ORDER = """
import pages
names = list(pages.PROGRAMS)
kept = [pages.at_gates(pages.program_graph(name, False)) for name in names]
texts = {name: pages.program_dumps(name) for name in reversed(names)}
print(*(texts[name] for name in names), sep="", end="")
"""


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_graphs_do_not_depend_on_what_was_built_before(hash_seed: str) -> None:
    """Another process, other hashes, other graphs alive, and the programs backwards."""
    folders = [Path(__file__).parent, Path(gallery.__file__).parent, Path(gx.__file__).parents[1]]
    environment = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
    }
    run = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_ORDER],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "".join(pages.program_dumps(name) for name in PROGRAMS)
