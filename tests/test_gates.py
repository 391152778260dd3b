"""Gates are found in the spellings that people use, and equal mathematics gives one and the same node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import graphc as gx
from graphc import reference
from graphc.compile import declared_graph
from graphc.dsl import Tensor
from graphc.ir import BROADCAST_TO, CONSTANT, INPUT, SIZE, Graph, Node, walk
from graphc.ops.index import pick
from graphc.rewrite.tables import choose
from graphc.verify import verify

MOVES = {"broadcast_to", "expand_dims", "squeeze", "reshape", "permute_dims"}
ROOT_HALF = 0.7071067811865476
GELU_SCALE = 0.7978845608028654

x = gx.input("x", ("N", 10))
v = gx.input("v", ("N",))
z = gx.input("z", ("N",))
u = gx.input("u", ("N",))
t = gx.input("t", ("N", 10))
y = gx.input("y", ("N",), gx.int64)
A = gx.input("A", (4, "N", 5))
F = gx.input("F", (8, 16), gx.float32)
w = gx.input("w", (10, 7))
U = gx.input("U", (7, 10))
b = gx.input("b", (7,))
S = gx.input("S", (5, 5))
p, q = gx.input("p", ("N", 3)), gx.input("q", ("M", 3))
gain, shift = gx.input("gain", (10,)), gx.input("shift", (10,))
INPUTS = [x, v, z, u, t, y, A, F, S, w, U, b, p, q, gain, shift]
FLOATS = [i for i in INPUTS if i is not y]


@dataclass(frozen=True)
class Family:
    """Spellings of one thing; ``ops`` are the only ops besides moves that their normal form consists of."""

    name: str
    ops: str
    spellings: tuple[Callable[[], Tensor], ...]


def family(name: str, ops: str, *spellings: Callable[[], Tensor]) -> Family:
    return Family(name, ops, spellings)


def keep(u, axis=1):
    return gx.max(u, axis=axis, keepdims=True)


def total(u, axis=1):
    return gx.sum(u, axis=axis, keepdims=True)


def softmax(u):
    return gx.exp(u) / total(gx.exp(u))


def labelled(u):
    """The element of each row that the label names."""
    return Tensor(pick(u.node, y.node))


def shifted(u, axis=1):
    return u - gx.stop_gradient(keep(u, axis))


SOFTMAX = (
    family(
        "softmax",
        "softmax",
        lambda: gx.nn.softmax(x),
        lambda: gx.exp(x) / total(gx.exp(x)),
        lambda: gx.exp(x) / gx.sum(gx.exp(x), axis=-1)[:, None],
        lambda: gx.exp(x) / gx.exp(x).sum(axis=1).reshape(-1, 1),
        lambda: gx.exp(x) * (1 / total(gx.exp(x))),
        lambda: total(gx.exp(x)) ** -1 * gx.exp(x),
        lambda: gx.exp(x) * gx.power(gx.exp(x).sum(axis=1), -1.0)[:, None],
        lambda: gx.reciprocal(total(gx.exp(x))) * gx.exp(x),
        lambda: gx.exp(x - keep(x)) / total(gx.exp(x - keep(x))),
        lambda: gx.exp(shifted(x)) / total(gx.exp(shifted(x))),
        lambda: (
            gx.exp(x - x.max(axis=1)[:, None]) / gx.exp(x - x.max(axis=1)[:, None]).sum(1)[:, None]
        ),
        lambda: gx.exp(x - gx.logsumexp(x, axis=1, keepdims=True)),
        lambda: gx.exp(x - gx.log(total(gx.exp(x)))),
        lambda: gx.exp(x - keep(x) - gx.log(total(gx.exp(x - keep(x))))),
        lambda: gx.exp(x - (keep(x) + gx.log(total(gx.exp(x - keep(x)))))),
        lambda: gx.exp(gx.nn.log_softmax(x)),
        lambda: (gx.exp(x).T / gx.exp(x).sum(axis=1)).T,
        lambda: gx.exp(gx.log(gx.exp(x) / total(gx.exp(x)))),
        lambda: gx.exp(x) / gx.broadcast_to(total(gx.exp(x)), x.shape),
    ),
    family(
        "softmax_along_the_first_axis",
        "softmax",
        lambda: gx.nn.softmax(x, axis=0),
        lambda: gx.exp(x) / gx.sum(gx.exp(x), axis=0),
        lambda: gx.exp(x) / total(gx.exp(x), 0),
        lambda: gx.exp(x - keep(x, 0)) / gx.sum(gx.exp(x - keep(x, 0)), axis=0),
        lambda: gx.exp(x - x.max(axis=0)) / gx.exp(x - x.max(axis=0)).sum(axis=0),
        lambda: gx.exp(shifted(x, 0)) * (1 / gx.sum(gx.exp(shifted(x, 0)), axis=0)),
        lambda: gx.exp(x - gx.log(gx.sum(gx.exp(x), axis=0))),
    ),
    family(
        "softmax_of_a_vector",
        "softmax",
        lambda: gx.nn.softmax(v),
        lambda: gx.exp(v) / gx.sum(gx.exp(v)),
        lambda: gx.exp(v) / gx.exp(v).sum(),
        lambda: gx.exp(v - gx.max(v)) / gx.sum(gx.exp(v - gx.max(v))),
        lambda: gx.exp(v - v.max()) * gx.exp(v - v.max()).sum() ** -1,
        lambda: gx.exp(v - gx.logsumexp(v)),
    ),
    family(
        "softmax_over_two_axes",
        "softmax",
        lambda: gx.nn.softmax(A, axis=(0, 2)),
        lambda: gx.exp(A) / gx.sum(gx.exp(A), axis=(0, 2), keepdims=True),
        lambda: gx.exp(A) / gx.exp(A).sum(axis=(0, 2)).reshape(1, -1, 1),
        lambda: gx.exp(A) * gx.exp(A).sum(axis=(0, 2))[None, :, None] ** -1.0,
        lambda: gx.exp(A - keep(A, (0, 2))) / total(gx.exp(A - keep(A, (0, 2))), (0, 2)),
        lambda: gx.exp(A - gx.logsumexp(A, axis=(0, 2), keepdims=True)),
    ),
    family(
        "softmax_over_all",
        "softmax",
        lambda: gx.nn.softmax(F, axis=None),
        lambda: gx.exp(F) / gx.sum(gx.exp(F)),
        lambda: gx.exp(F - F.max()) / gx.exp(F - F.max()).sum(),
    ),
    family(
        "softmax_at_a_temperature",
        "divide softmax",
        lambda: gx.nn.softmax(x / 3),
        lambda: gx.exp(x / 3) / total(gx.exp(x / 3)),
        lambda: gx.exp(x / 3 - keep(x / 3)) / total(gx.exp(x / 3 - keep(x / 3))),
    ),
    family(
        "log_softmax",
        "log_softmax",
        lambda: gx.nn.log_softmax(x),
        lambda: gx.log(gx.nn.softmax(x)),
        lambda: gx.log(gx.exp(x) / total(gx.exp(x))),
        lambda: x - gx.log(total(gx.exp(x))),
        lambda: x - gx.logsumexp(x, axis=1)[:, None],
        lambda: x - keep(x) - gx.log(total(gx.exp(x - keep(x)))),
        lambda: shifted(x) - gx.log(gx.sum(gx.exp(shifted(x)), axis=1))[:, None],
        lambda: -gx.log(total(gx.exp(x)) / gx.exp(x)),
        lambda: -(gx.logsumexp(x, axis=1, keepdims=True) - x),
        lambda: gx.log(gx.exp(x)) - gx.log(total(gx.exp(x))),
        lambda: (x - keep(x)) - gx.logsumexp(x - keep(x), axis=1, keepdims=True),
    ),
    family(
        "logsumexp",
        "logsumexp",
        lambda: gx.logsumexp(x, axis=1),
        lambda: gx.log(gx.sum(gx.exp(x), axis=1)),
        lambda: gx.log(gx.exp(x).sum(axis=-1)),
        lambda: gx.log(total(gx.exp(x)))[:, 0],
        lambda: x.max(axis=1) + gx.log(gx.sum(gx.exp(x - keep(x)), axis=1)),
        lambda: gx.log(gx.sum(gx.exp(x - keep(x)), axis=1)) + x.max(axis=1),
        lambda: gx.log(gx.exp(shifted(x)).sum(1)) + gx.stop_gradient(x.max(axis=1)),
        lambda: gx.squeeze(keep(x) + gx.log(total(gx.exp(x - keep(x)))), axis=1),
        lambda: (gx.log(total(gx.exp(x - x.max(1)[:, None]))) + x.max(1)[:, None]).reshape(-1),
        lambda: -gx.log(1 / gx.sum(gx.exp(x), axis=1)),
    ),
    family(
        "logsumexp_over_all",
        "logsumexp",
        lambda: gx.logsumexp(A),
        lambda: gx.log(gx.sum(gx.exp(A))),
        lambda: A.max() + gx.log(gx.sum(gx.exp(A - A.max()))),
        lambda: gx.log(gx.sum(gx.exp(A - gx.stop_gradient(A.max())))) + gx.stop_gradient(A.max()),
        lambda: gx.log(gx.exp(A).sum()),
    ),
    family(
        "logsumexp_along_the_first_axis",
        "logsumexp",
        lambda: gx.logsumexp(x, axis=0),
        lambda: gx.log(gx.exp(x).sum(axis=0)),
        lambda: x.max(axis=0) + gx.log(gx.sum(gx.exp(x - x.max(axis=0)), axis=0)),
    ),
    family(
        "log_of_mean_of_exponentials",
        "logsumexp subtract",
        lambda: gx.logsumexp(x, axis=1) - gx.log(gx.constant(10.0)),
        lambda: gx.log(gx.mean(gx.exp(x), axis=1)),
        lambda: gx.log(gx.exp(x).sum(axis=1) / 10),
    ),
    family(
        "softmax_of_three",
        "softmax concat",
        lambda: gx.nn.softmax(gx.stack([v, z, u]), axis=0)[0],
        lambda: gx.exp(v) / (gx.exp(v) + gx.exp(z) + gx.exp(u)),
        lambda: gx.exp(v) / (gx.exp(v) + (gx.exp(z) + gx.exp(u))),
    ),
    family(
        "one_column_of_log_softmax",
        "log_softmax",
        lambda: gx.nn.log_softmax(x)[:, 1],
        lambda: gx.log(gx.nn.softmax(x)[:, 1]),
        lambda: gx.log((gx.exp(x) / total(gx.exp(x)))[:, 1]),
    ),
    family(
        "weighted_logsumexp",
        "weighted_logsumexp",
        lambda: gx.log(gx.sum(t * gx.exp(x), axis=1)),
        lambda: gx.log((gx.exp(x) * t).sum(axis=1)),
        lambda: keep(x)[:, 0] + gx.log(gx.sum(t * gx.exp(x - keep(x)), axis=1)),
    ),
)

CROSS_ENTROPY = (
    family(
        "cross_entropy_of_labels",
        "cross_entropy mean",
        lambda: gx.mean(gx.nn.softmax_cross_entropy(x, y)),
        lambda: -gx.mean(labelled(gx.nn.log_softmax(x))),
        lambda: gx.mean(-labelled(gx.log(gx.nn.softmax(x)))),
        lambda: gx.sum(gx.nn.softmax_cross_entropy(x, y)) / x.shape[0],
        lambda: -gx.sum(labelled(gx.nn.log_softmax(x))) / y.shape[0],
        lambda: -(1 / gx.constant(x.shape[0], gx.float64)) * gx.sum(labelled(gx.nn.log_softmax(x))),
        lambda: -gx.mean(gx.log(labelled(gx.exp(x) / total(gx.exp(x))))),
        lambda: gx.mean(gx.logsumexp(x, axis=1) - labelled(x)),
        lambda: -gx.mean(labelled(x) - gx.log(gx.sum(gx.exp(x), axis=1))),
        lambda: gx.mean(gx.logsumexp(x - keep(x), axis=1) - labelled(x - keep(x))),
        lambda: -labelled(shifted(x) - gx.log(total(gx.exp(shifted(x))))).mean(),
        lambda: (gx.log(gx.sum(gx.exp(x), axis=1)) - labelled(x)).sum() / x.shape[0],
        lambda: -gx.mean(gx.log(labelled(gx.exp(x)) / gx.sum(gx.exp(x), axis=1))),
        lambda: -gx.mean(gx.take_along_axis(gx.nn.log_softmax(x), y[:, None])[:, 0]),
        lambda: -gx.mean(gx.log(gx.take_along_axis(softmax(x), y[:, None], axis=1)[:, 0])),
        lambda: gx.mean(gx.logsumexp(x, axis=1) - gx.take_along_axis(x, y[:, None])[:, 0]),
        lambda: -gx.sum(gx.take_along_axis(gx.log(softmax(x)), y.reshape(-1, 1))) / x.shape[0],
    ),
    family(
        "cross_entropy_of_one_example",
        "cross_entropy",
        lambda: gx.nn.softmax_cross_entropy(x[0], y[0]),
        lambda: -gx.log(gx.nn.softmax(x[0]))[y[0]],
        lambda: -gx.log(gx.nn.softmax(x[0])[y[0]]),
        lambda: -gx.take(gx.nn.log_softmax(x[0]), y[0]),
        lambda: gx.logsumexp(x[0]) - x[0][y[0]],
    ),
    family(
        "cross_entropy_of_probabilities",
        "soft_cross_entropy mean",
        lambda: gx.mean(gx.nn.softmax_cross_entropy(x, t)),
        lambda: -gx.mean(gx.sum(t * gx.nn.log_softmax(x), axis=1)),
        lambda: gx.mean(-gx.sum(gx.log(gx.nn.softmax(x)) * t, axis=1)),
        lambda: gx.mean(gx.sum(-t * gx.nn.log_softmax(x), axis=1)),
        lambda: -gx.sum(t * gx.nn.log_softmax(x)) / x.shape[0],
        lambda: gx.sum(-t * gx.log(gx.exp(x) / total(gx.exp(x)))) / x.shape[0],
        lambda: -(t * gx.log(gx.nn.softmax(x))).sum(axis=1).sum() / x.shape[0],
        lambda: -gx.mean(gx.sum(t * (x - gx.logsumexp(x, axis=1, keepdims=True)), axis=1)),
        lambda: gx.mean(gx.sum(t * (gx.log(total(gx.exp(x))) - x), axis=1)),
    ),
    family(
        "cross_entropy_of_one_hot",
        "equal cast soft_cross_entropy mean",
        lambda: gx.mean(gx.nn.softmax_cross_entropy(x, one_hot())),
        lambda: -gx.mean(gx.sum(one_hot() * gx.nn.log_softmax(x), axis=1)),
        lambda: gx.mean(-gx.sum(gx.log(gx.nn.softmax(x)) * one_hot(), axis=-1)),
        lambda: -gx.sum(one_hot() * gx.log(gx.nn.softmax(x))) / x.shape[0],
        lambda: -gx.log(gx.exp(x) / total(gx.exp(x))).__mul__(one_hot()).sum() / x.shape[0],
        lambda: -gx.mean(gx.sum((y[:, None] == np.arange(10)) * gx.nn.log_softmax(x), axis=1)),
    ),
)


def one_hot():
    return (y[:, None] == np.arange(10)).astype(gx.float64)


def cdf(u):
    return 0.5 * (1 + gx.special.erf(u / np.sqrt(2)))


def inner(u):
    return GELU_SCALE * (u + 0.044715 * u**3)


ACTIVATIONS = (
    family(
        "sigmoid",
        "sigmoid",
        lambda: gx.nn.sigmoid(v),
        lambda: 1 / (1 + gx.exp(-v)),
        lambda: (1 + gx.exp(-v)) ** -1,
        lambda: gx.reciprocal(gx.exp(-v) + 1),
        lambda: gx.power(1 + gx.exp(-1 * v), -1.0),
        lambda: gx.exp(v) / (1 + gx.exp(v)),
        lambda: gx.exp(v) / (gx.exp(v) + 1.0),
        lambda: 0.5 * (1 + gx.tanh(0.5 * v)),
        lambda: (gx.tanh(v / 2) + 1) / 2,
        lambda: 0.5 + 0.5 * gx.tanh(v / 2),
        lambda: 0.5 * gx.tanh(0.5 * v) + 0.5,
        lambda: 1 - 1 / (1 + gx.exp(v)),
        lambda: 1 / (1 + 1 / gx.exp(v)),
        lambda: gx.exp(-gx.log(1 + gx.exp(-v))),
        lambda: gx.exp(-gx.log1p(gx.exp(-v))),
        lambda: gx.where(v >= 0, 1 / (1 + gx.exp(-v)), gx.exp(v) / (1 + gx.exp(v))),
        lambda: gx.where(
            v >= 0,
            1 / (1 + gx.exp(-gx.abs(v))),
            gx.exp(-gx.abs(v)) / (1 + gx.exp(-gx.abs(v))),
        ),
    ),
    family(
        "sigmoid_of_a_difference",
        "subtract sigmoid",
        lambda: gx.nn.sigmoid(v - z),
        lambda: gx.exp(v) / (gx.exp(v) + gx.exp(z)),
        lambda: 1 / (1 + gx.exp(z - v)),
        lambda: 1 / (1 + gx.exp(-(v - z))),
    ),
    family(
        "one_minus_sigmoid",
        "negative sigmoid",
        lambda: gx.nn.sigmoid(-v),
        lambda: 1 - gx.nn.sigmoid(v),
        lambda: 1 - 1 / (1 + gx.exp(-v)),
        lambda: 1 / (1 + gx.exp(v)),
        lambda: gx.exp(-v) / (1 + gx.exp(-v)),
        lambda: -(gx.nn.sigmoid(v) - 1),
        lambda: 0.5 * (1 - gx.tanh(v / 2)),
    ),
    family(
        "logistic_density",
        "logistic_density",
        lambda: gx.nn.sigmoid(v) * gx.nn.sigmoid(-v),
        lambda: gx.nn.sigmoid(v) * (1 - gx.nn.sigmoid(v)),
        lambda: 1 / (1 + gx.exp(v)) * (1 / (1 + gx.exp(-v))),
    ),
    family(
        "log_logistic_density",
        "log_logistic_density",
        lambda: gx.log(gx.nn.sigmoid(v) * gx.nn.sigmoid(-v)),
        lambda: gx.log(gx.nn.sigmoid(v) * (1 - gx.nn.sigmoid(v))),
    ),
    family(
        "log_of_sigmoid",
        "negative softplus",
        lambda: -gx.nn.softplus(-v),
        lambda: gx.log(gx.nn.sigmoid(v)),
        lambda: gx.log(1 / (1 + gx.exp(-v))),
        lambda: -gx.log(1 + gx.exp(-v)),
        lambda: -gx.log1p(gx.exp(-v)),
        lambda: gx.log(gx.exp(v) / (1 + gx.exp(v))),
        lambda: v - gx.log(1 + gx.exp(v)),
    ),
    family(
        "log_of_one_minus_sigmoid",
        "negative softplus",
        lambda: -gx.nn.softplus(v),
        lambda: gx.log(1 - gx.nn.sigmoid(v)),
        lambda: gx.log1p(-gx.nn.sigmoid(v)),
        lambda: gx.log(1 - 1 / (1 + gx.exp(-v))),
        lambda: gx.log(1 / (1 + gx.exp(v))),
    ),
    family(
        "tanh",
        "tanh",
        lambda: gx.tanh(v),
        lambda: (gx.exp(v) - gx.exp(-v)) / (gx.exp(v) + gx.exp(-v)),
        lambda: (gx.exp(2 * v) - 1) / (gx.exp(2 * v) + 1),
        lambda: (1 - gx.exp(-2 * v)) / (1 + gx.exp(-2 * v)),
        lambda: 2 * gx.nn.sigmoid(2 * v) - 1,
        lambda: 2 / (1 + gx.exp(-2 * v)) - 1,
        lambda: 1 - 2 / (gx.exp(2 * v) + 1),
        lambda: gx.expm1(2 * v) / (gx.exp(2 * v) + 1),
        lambda: gx.nn.tanh(v),
    ),
    family(
        "softplus",
        "softplus",
        lambda: gx.nn.softplus(v),
        lambda: gx.log(1 + gx.exp(v)),
        lambda: gx.log(gx.exp(v) + 1.0),
        lambda: gx.log1p(gx.exp(v)),
        lambda: gx.maximum(v, 0) + gx.log1p(gx.exp(-gx.abs(v))),
        lambda: gx.maximum(0, v) + gx.log(1 + gx.exp(-gx.abs(v))),
        lambda: gx.nn.relu(v) + gx.nn.softplus(-gx.abs(v)),
        lambda: -gx.log(gx.nn.sigmoid(-v)),
        lambda: v + gx.log(1 + gx.exp(-v)),
        lambda: -gx.log(1 - gx.nn.sigmoid(v)),
    ),
    family(
        "silu",
        "silu",
        lambda: v * gx.nn.sigmoid(v),
        lambda: v / (1 + gx.exp(-v)),
        lambda: v * (1 / (1 + gx.exp(-v))),
        lambda: gx.nn.sigmoid(v) * v,
        lambda: 0.5 * v * (1 + gx.tanh(v / 2)),
        lambda: v * gx.exp(v) / (1 + gx.exp(v)),
    ),
    family(
        "relu",
        "relu",
        lambda: gx.nn.relu(v),
        lambda: gx.maximum(0, v),
        lambda: gx.where(v <= 0, 0, v),
        lambda: gx.where(gx.less_equal(v, 0), gx.zeros_like(v), v),
        lambda: v * (v > 0),
    ),
    family(
        "leaky_relu",
        "leaky_relu",
        lambda: gx.nn.leaky_relu(v, 0.1),
        lambda: gx.where(v > 0, v, 0.1 * v),
        lambda: gx.where(v > 0, v, v * 0.1),
        lambda: gx.where(v <= 0, 0.1 * v, v),
        lambda: v * gx.where(v > 0, 1.0, 0.1),
        lambda: gx.maximum(0.1 * v, v),
    ),
    family(
        "elu",
        "elu",
        lambda: gx.nn.elu(v, 2.0),
        lambda: gx.where(v > 0, v, 2 * (gx.exp(v) - 1)),
        lambda: gx.where(v > 0, v, 2 * gx.expm1(v)),
        lambda: gx.where(v <= 0, (gx.exp(v) - 1) * 2.0, v),
    ),
    family(
        "elu_of_one",
        "elu",
        lambda: gx.nn.elu(v),
        lambda: gx.where(v > 0, v, gx.exp(v) - 1),
        lambda: gx.where(v > 0, v, gx.expm1(v)),
    ),
    family(
        "gelu",
        "gelu",
        lambda: 0.5 * v * (1 + gx.special.erf(v / np.sqrt(2))),
        lambda: v * 0.5 * (1.0 + gx.special.erf(v * ROOT_HALF)),
        lambda: v * cdf(v),
        lambda: cdf(v) * v,
        lambda: v * (1 + gx.special.erf(v / 1.4142135623730951)) / 2,
        lambda: 0.5 * v * (gx.special.erf(v / gx.sqrt(gx.constant(2.0))) + 1),
        lambda: v / 2 * (1 + gx.special.erf(v / 2**0.5)),
        lambda: 0.5 * v * gx.special.erfc(-v / np.sqrt(2)),
        lambda: v * (1 - 0.5 * gx.special.erfc(v / np.sqrt(2))),
        lambda: 0.5 * (v + v * gx.special.erf(v / np.sqrt(2))),
        lambda: v * (0.5 + 0.5 * gx.special.erf(ROOT_HALF * v)),
    ),
    family(
        "gelu_by_tanh",
        "gelu_tanh",
        lambda: 0.5 * v * (1 + gx.tanh(GELU_SCALE * (v + 0.044715 * v**3))),
        lambda: 0.5 * v * (1 + gx.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * gx.power(v, 3)))),
        lambda: v * 0.5 * (gx.tanh(GELU_SCALE * (v + 0.044715 * v * v * v)) + 1.0),
        lambda: v / 2 * (1 + gx.tanh(GELU_SCALE * v * (1 + 0.044715 * v**2))),
        lambda: v * (1 + gx.tanh((v + 0.044715 * v * v**2) * GELU_SCALE)) * 0.5,
        lambda: v * gx.nn.sigmoid(2 * inner(v)),
        lambda: v / (1 + gx.exp(-2 * inner(v))),
        lambda: 0.5 * v * (1 + gx.tanh((2 / np.pi) ** 0.5 * (v + 0.044715 * gx.square(v) * v))),
        lambda: 0.5 * (v + v * gx.tanh(inner(v))),
        lambda: v * (0.5 * gx.tanh(inner(v)) + 0.5),
    ),
    family(
        "log1p",
        "log1p",
        lambda: gx.log1p(v),
        lambda: gx.log(1 + v),
        lambda: gx.log(v + 1.0),
    ),
    family(
        "log1p_of_negative",
        "negative log1p",
        lambda: gx.log1p(-v),
        lambda: gx.log(1 - v),
        lambda: gx.log(-v + 1),
    ),
    family(
        "expm1",
        "expm1",
        lambda: gx.expm1(v),
        lambda: gx.exp(v) - 1,
        lambda: -1.0 + gx.exp(v),
        lambda: -(1 - gx.exp(v)),
    ),
    family(
        "log_erfc",
        "log_erfc",
        lambda: gx.special.log_erfc(v),
        lambda: gx.log(gx.special.erfc(v)),
        lambda: gx.log(1 - gx.special.erf(v)),
    ),
)


def standard(u, axis, epsilon=1e-5):
    return (u - gx.mean(u, axis=axis, keepdims=True)) / gx.sqrt(
        gx.var(u, axis=axis, keepdims=True) + epsilon
    )


def centred(u, axis=1):
    return u - gx.mean(u, axis=axis, keepdims=True)


def second(u, axis=1):
    """The mean square of the centred rows, by a sum and a size."""
    return gx.sum(centred(u, axis) ** 2, axis=axis, keepdims=True) / u.shape[axis]


NORMALISATION = (
    family(
        "layer_norm",
        "layer_norm",
        lambda: standard(x, 1),
        lambda: centred(x) / gx.sqrt(gx.mean(centred(x) ** 2, axis=1, keepdims=True) + 1e-5),
        lambda: centred(x) / (gx.var(x, axis=1, keepdims=True) + 1e-5) ** 0.5,
        lambda: centred(x) * (gx.var(x, axis=1, keepdims=True) + 1e-5) ** -0.5,
        lambda: centred(x) * (1 / gx.sqrt(1e-5 + gx.var(x, axis=1)[:, None])),
        lambda: (x - x.mean(axis=1)[:, None]) / gx.sqrt(gx.var(x, axis=1) + 1e-5)[:, None],
        lambda: (x - x.mean(-1).reshape(-1, 1)) / gx.sqrt(gx.var(x, axis=-1).reshape(-1, 1) + 1e-5),
        lambda: centred(x) / gx.sqrt(second(x) + 1e-5),
        lambda: (x - total(x) / 10) / gx.sqrt(gx.var(x, axis=1, keepdims=True) + 1e-5),
        lambda: (x - total(x) * 0.1) / gx.sqrt(gx.var(x, axis=1, keepdims=True) + 1e-5),
        lambda: centred(x) * gx.reciprocal(gx.sqrt(gx.var(x, axis=1, keepdims=True) + 1e-5)),
        lambda: centred(x) / gx.sqrt(gx.std(x, axis=1, keepdims=True) ** 2 + 1e-5),
        lambda: (
            centred(x)
            / gx.sqrt(
                gx.mean(x**2, axis=1, keepdims=True) - gx.mean(x, axis=1, keepdims=True) ** 2 + 1e-5
            )
        ),
        lambda: gx.divide(centred(x), gx.power(gx.var(x, axis=1, keepdims=True) + 1e-5, 0.5)),
    ),
    family(
        "layer_norm_with_gain_and_shift",
        "layer_norm multiply add",
        lambda: standard(x, 1) * gain + shift,
        lambda: shift + gain * standard(x, 1),
        lambda: gain * centred(x) / gx.sqrt(gx.var(x, axis=1, keepdims=True) + 1e-5) + shift,
        lambda: gain * (centred(x) * (1 / gx.sqrt(second(x) + 1e-5))) + shift,
        lambda: centred(x) * (gain / gx.sqrt(gx.var(x, axis=1, keepdims=True) + 1e-5)) + shift,
    ),
    family(
        "layer_norm_over_two_axes",
        "layer_norm",
        lambda: standard(A, (0, 2)),
        lambda: centred(A, (0, 2)) * (gx.var(A, axis=(0, 2), keepdims=True) + 1e-5) ** -0.5,
        lambda: (
            (A - (A.sum((0, 2)) / 20)[None, :, None])
            / gx.sqrt(gx.sum(gx.square(centred(A, (0, 2))), axis=(0, 2), keepdims=True) / 20 + 1e-5)
        ),
    ),
    family(
        "layer_norm_in_float32",
        "layer_norm",
        lambda: standard(F, 1),
        lambda: centred(F) / gx.sqrt(second(F) + 1e-5),
        lambda: (F - F.sum(1)[:, None] / 16) * (gx.var(F, axis=1)[:, None] + 1e-5) ** -0.5,
    ),
    family(
        "batch_norm",
        "batch_norm",
        lambda: standard(x, 0),
        lambda: (x - x.mean(axis=0)) / gx.sqrt(gx.var(x, axis=0) + 1e-5),
        lambda: (x - x.mean(axis=0)) * (gx.var(x, axis=0) + 1e-5) ** -0.5,
        lambda: (
            (x - gx.sum(x, axis=0) / x.shape[0])
            / gx.sqrt(gx.sum(gx.square(x - gx.mean(x, axis=0)), axis=0) / x.shape[0] + 1e-5)
        ),
        lambda: (
            (x - gx.sum(x, axis=0) * (1 / gx.constant(x.shape[0], gx.float64)))
            / (gx.mean((x - gx.mean(x, axis=0)) ** 2, axis=0) + 1e-5) ** 0.5
        ),
    ),
    family(
        "rms_norm",
        "rms_norm",
        lambda: x / gx.sqrt(gx.mean(x**2, axis=1, keepdims=True) + 1e-6),
        lambda: x * (gx.mean(x * x, axis=1, keepdims=True) + 1e-6) ** -0.5,
        lambda: x * (1 / gx.sqrt(gx.mean(gx.square(x), axis=-1, keepdims=True) + 1e-6)),
        lambda: x / gx.sqrt(total(x**2) / 10 + 1e-6),
        lambda: x / gx.sqrt((x * x).mean(axis=1)[:, None] + 1e-6),
        lambda: x / (gx.sum(x * x, axis=1)[:, None] / x.shape[1] + 1e-6) ** 0.5,
    ),
    family(
        "rms_norm_with_gain",
        "rms_norm multiply",
        lambda: gain * (x / gx.sqrt(gx.mean(x**2, axis=1, keepdims=True) + 1e-6)),
        lambda: x * (gx.mean(x * x, axis=1, keepdims=True) + 1e-6) ** -0.5 * gain,
    ),
    family(
        "sum_of_squares",
        "sum_of_squares",
        lambda: gx.sum(x**2, axis=1),
        lambda: gx.sum(x * x, axis=1),
        lambda: gx.square(x).sum(axis=-1),
        lambda: total(gx.power(x, 2))[:, 0],
        lambda: gx.sum(gx.abs(x) ** 2, axis=1),
    ),
    family(
        "sum_of_squares_of_a_vector",
        "sum_of_squares",
        lambda: gx.sum(v**2),
        lambda: gx.sum(v * v),
        lambda: v @ v,
        lambda: gx.dot(v, v),
    ),
    family(
        "norm",
        "norm",
        lambda: gx.sqrt(gx.sum(x**2, axis=1)),
        lambda: gx.sum(x * x, axis=1) ** 0.5,
        lambda: gx.power(gx.sum(gx.square(x), axis=1), 0.5),
        lambda: gx.sqrt(total(x**2))[:, 0],
    ),
    family(
        "norm_of_a_vector",
        "norm",
        lambda: gx.sqrt(gx.sum(v**2)),
        lambda: gx.sqrt(v @ v),
        lambda: gx.power(gx.dot(v, v), 0.5),
    ),
    family(
        "normalised",
        "normalized",
        lambda: x / gx.sqrt(gx.sum(x**2, axis=1, keepdims=True)),
        lambda: x / gx.sqrt(gx.sum(x * x, axis=1))[:, None],
        lambda: x * (1 / gx.sqrt(total(x**2))),
        lambda: x * total(gx.square(x)) ** -0.5,
        lambda: x / total(x * x) ** 0.5,
    ),
    family(
        "variance",
        "variance",
        lambda: gx.var(x, axis=1),
        lambda: gx.mean((x - gx.mean(x, axis=1, keepdims=True)) ** 2, axis=1),
        lambda: gx.sum(gx.square(centred(x)), axis=1) / 10,
        lambda: gx.sum(centred(x) * centred(x), axis=1) / x.shape[1],
        lambda: gx.sum(centred(x) ** 2, axis=1) * 0.1,
        lambda: gx.mean(x**2, axis=1) - gx.mean(x, axis=1) ** 2,
        lambda: gx.std(x, axis=1) ** 2,
        lambda: gx.square(gx.std(x, axis=1)),
    ),
    family(
        "variance_of_a_column",
        "variance",
        lambda: gx.var(x, axis=0),
        lambda: gx.mean((x - x.mean(0)) ** 2, axis=0),
        lambda: gx.sum((x - gx.sum(x, axis=0) / x.shape[0]) ** 2, axis=0) / x.shape[0],
    ),
    family(
        "standard_deviation",
        "variance sqrt",
        lambda: gx.std(x, axis=1),
        lambda: gx.sqrt(gx.mean(centred(x) ** 2, axis=1)),
        lambda: gx.var(x, axis=1) ** 0.5,
    ),
)

LOSSES = (
    family(
        "mse",
        "mse",
        lambda: gx.nn.mse(x, t),
        lambda: gx.mean((x - t) ** 2),
        lambda: gx.mean(gx.square(x - t)),
        lambda: gx.sum((x - t) ** 2) / (x.shape[0] * x.shape[1]),
        lambda: gx.sum((x - t) * (x - t)) / (x.shape[0] * 10),
    ),
    family(
        "mse_of_vectors",
        "mse",
        lambda: gx.mean((v - z) ** 2),
        lambda: gx.sum(gx.square(v - z)) / v.shape[0],
        lambda: 1 / gx.constant(v.shape[0], gx.float64) * ((v - z) ** 2).sum(),
    ),
    family(
        "mse_in_float32",
        "mse",
        lambda: gx.mean((F[0] - F[1]) ** 2),
        lambda: gx.sum((F[0] - F[1]) ** 2) / 16,
        lambda: gx.sum((F[0] - F[1]) ** 2) * (1 / 16),
    ),
    family(
        "hinge",
        "hinge multiply",
        lambda: gx.maximum(0, 1 - v * z),
        lambda: gx.nn.relu(1 - z * v),
    ),
    family(
        "logistic",
        "multiply negative softplus",
        lambda: gx.nn.softplus(-(v * z)),
        lambda: gx.log(1 + gx.exp(-v * z)),
        lambda: gx.log1p(gx.exp(-(z * v))),
        lambda: -gx.log(gx.nn.sigmoid(v * z)),
        lambda: -gx.log(1 / (1 + gx.exp(-v * z))),
    ),
)

PRODUCTS = (
    family(
        "affine",
        "affine",
        lambda: x @ w + b,
        lambda: b + x @ w,
        lambda: gx.matmul(x, w) + b[None, :],
        lambda: gx.add(gx.dot(x, w), b.reshape(1, -1)),
    ),
    family(
        "affine_of_a_transpose",
        "affine",
        lambda: x @ U.T + b,
        lambda: b + gx.matmul(x, gx.swapaxes(U, 0, 1)),
        lambda: x.T.T @ gx.permute_dims(U, (1, 0)) + b[None],
    ),
    family(
        "affine_relu",
        "affine_relu",
        lambda: gx.nn.relu(x @ w + b),
        lambda: gx.maximum(0, b + x @ w),
        lambda: gx.where(x @ w + b <= 0, 0, x @ w + b),
    ),
    family(
        "affine_sigmoid",
        "affine_sigmoid",
        lambda: gx.nn.sigmoid(x @ w + b),
        lambda: 1 / (1 + gx.exp(-(x @ w + b))),
        lambda: 1 / (1 + gx.exp(-(x @ w) - b)),
    ),
    family(
        "affine_tanh",
        "affine_tanh",
        lambda: gx.tanh(x @ w + b),
        lambda: 2 * gx.nn.sigmoid(2 * (b + x @ w)) - 1,
    ),
    family(
        "squared_distances",
        "squared_distances",
        lambda: gx.sum((p[:, None] - q[None]) ** 2, axis=2),
        lambda: total(p**2) + gx.sum(q**2, axis=1) - 2 * (p @ q.T),
        lambda: gx.sum(p * p, axis=1)[:, None] + gx.sum(q * q, axis=1)[None] - 2 * p @ q.T,
        lambda: gx.sum(gx.square(p[:, None, :] - q), axis=-1),
        lambda: -2 * (p @ q.T) + total(p**2) + gx.sum(q**2, axis=1),
        lambda: gx.sum(p**2, axis=1, keepdims=True) - 2 * p @ q.T + (q**2).sum(axis=1),
        lambda: (p**2).sum(axis=1)[:, None] + (q**2).sum(axis=1) - p @ (2 * q).T,
    ),
)

FAMILIES = (*SOFTMAX, *CROSS_ENTROPY, *ACTIVATIONS, *NORMALISATION, *LOSSES, *PRODUCTS)


SHAPES = {
    **dict.fromkeys("xt", (6, 10)),
    **dict.fromkeys("vzuy", (6,)),
    **{"A": (4, 6, 5), "F": (8, 16), "S": (5, 5), "w": (10, 7), "U": (7, 10), "b": (7,)},
    **{"p": (6, 3), "q": (5, 3), "gain": (10,), "shift": (10,)},
}


def nodes(tensors: list[Tensor]) -> tuple[Node, ...]:
    return tuple(tensor.node for tensor in tensors)


def normal(*tensors: Tensor) -> tuple[Node, ...]:
    """The tensors in normal form."""
    graph = declared_graph(INPUTS, list(tensors), "f")
    rules = choose()
    return verify(rules.join(rules.rewrite(graph))).outputs


def ops_of(node: Node) -> set[str]:
    leaves = (INPUT, CONSTANT, SIZE, BROADCAST_TO)
    return {n.op.name for n in walk([node]) if n.op not in leaves} - MOVES - {"slice"}


CASES = [pytest.param(f, k, id=f"{f.name}-{k}") for f in FAMILIES for k in range(len(f.spellings))]


@pytest.mark.parametrize(("found", "k"), CASES)
def test_spelling_is_the_gate(found: Family, k: int) -> None:
    (first,), (node,) = normal(found.spellings[0]()), normal(found.spellings[k]())
    assert ops_of(node) == set(found.ops.split())
    assert node is first


@pytest.mark.parametrize("found", FAMILIES, ids=lambda f: f.name)
def test_gate_computes_what_is_spelled(found: Family) -> None:
    """Value and gradient are those of the graph that no rule has touched."""
    rng = np.random.default_rng(0)
    given = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    arrays = [given[i.node.attrs["name"]].astype(i.dtype) for i in INPUTS]
    for spelling in found.spellings:
        value = spelling()
        wanted = [value, *gx.grad(gx.sum(value * value), FLOATS, rewrites=False)]
        rewritten = [value, *gx.grad(gx.sum(value * value), FLOATS)]
        plain = reference.evaluate(declared_graph(INPUTS, wanted, "f"), arrays)
        gated = reference.evaluate(Graph("f", nodes(INPUTS), normal(*rewritten)), arrays)
        tolerance = 1e-4 if value.dtype == np.float32 else 1e-9
        for one, other in zip(gated, plain, strict=True):
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("gate", "spelled", "slope"),
    [
        ("relu", lambda: gx.maximum(v, 0), 1.0),
        ("relu", lambda: gx.where(v < 0, 0, v), 1.0),
        ("affine_relu", lambda: gx.maximum(x @ w + b, 0), 1.0),
        ("hinge", lambda: gx.maximum(1 - v, 0), -1.0),
        ("leaky_relu", lambda: gx.maximum(v, 0.1 * v), 1.0),
        ("leaky_relu", lambda: gx.where(v >= 0, v, 0.1 * v), 1.0),
        ("leaky_relu", lambda: gx.where(v < 0, 0.1 * v, v), 1.0),
        ("elu", lambda: gx.where(v < 0, 2 * (gx.exp(v) - 1), v), 1.0),
        ("elu", lambda: gx.where(v >= 0, v, 2 * (gx.exp(v) - 1)), 1.0),
    ],
)
def test_gate_with_another_slope_at_its_kink(
    gate: str, spelled: Callable[[], Tensor], slope: float
) -> None:
    """Values become the gate; the slope at the kink is that of what was written."""
    assert ops_of(normal(spelled())[0]) == {gate}
    at_kink = [np.full(SHAPES[i.node.attrs["name"]], gate == "hinge", i.dtype) for i in INPUTS]
    wrt = b if gate == "affine_relu" else v
    gradient = normal(gx.grad(gx.sum(spelled()), wrt))
    (found,) = reference.evaluate(Graph("f", nodes(INPUTS), gradient), at_kink)
    rows = 6.0 if gate == "affine_relu" else 1.0
    np.testing.assert_array_equal(found, np.full(found.shape, slope * rows))


def test_choice_that_loses_nan_is_relu_only_if_there_is_none() -> None:
    chosen = gx.where(v > 0, v, 0)
    assert ops_of(normal(chosen)[0]) == {"greater", "where"}
    graph = choose({"assumes_finite": True}).rewrite(declared_graph([v], [chosen], "f"))
    assert ops_of(graph.outputs[0]) == {"relu"}


@pytest.mark.parametrize(
    "other",
    [
        lambda: gx.sum(v) / 10,
        lambda: gx.sum(x, axis=1) / x.shape[0],
        lambda: gx.sum(x) * 0.1,
        lambda: gx.sum(x, axis=1) * 0.1000000001,
        lambda: gx.sum(x, axis=1) / 0.1,
        lambda: gx.sum(x[:0], axis=0) / 0,
    ],
)
def test_another_size_is_no_mean(other: Callable[[], Tensor]) -> None:
    assert "mean" not in ops_of(normal(other())[0])


@pytest.mark.parametrize(
    ("gate", "spelled"),
    [
        ("rms_norm", lambda: gain * x / gx.sqrt(gx.mean(x**2, axis=1, keepdims=True) + 1e-6)),
        ("normalized", lambda: gain * x / gx.sqrt(gx.sum(x**2, axis=1, keepdims=True))),
    ],
)
def test_a_gain_is_taken_out_of_a_norm_only_if_the_order_may_change(
    gate: str, spelled: Callable[[], Tensor]
) -> None:
    graph = declared_graph([x, gain], [spelled()], "f")
    by_default, if_allowed = (choose(on).rewrite(graph) for on in (True, {"reassociates": True}))
    assert gate not in ops_of(by_default.outputs[0])
    assert gate in ops_of(if_allowed.outputs[0])


@pytest.mark.parametrize(
    ("gate", "other"),
    [
        ("softmax", lambda: gx.exp(x) / gx.sum(gx.exp(t), axis=1, keepdims=True)),
        ("softmax", lambda: gx.exp(S) / gx.sum(gx.exp(S), axis=1)),
        ("log_softmax", lambda: S - gx.logsumexp(S, axis=1)),
        ("variance", lambda: gx.mean((S - gx.mean(S, axis=1)) ** 2, axis=1)),
        ("layer_norm", lambda: (S - gx.mean(S, axis=1)) / gx.std(S, axis=1)),
        ("normalized", lambda: S / gx.sqrt(gx.sum(S**2, axis=1))),
        ("cross_entropy", lambda: gx.logsumexp(t, axis=1) - labelled(x)),
        ("sigmoid", lambda: 1 / (2 + gx.exp(-v))),
        ("tanh", lambda: (gx.exp(v) + gx.exp(-v)) / (gx.exp(v) - gx.exp(-v))),
        ("softplus", lambda: v + gx.log(2 + gx.exp(-v))),
        ("gelu", lambda: 0.5 * v * (1 + gx.special.erf(v * 0.7071))),
        ("gelu", lambda: 0.5 * v * (1 + gx.special.erf(z / np.sqrt(2)))),
        ("gelu_tanh", lambda: 0.5 * v * (1 + gx.tanh(v + v**2))),
        ("relu", lambda: gx.where(v <= 1, 0, v)),
        ("leaky_relu", lambda: gx.where(v > 0, v, 0.1 * z)),
        ("leaky_relu", lambda: gx.where(v >= 1, v, 0.1 * v)),
        ("leaky_relu", lambda: gx.maximum(v, 2 * v)),
        ("relu", lambda: v * (z > 0)),
        ("sigmoid", lambda: gx.where(v >= 0, gx.tanh(gx.abs(v)), gx.tanh(-gx.abs(v)))),
        ("elu", lambda: gx.where(v > 0, v, gx.exp(v) + 1)),
        ("squared_distances", lambda: gx.sum((p[:, None] - q[None]) ** 2, axis=1)),
        ("affine", lambda: x @ w + v[:, None]),
    ],
)
def test_something_else_is_no_gate(gate: str, other: Callable[[], Tensor]) -> None:
    assert gate not in ops_of(normal(other())[0])


@pytest.mark.parametrize("found", FAMILIES, ids=lambda f: f.name)
def test_spellings_have_one_gradient(found: Family) -> None:
    def gradients(spelling: Callable[[], Tensor]) -> tuple[Node, ...]:
        return normal(*gx.grad(gx.sum(spelling()), FLOATS))

    first = gradients(found.spellings[0])
    for spelling in found.spellings[1:]:
        assert gradients(spelling) == first


@pytest.mark.parametrize(
    "slope",
    [
        lambda s: gx.nn.sigmoid(s) * (1 - gx.nn.sigmoid(s)),
        lambda s: 1 - gx.tanh(s) ** 2,
        lambda s: 3 * s * gx.nn.sigmoid(s) * gx.nn.sigmoid(-s),
    ],
)
def test_a_slope_that_is_written_out_takes_one_exponential_with_its_gradient(slope) -> None:
    f = gx.compile([v], [slope(v), gx.grad(gx.sum(slope(v)), v)], cache=False)
    assert f.dump("source").count("vmath.") == f.dump("source").count("vmath.exp_f64") == 1
