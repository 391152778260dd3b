"""Twenty-five programs, each written down as its formula stands in a textbook.

Nobody took care of overflow, cancellation or speed: a sigmoid is 1 / (1 + exp(-x)), a softmax is
exp(x) / sum(exp(x)), a variance the mean of the squares minus the squared mean. What graphc makes of such
programs can be looked at here.

    python examples/gallery.py                        # how large each is, and the value of its output
    python examples/gallery.py logistic_regression    # its graph as declared, and as gates with gradients
"""

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

import graphc as gx

SIZES = {"N": 6, "M": 4}
"""What the named sizes are in `Program.arrays` unless others are asked for."""

PROGRAMS = {}
"""Every program by its name."""


def between(low, high):
    """Draws floats from ``low`` to ``high``."""
    return lambda rng, shape: rng.uniform(low, high, shape)


def moderate(rng, shape):
    """Draws floats from -1.5 to 1.5."""
    return rng.uniform(-1.5, 1.5, shape)


def below(count):
    """Draws integers from 0 to ``count - 1``."""
    return lambda rng, shape: rng.integers(0, count, shape)


def signs(rng, shape):
    """Draws -1 or 1."""
    return rng.choice([-1.0, 1.0], shape)


def counts(rng, shape):
    """Draws small natural numbers, as floats."""
    return rng.poisson(3.0, shape)


def probabilities(rng, shape):
    """Draws positive numbers with a sum of 1 along the last axis."""
    parts = rng.uniform(0.1, 1.0, shape)
    return parts / parts.sum(axis=-1, keepdims=True)


def covariance(rng, shape):
    """Draws a symmetric positive definite matrix."""
    factor = rng.uniform(-1.0, 1.0, shape)
    return factor @ factor.T + np.eye(shape[-1])


@dataclass(frozen=True)
class Input:
    """An input of a program: its shape, how its values are drawn, and its dtype if that is fixed."""

    shape: tuple
    draw: Callable = moderate
    dtype: type | None = None


@dataclass(frozen=True)
class Program:
    """A formula, the inputs that it is a function of, and those that it is differentiated by."""

    name: str
    title: str
    formula: Callable
    inputs: Mapping[str, Input]
    wrt: tuple

    def build(self, dtype=gx.float64):
        """The inputs, the output (or a list of outputs), and what to differentiate it by."""
        given = {n: gx.input(n, i.shape, i.dtype or dtype) for n, i in self.inputs.items()}
        return list(given.values()), self.formula(**given), [given[name] for name in self.wrt]

    def arrays(self, seed=0, sizes=None, dtype=gx.float64):
        """One random array an input, in order; ``sizes`` are those named sizes that are not `SIZES`'."""
        rng, known = np.random.default_rng(seed), {**SIZES, **(sizes or {})}
        drawn = []
        for each in self.inputs.values():
            shape = tuple(known[size] if isinstance(size, str) else size for size in each.shape)
            drawn.append(np.asarray(each.draw(rng, shape), each.dtype or dtype))
        return drawn


def program(wrt="", /, **inputs):
    """Enters a formula into `PROGRAMS`: the names to differentiate by; a shape or an `Input` a parameter."""
    given = {n: i if isinstance(i, Input) else Input(i) for n, i in inputs.items()}

    def enter(formula):
        name, title = formula.__name__, formula.__doc__.splitlines()[0]
        PROGRAMS[name] = Program(name, title, formula, given, tuple(wrt.split()))
        return formula

    return enter


# The circuits of a first lecture.


@program("x y z", x=(), y=(), z=())
def circuit(x, y, z):
    """(x + y) z"""
    return (x + y) * z


@program("w0 w1 w2 x0 x1", w0=(), w1=(), w2=(), x0=(), x1=())
def neuron(w0, w1, w2, x0, x1):
    """1 / (1 + exp(-(w0 x0 + w1 x1 + w2)))"""
    return 1 / (1 + gx.exp(-(w0 * x0 + w1 * x1 + w2)))


@program("x y z w", x=(), y=(), z=(), w=())
def router(x, y, z, w):
    """2 (x y + max(z, w))"""
    return 2 * (x * y + gx.maximum(z, w))


@program("W x", W=("M", "N"), x=("N",))
def sum_of_squares(W, x):
    """The squared length of W x"""
    q = W @ x
    return gx.sum(q**2)


@program("x y", x=(), y=())
def staged(x, y):
    """(x + sigmoid(y)) / (sigmoid(x) + (x + y)^2)"""
    sigmoid_y = 1.0 / (1.0 + gx.exp(-y))
    numerator = x + sigmoid_y
    sigmoid_x = 1.0 / (1.0 + gx.exp(-x))
    denominator = sigmoid_x + (x + y) ** 2
    return numerator / denominator


# Classifiers and small networks.


@program("w b", x=("N", 5), y=Input(("N",), signs), w=(5,), b=())
def logistic_regression(x, y, w, b):
    """Logistic regression, labels -1 or 1"""
    margins = y * (x @ w + b)
    return gx.mean(gx.log(1 + gx.exp(-margins)))


@program("W b", x=("N", 5), y=Input(("N",), below(3), gx.int64), W=(5, 3), b=(3,))
def multiclass_svm(x, y, W, b):
    """Multiclass support vector machine: hinge loss and weight decay"""
    scores = x @ W + b
    correct = y[:, None] == np.arange(3)
    correct_score = gx.sum(gx.where(correct, scores, 0), axis=1, keepdims=True)
    margins = gx.where(correct, 0, gx.maximum(0, scores - correct_score + 1))
    return gx.mean(gx.sum(margins, axis=1)) + 0.01 * gx.sum(W * W)


@program("W b", x=("N", 5), t=Input(("N", 3), probabilities), W=(5, 3), b=(3,))
def softmax_regression(x, t, W, b):
    """Softmax regression, cross-entropy to probabilities"""
    scores = x @ W + b
    log_p = scores - gx.log(gx.sum(gx.exp(scores), axis=1, keepdims=True))
    return -gx.sum(t * log_p) / x.shape[0]


@program("w1 w2", x=("N", 5), y=("N", 2), w1=(5, 4), w2=(4, 2))
def two_layer_sigmoid(x, y, w1, w2):
    """Two layers, sigmoid units, squared error"""
    h = 1 / (1 + gx.exp(-x.dot(w1)))
    y_pred = h.dot(w2)
    return gx.square(y_pred - y).sum()


@program(
    "W1 b1 W2 b2",
    x=("N", 5),
    y=Input(("N",), below(3), gx.int64),
    W1=(5, 4),
    b1=(4,),
    W2=(4, 3),
    b2=(3,),
)
def two_layer_relu(x, y, W1, b1, W2, b2):
    """Two layers, ReLU units, softmax cross-entropy by labels"""
    h = gx.maximum(0, x @ W1 + b1)
    exp_scores = gx.exp(h @ W2 + b2)
    p = exp_scores / gx.sum(exp_scores, axis=1, keepdims=True)
    one_hot = y[:, None] == np.arange(3)
    return gx.mean(-gx.sum(one_hot * gx.log(p), axis=1))


@program(
    "W1 b1 W2 b2 W3 b3",
    x=(3, "N"),
    y=(1, "N"),
    W1=(4, 3),
    b1=(4, 1),
    W2=(4, 4),
    b2=(4, 1),
    W3=(1, 4),
    b3=(1, 1),
)
def three_layer(x, y, W1, b1, W2, b2, W3, b3):
    """Three layers, sigmoid units, an example a column"""

    def f(z):
        return 1.0 / (gx.exp(-z) + 1.0)

    h1 = f(W1 @ x + b1)
    h2 = f(W2 @ h1 + b2)
    out = W3 @ h2 + b3
    return gx.mean((out - y) ** 2) / 2


# Blocks of larger networks.


@program("x gamma beta W1 W2", x=("N", 5), y=("N", 5), gamma=(5,), beta=(5,), W1=(5, 4), W2=(4, 5))
def layer_norm_gelu(x, y, gamma, beta, W1, W2):
    """Layer norm, GELU and two products, with a skip connection"""
    mean = x.mean(axis=-1, keepdims=True)
    var = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    normed = (x - mean) / gx.sqrt(var + 1e-5) * gamma + beta
    h = normed @ W1
    gelu = h * 0.5 * (1 + gx.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    return gx.mean((x + gelu @ W2 - y) ** 2)


@program("x Wq Wk Wv", x=("N", 5), y=("N", 3), Wq=(5, 2), Wk=(5, 2), Wv=(5, 3))
def attention(x, y, Wq, Wk, Wv):
    """An attention head"""
    q, k, v = x @ Wq, x @ Wk, x @ Wv
    scores = q @ k.T / math.sqrt(2)
    weights = gx.exp(scores) / gx.sum(gx.exp(scores), axis=-1, keepdims=True)
    return gx.mean((weights @ v - y) ** 2)


@program("x h c W b", x=("N", 3), h=("N", 4), c=("N", 4), y=("N", 4), W=(7, 16), b=(16,))
def lstm_cell(x, h, c, y, W, b):
    """An LSTM cell, squared error of its new state"""

    def sigmoid(z):
        return 1 / (1 + gx.exp(-z))

    z = gx.concat([x, h], axis=1) @ W + b
    i, f, o = sigmoid(z[:, :4]), sigmoid(z[:, 4:8]), sigmoid(z[:, 8:12])
    c = f * c + i * gx.tanh(z[:, 12:])
    h = o * gx.tanh(c)
    return gx.mean((h - y) ** 2)


@program("x gamma beta", x=("N", 5), y=("N", 5), gamma=(5,), beta=(5,))
def batch_norm_relu(x, y, gamma, beta):
    """Batch normalisation in training, then ReLU"""
    mean = gx.mean(x, axis=0)
    var = gx.mean(x**2, axis=0) - mean**2
    out = gamma * (x - mean) / gx.sqrt(var + 1e-5) + beta
    return gx.sum((gx.maximum(out, 0) - y) ** 2)


@program("x scale W V U", x=("N", 5), y=("N", 5), scale=(5,), W=(5, 4), V=(5, 4), U=(4, 5))
def rms_norm_gated(x, y, scale, W, V, U):
    """RMS norm and a linear unit gated by SiLU"""
    normed = x / gx.sqrt(gx.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale
    gate = normed @ W
    silu = gate / (1 + gx.exp(-gate))
    return gx.mean((x + (silu * (normed @ V)) @ U - y) ** 2)


@program(
    "Wm Ws V b", x=Input(("N", 5), below(2)), noise=("N", 2), Wm=(5, 2), Ws=(5, 2), V=(2, 5), b=(5,)
)
def vae_loss(x, noise, Wm, Ws, V, b):
    """A variational autoencoder of bits: minus the evidence bound"""
    mu, log_var = x @ Wm, x @ Ws
    z = mu + gx.exp(0.5 * log_var) * noise
    h = (gx.exp(z) - gx.exp(-z)) / (gx.exp(z) + gx.exp(-z))
    p = 1 / (1 + gx.exp(-(h @ V + b)))
    log_likelihood = gx.sum(x * gx.log(p) + (1 - x) * gx.log(1 - p), axis=1)
    kl = -0.5 * gx.sum(1 + log_var - mu**2 - gx.exp(log_var), axis=1)
    return gx.mean(kl - log_likelihood)


# Statistics and science.


@program(
    "weights means scales",
    x=("N", 2),
    weights=Input((3,), probabilities),
    means=(3, 2),
    scales=Input((3, 2), between(0.5, 1.5)),
)
def gaussian_mixture(x, weights, means, scales):
    """Log-likelihood of a Gaussian mixture, diagonal covariances"""
    z = (x[:, None, :] - means) / scales
    volume = gx.prod(math.sqrt(2 * math.pi) * scales, axis=1)
    densities = gx.exp(-0.5 * gx.sum(z**2, axis=2)) / volume
    return gx.sum(gx.log(gx.sum(weights * densities, axis=1)))


@program(
    "mu sigma nu",
    x=("N",),
    mu=(),
    sigma=Input((), between(0.5, 1.5)),
    nu=Input((), between(2.0, 9.0)),
)
def student_t(x, mu, sigma, nu):
    """Student's t log-density without its constant"""
    z = (x - mu) / sigma
    return gx.sum(-(nu + 1) / 2 * gx.log(1 + z**2 / nu) - gx.log(sigma))


@program("w b r", x=("N", 5), k=Input(("N",), counts), w=(5,), b=(), r=Input((), between(0.5, 4.0)))
def negative_binomial(x, k, w, b, r):
    """Negative binomial regression without the gamma functions"""
    logits = x @ w + b
    p = gx.exp(logits) / (1 + gx.exp(logits))
    return -gx.mean(r * gx.log(1 - p) + k * gx.log(p))


@program(
    "m P h r", y=(2,), m=(4,), P=Input((4, 4), covariance), h=(4,), r=Input((), between(0.2, 1.0))
)
def kalman_filter(y, m, P, h, r):
    """Kalman updates by two scalar observations: minus their log-likelihood"""
    loss = 0.0
    for observed in y:
        innovation = observed - h @ m
        variance = h @ P @ h + r
        loss = loss + 0.5 * (gx.log(2 * math.pi * variance) + innovation**2 / variance)
        gain = P @ h / variance
        m = m + gain * innovation
        P = P - gx.outer(gain, gain) * variance
    return loss


@program("x", x=("N",))
def rosenbrock(x):
    """Rosenbrock's function of N variables"""
    return gx.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@program(
    "spot rate vol years",
    spot=Input(("N",), between(80.0, 120.0)),
    strike=Input(("N",), between(80.0, 120.0)),
    years=Input(("N",), between(0.1, 2.0)),
    rate=Input((), between(0.01, 0.05)),
    vol=Input((), between(0.1, 0.4)),
)
def black_scholes(spot, strike, years, rate, vol):
    """Black-Scholes prices of calls"""

    def normal_cdf(d):
        return 0.5 * (1 + gx.special.erf(d / math.sqrt(2)))

    d1 = (gx.log(spot / strike) + (rate + vol**2 / 2) * years) / (vol * gx.sqrt(years))
    d2 = d1 - vol * gx.sqrt(years)
    return gx.sum(spot * normal_cdf(d1) - strike * gx.exp(-rate * years) * normal_cdf(d2))


@program("x centres", x=("N", 2), centres=("M", 2))
def k_means(x, centres):
    """The k-means cost, distances as |a|^2 + |b|^2 - 2 a b"""
    distances = gx.sum(x**2, axis=1)[:, None] + gx.sum(centres**2, axis=1) - 2 * x @ centres.T
    return gx.mean(gx.min(distances, axis=1))


@program(
    x=("N", 5),
    y=("N",),
    w=(5,),
    m=(5,),
    v=Input((5,), between(0.0, 1.0)),
    t=Input((), between(1.0, 9.0)),
)
def adam_step(x, y, w, m, v, t):
    """One step of Adam for least squares: loss, weights, moments"""
    loss = gx.mean((x @ w - y) ** 2)
    g = gx.grad(loss, w)
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g**2
    m_hat = m / (1 - 0.9**t)
    v_hat = v / (1 - 0.999**t)
    return [loss, w - 0.01 * m_hat / (gx.sqrt(v_hat) + 1e-8), m, v]


def count_nodes(graph):
    """How many nodes a dumped graph has, without those that stand where they are used."""
    return sum(" = " in line for line in graph.splitlines())


def with_gradients(output, wrt):
    """What to compile: the outputs of a program and its gradients, if it has any."""
    return [output, gx.grad(output, wrt)] if wrt else output


def print_table():
    """One line a program: its sizes and the value of its (first) output."""
    print(f"{'program':20} nodes  with gradients       value  what it is")
    for name, each in PROGRAMS.items():
        inputs, output, wrt = each.build()
        values = dict(zip(inputs, each.arrays(), strict=True))
        first = output[0] if isinstance(output, list) else output
        nodes = [count_nodes(gx.dump(out)) for out in (output, with_gradients(output, wrt))]
        value = float(gx.evaluate(first, values))
        print(f"{name:20} {nodes[0]:5}  {nodes[1]:14}  {value:10.4f}  {each.title}")


def print_program(name):
    """The graph of one program as it is declared, and as it is compiled with its gradients."""
    inputs, output, wrt = PROGRAMS[name].build()
    print(f"# {PROGRAMS[name].title}\n\n{gx.dump(output, name)}\n")
    compiled = gx.compile(inputs, with_gradients(output, wrt), name=name)
    print(compiled.dump("gates"))


def main(arguments=None):
    """Prints the table, or the program that ``arguments`` (by default the command line's) ask for."""
    parser = argparse.ArgumentParser(description="Programs as textbooks write them.")
    parser.add_argument("name", nargs="?", choices=PROGRAMS, help="a program of the table")
    name = parser.parse_args(arguments).name
    if name:
        print_program(name)
    else:
        print_table()


if __name__ == "__main__":
    main()
