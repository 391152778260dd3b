"""NumPy: gradients derived by hand, vectorised, written as plainly as a person would.

In float64 these functions are also the reference that every other system is checked against.
"""

import numpy as np
from scipy.special import erf

import formulas
from systems.base import Backend


def softmax(x):
    """Along the last axis, without overflow."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def neuron(w, x):
    """Row a."""
    s = 1 / (1 + np.exp(-(w[0] * x[0] + w[1] * x[1] + w[2])))
    slope = s * (1 - s)
    return s, slope * np.array([x[0], x[1], 1]), slope * w[:2]


def circuit(x, y, z):
    """Row b."""
    q = x + y
    return q * z, z, z, q


def sigmoid_squares(a, b, x):
    """Row c."""
    s = 1 / (1 + np.exp(-(a * x + b)))
    dz = 2 * s * s * (1 - s)
    return np.sum(s * s), np.sum(dz * x), np.sum(dz), dz * a


def two_layers(x, y, w1, w2):
    """Row d."""
    h = 1 / (1 + np.exp(-(x @ w1)))
    error = h @ w2 - y
    d_prediction = 2 * error
    d_h = d_prediction @ w2.T
    return np.sum(error**2), x.T @ (d_h * h * (1 - h)), h.T @ d_prediction


def cross_entropy(logits, labels):
    """Row g, and the last layer of rows e and m."""
    n = len(labels)
    rows = np.arange(n)
    shifted = logits - logits.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) - shifted[rows, labels])
    d_logits = e / total
    d_logits[rows, labels] -= 1
    d_logits /= n
    return loss, d_logits


def classifier(x, labels, w1, b1, w2, b2):
    """Row e."""
    h = np.maximum(x @ w1 + b1, 0)
    loss, d_logits = cross_entropy(h @ w2 + b2, labels)
    d_h = (d_logits @ w2.T) * (h > 0)
    return loss, x.T @ d_h, d_h.sum(axis=0), h.T @ d_logits, d_logits.sum(axis=0)


def logistic_regression(x, y, w, b):
    """Row f."""
    z = x @ w + b
    d_z = (1 / (1 + np.exp(-z)) - y) / len(y)
    return np.mean(np.logaddexp(0, z) - y * z), d_z @ x, d_z.sum()


def gaussian_mixture(x, alphas, means, logs, factors):
    """Row h."""
    y = x - means[:, None, :]
    diagonals = np.exp(logs)[:, None, :]
    z = y @ factors.swapaxes(1, 2) + diagonals * y
    terms = (alphas + logs.sum(axis=1))[:, None] - 0.5 * np.sum(z**2, axis=-1)
    top = terms.max(axis=0)
    e = np.exp(terms - top)
    total = e.sum(axis=0)
    weights = softmax(alphas)
    loss = np.sum(top + np.log(total)) - len(x) * (
        alphas.max() + np.log(np.sum(np.exp(alphas - alphas.max())))
    )
    share = e / total
    d_z = -share[:, :, None] * z
    d_factors = d_z.swapaxes(1, 2) @ y
    d_y = d_z @ factors + diagonals * d_z
    d_logs = share.sum(axis=1)[:, None] + np.sum(d_z * diagonals * y, axis=1)
    return loss, share.sum(axis=1) - len(x) * weights, -d_y.sum(axis=1), d_logs, d_factors


def transformer_block(x, gain, shift, w, b):
    """Row i."""
    centred = x - x.mean(axis=1, keepdims=True)
    scale = 1 / np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + 1e-5)
    normed = centred * scale
    y = normed * gain + shift
    z = y @ w + b
    root = np.sqrt(2 / np.pi).astype(z.dtype)
    t = np.tanh(root * (z + 0.044715 * z**3))
    g = 0.5 * z * (1 + t)
    d_gelu = 2 * g / g.size
    inner = root * (1 + 3 * 0.044715 * z**2)
    d_z = d_gelu * (0.5 * (1 + t) + 0.5 * z * (1 - t * t) * inner)
    d_y = d_z @ w.T
    d_normed = d_y * gain
    mean = d_normed.mean(axis=1, keepdims=True)
    slope = np.mean(d_normed * normed, axis=1, keepdims=True)
    d_x = scale * (d_normed - mean - normed * slope)
    d_gain, d_shift = np.sum(d_y * normed, axis=0), d_y.sum(axis=0)
    return np.mean(g * g), d_gain, d_shift, y.T @ d_z, d_z.sum(axis=0), d_x


def rosenbrock(x):
    """Row j."""
    bend, step = x[1:] - x[:-1] ** 2, 1 - x[:-1]
    gradient = np.zeros_like(x)
    gradient[1:] = 200 * bend
    gradient[:-1] -= 400 * bend * x[:-1] + 2 * step
    return np.sum(100 * bend**2 + step**2), gradient


def attention(x, wq, wk, wv):
    """Row k."""
    q, k, v = x @ wq, x @ wk, x @ wv
    p = softmax(q @ k.T / 8)
    out = p @ v
    d_out = 2 * out
    d_v = p.T @ d_out
    d_p = d_out @ v.T
    d_scores = p * (d_p - np.sum(d_p * p, axis=1, keepdims=True)) / 8
    d_q, d_k = d_scores @ k, d_scores.T @ q
    d_x = d_q @ wq.T + d_k @ wk.T + d_v @ wv.T
    return np.sum(out**2), x.T @ d_q, x.T @ d_k, x.T @ d_v, d_x


def k_means(points, centres):
    """Row l."""
    squares = np.sum(points**2, axis=1)[:, None] + np.sum(centres**2, axis=1)
    squares -= 2 * points @ centres.T
    nearest = squares.argmin(axis=1)
    d_points = 2 * (points - centres[nearest])
    d_centres = np.zeros_like(centres)
    np.subtract.at(d_centres, nearest, d_points)
    return np.sum(squares.min(axis=1)), d_points, d_centres


def momentum_step(x, labels, w1, b1, w2, b2, *velocities):
    """Row m."""
    loss, *gradients = classifier(x, labels, w1, b1, w2, b2)
    inputs = (x, labels, w1, b1, w2, b2, *velocities)
    return formulas.momentum_results(loss, gradients, inputs)


def chain(x, gates):
    """Row n: the values are kept on the way there, and the gradients added up on the way back."""
    values = [x, 0.5 * x]
    for k in range(gates):
        older, newer = values[-2:]
        if k % 4 == 0:
            values.append(np.sin(older) + 0.25 * newer)
        elif k % 4 == 1:
            values.append(np.tanh(newer) - 0.25 * older)
        elif k % 4 == 2:
            values.append(older * newer + 0.5)
        else:
            values.append(newer / (1 + older**2))
    d_newer, d_older = np.ones_like(x), np.zeros_like(x)
    for k in reversed(range(gates)):
        older, newer, gate = values[k], values[k + 1], values[k + 2]
        d_newer, d_older = _chain_slopes(k % 4, older, newer, gate, d_newer, d_older)
    return np.sum(values[-1]), d_older + 0.5 * d_newer


def _chain_slopes(kind, older, newer, gate, d_gate, d_newer):
    """The gradients of a gate's two arguments; ``d_newer`` is what later gates give the newer one."""
    if kind == 0:
        return d_newer + 0.25 * d_gate, d_gate * np.cos(older)
    if kind == 1:
        t = gate + 0.25 * older
        return d_newer + d_gate * (1 - t * t), -0.25 * d_gate
    if kind == 2:
        return d_newer + d_gate * older, d_gate * newer
    inverse = 1 / (1 + older**2)
    return d_newer + d_gate * inverse, -2 * older * gate * inverse * d_gate


def black_scholes(spot, strike, maturity, rate, volatility):
    """Row o."""
    root = np.sqrt(maturity)
    width = volatility * root
    d1 = (np.log(spot / strike) + (rate + 0.5 * volatility**2) * maturity) / width
    d2 = d1 - width
    n1, n2 = 0.5 * (1 + erf(d1 / np.sqrt(2))), 0.5 * (1 + erf(d2 / np.sqrt(2)))
    density = np.exp(-0.5 * d1 * d1) / np.sqrt(2 * np.pi)
    discount = np.exp(-rate * maturity)
    discounted = strike * discount
    vega = spot * density * root
    theta = rate * discounted * n2 + 0.5 * vega * volatility / maturity
    rho = maturity * discounted * n2
    return spot * n1 - discounted * n2, n1, -discount * n2, theta, rho, vega


ROWS = {
    "a": neuron,
    "b": circuit,
    "c": sigmoid_squares,
    "d": two_layers,
    "e": classifier,
    "f": logistic_regression,
    "g": cross_entropy,
    "h": gaussian_mixture,
    "i": transformer_block,
    "j": rosenbrock,
    "k": attention,
    "l": k_means,
    "m": momentum_step,
    "n-200": lambda x: chain(x, 200),
    "n-400": lambda x: chain(x, 400),
    "o": black_scholes,
}


class System(Backend):
    """NumPy."""

    def build(self, row):
        """Nothing is compiled."""
        return ROWS[row.key]

    def versions(self):
        """NumPy's version."""
        return {"numpy": np.__version__}
