"""Every rewrite rule is held to its label, on specimens and hard values."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from helpers import differs, largest, same_bits
from oracle import exact_values, numbers, ulps
from specimens import FLAT, N, Specimen, specimens

from graphc import autodiff, reference
from graphc.ir import Graph, input_node
from graphc.rewrite.rules import Label
from graphc.rewrite.tables import RULES
from graphc.types import FLOATS, is_float

FEW_ULPS = 4
ORACLE_POINTS = 64


# Values.


def hard_values(dtype):
    """The values at which rules break."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        small = [0, 1, -1, 2, -2, 3, 5, -7, 1000, -1000]
        return np.array([limits.min, limits.max, limits.min + 1, *small, 46341, 16777217], dtype)
    info = np.finfo(dtype)
    huge, tiny = float(info.max) * 0.6, float(info.smallest_subnormal)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1000.0, -1000.0]
    sizes = [huge, -huge, tiny, -tiny, float(info.tiny), math.sqrt(huge), 1e-20, 0.5, 2.0, -2.5]
    return np.array([*special, *sizes, 3.7, -0.3], dtype)


def ordinary_values(rng, count, dtype):
    """Random values of all sizes that people meet."""
    if dtype.kind == "b":
        return rng.random(count) < 0.5
    if dtype.kind == "i":
        return rng.integers(-100, 100, count).astype(dtype)
    size = 10.0 ** rng.uniform(-3, 2, count)
    return (size * rng.choice([-1.0, 1.0], count)).astype(dtype)


def spaced(values, count):
    """At most ``count`` of ``values``, evenly spaced."""
    if len(values) <= count:
        return values
    return values[np.linspace(0, len(values) - 1, count).astype(int)]


def flat_arrays(inputs, points, rng):
    """One array an input: all combinations of hard values, and as many random values."""
    each = max(2, int(points ** (1 / len(inputs))))
    pools = [spaced(hard_values(x.dtype), each) for x in inputs]
    if len(inputs) > 1:
        # Which of the hard values meet differs from input to input.
        pools = [rng.permutation(hard_values(x.dtype))[: max(each, 2)] for x in inputs]
    grid = zip(*itertools.product(*pools), strict=True)
    return [
        np.concatenate([np.asarray(column, x.dtype), ordinary_values(rng, points // 2, x.dtype)])
        for column, x in zip(grid, inputs, strict=True)
    ]


def mixed_array(shape, dtype, rng):
    """Rows of random values: plain ones, ones with a hard value or two, and ones of hard values only."""
    found = ordinary_values(rng, math.prod(shape), dtype).reshape(shape)
    hard = hard_values(dtype)
    rows = found.reshape(shape[0], -1)
    for k, row in enumerate(rows[len(rows) // 4 :]):
        value = hard[k % len(hard)]
        count = min((1, 1, 2, row.size)[k // len(hard) % 4], row.size)
        row[rng.permutation(row.size)[:count]] = value if k % 3 else rng.choice(hard, count)
    return found


def arrays_for(specimen, points, seed=0):
    """One array an input, N being the number of points or rows."""
    rng = np.random.default_rng(seed)
    if specimen.is_flat:
        return bounded(specimen, flat_arrays(specimen.inputs, points, rng))
    found = []
    has_floats = any(is_float(x.dtype) for x in specimen.inputs)
    for x in specimen.inputs:
        shape = tuple(max(8, points // 2) if size == N else size for size in x.shape)
        if has_floats and x.dtype.kind == "i":
            found.append(rng.integers(-4, 4, shape))  # labels of four classes
        else:
            found.append(mixed_array(shape, x.dtype, rng))
    return bounded(specimen, found)


def bounded(specimen, arrays):
    """The arrays with finite values no larger than the table says."""
    if specimen.rule.name not in LARGEST:
        return arrays
    bound = LARGEST[specimen.rule.name](specimen.before.dtype)
    return [np.where(np.isfinite(a), np.clip(a, -bound, bound), a).astype(a.dtype) for a in arrays]


def both_sides(graphs, arrays):
    with np.errstate(all="ignore"):
        return [reference.evaluate(graph, arrays)[0] for graph in graphs]


# What a label promises. Each check gives an empty text, or what is wrong.


def shown(specimen, where, arrays, found):
    """The first point of ``where`` and the values there."""
    index = tuple(int(i[0]) for i in np.nonzero(where))
    if specimen.is_rowwise:
        at = [a[index[0]] for a in arrays]
    else:
        at = list(arrays)
    values = [v[index] if np.shape(v) else v for v in found]
    return f"{specimen.rule.text} ({specimen.before.dtype}) at {at}: {values}, {where.sum()} times"


def exact_problem(specimen, arrays):
    """After is before, bit by bit."""
    before, after = both_sides(specimen.graphs(), arrays)
    if same_bits(after, before):
        return ""
    return shown(specimen, unequal(before, after, signs=True), arrays, [before, after])


def unequal(before, after, signs=False):
    """Where two arrays differ; all nans are one."""
    same = (before == after) | ((before != before) & (after != after))
    if signs and is_float(before.dtype):
        same &= (np.signbit(before) == np.signbit(after)) | (before != before)
    return ~same


def stabler_problem(specimen, arrays, graphs=None, finite_only=False):
    """After is nearer to the true value than before, within 4 ulps of it, or what before is.

    At infinite operands the true value is what IEEE arithmetic gives or the limit.
    """
    graphs = graphs or specimen.graphs()
    before, after = both_sides(graphs, arrays)
    differing = unequal(before, after)
    if not differing.any():
        return ""
    if not is_float(before.dtype):
        return shown(specimen, differing, arrays, [before, after])
    if specimen.is_rowwise and before.shape[0] == arrays[0].shape[0]:
        rows = differing.reshape(len(differing), -1).any(axis=1)
        arrays = [a[rows] for a in arrays]
        before, after, differing = before[rows], after[rows], differing[rows]
    true = exact_values(graphs[0], arrays)[0]
    old, new = ulps(before, true), ulps(after, true)
    limit = np.maximum(np.where(np.isfinite(old), old, 0), FEW_ULPS)
    if specimen.rule.name in CONDITIONED:
        limit = np.maximum(limit, 2 * np.where(np.isfinite(old), old, 0))
        limit += sensitivity(graphs[0], arrays, true, before.dtype)
    worse = differing & ~(new <= limit)
    if finite_only:
        worse &= finite(true)
    elif worse.any():
        if specimen.rule.name in UNDEFINED_ROWS:
            worse &= ~(np.isnan(before).any(axis=-1, keepdims=True) & np.isnan(after))
        worse &= ~(ulps(after, limits(graphs[0], arrays)) <= FEW_ULPS)
    if not worse.any():
        return ""
    return shown(specimen, worse, arrays, [before, after, true, old, new, limit])


def finite(true):
    return np.asarray(np.frompyfunc(lambda x: abs(x) < math.inf, 1, 1)(true), bool)


def limits(graph, arrays):
    """The true values as infinite operands are approached: nan where that depends on how."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(3):
        moved = []
        for a in arrays:
            if is_float(a.dtype):
                powers = 2 ** mpmath.mpf(1030)
                sizes = numbers(rng.permutation(a.size).reshape(a.shape) * 3) 
                huge = np.sign(a).astype(object) * (powers * (1 + sizes))
                a = np.where(np.isinf(a), huge, numbers(a))
            moved.append(a)
        found.append(exact_values(graph, moved)[0].astype(float))
    agree = (found[0] == found[1]) & (found[1] == found[2])
    return numbers(np.where(agree, found[0], np.nan))


def sensitivity(graph, arrays, true, dtype):
    """By how many ulps the true values change when every operand changes by one."""
    eps = mpmath.mpf(float(np.finfo(dtype).eps))
    exponents = np.frompyfunc(lambda x: ulp_of(x, np.finfo(dtype)), 1, 1)(true)
    total = np.zeros(true.shape, object)
    with mpmath.workprec(3200):
        for k, a in enumerate(arrays):
            if not is_float(a.dtype):
                continue
            columns = [()] if a.ndim == 1 else [(..., *i) for i in np.ndindex(a.shape[1:])]
            for column in columns:
                moved = [numbers(b) for b in arrays]
                moved[k][column or slice(None)] *= 1 + eps
                total = total + abs(exact_values(graph, moved)[0] - true)
        with np.errstate(all="ignore"):
            return np.nan_to_num((total / exponents).astype(float), nan=0.0, posinf=0.0)


def ulp_of(x, info):
    if not abs(x) < math.inf:
        return mpmath.mpf(1)
    return mpmath.mpf(2) ** (max(mpmath.frexp(x)[1], int(info.minexp) + 1) - info.nmant - 1)


# A gradient is the true gradient of before, to the same standard.


def gradient_graphs(specimen):
    """For each float operand, the graphs of its gradient on both sides; the last input is the seed."""
    seed = input_node("seed", specimen.before.tensor_type)
    inputs = (*specimen.inputs, seed)
    wrt = [x for x in specimen.inputs if is_float(x.dtype)]
    sides = [autodiff.backward(side, wrt, seed) for side in (specimen.before, specimen.after)]
    return [
        [Graph("gradient", inputs, (gradient,)) for gradient in pair]
        for pair in zip(*sides, strict=True)
        if pair[0] is not pair[1]
    ]


def gradient_problem(specimen, points):
    """Empty, or where a gradient of after is worse than that of before, all operands being finite."""
    if not is_float(specimen.before.dtype):
        return ""
    arrays = arrays_for(specimen, points)
    if specimen.is_rowwise:
        rows = np.all([np.isfinite(a).reshape(len(a), -1).all(axis=1) for a in arrays], axis=0)
        arrays = [a[rows] for a in arrays]
    else:
        arrays = [np.where(np.isfinite(a), a, a.dtype.type(0.75)) for a in arrays]
    (value,) = reference.evaluate(specimen.graphs()[0], arrays)
    seed = np.random.default_rng(1).uniform(0.5, 1.5, value.shape).astype(value.dtype)
    for graphs in gradient_graphs(specimen):
        problem = stabler_problem(specimen, [*arrays, seed], graphs, finite_only=True)
        if problem:
            return problem
    return ""


def check_label(specimen, points):
    label = specimen.rule.label
    arrays = arrays_for(specimen, points)
    if label is Label.EXACT:
        return exact_problem(specimen, arrays)
    if label is Label.STABLER:
        return stabler_problem(specimen, arrays)
    return ""


CONDITIONED = dict.fromkeys(["sigmoid_of_two","logmeanexp","softmax_by_parts","softmax_by_reciprocal","softmax_by_logsumexp","log_of_softmax","log_softmax_by_logsumexp","softmax_by_log_softmax","gelu_by_erfc","gelu_by_tanh","gelu_by_tanh_factored","total_soft_cross_entropy", "log_of_product_with_exp", "log_of_quotient_by_exp", "log_of_prod_of_exp"])
UNDEFINED_ROWS = {"softmax_by_logsumexp":"", "log_softmax_by_logsumexp":""}
LARGEST = {"log1p_of_expm1": lambda t: 1000, "log1p_of_minus_sigmoid": lambda t: 1000, "scaled_layer_norm": lambda t: float(np.finfo(t).max)**0.5/1000}
