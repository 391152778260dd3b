"""Hand-written rows around products of matrices: BLAS writes into arrays, loops are fused between them."""

import math

import numpy as np
from numpy import float32

from formulas import MOMENTUM, RATE
from graphc.runtime import accumulate
from graphc.runtime.vmath import log_f64
from systems.numba_tools import exp, jit, sigmoid, times, times_transposed, transposed_times


@jit
def relu_of(h, bias):
    """Adds the bias and cuts below 0, in place."""
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            h[i, j] = max(h[i, j] + bias[j], float32(0))


@jit
def shift_softmax(z, bias, row):
    """Adds the bias to a row and turns it into exponentials; returns their sum and the largest score."""
    top = float32(-np.inf)
    for j in range(z.shape[1]):
        z[row, j] += bias[j]
        top = accumulate.maximum(top, z[row, j])
    total = float32(0)
    for j in range(z.shape[1]):
        z[row, j] = exp(z[row, j] - top)
        total = accumulate.add(total, z[row, j])
    return total, top


@jit
def add_rows(x, out):
    """Writes the sums of the columns."""
    out[:] = 0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[j] += x[i, j]


@jit
def classifier_gradients(x, labels, w1, b1, w2, b2, dw1, db1, dw2, db2):
    """Rows e and m: returns the loss and fills the gradients."""
    n, hidden, classes = x.shape[0], w1.shape[1], w2.shape[1]
    h, z = np.empty((n, hidden), float32), np.empty((n, classes), float32)
    dh = np.empty((n, hidden), float32)
    times(x, w1, h)
    relu_of(h, b1)
    times(h, w2, z)
    loss, share = 0.0, float32(1 / n)
    for i in range(n):
        score = z[i, labels[i]] + b2[labels[i]]
        total, top = shift_softmax(z, b2, i)
        loss += math.log(total) + top - score
        scale = share / total
        for j in range(classes):
            z[i, j] *= scale
        z[i, labels[i]] -= share
    transposed_times(h, z, dw2)
    add_rows(z, db2)
    times_transposed(z, w2, dh)
    db1[:] = 0
    for i in range(n):
        for j in range(hidden):
            dh[i, j] = dh[i, j] if h[i, j] > 0 else float32(0)
            db1[j] += dh[i, j]
    transposed_times(x, dh, dw1)
    return float32(loss / n)


@jit
def classifier(x, labels, w1, b1, w2, b2):
    """Row e."""
    dw1, db1, dw2, db2 = np.empty_like(w1), np.empty_like(b1), np.empty_like(w2), np.empty_like(b2)
    loss = classifier_gradients(x, labels, w1, b1, w2, b2, dw1, db1, dw2, db2)
    return loss, dw1, db1, dw2, db2


@jit
def descend(old, velocity, gradient, new):
    """Turns the gradient into the new velocity, and writes the new parameter."""
    for i in range(old.size):
        gradient[i] += float32(MOMENTUM) * velocity[i]
        new[i] = old[i] - float32(RATE) * gradient[i]


@jit
def momentum_step(x, labels, w1, b1, w2, b2, vw1, vb1, vw2, vb2):
    """Row m: the gradients become the velocities in place."""
    loss, dw1, db1, dw2, db2 = classifier(x, labels, w1, b1, w2, b2)
    n1, n2, n3, n4 = np.empty_like(w1), np.empty_like(b1), np.empty_like(w2), np.empty_like(b2)
    descend(w1.ravel(), vw1.ravel(), dw1.ravel(), n1.ravel())
    descend(b1, vb1, db1, n2)
    descend(w2.ravel(), vw2.ravel(), dw2.ravel(), n3.ravel())
    descend(b2, vb2, db2, n4)
    return loss, n1, n2, n3, n4, dw1, db1, dw2, db2


@jit
def two_layers(x, y, w1, w2):
    """Row d."""
    n, hidden = x.shape[0], w1.shape[1]
    h, dh, error = np.empty((n, hidden)), np.empty((n, hidden)), np.empty_like(y)
    dw1, dw2 = np.empty_like(w1), np.empty_like(w2)
    np.dot(x, w1, h)
    for i in range(n):
        for j in range(hidden):
            h[i, j] = sigmoid(h[i, j])
    np.dot(h, w2, error)
    loss = 0.0
    for i in range(n):
        for j in range(y.shape[1]):
            difference = error[i, j] - y[i, j]
            loss = accumulate.add(loss, difference * difference)
            error[i, j] = 2 * difference
    np.dot(h.T, error, dw2)
    np.dot(error, w2.T, dh)
    for i in range(n):
        for j in range(hidden):
            dh[i, j] *= h[i, j] * (1 - h[i, j])
    np.dot(x.T, dh, dw1)
    return loss, dw1, dw2


@jit
def logistic_regression(x, y, w, b):
    """Row f: blocks of rows that stay in the cache between the two products."""
    block, n = 512, x.shape[0]
    z, part, dw = np.empty(block), np.empty_like(w), np.zeros_like(w)
    loss = db = 0.0
    for start in range(0, n, block):
        rows = x[start : start + block]
        size = rows.shape[0]
        np.dot(rows, w, z[:size])
        for i in range(size):
            score, target = z[i] + b, y[start + i]
            e = exp(-abs(score))
            loss = accumulate.add(loss, max(score, 0.0) + log_f64(1 + e) - target * score)
            z[i] = (1.0 if score > 0 else e) / (1 + e) - target
            db = accumulate.add(db, z[i])
        np.dot(z[:size], rows, part)
        dw += part
    return loss / n, dw / n, db / n


@jit
def cross_entropy(logits, labels):
    """Row g: three passes over a row in the cache; the gradient is where the exponentials were."""
    n, classes = logits.shape
    gradient = np.empty_like(logits)
    loss, share = 0.0, float32(1 / n)
    for i in range(n):
        top, total = float32(-np.inf), float32(0)
        for j in range(classes):
            top = accumulate.maximum(top, logits[i, j])
        for j in range(classes):
            gradient[i, j] = exp(logits[i, j] - top)
            total = accumulate.add(total, gradient[i, j])
        scale = share / total
        for j in range(classes):
            gradient[i, j] *= scale
        gradient[i, labels[i]] -= share
        loss += math.log(total) + top - logits[i, labels[i]]
    return float32(loss / n), gradient


ROWS = {
    "d": two_layers,
    "e": classifier,
    "f": logistic_regression,
    "g": cross_entropy,
    "m": momentum_step,
}
