"""The picture: times relative to graphc's, on a logarithmic axis, one group of bars a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from report import Measured, ratio

SHOWN = ("numba", "jax", "pytensor", "torch")
NAMES = {"numba": "Numba by hand", "jax": "JAX", "pytensor": "PyTensor", "torch": "PyTorch"}
WIDTH = 0.2


def draw(table: Measured, path: Path) -> None:
    """Writes the picture; bars above 1 are slower than graphc."""
    # The same figures give the same file.
    with rc_context({"svg.hashsalt": "graphc", "font.size": 9}):
        figure = Figure(figsize=(12, 5), layout="constrained")
        axes = figure.subplots()
        for k, peer in enumerate(SHOWN):
            _bars(axes, table, peer, k)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_yscale("log")
        axes.set_ylabel("time / graphc's time")
        axes.set_xticks(range(len(table)), list(table), rotation=45, ha="right")
        axes.legend(ncols=len(SHOWN))
        axes.grid(axis="y", alpha=0.3)
        figure.savefig(path, metadata={"Date": None})


def _bars(axes: Any, table: Measured, peer: str, k: int) -> None:
    ratios = [ratio(entries, [peer]) for entries in table.values()]
    heights = np.array([np.nan if r is None else r for r in ratios])
    positions = np.arange(len(table)) + (k - (len(SHOWN) - 1) / 2) * WIDTH
    axes.bar(positions, heights - 1, WIDTH, bottom=1, label=NAMES[peer])
