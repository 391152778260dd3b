"""The benchmark's rows are right and its report renders; nothing is timed here, and no peer is needed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import graphc as gx
import page
import plot
import report
import run
from checks import mismatch, reference
from formulas import MOMENTUM, RATE
from graphc import structure
from measure import summary
from rows import ROWS
from systems import SYSTEMS, graphc_rows, numba_small, numpy_rows

SMALL = {"N": 4, "T": 5, "K": 3}


def smaller(name: str):
    """A row with few examples."""
    row = ROWS[name]
    return replace(row, sizes={size: SMALL[size] for size in row.sizes})


@pytest.mark.parametrize("name", ROWS)
def test_formulas_in_graphcs_words_have_the_gradients_derived_by_hand(name: str) -> None:
    """The declared graph of every row, evaluated by the reference, gives what NumPy gives."""
    row = smaller(name)
    inputs, results = graphc_rows.declare(row)
    values = dict(zip(inputs, row.arrays(), strict=True))
    found = structure.flatten(gx.evaluate(tuple(results), values))
    assert mismatch(row, found, reference(row)) == ""


def test_compiled_rows_agree_with_the_reference() -> None:
    """A row without arrays with ``out=``, and one with an array."""
    for name, variant in (("b", "out"), ("c-f32-1e2", "")):
        row, system = smaller(name), graphc_rows.System(variant, 1)
        results = system.build(row)(*system.arguments(row))
        assert mismatch(row, results, reference(row)) == "", name


@pytest.mark.parametrize("name", ["a", "b", "c-f64-1e2", "j-10"])
def test_rows_by_hand_agree_with_the_reference(name: str) -> None:
    """The cheapest of them to compile."""
    row = ROWS[name]
    results = numba_small.ROWS[row.key](*(array[()] for array in row.arrays()))
    assert mismatch(row, results, reference(row)) == ""


def test_a_wrong_result_is_a_mismatch() -> None:
    """A value that is off, another shape, another precision and a missing result are told apart."""
    row = ROWS["c-f64-1e2"]
    expected = reference(row)
    *others, last = expected
    assert mismatch(row, expected, expected) == ""
    assert "is wrong" in mismatch(row, [*others, last * (1 + 1e-6)], expected)
    assert "is wrong" in mismatch(row, [*others, np.full_like(last, np.nan)], expected)
    assert "shape" in mismatch(row, [*others, last[:-1]], expected)
    assert "float32" in mismatch(row, [*others, last.astype(np.float32)], expected)
    assert "3 results instead of 4" in mismatch(row, others, expected)


def test_momentum_by_hand_is_that_of_the_shared_formula() -> None:
    """The first new parameter and velocity follow from the gradient of the classifier."""
    row = smaller("m")
    arrays = row.arrays()
    gradient = numpy_rows.classifier(*arrays[:6])[1]
    results = numpy_rows.momentum_step(*arrays)
    velocity = MOMENTUM * arrays[6] + gradient
    np.testing.assert_allclose(results[5], velocity, rtol=1e-6)
    np.testing.assert_allclose(results[1], arrays[2] - RATE * velocity, rtol=1e-6)


def made_up() -> dict:
    """Two rows: graphc is twice as fast as JAX in one, and JAX twice as fast in the other."""

    def entry(seconds: float) -> dict[str, float]:
        return {"first": 1.0, **summary([seconds, seconds, 1.2 * seconds])}

    table = {
        "a": {
            "graphc": entry(1e-6),
            "numba": entry(5e-7),
            "jax": entry(4e-6),
            "jax, all cores": entry(2e-6),
            "casadi": {"without": "no such thing"},
            "numpy": entry(8e-7),
        },
        "e-32": {
            "graphc": entry(1e-3),
            "numba": entry(2e-3),
            "jax": entry(5e-4),
            "torch": {"error": "result 0: is wrong"},
        },
    }
    run = {"date": "2026-01-01", "rounds": 3, "command": "run.py", "table": table}
    start = {"imported": 1.0, "data": 0.0, "first": 0.5, "total": 2.5}
    return {
        "machine": "a machine",
        "versions": {"graphc": "1.2.3"},
        "runs": {"1": run},
        "repeats": 3,
        "starts": {"graphc": {"cold": start, "warm": {**start, "first": 0.25}}},
        "imports": {"numba": 0.4, "graphc": 0.5},
        "chains": {"graphc": {"n-200": start, "n-400": {"error": "more than 300 s"}}},
        "memory": {"graphc": {"g": {"growth": 2**21}}},
    }


def test_the_better_variant_of_a_peer_counts_and_its_ratio_is_a_geometric_mean() -> None:
    """JAX is 2 times slower and 2 times faster: 1 on average."""
    table = made_up()["runs"]["1"]["table"]
    assert report.ratio(table["a"], report.PEERS) == pytest.approx(2)
    assert report.ratio(table["e-32"], report.PEERS) == pytest.approx(0.5)
    means = report.geometric_means(table)
    assert means["jax"] == (pytest.approx(1), 2)
    assert means["numba"] == (pytest.approx(1), 2)


def test_the_page_says_what_was_measured(tmp_path: Path) -> None:
    """Times, ratios, where graphc is slower, what is missing and why, and the picture."""
    text = page.page(made_up())
    assert re.search(r"\| a \| 1 µs ±5% \|.*\| 4 µs ±5% \| 2 µs ±5% \|.*\| 2 \| 0.5 \|", text)
    assert "the fastest in 1 of 2 rows; it is slower in e-32 (jax, 2.00 times)." in text
    assert "Where NumPy is faster, with gradients by hand: a (numpy, 1.25 times)." in text
    assert "- casadi has no a: no such thing" in text
    assert "- torch has no e-32: result 0: is wrong" in text
    assert "| graphc | 500 ms | 250 ms | 2.5 s | 2.5 s |" in text
    assert "| graphc | 500 ms | more than 300 s |" in text
    assert "| graphc | 2.0 MB |" in text
    plot.draw(made_up()["runs"]["1"]["table"], tmp_path / "plot.svg")
    assert "time / graphc's time" in (tmp_path / "plot.svg").read_text()


def test_the_command_line_takes_letters_for_rows() -> None:
    """``c`` is all rows of that formula; a run replaces that of as many threads only."""
    options = run.parse(["--rows", "b,c", "--peers", "numba"])
    assert options.rows == ["b", *(name for name in ROWS if name.startswith("c-"))]
    assert options.peers == ["numba"]
    assert {s.peer for s in SYSTEMS.values()} == {"graphc", *run.PEERS}
    with pytest.raises(SystemExit):
        run.parse(["--peers", "fortran"])
    old = {"runs": {"1": "old", "2": "old"}, "memory": "old"}
    assert run.merged(old, {"runs": {"1": "new"}}) == {**old, "runs": {"1": "new", "2": "old"}}
