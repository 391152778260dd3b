"""Hand-written rows h, i, k and l: a mixture, a block of a transformer, attention, clusters."""

import math

import numpy as np
from numpy import float32

from graphc.runtime import accumulate
from systems.numba_tools import exp, jit, sigmoid

CURVE = float32(math.sqrt(2 / math.pi))
CUBIC = float32(0.044715)


@jit
def softmax_of(values):
    """Turns a vector into its softmax, in place; returns its logsumexp."""
    top, total = -np.inf, 0.0
    for k in range(values.size):
        top = max(top, values[k])
    for k in range(values.size):
        values[k] = math.exp(values[k] - top)
        total += values[k]
    for k in range(values.size):
        values[k] /= total
    return top + math.log(total)


@jit
def component(x, mean, factor, base, y, z, terms):
    """For one component and a block of points, columns of x: y = x - mean, z = Q y, base - z**2 / 2."""
    d, n = x.shape
    for j in range(d):
        for i in range(n):
            y[j, i] = x[j, i] - mean[j]
    for i in range(n):
        terms[i] = base
    for r in range(d):
        for i in range(n):
            z[r, i] = factor[r, 0] * y[0, i]
        for j in range(1, d):
            for i in range(n):
                z[r, i] += factor[r, j] * y[j, i]
        for i in range(n):
            terms[i] -= 0.5 * z[r, i] * z[r, i]


@jit
def shares(terms):
    """Turns every column of terms into its softmax; returns the sum of the columns' logsumexp."""
    components, n = terms.shape
    tops, totals = np.empty(n), np.zeros(n)
    for i in range(n):
        tops[i] = terms[0, i]
    for k in range(1, components):
        for i in range(n):
            tops[i] = max(tops[i], terms[k, i])
    for k in range(components):
        for i in range(n):
            terms[k, i] = exp(terms[k, i] - tops[i])
            totals[i] += terms[k, i]
    loss = 0.0
    for i in range(n):
        loss += tops[i] + math.log(totals[i])
        totals[i] = 1 / totals[i]
    for k in range(components):
        for i in range(n):
            terms[k, i] *= totals[i]
    return loss


@jit
def component_gradients(y, z, share, d_factor, d_mean):
    """Adds a block's part of the gradients of one component; ``d_mean`` is left in the terms of z."""
    d, n = y.shape
    total = 0.0
    for i in range(n):
        total = accumulate.add(total, share[i])
    for r in range(d):
        slope = 0.0
        for i in range(n):
            z[r, i] *= -share[i]
            slope = accumulate.add(slope, z[r, i])
        d_mean[r] += slope
        for j in range(d):
            product = 0.0
            for i in range(n):
                product = accumulate.add(product, z[r, i] * y[j, i])
            d_factor[r, j] += product
    return total


@jit
def gaussian_mixture(x, alphas, means, logs, factors):
    """Row h: blocks of points, columns of x, for which all components stay in the cache."""
    block, (n, d), components = 128, x.shape, alphas.size
    q, d_factors, slopes = factors.copy(), np.zeros_like(factors), np.zeros_like(means)
    base, weights = alphas.copy(), alphas.copy()
    for k in range(components):
        for j in range(d):
            q[k, j, j] += math.exp(logs[k, j])
            base[k] += logs[k, j]
    normaliser, totals, loss = softmax_of(weights), np.zeros(components), 0.0
    for start in range(0, n, block):
        part = x[start : start + block].T.copy()
        size = part.shape[1]
        y, z = np.empty((components, d, size)), np.empty((components, d, size))
        terms = np.empty((components, size))
        for k in range(components):
            component(part, means[k], q[k], base[k], y[k], z[k], terms[k])
        loss += shares(terms)
        for k in range(components):
            totals[k] += component_gradients(y[k], z[k], terms[k], d_factors[k], slopes[k])
    d_means, d_logs = np.zeros_like(means), np.empty_like(logs)
    for k in range(components):
        for j in range(d):
            for r in range(d):
                d_means[k, j] -= q[k, r, j] * slopes[k, r]
            d_logs[k, j] = totals[k] + d_factors[k, j, j] * math.exp(logs[k, j])
        totals[k] -= n * weights[k]
    return loss - n * normaliser, totals, d_means, d_logs, d_factors


@jit
def normalise(x, gain, shift, y, means, scales):
    """Layer norm of the rows of x, with what is needed to repeat it."""
    n, width = x.shape
    for i in range(n):
        total, square = float32(0), float32(0)
        for j in range(width):
            total = accumulate.add(total, x[i, j])
        mean = total / float32(width)
        for j in range(width):
            centred = x[i, j] - mean
            square = accumulate.add(square, centred * centred)
        scale = float32(1 / math.sqrt(square / width + 1e-5))
        means[i], scales[i] = mean, scale
        for j in range(width):
            y[i, j] = (x[i, j] - mean) * scale * gain[j] + shift[j]


@jit
def gelu_gradients(z, b, d_b):
    """The mean of gelu(z + b)**2; z becomes its own gradient. gelu(z) = z * sigmoid(2 * curve)."""
    n, width = z.shape
    loss, share = float32(0), float32(2 / z.size)
    d_b[:] = 0
    for i in range(n):
        for j in range(width):
            u = z[i, j] + b[j]
            s = sigmoid(2 * CURVE * (u + CUBIC * u * u * u))
            inner = 2 * CURVE * (1 + 3 * CUBIC * u * u)
            g = u * s
            loss = accumulate.add(loss, g * g)
            slope = share * g * (s + g * (1 - s) * inner)
            z[i, j] = slope
            d_b[j] += slope
    return loss / float32(z.size)


@jit
def normalise_gradients(x, gain, means, scales, d_y, d_gain, d_shift, d_x):
    """The way back through layer norm."""
    n, width = x.shape
    d_gain[:], d_shift[:] = 0, 0
    for i in range(n):
        mean, scale = means[i], scales[i]
        total, slope = float32(0), float32(0)
        for j in range(width):
            normed = (x[i, j] - mean) * scale
            d_shift[j] += d_y[i, j]
            d_gain[j] += d_y[i, j] * normed
            total = accumulate.add(total, d_y[i, j] * gain[j])
            slope = accumulate.add(slope, d_y[i, j] * gain[j] * normed)
        total, slope = total / float32(width), slope / float32(width)
        for j in range(width):
            normed = (x[i, j] - mean) * scale
            d_x[i, j] = scale * (d_y[i, j] * gain[j] - total - normed * slope)


@jit
def transformer_block(x, gain, shift, w, b):
    """Row i."""
    y, z = np.empty_like(x), np.empty((x.shape[0], w.shape[1]), float32)
    means, scales = np.empty(x.shape[0], float32), np.empty(x.shape[0], float32)
    d_gain, d_shift, d_w = np.empty_like(gain), np.empty_like(shift), np.empty_like(w)
    d_b, d_x = np.empty_like(b), np.empty_like(x)
    normalise(x, gain, shift, y, means, scales)
    np.dot(y, w, z)
    loss = gelu_gradients(z, b, d_b)
    np.dot(y.T, z, d_w)
    np.dot(z, w.T, y)
    normalise_gradients(x, gain, means, scales, y, d_gain, d_shift, d_x)
    return loss, d_gain, d_shift, d_w, d_b, d_x


@jit
def softmax_rows(scores, scale):
    """The softmax of the scaled rows, in place."""
    for i in range(scores.shape[0]):
        top, total = float32(-np.inf), float32(0)
        for j in range(scores.shape[1]):
            top = accumulate.maximum(top, scores[i, j])
        for j in range(scores.shape[1]):
            scores[i, j] = exp((scores[i, j] - top) * scale)
            total = accumulate.add(total, scores[i, j])
        inverse = float32(1) / total
        for j in range(scores.shape[1]):
            scores[i, j] *= inverse


@jit
def softmax_gradients(p, d_p, d_out, scale):
    """The gradient of the scores, into ``d_p``. The sum of p d_p is the product of out and d_out."""
    loss = float32(0)
    for i in range(p.shape[0]):
        square = float32(0)
        for j in range(d_out.shape[1]):
            square = accumulate.add(square, d_out[i, j] * d_out[i, j])
        loss += square
        for j in range(p.shape[1]):
            d_p[i, j] = p[i, j] * (d_p[i, j] - float32(0.5) * square) * scale
    return loss / 4


@jit
def attention(x, wq, wk, wv):
    """Row k."""
    n, width = x.shape[0], wq.shape[1]
    q, k, v = (
        np.empty((n, width), float32),
        np.empty((n, width), float32),
        np.empty((n, width), float32),
    )
    p, d_p, d_out = np.empty((n, n), float32), np.empty((n, n), float32), np.empty_like(v)
    d_q, d_k, d_v = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    d_wq, d_wk, d_wv = np.empty_like(wq), np.empty_like(wk), np.empty_like(wv)
    d_x, more, most = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    np.dot(x, wq, q)
    np.dot(x, wk, k)
    np.dot(x, wv, v)
    np.dot(q, k.T, p)
    softmax_rows(p, float32(0.125))
    np.dot(p, v, d_out)
    for i in range(n):
        for j in range(width):
            d_out[i, j] *= 2
    np.dot(p.T, d_out, d_v)
    np.dot(d_out, v.T, d_p)
    loss = softmax_gradients(p, d_p, d_out, float32(0.125))
    np.dot(d_p, k, d_q)
    np.dot(d_p.T, q, d_k)
    np.dot(x.T, d_q, d_wq)
    np.dot(x.T, d_k, d_wk)
    np.dot(x.T, d_v, d_wv)
    np.dot(d_q, wq.T, d_x)
    np.dot(d_k, wk.T, more)
    np.dot(d_v, wv.T, most)
    for i in range(n):
        for j in range(x.shape[1]):
            d_x[i, j] += more[i, j] + most[i, j]
    return float32(loss), d_wq, d_wk, d_wv, d_x


@jit
def scores_of(point, columns, squares, scores):
    """Writes |c|**2 - 2 c.x for all centres, the columns: four coordinates at a time."""
    d, count = columns.shape
    for c in range(count):
        scores[c] = squares[c]
    whole = d - d % 4
    for j in range(0, whole, 4):
        p0, p1, p2, p3 = -2 * point[j], -2 * point[j + 1], -2 * point[j + 2], -2 * point[j + 3]
        for c in range(count):
            scores[c] += (p0 * columns[j, c] + p1 * columns[j + 1, c]) + (
                p2 * columns[j + 2, c] + p3 * columns[j + 3, c]
            )
    for j in range(whole, d):
        for c in range(count):
            scores[c] -= 2 * point[j] * columns[j, c]


@jit
def nearest(scores):
    """The position of the minimum: a pass for the value and one that stops where it is."""
    best = scores[0]
    for c in range(1, scores.size):
        best = accumulate.minimum(best, scores[c])
    c = 0
    while scores[c] != best:
        c += 1
    return c


@jit
def k_means(points, centres):
    """Row l: a point at a time, whose distances from all centres stay in the cache."""
    (n, d), count = points.shape, centres.shape[0]
    d_points, d_centres = np.empty_like(points), np.zeros_like(centres)
    columns, squares, scores = centres.T.copy(), np.zeros(count), np.empty(count)
    for j in range(d):
        for c in range(count):
            squares[c] += columns[j, c] * columns[j, c]
    loss = 0.0
    for i in range(n):
        scores_of(points[i], columns, squares, scores)
        c = nearest(scores)
        for j in range(d):
            difference = points[i, j] - centres[c, j]
            loss += difference * difference
            d_points[i, j] = 2 * difference
            d_centres[c, j] -= 2 * difference
    return loss, d_points, d_centres


ROWS = {
    "h": gaussian_mixture,
    "i": transformer_block,
    "k": attention,
    "l": k_means,
}
