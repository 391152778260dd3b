"""Forms that overflow, cancel or give nan where the value itself does not, against multi-precision values."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from oracle import exact_values, ulps

import graphc as gx
import stability
from graphc import reference
from graphc.compile import declared_graph
from graphc.dsl import Tensor
from graphc.ir import Graph
from graphc.ops.index import pick
from graphc.rewrite.tables import RULES, choose
from graphc.types import FLOATS

LIMIT = 4.0
SIZES = (1e-20, 1.0, 40.0, 100.0, 1000.0)
ANY = (0.0, *SIZES, *(-size for size in SIZES))
POSITIVE = SIZES
# At -100 the sigmoid is subnormal in float32, and has two digits.
NORMAL = tuple(point for point in ANY if point != -100.0)
PAIRS = tuple(itertools.product((-1000.0, -40.0, 0.0, 1e-20, 40.0, 1000.0), repeat=2))
TRIPLES = ((0.0, 0.0, 0.0), (1000.0, 1000.0, -1000.0), (40.0, 0.0, 40.0), (-100.0, -40.0, 0.0))
ROWS = (*((a, b, min(a, b)) for a, b in PAIRS), *TRIPLES)
LABELS = tuple(k % 3 for k in range(len(ROWS)))
TARGETS = tuple(tuple(float(k == label) for k in range(3)) for label in LABELS)
WEIGHTS = (0.25, 0.5, 0.25)

BY_VALUE = (
    "the slope of sigmoid and tanh is computed from their value, s * (1 - s), which may round to 0"
)
TERMS_CANCEL = (
    "the result is next to 0, the difference of numbers that are not: it is ill-conditioned"
)
ROUNDED = "the sum of weighted probabilities, of which one is rounded to 1, is nearly 1"
SATURATED = (
    "the slope of a softmax is computed from its values, p * (g - sum(p * g)), where p rounds to 1"
)


@dataclass(frozen=True)
class Form:
    """An expression as people write it, and the values of its argument.

    ``exact`` is what it means, where its derivative as written is another one at a kink. An error is
    counted in units in the last place of the true value, or of ``unit`` where that is larger: those of
    ``why`` cannot or do not do better.
    """

    name: str
    build: Callable[[Tensor], Tensor]
    points: tuple[object, ...] = ANY
    exact: Callable[[Tensor], Tensor] | None = None
    units: tuple[float, float] = (0.0, 0.0)
    why: str = ""


def keep(u: Tensor) -> Tensor:
    return gx.max(u, axis=1, keepdims=True)


def fixed(u: Tensor) -> Tensor:
    return gx.stop_gradient(keep(u))


def total(u: Tensor) -> Tensor:
    return gx.sum(u, axis=1, keepdims=True)


def sigmoid(u: Tensor) -> Tensor:
    return 1 / (1 + gx.exp(-u))


def softplus(u: Tensor) -> Tensor:
    return gx.log(1 + gx.exp(u))


def softmax(u: Tensor) -> Tensor:
    return gx.exp(u) / total(gx.exp(u))


def softmax_by_terms(u: Tensor) -> Tensor:
    a, b, c = (gx.exp(u[:, k]) for k in range(3))
    return a / (a + b + c)


def labelled(u: Tensor) -> Tensor:
    return Tensor(pick(u.node, gx.constant(np.array(LABELS)).node))


def typed(u: Tensor, value: object) -> Tensor:
    return gx.constant(np.asarray(value), u.dtype)


FORMS = (
    # Logarithms and exponentials that meet.
    Form("log(exp(x))", lambda x: gx.log(gx.exp(x))),
    Form("log(1 + exp(x))", lambda x: gx.log(1 + gx.exp(x))),
    Form("log1p(exp(x))", lambda x: gx.log1p(gx.exp(x))),
    Form(
        "maximum(x, 0) + log1p(exp(-abs(x)))",
        lambda x: naive_softplus(gx.maximum(x, 0), x),
        exact=softplus,
    ),
    Form(
        "relu(x) + log1p(exp(-abs(x)))", lambda x: naive_softplus(gx.nn.relu(x), x), exact=softplus
    ),
    Form("log(1 + x)", lambda x: gx.log(1 + x), (0.0, *SIZES, -1e-20, -0.5)),
    Form("log(1 - x)", lambda x: gx.log(1 - x), (0.0, -1.0, -40.0, 1e-20, -1e-20, 0.5)),
    Form("exp(x) - 1", lambda x: gx.exp(x) - 1),
    Form("1 - exp(x)", lambda x: 1 - gx.exp(x)),
    Form("log1p(expm1(x))", lambda x: gx.log1p(gx.expm1(x))),
    Form("log(3 * exp(x))", lambda x: gx.log(3 * gx.exp(x)), units=(1, 0), why=TERMS_CANCEL),
    Form("log(3 / exp(x))", lambda x: gx.log(3 / gx.exp(x)), units=(1, 0), why=TERMS_CANCEL),
    Form("log(prod(exp(x)))", lambda x: gx.log(gx.prod(gx.exp(x), axis=1)), ROWS),
    Form("log(erfc(x))", lambda x: gx.log(gx.special.erfc(x)), (*POSITIVE, 0.0, -1e-20, -1.0)),
    Form("1 / exp(x)", lambda x: 1 / gx.exp(x)),
    Form(
        "log(1 / sum(exp(x)))",
        lambda x: gx.log(1 / gx.sum(gx.exp(x), axis=1)),
        ROWS,
        units=(4, 0),
        why=TERMS_CANCEL,
    ),
    Form(
        "log(1 / (exp(x) + exp(-x)))",
        lambda x: gx.log(1 / (gx.exp(x) + gx.exp(-x))),
        units=(0, 1),
        why=TERMS_CANCEL,
    ),
    Form("x + softplus(-x)", lambda x: x + gx.nn.softplus(-x)),
    Form("x - softplus(x)", lambda x: x - gx.nn.softplus(x)),
    # Sigmoid and tanh.
    Form("1 / (1 + exp(-x))", sigmoid, units=(0, 1), why=BY_VALUE),
    Form(
        "exp(x) / (1 + exp(x))", lambda x: gx.exp(x) / (1 + gx.exp(x)), units=(0, 1), why=BY_VALUE
    ),
    Form(
        "exp(x) / (exp(x) + exp(-x))",
        lambda x: gx.exp(x) / (gx.exp(x) + gx.exp(-x)),
        units=(0, 1),
        why=BY_VALUE,
    ),
    Form("1 + tanh(x)", lambda x: 1 + gx.tanh(x), units=(0, 1), why=BY_VALUE),
    Form("1 - tanh(x)", lambda x: 1 - gx.tanh(x), units=(0, 1), why=BY_VALUE),
    Form("x + x * tanh(x)", lambda x: x + x * gx.tanh(x)),
    Form("x - x * tanh(x)", lambda x: x - x * gx.tanh(x)),
    Form("1 - sigmoid(x)", lambda x: 1 - sigmoid(x), units=(0, 1), why=BY_VALUE),
    Form("log(sigmoid(x))", lambda x: gx.log(sigmoid(x))),
    Form("log(1 - sigmoid(x))", lambda x: gx.log(1 - sigmoid(x))),
    Form("log1p(-sigmoid(x))", lambda x: gx.log1p(-sigmoid(x))),
    Form("2 * sigmoid(x) - 1", lambda x: 2 * sigmoid(x) - 1, units=(0, 1), why=BY_VALUE),
    Form("1 - 2 * sigmoid(x)", lambda x: 1 - 2 * sigmoid(x), units=(0, 1), why=BY_VALUE),
    Form(
        "tanh by exponentials",
        lambda x: (gx.exp(x) - gx.exp(-x)) / (gx.exp(x) + gx.exp(-x)),
        units=(0, 1),
        why=BY_VALUE,
    ),
    Form(
        "(exp(2 x) - 1) / (exp(2 x) + 1)",
        lambda x: (gx.exp(x) - 1) / (gx.exp(x) + 1),
        units=(0, 1),
        why=BY_VALUE,
    ),
    Form("3 / (1 + exp(x))", lambda x: 3 / (1 + gx.exp(x)), units=(0, 3), why=BY_VALUE),
    Form("x * exp(x) / (1 + exp(x))", lambda x: x * gx.exp(x) / (1 + gx.exp(x)), NORMAL),
    Form("1 - tanh(x) ** 2", lambda x: 1 - gx.tanh(x) ** 2, units=(0, 4), why=TERMS_CANCEL),
    Form(
        "log(1 - tanh(x) ** 2)",
        lambda x: gx.log(1 - gx.tanh(x) ** 2),
        units=(1, 0),
        why=TERMS_CANCEL,
    ),
    Form(
        "sigmoid(x) * (1 - sigmoid(x))",
        lambda x: gx.nn.sigmoid(x) * (1 - gx.nn.sigmoid(x)),
        units=(0, 0.25),
        why=TERMS_CANCEL,
    ),
    Form(
        "x * sigmoid(x) * sigmoid(-x)",
        lambda x: x * gx.nn.sigmoid(x) * gx.nn.sigmoid(-x),
        (0.0, 1e-20, 1.0, 40.0, 1000.0, -1e-20, -1.0, -40.0),  # not where the density is subnormal
        units=(0, 0.25),
        why=TERMS_CANCEL,
    ),
    Form(
        "log(sigmoid(x) * sigmoid(-x))",
        lambda x: gx.log(gx.nn.sigmoid(x) * gx.nn.sigmoid(-x)),
    ),
    Form("exp(-softplus(x))", lambda x: gx.exp(-gx.nn.softplus(x)), units=(0, 1), why=BY_VALUE),
    # Roots of squares.
    Form("sqrt(x ** 2)", lambda x: gx.sqrt(x**2), (*POSITIVE, -1e-20, -1000.0, 1e30, -1e30)),
    Form("sqrt(exp(x)) ** 2", lambda x: gx.sqrt(gx.exp(x)) ** 2, (0.0, 1.0, 40.0, -40.0)),
    Form("variance by moments", lambda x: gx.mean(x**2, axis=1) - gx.mean(x, axis=1) ** 2, ROWS),
    # Softmax and logsumexp.
    Form("log(sum(exp(x)))", lambda x: gx.log(gx.sum(gx.exp(x), axis=1)), ROWS),
    Form(
        "log(exp(x) + exp(-x))",
        lambda x: gx.log(gx.exp(x) + gx.exp(-x)),
        units=(0, 1),
        why=TERMS_CANCEL,
    ),
    Form(
        "log(mean(exp(x)))",
        lambda x: gx.log(gx.mean(gx.exp(x), axis=1)),
        ROWS,
        units=(1, 0),
        why=TERMS_CANCEL,
    ),
    Form(
        "log(sum(w * exp(x)))",
        lambda x: gx.log(gx.sum(typed(x, WEIGHTS) * gx.exp(x), axis=1)),
        ROWS,
        units=(1, 0),
        why=TERMS_CANCEL,
    ),
    Form(
        "m + log(sum(w * exp(x - m)))",
        lambda x: shifted_weighted(x, keep(x)),
        ROWS,
        units=(1, 0),
        why=TERMS_CANCEL,
    ),
    Form(
        "m + log(sum(w * exp(x - m))), m fixed",
        lambda x: shifted_weighted(x, fixed(x)),
        ROWS,
        units=(1, 0),
        why=TERMS_CANCEL,
    ),
    Form(
        "log(sum(exp(x)) / 7)",
        lambda x: gx.log(gx.sum(gx.exp(x), axis=1) / 7),
        ROWS,
        units=(2, 0),
        why=TERMS_CANCEL,
    ),
    Form(
        "log(3 * mean(w * exp(x)))",
        lambda x: gx.log(3 * gx.mean(typed(x, WEIGHTS) * gx.exp(x), axis=1)),
        ROWS,
        units=(2, 0),
        why=TERMS_CANCEL,
    ),
    Form(
        "log(sum(w * exp(x)) / 7), widened",
        lambda x: gx.log(gx.sum(typed(x, WEIGHTS) * gx.exp(x), axis=1) / np.float64(7)),
        ROWS,
        units=(2, 0),
        why=TERMS_CANCEL,
    ),
    Form(
        "log(exp(a) + exp(b) + exp(c))",
        lambda x: gx.log(gx.exp(x[:, 0]) + gx.exp(x[:, 1]) + gx.exp(x[:, 2])),
        ROWS,
    ),
    Form(
        "exp(a) / (exp(a) + exp(b) + exp(c))",
        softmax_by_terms,
        ROWS,
        units=(0, 1),
        why=SATURATED,
    ),
    Form(
        "-log(exp(a) / (exp(a) + exp(b) + exp(c)))",
        lambda x: -gx.log(softmax_by_terms(x)),
        ROWS,
        units=(0, 1),
        why=SATURATED,
    ),
    Form(
        "log(exp(a) + exp(b) + exp(c)) - a",
        lambda x: gx.log(gx.exp(x[:, 0]) + gx.exp(x[:, 1]) + gx.exp(x[:, 2])) - x[:, 0],
        ROWS,
        units=(0, 1),
        why=SATURATED,
    ),
    Form(
        "log(exp(a) + exp(b)) - a",
        lambda x: gx.log(gx.exp(x[:, 0]) + gx.exp(x[:, 1])) - x[:, 0],
        ROWS,
    ),
    Form(
        "b - log(exp(a) + exp(b))",
        lambda x: x[:, 1] - gx.log(gx.exp(x[:, 0]) + gx.exp(x[:, 1])),
        ROWS,
    ),
    Form(
        "c - log(exp(a) + exp(b) + exp(c))",
        lambda x: x[:, 2] - gx.log(gx.exp(x[:, 0]) + gx.exp(x[:, 1]) + gx.exp(x[:, 2])),
        ROWS,
        units=(0, 1),
        why=SATURATED,
    ),
    Form(
        "-log(softmax(x)[:, 1])",
        lambda x: -gx.log(softmax(x)[:, 1]),
        ROWS,
        units=(0, 1),
        why=SATURATED,
    ),
    Form("log(1 - sigmoid(x)[0])", lambda x: gx.log(1 - sigmoid(x)[:, 0]), ROWS),
    Form("exp(x) / sum(exp(x))", softmax, ROWS),
    Form("exp(x) * (1 / sum(exp(x)))", lambda x: gx.exp(x) * (1 / total(gx.exp(x))), ROWS),
    Form("exp(x - log(sum(exp(x))))", lambda x: gx.exp(x - gx.log(total(gx.exp(x)))), ROWS),
    Form("softmax(x - m)", lambda x: softmax(x - keep(x)), ROWS),
    Form("softmax(x - m), m fixed", lambda x: softmax(x - fixed(x)), ROWS),
    Form("1 - softmax(x)", lambda x: 1 - softmax(x), ROWS),
    Form("m + log(sum(exp(x - m)))", lambda x: shifted_logsumexp(x, keep(x)), ROWS),
    Form("m + log(sum(exp(x - m))), m fixed", lambda x: shifted_logsumexp(x, fixed(x)), ROWS),
    Form("log(softmax(x))", lambda x: gx.log(softmax(x)), ROWS, units=(0, 1), why=TERMS_CANCEL),
    Form(
        "x - log(sum(exp(x)))",
        lambda x: x - gx.log(total(gx.exp(x))),
        ROWS,
        units=(0, 1),
        why=TERMS_CANCEL,
    ),
    Form(
        "log(sum(exp(x))) - x",
        lambda x: gx.log(total(gx.exp(x))) - x,
        ROWS,
        units=(0, 1),
        why=TERMS_CANCEL,
    ),
    Form(
        "log_softmax(x - m)",
        lambda x: gx.nn.log_softmax(x - keep(x)),
        ROWS,
        units=(0, 1),
        why=TERMS_CANCEL,
    ),
    Form(
        "log_softmax(x - m), m fixed",
        lambda x: gx.nn.log_softmax(x - fixed(x)),
        ROWS,
        units=(0, 1),
        why=TERMS_CANCEL,
    ),
    Form("exp(log_softmax(x))", lambda x: gx.exp(gx.nn.log_softmax(x)), ROWS),
    Form("x * (1 / y)", lambda x: x * (1 / gx.stop_gradient(x + 3))),
    # Losses.
    Form("-log(softmax(x))[label]", lambda x: -gx.log(labelled(softmax(x))), ROWS),
    Form("logsumexp(x) - x[label]", lambda x: naive_cross_entropy(x), ROWS),
    Form(
        "-sum(target * log(softmax(x)))",
        lambda x: -gx.sum(typed(x, TARGETS) * gx.log(softmax(x)), axis=1),
        ROWS,
    ),
    Form("log(1 + exp(-y * x))", lambda x: gx.log(1 + gx.exp(typed(x, -1.0) * x))),
    Form("-y log s - (1 - y) log(1 - s), y = 1", lambda x: binary_cross_entropy(x, 1.0)),
    Form("-y log s - (1 - y) log(1 - s), y = 0", lambda x: binary_cross_entropy(x, 0.0)),
    Form(
        "-y log s - (1 - y) log(1 - s), y = 1/4",
        lambda x: binary_cross_entropy(x, 0.25),
        units=(0, 1),
        why=TERMS_CANCEL,
    ),
    Form("Gaussian mixture", lambda x: gaussian_mixture(x)),
    Form(
        "Gaussian mixture, term by term",
        lambda x: gaussian_mixture_by_terms(x),
        units=(0, 4),
        why="the slope is the difference of the slopes of two terms",
    ),
    Form(
        "likelihood of soft labels", lambda x: soft_likelihood(x), ROWS, units=(4, 4), why=ROUNDED
    ),
    Form("log of a widened exponential", lambda x: gx.log(0.5 * gx.exp(x) * np.float64(2))),
    Form("KL of Bernoulli", lambda x: kl_divergence(x), units=(0, 4), why=TERMS_CANCEL),
    Form(
        "attention",
        lambda x: gx.sum(softmax(x) * typed(x, (1.0, 2.0, 4.0)), axis=1),
        ROWS,
        units=(0, 4),
        why=SATURATED,
    ),
)


def naive_softplus(upper: Tensor, x: Tensor) -> Tensor:
    return upper + gx.log1p(gx.exp(-gx.abs(x)))


def shifted_logsumexp(x: Tensor, m: Tensor) -> Tensor:
    return m + gx.log(total(gx.exp(x - m)))


def shifted_weighted(x: Tensor, m: Tensor) -> Tensor:
    return m + gx.log(total(typed(x, WEIGHTS) * gx.exp(x - m)))


def naive_cross_entropy(x: Tensor) -> Tensor:
    return gx.log(gx.sum(gx.exp(x), axis=1)) - labelled(x)


def binary_cross_entropy(x: Tensor, y: float) -> Tensor:
    s = sigmoid(x)
    return -typed(x, y) * gx.log(s) - (1 - typed(x, y)) * gx.log(1 - s)


def gaussian_mixture(x: Tensor) -> Tensor:
    """The log-likelihood of a mixture of three Gaussians, of which all may be far away."""
    centres, weights = typed(x, (-1.0, 0.0, 2.0)), typed(x, WEIGHTS)
    return gx.log(gx.sum(weights * gx.exp(-0.5 * (x[:, None] - centres) ** 2), axis=1))


def gaussian_mixture_by_terms(x: Tensor) -> Tensor:
    """The log-likelihood of a mixture of two Gaussians, with a float64 constant beside narrower ones."""
    near, far = gx.exp(-0.5 * (x + 1) ** 2), gx.exp(-0.5 * (x - 2) ** 2)
    return gx.log(0.25 * near / 2.5 + 0.75 * far / 2.5)


def soft_likelihood(x: Tensor) -> Tensor:
    """The log of a sum of probabilities with weights, of which the largest may be 0."""
    return gx.log(gx.sum(softmax(x) * typed(x, (0.0, 1.0, 0.5)), axis=1))


def kl_divergence(x: Tensor) -> Tensor:
    """Of a Bernoulli distribution with logit x from one with probability 1/4, times 4."""
    s = sigmoid(x)
    return -gx.log(s) - 3 * gx.log(1 - s)


def graph_of(form: Form, dtype: object, rewrites: bool) -> Graph:
    """Value and gradient."""
    points = np.array(form.points)
    x = gx.input("x", points.shape, dtype)
    value = form.build(x)
    value = value if rewrites or form.exact is None else form.exact(x)
    slope = gx.grad(gx.sum(value), x, rewrites=rewrites)
    return declared_graph([x], [value, slope], "f")


@cache
def exact_of(form: Form, dtype: object) -> list[np.ndarray]:
    """The true value and gradient."""
    return exact_values(graph_of(form, dtype, False), [np.array(form.points, dtype)])


def check(form: Form, dtype: object, found: Sequence[np.ndarray]) -> None:
    """Value and gradient are numbers, infinite only where the true value overflows, and within the limit."""
    # The largest float has no neighbour above.
    largest = np.finfo(dtype).max / 2
    for array, exact, unit in zip(found, exact_of(form, dtype), form.units, strict=True):
        assert not np.isnan(array).any()
        with np.errstate(over="ignore"):
            last_place = np.spacing(np.minimum(np.abs(exact.astype(dtype)), largest))
        scale = last_place / np.maximum(last_place, np.spacing(np.dtype(dtype).type(unit)))
        assert np.max(ulps(np.asarray(array), exact) * scale) <= LIMIT, form


DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@DTYPES
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_rewritten_form(form: Form, dtype: object) -> None:
    """By the reference, which evaluates the gates that the form becomes."""
    graph = choose().rewrite(graph_of(form, dtype, True))
    check(form, dtype, reference.evaluate(graph, [np.array(form.points, dtype)]))


@DTYPES
def test_compiled_forms(dtype: object) -> None:
    """All forms in one function: the generated code."""
    points = list(dict.fromkeys(form.points for form in FORMS))
    inputs = {p: gx.input(f"x{k}", np.shape(p), dtype) for k, p in enumerate(points)}
    outputs = []
    for form in FORMS:
        value = form.build(inputs[form.points])
        outputs.append([value, gx.grad(gx.sum(value), inputs[form.points])])
    function = gx.compile(list(inputs.values()), outputs, name="forms")
    for form, found in zip(FORMS, function(*(np.array(p, dtype) for p in points)), strict=True):
        check(form, dtype, found)


def test_every_rule_is_met() -> None:
    met = set()
    for form, dtype, gradient in itertools.product(FORMS, FLOATS, (False, True)):
        x = gx.input("x", np.shape(form.points), dtype)
        rules = choose(to_differentiate=gradient)
        rules.rewrite(declared_graph([x], [form.build(x)], "f"))
        met |= {firing.rule.name for firing in rules.log}
    assert {rule.name for rule in RULES if rule.group == "stabilize"} <= met


def test_where_four_ulps_are_not_reached_says_why() -> None:
    assert all(bool(form.why) == any(form.units) for form in FORMS)


@pytest.mark.parametrize("case", stability.CASES, ids=lambda case: f"{case.text} {case.point}")
def test_table_of_the_example(case: stability.Case) -> None:
    """NumPy fails in the way that the table says, graphc does not."""
    plain, compiled, true = stability.results(case)
    assert abs(compiled - true) <= 4 * np.spacing(abs(true))
    if case.fault in ("nan", "inf", "-inf"):
        assert str(plain) == case.fault
    else:
        assert case.fault == "digits"
        assert abs(plain - true) > 1e-3 * abs(true)
