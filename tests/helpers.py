"""What several tests need: arrays for samples, functions of many outputs, distances in ulps."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import graphc as gx
from graphc import autodiff, reference
from graphc.codegen.module import ModuleSource, module_source
from graphc.compile import run_pipeline
from graphc.dsl import Tensor
from graphc.facts import Domain, Sample, ScalarCode
from graphc.fuse.memory import plan_memory
from graphc.ir import Graph, Node, constant_node, filled, input_node
from graphc.ops import elementwise as ew
from graphc.ops import reduce
from graphc.runtime import scalar
from graphc.types import TensorType, is_float

FLOAT_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}
UPDATE = "GRAPHC_UPDATE_GOLDEN"
HARD_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.1, 2.5, -3.0, np.inf, -np.inf, np.nan)


# Arrays.


def domain_of(sample: Sample, k: int) -> Domain:
    """The domain of argument ``k``: the last one stands for all that follow."""
    return sample.domains[min(k, len(sample.domains) - 1)]


def dtype_of(sample: Sample, k: int, dtype: np.dtype) -> np.dtype:
    """The dtype of argument ``k`` when ``dtype`` is tested."""
    named = sample.dtypes[k] if k < len(sample.dtypes) else None
    return np.dtype(named or dtype)


def as_dtype(points: Sequence[float], dtype: np.dtype) -> np.ndarray:
    """Those of ``points`` that ``dtype`` can hold."""
    values = np.asarray(points, np.float64)
    if dtype.kind == "b":
        return values > 0
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        values = values[np.isfinite(values)]
        values = values[(values >= limits.min) & (values <= limits.max)]
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def uniform(rng: np.random.Generator, domain: Domain, shape: Any, dtype: np.dtype) -> np.ndarray:
    """Random values of a domain."""
    if dtype.kind == "i":
        low, high = sorted((int(np.ceil(domain.low)), int(np.floor(domain.high))))
        return np.asarray(rng.integers(low, high + 1, shape)).astype(dtype)
    return as_dtype(rng.uniform(domain.low, domain.high, shape), dtype)


def value_arrays(op: Any, sample: Sample, dtype: np.dtype, seed: int = 0) -> list[np.ndarray]:
    """One array an argument, with every special point; elementwise ops get all combinations of them."""
    rng = np.random.default_rng(seed)
    dtypes = [dtype_of(sample, k, dtype) for k in range(len(sample.shapes))]
    domains = [domain_of(sample, k) for k in range(len(sample.shapes))]
    randoms = [
        uniform(rng, domain, shape, kind)
        for domain, shape, kind in zip(domains, sample.shapes, dtypes, strict=True)
    ]
    if not isinstance(op.lowering, ScalarCode):
        return randoms
    special = [
        np.concatenate([as_dtype((*d.also, *d.smooth), kind), values.ravel()[:2]])
        for d, kind, values in zip(domains, dtypes, randoms, strict=True)
    ]
    combined = zip(*itertools.product(*special), strict=True)
    return [
        np.concatenate([values, np.asarray(points, values.dtype)])
        for values, points in zip(randoms, combined, strict=True)
    ]


def smooth_arrays(
    op: Any, sample: Sample, dtype: np.dtype, seed: int = 0
) -> list[list[np.ndarray]]:
    """Argument lists at which gradients exist: random ones, and with smooth points put in front."""
    rng = np.random.default_rng(seed)
    most = max((len(domain.smooth) for domain in sample.domains), default=0)
    found = []
    for count in range(most + 1):
        arrays = []
        for k, shape in enumerate(sample.shapes):
            domain, kind = domain_of(sample, k), dtype_of(sample, k, dtype)
            values = uniform(rng, domain, shape, kind)
            points = as_dtype(domain.smooth[:count], kind)
            values.ravel()[: len(points)] = points
            arrays.append(values)
        found.append(arrays)
    return found


# Functions of many outputs.


def inputs_for(arrays: Sequence[np.ndarray], prefix: str = "x") -> list[Node]:
    """An input node of each array's dtype and shape."""
    return [
        input_node(f"{prefix}{i}", TensorType(array.dtype, array.shape))
        for i, array in enumerate(arrays)
    ]


def reference_values(
    outputs: Sequence[Node], inputs: Sequence[Node], arrays: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The outputs by the reference."""
    return reference.evaluate(Graph("g", tuple(inputs), tuple(outputs)), arrays)


def compiled(outputs: Sequence[Node], inputs: Sequence[Node], name: str = "f") -> gx.Function:
    """One function of all ``outputs``, which returns a list; nothing is kept on disk."""
    wrapped = [Tensor(node) for node in outputs]
    return gx.compile([Tensor(node) for node in inputs], wrapped, name=name, cache=False)


def run_plain(
    outputs: Sequence[Node], inputs: Sequence[Node], arrays: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The outputs by the generated source, run by Python."""
    stages = run_pipeline(Graph("f", tuple(inputs), tuple(outputs)))
    return run_source(stages["fused"], arrays)


def source_of(graph: Graph) -> ModuleSource:
    """The module of a fused graph."""
    return module_source(graph, plan_memory(graph), cache=False)


def run_source(graph: Graph, arrays: Sequence[np.ndarray], garbage: int = 0xA5) -> list[np.ndarray]:
    """The outputs of a fused graph by its generated source, run by Python in buffers of NumPy.

    All bytes of the workspace and of the results are ``garbage`` before.
    """
    source = source_of(graph)
    namespace: dict[str, Any] = {}
    exec(source.text, namespace)
    # A jitted function called by Python gives Python's integers, which do not wrap around.
    namespace["scalar"] = SimpleNamespace(
        **{name: getattr(f, "py_func", f) for name, f in vars(scalar).items()}
    )
    axes = [length for array in arrays for length in np.shape(array)]
    shapes = np.zeros(sum(len(n.shape) for n in graph.outputs) + 1, np.int64)
    namespace[source.measure](axes, shapes)
    lengths = iter(shapes.tolist())
    results = [np.empty([next(lengths) for _ in n.shape], n.dtype) for n in graph.outputs]
    for result in results:
        result.reshape(-1).view(np.uint8)[:] = garbage
    workspace = np.full(next(lengths), garbage, np.uint8)
    with np.errstate(all="ignore"):
        passed = [np.ascontiguousarray(a).reshape(-1) if a.ndim else a[()] for a in arrays]
        sizes = [axes[position] for position in source.sizes]
        flat = [result.reshape(-1) for result in results]
        namespace[source.run](*passed, *flat, workspace, *sizes)
    return results


# Comparing.


def ulp_distance(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How many floats lie between two arrays; 0 between two nans and between zeros of any sign."""
    bits = np.dtype(f"int{8 * wanted.dtype.itemsize}")

    def ordinal(x: np.ndarray) -> np.ndarray:
        i = np.ascontiguousarray(x).view(bits).astype(object)
        return np.where(i < 0, np.iinfo(bits).min - i, i)

    distance = np.abs(ordinal(found) - ordinal(wanted))
    return np.where(np.isnan(found) & np.isnan(wanted), 0, distance)


def same_bits(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether two arrays are equal bit by bit; all nans are one."""
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        return False
    if not is_float(found.dtype):
        return bool(np.array_equal(found, wanted))
    signs = (np.signbit(found) == np.signbit(wanted)) | np.isnan(found)
    return bool(np.array_equal(found, wanted, equal_nan=True) and np.all(signs))


def largest(*arrays: np.ndarray) -> float:
    """The largest finite magnitude in all arrays."""
    finite = [np.abs(a[np.isfinite(a)]) for a in map(np.asarray, arrays) if a.dtype.kind == "f"]
    return max((float(a.max()) for a in finite if a.size), default=0.0)


def differs(
    found: np.ndarray, wanted: np.ndarray, scale: float = 0.0, rtol: float | None = None
) -> str:
    """Empty if ``found`` is ``wanted``; else what differs.

    Floats may differ by ``rtol`` (by default the dtype's `TOLERANCE`) times the larger of ``scale`` and
    the largest wanted value; infinities and nans must be at the same places.
    """
    found, wanted = np.asarray(found), np.asarray(wanted)
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        return f"{found.dtype}{found.shape} instead of {wanted.dtype}{wanted.shape}"
    if not is_float(wanted.dtype):
        return "" if np.array_equal(found, wanted) else f"{found!r} instead of {wanted!r}"
    finite = np.isfinite(wanted)
    if not np.array_equal(np.where(finite, 0, wanted), np.where(finite, 0, found), equal_nan=True):
        return f"{found!r} instead of {wanted!r}"
    allowed = (TOLERANCE[wanted.dtype] if rtol is None else rtol) * max(scale, largest(wanted))
    error = np.abs(np.subtract(found, wanted, where=finite, out=np.zeros_like(wanted)))
    if np.all(error <= allowed):
        return ""
    return f"{found!r} instead of {wanted!r}: off by {error.max():.3g}, allowed {allowed:.3g}"


def numerical_gradient(
    function: Any, arrays: Sequence[np.ndarray], k: int, step: float = 2e-3
) -> np.ndarray:
    """The derivative of a scalar function by argument ``k``: central differences, extrapolated twice."""
    result = np.empty_like(arrays[k])
    for index in np.ndindex(result.shape):

        def slope(h: float, index: Any = index) -> float:
            ends = []
            for offset in (h, -h):
                moved = [a.copy() for a in arrays]
                moved[k][index] += offset
                ends.append(function(moved))
            return (ends[0] - ends[1]) / (2 * h)

        s = [slope(step / 2**i) for i in range(3)]
        first = [(4 * b - a) / 3 for a, b in itertools.pairwise(s)]
        result[index] = (16 * first[1] - first[0]) / 15
    return result


# Gradients.


def floats_among(nodes: Sequence[Node]) -> list[int]:
    """The positions of the nodes of a float dtype."""
    return [k for k, node in enumerate(nodes) if is_float(node.dtype)]


def weights_like(node: Node, seed: int) -> Node:
    """Fixed random weights of a node's type."""
    values = np.random.default_rng(seed).uniform(0.5, 1.5, node.shape)
    return constant_node(values.astype(node.dtype))


def gradients(outputs: Sequence[Node], wrt: Sequence[Node], seed: int) -> list[Node]:
    """The gradients of the weighted sum of all ``outputs``."""
    total = None
    for k, output in enumerate(outputs):
        term = ew.multiply(output, weights_like(output, seed + k))
        axes = tuple(range(len(term.shape)))
        term = reduce.sum_(term, axes=axes) if axes else term
        total = term if total is None else ew.add(total, term)
    return autodiff.backward(total, wrt, filled(total, 1))


def gradient_mismatch(
    outputs: Sequence[Node],
    inputs: Sequence[Node],
    arrays: Sequence[np.ndarray],
    rtol: float = 1e-6,
) -> str:
    """Empty if the gradient of a weighted sum of ``outputs`` is the numerical one for every input."""
    wrt = [inputs[k] for k in floats_among(inputs)]
    found = reference_values(gradients(outputs, wrt, 1), inputs, arrays)
    weights = [weights_like(output, 1 + k).attrs["value"].array for k, output in enumerate(outputs)]

    def projected(moved: Sequence[np.ndarray]) -> float:
        values = reference_values(outputs, inputs, moved)
        return sum(np.sum(v * w) for v, w in zip(values, weights, strict=True))

    for k, gradient in zip(floats_among(inputs), found, strict=True):
        numerical = numerical_gradient(projected, arrays, k)
        problem = differs(gradient, numerical, scale=1.0, rtol=rtol)
        if problem:
            return f"argument {k} at {arrays}: {problem}"
    return ""


# Files that keep what was generated.


def same_as_file(path: Path, text: str) -> None:
    """Raises AssertionError if ``path`` does not hold ``text``; writes it where the environment asks to."""
    if os.environ.get(UPDATE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"if this change is meant, set {UPDATE}=1 and run again"
