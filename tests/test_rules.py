"""Every rewrite rule is held to its label, on specimens and hard values."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
from helpers import same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import exact_values, numbers, ulps
from specimens import BY_HAND, VARIABLES, N, Specimen, specimens

import graphc as gx
from graphc import autodiff, reference
from graphc.compile import declared_graph
from graphc.ir import CONSTANT, Graph, input_node, replaced, uniform_value, walk
from graphc.ops import elementwise as ew
from graphc.ops import softmax as sm
from graphc.ops.index import pick, take
from graphc.rewrite.engine import rewrite_jointly
from graphc.rewrite.joint import JOINT
from graphc.rewrite.rules import ON_BY_DEFAULT, Label, pattern_rule
from graphc.rewrite.tables import RULES, choose
from graphc.types import FLOATS, is_float

FEW_ULPS = 4


POINTS = {Label.EXACT: 2000, Label.STABLER: 40, Label.REASSOCIATES: 400, Label.ASSUMES_FINITE: 400}
GRADIENT_POINTS = 24


# What is not asked of a rule, and why.

LARGEST = {
    "log1p_of_expm1": lambda dtype: 1000.0,  # the oracle's digits end: 1 + expm1(-3000) is 0
    "log1p_of_minus_sigmoid": lambda dtype: 1000.0,  # the same
}
"""The largest finite operand by dtype."""

NORMWISE = dict.fromkeys(
    ("weighted_logsumexp", "log_of_scaled_sum_of_exp"),
    "exponents are shifted by the largest, whatever its weight is",
)
"""Operands may be wrong by one ulp of the largest in their row."""

PARTS = ("softplus_in_two_parts", "softplus_in_two_parts_by_relu", "sigmoid_by_choice")
KINKS = {
    **dict.fromkeys(
        PARTS,
        (
            lambda x: x == 0,
            "the kinks of both parts cancel; each alone routes the gradient at a tie",
        ),
    ),
    "log_quotient": (
        lambda x: x == 0,
        "log(0 / y) is -inf for every y, and has no slope by it; before has 0 or nan, after the limit",
    ),
    **{
        rule.name: (lambda x: x == 0, "the rule is for values only")
        for rule in RULES
        if rule.values_only
    },
}
"""Where the gradient of before is a convention."""


# Values.

LABELLED = (pick, take, sm.cross_entropy)
"""Ops whose second operand is labels."""


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
    labels = {node.args[1] for node in walk([specimen.before]) if node.op in LABELLED}
    for x in specimen.inputs:
        shape = tuple(max(8, points // 2) if size == N else size for size in x.shape)
        if x in labels:
            found.append(rng.integers(-4, 4, shape))  # labels of four classes
        else:
            found.append(mixed_array(shape, x.dtype, rng))
    return bounded(specimen, found)


def bounded(specimen, arrays):
    """The arrays without what LARGEST leaves out."""
    if specimen.rule.name not in LARGEST:
        return arrays
    bound = LARGEST[specimen.rule.name](specimen.before.dtype)
    return [np.where(np.isfinite(a), np.clip(a, -bound, bound), a).astype(a.dtype) for a in arrays]


def both_sides(graphs, arrays):
    with np.errstate(all="ignore"):
        return [reference.evaluate(graph, arrays)[0] for graph in graphs]


# What a label promises. Each check gives an empty text, or what is wrong.


def exact_problem(specimen, arrays):
    """After is before, bit by bit."""
    before, after = both_sides(specimen.graphs(), arrays)
    if same_bits(after, before):
        return ""
    worse = unequal(before, after, signs=True)
    return Compared(specimen, *specimen.graphs(), arrays, before, after, worse).shown(worse)


def unequal(before, after, signs=False):
    """Where two arrays differ; all nans are one."""
    same = (before == after) | ((before != before) & (after != after))
    if signs and is_float(before.dtype):
        same &= (np.signbit(before) == np.signbit(after)) | (before != before)
    return ~same


def stabler_problem(specimen, arrays):
    """After is no further from the true value than before or than a stable evaluation is.

    That is within 4 ulps of it, or as far from it as one ulp in each operand puts it. At infinite operands
    the true value is what IEEE arithmetic gives or the limit.
    """
    found = compared(specimen, specimen.graphs(), arrays)
    if found is None:
        return ""
    if not is_float(found.before.dtype):
        return found.shown(found.differing)
    worse = found.differing & ~(found.new <= np.maximum(finite_or(found.old, 0), FEW_ULPS))
    if worse.any():
        worse &= ~(ulps(found.after, found.limits()) <= FEW_ULPS)
    if worse.any():
        worse &= ~(found.new <= found.stable_limit(worse))
    return found.shown(worse)


@dataclass
class Compared:
    """Both sides and the true value of before, at those points at which the sides differ."""

    specimen: Specimen
    graph: Graph
    after_graph: Graph
    arrays: list
    before: np.ndarray
    after: np.ndarray
    differing: np.ndarray

    def __post_init__(self):
        if is_float(self.before.dtype):
            self.true = exact_values(self.graph, self.arrays)[0]
            self.old, self.new = ulps(self.before, self.true), ulps(self.after, self.true)

    def shown(self, where):
        """The first point of ``where`` and the values there; empty if there is none."""
        if not where.any():
            return ""
        index = tuple(int(i[0]) for i in np.nonzero(where))
        by_row = self.specimen.is_rowwise
        at = [a[index[0]] if by_row else a for a in self.arrays]
        text = f"{self.specimen.rule.text} ({self.before.dtype}) at {at}, {where.sum()} times"
        text += f": {self.before[index]} became {self.after[index]}"
        if not is_float(self.before.dtype):
            return text
        true = mpmath.nstr(self.true[index], 17)
        return text + f", true is {true}: {self.old[index]:.3g}, {self.new[index]:.3g} ulps"

    def limits(self):
        """The true values as infinite operands are approached: nan where that depends on how."""
        rng = np.random.default_rng(0)
        ways = [
            exact_values(self.graph, [nearly(a, rng) for a in self.arrays])[0] for _ in range(3)
        ]
        one, two, three = (way.astype(float) for way in ways)
        return numbers(np.where((one == two) & (two == three), one, np.nan))

    def stable_limit(self, where):
        """The ulps that are allowed where the operands may be wrong by one.

        A number that is not whole, such as 0.3, is an operand too: it was rounded when it was written.
        """
        limit = np.maximum(finite_or(self.old, math.inf), FEW_ULPS)
        normwise = self.specimen.rule.name in NORMWISE
        limit = limit + self._sensitivity(where, self.graph, self.arrays, normwise=normwise)
        written = [node for node in self.graph.nodes() if is_rounded_number(node)]
        given = [input_node("number", node.tensor_type) for node in written]
        outputs = replaced(self.graph.outputs, dict(zip(written, given, strict=True)))
        by_numbers = Graph("numbers", (*self.graph.inputs, *given), tuple(outputs))
        changing = range(len(self.arrays), len(self.arrays) + len(given))
        arrays = [*self.arrays, *(node.attrs["value"].array for node in written)]
        return limit + self._sensitivity(where, by_numbers, arrays, changing)

    def stable_gradient_limit(self, where):
        """The same for a gradient, where also what after computes of the operands may be wrong by one ulp."""
        present = set(self.after_graph.nodes())
        values = [node for node in walk([self.specimen.after]) if node in present]
        return self.stable_limit(where) + self.by_rounding(where, self.after_graph, values)

    def by_rounding(self, where, graph, values):
        """By how many ulps the result changes when each of ``values`` in ``graph`` changes by one."""
        total = np.zeros(where.shape)
        for value in values:
            if value in graph.inputs or not has_rounded_elements(value):
                continue
            given = input_node("value", value.tensor_type)
            outputs = replaced(graph.outputs, {value: given})
            by_value = Graph("value", (*graph.inputs, given), tuple(outputs))
            exact = exact_values(Graph("value", graph.inputs, (value,)), self.arrays)
            total += self._sensitivity(where, by_value, [*self.arrays, *exact], [len(self.arrays)])
        return total

    def _sensitivity(self, where, graph, arrays, changing=None, normwise=False):
        """`sensitivity` in the rows in which ``where`` is true somewhere, and 0 in the others."""
        rows = np.ones(len(where), bool)
        by_rows = all(x.shape[:1] in ((), (N,)) for x in graph.inputs)
        if self.specimen.is_rowwise and by_rows:
            rows = where.reshape(len(where), -1).any(axis=1)
            arrays = [a[rows] if a.ndim else a for a in arrays]
        found = np.zeros(where.shape)
        true = self.true[rows]
        found[rows] = sensitivity(graph, arrays, true, self.before.dtype, changing, normwise)
        return found


def is_rounded_number(node):
    """Whether ``node`` is a number that somebody wrote, which is not whole."""
    if node.op is not CONSTANT or not is_float(node.dtype):
        return False
    values = node.attrs["value"].array
    return bool((np.isfinite(values) & (values != np.round(values))).any())


def has_rounded_elements(node):
    return is_float(node.dtype) and uniform_value(node) is None


def compared(specimen, graphs, arrays):
    """Both sides of a rule, or None where they do not differ."""
    before, after = both_sides(graphs, arrays)
    differing = unequal(before, after)
    if not differing.any():
        return None
    if specimen.is_rowwise:
        rows = differing.reshape(len(differing), -1).any(axis=1)
        arrays = [a[rows] for a in arrays]
        before, after, differing = before[rows], after[rows], differing[rows]
    return Compared(specimen, *graphs, arrays, before, after, differing)


def finite_or(values, other):
    return np.where(np.isfinite(values), values, other)


def nearly(array, rng):
    """Numbers that are huge where ``array`` is infinite, of sizes in any order."""
    if not is_float(array.dtype):
        return array
    # Beyond the largest float, and no larger, so that the oracle has the digits for their squares.
    sizes = numbers(1 + rng.permutation(array.size).reshape(array.shape) / (2 * array.size))
    huge = np.sign(array).astype(object) * sizes * 2 ** mpmath.mpf(1024)
    return np.where(np.isinf(array), huge, numbers(array))


def finite(true):
    return np.asarray(np.frompyfunc(lambda x: abs(x) < math.inf, 1, 1)(true), bool)


def sensitivity(graph, arrays, true, dtype, changing=None, normwise=False):
    """By how many ulps of ``true`` the values of ``graph`` change when every operand changes by one.

    ``changing`` are the numbers of the operands that do, all by default. ``normwise``, they change by one ulp
    of the largest in their row.
    """
    changing = range(len(arrays)) if changing is None else changing
    eps = mpmath.mpf(float(np.finfo(dtype).eps))
    sizes = np.frompyfunc(lambda x: ulp_of(x, np.finfo(dtype)), 1, 1)(true)
    total = np.zeros(true.shape, object)
    (start,) = exact_values(graph, arrays)
    with mpmath.workprec(3200):
        for k in changing:
            if arrays[k].dtype.kind not in "fO":
                continue
            for column in np.ndindex(arrays[k].shape[1:]):
                moved = [numbers(b) if b.dtype.kind in "fO" else b for b in arrays]
                # An infinite operand was not rounded.
                size = np.where(finite(moved[k]), abs(moved[k]), 0)
                step = np.max(size, axis=-1, initial=0) if normwise else size[..., *column]
                moved[k][..., *column] += eps * step
                total = total + abs(exact_values(graph, moved)[0] - start)
        with np.errstate(all="ignore"):
            ratio = (total / sizes).astype(float)
            return np.where(finite(true) & ~np.isnan(ratio), ratio, 0.0)


def ulp_of(x, info):
    exponent = mpmath.frexp(x)[1] if 0 < abs(x) < math.inf else 0 if x else int(info.minexp)
    return mpmath.mpf(2) ** (max(exponent, int(info.minexp) + 1) - info.nmant - 1)


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
    """Empty, or where a gradient of after is worse than that of before, all operands being finite.

    The standard is that of values, where operands, seed, and what after computes may be wrong by one ulp: a
    derivative by value, such as s * (1 - s), takes over the rounding of the value.
    """
    if not is_float(specimen.before.dtype):
        return ""
    arrays = with_finite_values(specimen, arrays_for(specimen, points))
    (value,) = reference.evaluate(specimen.graphs()[0], arrays)
    seed = np.random.default_rng(1).uniform(0.5, 1.5, value.shape).astype(value.dtype)
    for graphs in gradient_graphs(specimen):
        found = compared(specimen, graphs, [*arrays, seed])
        if found is None:
            continue
        worse = found.differing & finite(found.true)
        worse &= ~(found.new <= np.maximum(found.old, FEW_ULPS))
        if worse.any():
            worse &= ~(found.new <= found.stable_gradient_limit(worse))
        if worse.any():
            return found.shown(worse)
    return ""


def with_finite_values(specimen, arrays):
    """The rows of finite operands at which a side has a value, and no kink."""
    if not specimen.is_rowwise:
        return [np.where(np.isfinite(a), a, a.dtype.type(0.75)) for a in arrays]
    values = both_sides(specimen.graphs(), arrays)
    defined = ~np.isnan(values[0]) | ~np.isnan(values[1])
    kink = KINKS.get(specimen.rule.name, (np.isnan, ""))[0]
    good = [defined, *(np.isfinite(a) & ~kink(a) for a in arrays)]
    rows = np.all([g.reshape(len(g), -1).all(axis=1) for g in good], axis=0)
    return [a[rows] for a in arrays]


# The labels that are off by default.


def intermediates(graphs, arrays):
    """The values of all float nodes of both graphs."""
    with np.errstate(all="ignore"):
        found = [v for graph in graphs for v in reference.evaluate_all(graph, arrays).values()]
    return [np.asarray(v) for v in found if is_float(np.asarray(v).dtype)]


def finite_problem(specimen, graphs, arrays):
    """After is before, but for signs of zeros, where all values on the way are finite."""
    before, after = both_sides(graphs, arrays)
    good = np.ones(before.shape, bool)
    for value in intermediates(graphs, arrays):
        good &= np.isfinite(value) if value.shape == before.shape else np.isfinite(value).all()
    assert good.any()
    worse = unequal(before, after) & good
    return f"{specimen.rule.text}: {before[worse]} became {after[worse]}" if worse.any() else ""


def reassociation_problem(specimen, graphs, arrays):
    """After is before within a few ulps of the largest value on the way, which is moderate."""
    before, after = both_sides(graphs, arrays)
    if not is_float(before.dtype):
        return "" if np.array_equal(before, after) else f"{specimen.rule.text}: integers differ"
    scale = np.zeros(before.shape)
    moderate = np.ones(before.shape, bool)
    for value in intermediates(graphs, arrays):
        size = np.abs(value)
        good = (size == 0) | ((size > 1e-15) & (size < 1e15))
        same = value.shape == before.shape
        scale = np.maximum(scale, size if same else np.max(size))
        moderate &= good if same else good.all()
    with np.errstate(all="ignore"):
        error = np.abs(after - before)
    worse = moderate & ~(error <= FEW_ULPS * np.finfo(before.dtype).eps * scale)
    worse |= moderate & (np.isnan(before) != np.isnan(after))
    return f"{specimen.rule.text}: {before[worse]} became {after[worse]}" if worse.any() else ""


# The tests.


def problem_of(specimen):
    """Empty, or how the values break the label."""
    label = specimen.rule.label
    arrays = arrays_for(specimen, POINTS[label])
    if label is Label.EXACT:
        return exact_problem(specimen, arrays)
    if label is Label.STABLER:
        return stabler_problem(specimen, arrays)
    if label is Label.REASSOCIATES:
        return reassociation_problem(specimen, specimen.graphs(), arrays)
    return finite_problem(specimen, specimen.graphs(), arrays)


def gradient_problem_of(specimen):
    """Empty, or how the gradients break the label."""
    label = specimen.rule.label
    if label in (Label.EXACT, Label.STABLER):
        return gradient_problem(specimen, GRADIENT_POINTS)
    check = reassociation_problem if label is Label.REASSOCIATES else finite_problem
    arrays = with_finite_values(specimen, arrays_for(specimen, POINTS[label]))
    if not is_float(specimen.before.dtype):
        return ""
    if any(a.size == 0 for a in arrays):
        return ""  # no finite operands have a value
    seed = np.ones(both_sides(specimen.graphs(), arrays)[0].shape, specimen.before.dtype)
    found = (check(specimen, g, [*arrays, seed]) for g in gradient_graphs(specimen))
    return next(filter(None, found), "")


NAMES = {rule.name: rule for rule in RULES}


def test_rules_have_distinct_names():
    assert len(NAMES) == len(RULES)


@pytest.mark.parametrize("name", NAMES)
def test_rule_keeps_its_label(name):
    found = specimens(NAMES[name])
    assert found, "no specimen on which the rule fires"
    problems = [problem for problem in map(problem_of, found) if problem]
    assert not problems, problems[0]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_keep_the_label(name):
    problems = [p for p in map(gradient_problem_of, specimens(NAMES[name], FLOATS)) if p]
    assert not problems, problems[0]


def test_tables_name_rules():
    named = {name for table in (LARGEST, NORMWISE, KINKS, VARIABLES, BY_HAND) for name in table}
    assert named <= set(NAMES)


def test_cases_by_hand_all_fire():
    silent = [
        (name, k)
        for name, cases in BY_HAND.items()
        for k, item in enumerate(cases)
        if len(cases) < 20 and not specimens(NAMES[name], cases=[item])
    ]
    assert not silent


# Rules with several results.


def joint_specimens():
    x, y = gx.input("x", (8, 4)), gx.input("y", (8,), gx.int64)
    p, m, v, g = (gx.input(name, (32,)) for name in "pmvg")
    q = gx.nn.softmax(x)
    loss = gx.nn.softmax_cross_entropy(x, y)
    soft = gx.nn.softmax_cross_entropy(x, 2 * x)
    first, second = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * gx.square(g)
    step = p - 0.01 * first / (gx.sqrt(second) + 1e-8)
    velocity = 0.9 * v - 0.1 * g
    return [
        ("shared_softmax", [x, y], [loss, q]),
        ("shared_softmax", [x], [soft, q]),
        ("adam", [p, m, v, g], [first, second, step]),
        ("momentum", [p, v, g], [velocity, p + velocity]),
        ("momentum", [p, v, g], [velocity, p - 0.5 * velocity]),
        ("axpy", [p, g], [p - 0.1 * gx.sin(g)]),
    ]


@pytest.mark.parametrize(("name", "inputs", "outputs"), joint_specimens())
def test_joint_rules_are_exact(name, inputs, outputs):
    rule = next(rule for rule in JOINT if rule.name == name)
    graph = choose().rewrite(declared_graph(inputs, outputs, "f"))
    found = rewrite_jointly(graph, [rule])
    assert rule.find(graph)
    assert found.outputs != graph.outputs
    rng = np.random.default_rng(0)
    nodes = [x.node for x in inputs]
    arrays = [
        rng.integers(0, 4, x.shape) if x.dtype.kind == "i" else mixed_array(x.shape, x.dtype, rng)
        for x in nodes
    ]
    with np.errstate(all="ignore"):
        one, other = (reference.evaluate(g, arrays) for g in (graph, found))
    for k, (before, after) in enumerate(zip(one, other, strict=True)):
        assert same_bits(after, before), k


def test_every_joint_rule_has_a_specimen():
    assert {name for name, _, _ in joint_specimens()} == {rule.name for rule in JOINT}


# Two rules that meet.

# The oracle's digits end for 1 - erf(1000), as for the rules of LARGEST.
UNPAIRED = {"normal_tail", "normal_distribution", *LARGEST}
PAIRED = [
    specimen
    for rule in RULES
    if rule.label in ON_BY_DEFAULT and rule.name not in UNPAIRED
    for specimen in specimens(rule, [np.dtype(np.float64)])[:1]
    if specimen.is_rowwise and all(is_float(x.dtype) for x in (*specimen.inputs, specimen.before))
]


def composed(first, second, k):
    """The left side of ``second`` with that of ``first`` as its operand ``k``."""
    others = tuple(x for x in second.inputs if x is not second.inputs[k])
    outputs = replaced([second.before], {second.inputs[k]: first.before})
    return Graph("pair", (*first.inputs, *others), tuple(outputs))


def pair_problem(first, second, k, seed):
    """Empty, or where the rewritten pair is worse than the declared one."""
    graph = composed(first, second, k)
    pair = Specimen(second.rule, graph.inputs, graph.outputs[0], choose().rewrite(graph).outputs[0])
    rng = np.random.default_rng(seed)
    arrays = []
    for x in graph.inputs:
        shape = tuple(4 if size == N else size for size in x.shape)
        values = rng.choice([0.0, 0.5, -1.0, 2.0, 3.7, -30.0, 1000.0], shape)
        values = np.where(rng.random(shape) < 0.5, rng.normal(size=shape), values)
        values.ravel()[:1] = rng.choice(
            [np.nan, np.inf, -np.inf, -0.0, 1e100, 1e308, 1e-20, 1e-320]
        )
        arrays.append(values)
    found = compared(pair, pair.graphs(), arrays)
    if found is None:
        return ""
    old = finite_or(found.old, math.inf)
    worse = found.differing & ~(found.new <= np.maximum(old, FEW_ULPS))
    worse &= asked_of_pairs(first, second, found)
    if worse.any():
        worse &= ~(ulps(found.after, found.limits()) <= FEW_ULPS)
    if worse.any():
        # Either rule may be wrong by a few ulps in a value that the other one magnifies.
        steps = [node for node in graph.nodes() if node is not graph.outputs[0]]
        magnified = FEW_ULPS * found.by_rounding(worse, graph, steps)
        worse &= ~(found.new <= found.stable_limit(worse) + magnified)
    return found.shown(worse)


def asked_of_pairs(first, second, found):
    """Where a pair of rules promises something: not where only their meeting makes a value undefined."""
    given = np.concatenate([a.reshape(len(a), -1) for a in found.arrays], axis=1)
    (passed,) = reference.evaluate(first.graphs()[0], found.arrays[: len(first.inputs)])
    nan_given = np.isnan(given).any(axis=1)
    pole = np.isinf(passed.reshape(len(passed), -1)).any(axis=1) & np.isfinite(given).all(axis=1)
    by_row = (-1, *[1] * (found.before.ndim - 1))
    # A nan that comes from no nan is inf - inf or 0 * inf, which another form may not meet.
    asked = ~np.isnan(found.before) | nan_given.reshape(by_row)
    asked &= ~pole.reshape(by_row)
    # Dividing by a zero gives an infinity of its sign, and the label leaves the sign of a zero open.
    return asked & ~(np.isinf(found.before) & np.isinf(found.after))


def fitting():
    """Pairs of specimens and the operand of the second that is of the type of the first."""
    return [
        (first, second, k)
        for first in PAIRED
        for second in PAIRED
        for k, x in enumerate(second.inputs)
        if x.type == first.before.type and (first.is_flat == second.is_flat)
    ]


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(data=st.data())
def test_pairs_of_rules(data):
    first, second, k = data.draw(st.sampled_from(FITTING))
    problem = pair_problem(first, second, k, data.draw(st.integers(0, 1000)))
    assert not problem, f"{first.rule.name}, {second.rule.name}: {problem}"


FITTING = fitting()


# Negative controls.


def own(before_and_after, label):
    return pattern_rule(before_and_after, label, "test")


def wrong_zero(x):
    """x + 0 -> x"""
    return x + 0.0, x


def naive_log1p(x):
    """log1p(x) -> log(1 + x)"""
    return ew.log1p(x), ew.log(1.0 + x)


def slightly_off(x):
    """sin(x) -> sin(x) * (1 + 1e-9)"""
    return ew.sin(x), ew.sin(x) * (1 + 1e-9)


def off_in_the_gradient(x):
    """sin(x) -> sin(x), as a constant"""
    return ew.sin(x), ew.stop_gradient(ew.sin(x))


def never(x):
    """exp(sin(x)) -> exp(sin(x))"""
    return ew.exp(ew.sin(x)), ew.exp(ew.sin(x))


@pytest.mark.parametrize(
    ("function", "label"),
    [
        (wrong_zero, Label.EXACT),
        (naive_log1p, Label.STABLER),
        *((slightly_off, label) for label in Label),
    ],
)
def test_a_wrong_rule_is_caught(function, label):
    assert any(map(problem_of, specimens(own(function, label), [np.dtype(np.float64)])))


@pytest.mark.parametrize("label", Label)
def test_a_wrong_gradient_is_caught(label):
    found = specimens(own(off_in_the_gradient, label), FLOATS)
    assert found
    assert all(map(gradient_problem_of, found))


def test_a_rule_that_does_not_fire_is_caught():
    assert not specimens(own(never, Label.EXACT))
