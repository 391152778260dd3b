"""Runs the examples as a user does, with nothing cached, and looks at what they print.

The fused graphs that they print are compared with tests/golden/. After a change that is meant, write them
anew:

    GRAPHC_UPDATE_GOLDEN=1 python -m pytest tests/test_examples.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import same_as_file

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"
TIME_LIMIT = 300


def run_example(name: str, folder: Path, *arguments: str) -> str:
    """What an example prints when it runs in an empty folder with an empty cache."""
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments],
        cwd=folder,
        env={**os.environ, "GRAPHC_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def compare_with_golden(name: str, printed: str) -> None:
    """Compares the graphs in ``printed`` with the file that keeps them."""
    graphs = (
        "\n\n".join(re.findall(r"^graph .*?^}$", printed, flags=re.DOTALL | re.MULTILINE)) + "\n"
    )
    same_as_file(GOLDEN / f"{name}.txt", graphs)


def number(pattern: str, text: str) -> float:
    """The number in the one place of ``text`` that fits."""
    (found,) = re.findall(pattern, text)
    return float(found)


def test_circuits(tmp_path: Path) -> None:
    """The values of the lecture; the circuits assert them too."""
    printed = run_example("circuits", tmp_path)
    assert number(r"df/dw1 +=(.*)", printed) == pytest.approx(-0.39, abs=0.005)
    assert [float(f) for f in re.findall(r"^  f +=(.*)", printed, flags=re.MULTILINE)] == [
        -12.0,
        0.731059,
        -20.0,
        0.116,
        1.545645,
    ]
    assert "409,600 squared, would take 671 GB" in printed
    assert "7 circuits agree" in printed
    compare_with_golden("circuits", printed)


def test_two_layer(tmp_path: Path) -> None:
    """Losses are NumPy's, step by step, and fall."""
    printed = run_example("two_layer", tmp_path)
    assert "losses equal to 1e-5 relative in all 500 steps" in printed
    losses = re.findall(r"loss +([\d.]+), NumPy's +([\d.]+)", printed)
    ours, theirs = zip(*[map(float, pair) for pair in losses], strict=True)
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert ours[-1] < 0.01 * ours[0]
    assert re.search(r"compile [\d.]+ s", printed)
    assert re.search(r"step +\d+ us compiled, \d+ us NumPy", printed)
    compare_with_golden("two_layer", printed)


def test_digits(tmp_path: Path) -> None:
    """The main job: accuracy, agreement with NumPy, times, the graph, and the picture where it was sent."""
    printed = run_example("digits", tmp_path, "--plot", str(tmp_path / "curve.png"))
    assert number(r"test accuracy ([\d.]+) % of 359 images", printed) >= 96
    assert "one step equals NumPy's" in printed
    assert re.search(r"compiled in [\d.]+ s", printed)
    assert re.search(r"step of 64 images: \d+ us compiled, \d+ us NumPy", printed)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    compare_with_golden("digits", printed)


def test_digits_without_rich_and_matplotlib(tmp_path: Path) -> None:
    """Both are optional: a line of text is the progress bar, and a sentence stands for the picture."""
    for missing in ("rich", "matplotlib"):
        (tmp_path / f"{missing}.py").write_text("raise ImportError('not installed')\n")
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT / 'examples')!r}]\n"
        "import digits, progress\n"
        "with progress.progress_bar('training', 3) as advance:\n"
        "    [advance(f'loss {k}') for k in range(3)]\n"
        "digits.plot([1.0, 0.5], 'loss.png')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=True,
    )
    assert "training loss 2 [##############################] 3/3" in run.stdout
    assert "no picture of the losses: matplotlib is not installed" in run.stdout
    assert not (tmp_path / "loss.png").exists()


def test_three_layer(tmp_path: Path) -> None:
    """Every activation agrees with NumPy and its numerical gradients, and learns."""
    printed = run_example("three_layer", tmp_path)
    row = r"^(\w+) +(\S+e[-+]\d+) +(\S+e[-+]\d+) +([\d.]+) -> ([\d.]+)$"
    rows = re.findall(row, printed, flags=re.MULTILINE)
    names = [name for name, *_ in rows]
    assert names == ["sigmoid", "tanh", "relu", "leaky_relu", "maxout", "elu"]
    for _, forward, gradient, first, last in rows:
        assert float(forward) < 1e-12
        assert float(gradient) < 1e-6
        assert float(last) < 0.5 * float(first)
