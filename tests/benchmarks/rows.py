"""The rows of the benchmark: what is computed, on which data, at which sizes, in which precision."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

import formulas

Draw = Callable[[np.random.Generator, tuple[int, ...]], Any]


def normal(scale: float = 1.0) -> Draw:
    """Normally distributed numbers."""
    return lambda rng, shape: scale * rng.standard_normal(shape)


STANDARD = normal()


def uniform(low: float, high: float) -> Draw:
    """Evenly distributed numbers."""
    return lambda rng, shape: rng.uniform(low, high, shape)


def labels(classes: int) -> Draw:
    """Integers below ``classes``; an input drawn so is int64 in every row."""
    return lambda rng, shape: rng.integers(0, classes, shape)


def coin(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """0.0 or 1.0."""
    return rng.integers(0, 2, shape).astype(np.float64)


def lower_triangles(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Matrices with numbers below the diagonal only."""
    return np.tril(0.3 * rng.standard_normal(shape), -1)


@dataclass(frozen=True)
class Input:
    """An argument of a row; a size that is a name is one that differs from call to call."""

    name: str
    shape: tuple[int | str, ...] = ()
    draw: Draw = STANDARD


def only_gradients(value: Any, gradients: Sequence[Any], inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The results of most rows: the value and the gradients."""
    return (value, *gradients)


@dataclass(frozen=True)
class Row:
    """One computation at one size and in one precision; its results are those of ``results``."""

    name: str
    title: str
    key: str
    loss: Callable[..., Any]
    inputs: tuple[Input, ...]
    wrt: tuple[str, ...]
    dtype: str = "float64"
    sizes: dict[str, int] = field(default_factory=dict)
    results: Callable[..., tuple[Any, ...]] = only_gradients
    timed: bool = True

    @property
    def positions(self) -> tuple[int, ...]:
        """Which inputs the loss is differentiated by."""
        names = [given.name for given in self.inputs]
        return tuple(names.index(name) for name in self.wrt)

    def evaluate(self, xp: Any, inputs: Sequence[Any]) -> tuple[Any, Any]:
        """The loss in the words of a system, and the value to return with the gradients."""
        found = self.loss(xp, *inputs)
        return found if isinstance(found, tuple) else (found, found)

    def arrays(self) -> list[Any]:
        """The inputs as NumPy arrays, the same in every process."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return [self._array(given, rng) for given in self.inputs]

    def _array(self, given: Input, rng: np.random.Generator) -> Any:
        shape = tuple(self.sizes[s] if isinstance(s, str) else s for s in given.shape)
        array = np.asarray(given.draw(rng, shape))
        return array.astype(self.dtype) if array.dtype.kind == "f" else array


WEIGHTS = (
    Input("w1", (784, 256), normal(0.05)),
    Input("b1", (256,), normal(0.05)),
    Input("w2", (256, 10), normal(0.05)),
    Input("b2", (10,), normal(0.05)),
)
EXAMPLES = (Input("x", ("N", 784)), Input("labels", ("N",), labels(10)))
VELOCITIES = tuple(Input(f"v{given.name}", given.shape, given.draw) for given in WEIGHTS)
PARAMETERS = tuple(given.name for given in WEIGHTS)


def _size(n: int) -> str:
    return f"1e{len(str(n)) - 1}"


def _sums() -> list[Row]:
    inputs = (Input("a"), Input("b"), Input("x", ("N",)))
    return [
        Row(
            f"c-f{bits}-{_size(n)}",
            f"sum of squared sigmoids, n = {n:,}, float{bits}",
            "c",
            formulas.sigmoid_squares,
            inputs,
            ("a", "b", "x"),
            f"float{bits}",
            {"N": n},
        )
        for bits in (32, 64)
        for n in (100, 10_000, 1_000_000)
    ]


def _classifiers() -> list[Row]:
    return [
        Row(
            f"e-{n}",
            f"network 784-256-10, relu, cross-entropy, batch {n}, float32",
            "e",
            formulas.classifier,
            EXAMPLES + WEIGHTS,
            PARAMETERS,
            "float32",
            {"N": n},
        )
        for n in (1, 32, 256)
    ]


def _valleys() -> list[Row]:
    return [
        Row(
            f"j-{name}",
            f"Rosenbrock, n = {n:,}, float64",
            "j",
            formulas.rosenbrock,
            (Input("x", ("N",)),),
            ("x",),
            sizes={"N": n},
        )
        for name, n in (("10", 10), ("1e5", 100_000))
    ]


def _chains() -> list[Row]:
    return [
        Row(
            f"n-{gates}",
            f"chain of {gates} gates, n = 1,000, float64",
            f"n-{gates}",
            partial(formulas.chain, gates=gates),
            (Input("x", ("N",)),),
            ("x",),
            sizes={"N": 1000},
            timed=gates == 200,
        )
        for gates in (200, 400)
    ]


def _small() -> list[Row]:
    return [
        Row(
            "a",
            "neuron with two inputs, float64",
            "a",
            formulas.neuron,
            (Input("w", (3,)), Input("x", (2,))),
            ("w", "x"),
        ),
        Row(
            "b",
            "(x + y) z, float64",
            "b",
            formulas.circuit,
            (Input("x"), Input("y"), Input("z")),
            ("x", "y", "z"),
        ),
    ]


def _networks() -> list[Row]:
    two_layers = (
        Input("x", ("N", 1000)),
        Input("y", ("N", 10)),
        Input("w1", (1000, 100), normal(0.1)),
        Input("w2", (100, 10)),
    )
    regression = (
        Input("x", ("N", 50)),
        Input("y", ("N",), coin),
        Input("w", (50,), normal(0.2)),
        Input("b"),
    )
    return [
        Row(
            "d",
            "two-layer network of the lecture, 64 x 1000 x 100 x 10, float64",
            "d",
            formulas.two_layers,
            two_layers,
            ("w1", "w2"),
            sizes={"N": 64},
        ),
        *_classifiers(),
        Row(
            "f",
            "logistic regression 100,000 x 50, float64",
            "f",
            formulas.logistic_regression,
            regression,
            ("w", "b"),
            sizes={"N": 100_000},
        ),
        Row(
            "g",
            "softmax cross-entropy 256 x 10,000, float32",
            "g",
            formulas.cross_entropy,
            (Input("logits", ("N", 10_000)), Input("labels", ("N",), labels(10_000))),
            ("logits",),
            "float32",
            {"N": 256},
        ),
    ]


def _mixture() -> Row:
    k, d = 25, 10
    inputs = (
        Input("x", ("N", d)),
        Input("alphas", (k,)),
        Input("means", (k, d)),
        Input("logs", (k, d), normal(0.3)),
        Input("factors", (k, d, d), lower_triangles),
    )
    return Row(
        "h",
        "Gaussian mixture n = 1,000, d = 10, k = 25, float64",
        "h",
        formulas.gaussian_mixture,
        inputs,
        ("alphas", "means", "logs", "factors"),
        sizes={"N": 1000},
    )


def _blocks() -> list[Row]:
    block = (
        Input("x", ("N", 512)),
        Input("gain", (512,), uniform(0.5, 1.5)),
        Input("shift", (512,), normal(0.1)),
        Input("w", (512, 512), normal(0.05)),
        Input("b", (512,), normal(0.1)),
    )
    head = (
        Input("x", ("T", 64)),
        *(Input(name, (64, 64), normal(0.125)) for name in ("wq", "wk", "wv")),
    )
    return [
        Row(
            "i",
            "layer norm, product, gelu, 128 x 512, float32",
            "i",
            formulas.transformer_block,
            block,
            ("gain", "shift", "w", "b", "x"),
            "float32",
            {"N": 128},
        ),
        *_valleys(),
        Row(
            "k",
            "attention head 128 x 64, float32",
            "k",
            formulas.attention,
            head,
            ("wq", "wk", "wv", "x"),
            "float32",
            {"T": 128},
        ),
    ]


def _rest() -> list[Row]:
    market = (
        Input("spot", ("N",), uniform(80, 120)),
        Input("strike", ("N",), uniform(80, 120)),
        Input("maturity", ("N",), uniform(0.5, 2)),
        Input("rate", ("N",), uniform(0.01, 0.05)),
        Input("volatility", ("N",), uniform(0.1, 0.4)),
    )
    return [
        Row(
            "l",
            "k-means cost n = 10,000, d = 8, k = 100, float64",
            "l",
            formulas.k_means,
            (Input("points", ("N", 8)), Input("centres", ("K", 8))),
            ("points", "centres"),
            sizes={"N": 10_000, "K": 100},
        ),
        Row(
            "m",
            "training step with momentum of the network, batch 32, float32",
            "m",
            formulas.momentum_step,
            EXAMPLES + WEIGHTS + VELOCITIES,
            PARAMETERS,
            "float32",
            {"N": 32},
            formulas.momentum_results,
        ),
        *_chains(),
        Row(
            "o",
            "Black-Scholes, n = 100,000, prices and five sensitivities, float64",
            "o",
            formulas.black_scholes,
            market,
            tuple(given.name for given in market),
            sizes={"N": 100_000},
        ),
    ]


ROWS = {
    row.name: row for row in (*_small(), *_sums(), *_networks(), _mixture(), *_blocks(), *_rest())
}
