"""Hand-written rows without products of matrices."""

import math

import numpy as np

from graphc.runtime import accumulate
from graphc.runtime.vmath import log_f64
from systems.numba_tools import exp, jit, normal_cdf, sigmoid, sin_cos


@jit
def neuron(w, x):
    """Row a."""
    dw, dx = np.empty(3), np.empty(2)
    s = 1 / (1 + math.exp(-(w[0] * x[0] + w[1] * x[1] + w[2])))
    slope = s * (1 - s)
    dw[0], dw[1], dw[2] = slope * x[0], slope * x[1], slope
    dx[0], dx[1] = slope * w[0], slope * w[1]
    return s, dw, dx


@jit
def circuit(x, y, z):
    """Row b."""
    q = x + y
    return q * z, z, z, q


@jit
def sigmoid_squares(a, b, x):
    """Row c: one pass."""
    dx = np.empty_like(x)
    two = x.dtype.type(2)
    a, b = x.dtype.type(a), x.dtype.type(b)
    total = da = db = x.dtype.type(0)
    for i in range(x.size):
        s = sigmoid(a * x[i] + b)
        square = s * s
        dz = two * (square - square * s)
        total = accumulate.add(total, square)
        da = accumulate.add(da, dz * x[i])
        db = accumulate.add(db, dz)
        dx[i] = dz * a
    return total, da, db, dx


@jit
def rosenbrock(x):
    """Row j: one pass, which computes every bend twice rather than keep it."""
    n = x.size
    gradient = np.empty_like(x)
    bend, step = x[1] - x[0] * x[0], 1 - x[0]
    total = 100 * bend * bend + step * step
    gradient[0] = -400 * bend * x[0] - 2 * step
    for i in range(1, n - 1):
        before = x[i] - x[i - 1] * x[i - 1]
        bend, step = x[i + 1] - x[i] * x[i], 1 - x[i]
        total = accumulate.add(total, 100 * bend * bend + step * step)
        gradient[i] = 200 * before - 400 * bend * x[i] - 2 * step
    gradient[n - 1] = 200 * (x[n - 1] - x[n - 2] * x[n - 2])
    return total, gradient


WIDTH = 32
"""The elements of a chain that are worked on together: their tape stays in the cache."""

SLOTS = 5 * WIDTH
"""Four gates leave their values and a cosine, each of so many elements, in one array: LLVM sees that they do
not overlap, where it would not vectorise a loop over as many separate arrays."""


@jit
def chain_forward(tape, gates):
    """Four gates in a loop; the tape starts with the values of the two before."""
    for k in range(gates // 4):
        base = k * SLOTS
        for i in range(base, base + WIDTH):
            older, newer = tape[i], tape[i + WIDTH]
            sine, cosine = sin_cos(older)
            first = sine + 0.25 * newer
            second = 2 * sigmoid(2 * first) - 1 - 0.25 * newer
            third = first * second + 0.5
            tape[i + 2 * WIDTH], tape[i + 3 * WIDTH] = cosine, first
            tape[i + 4 * WIDTH], tape[i + 5 * WIDTH] = second, third
            tape[i + 6 * WIDTH] = third / (1 + second * second)


@jit
def chain_backward(tape, gates, slopes):
    """The way back, four gates in a loop: the gradients of the newer value and, after them, of the older."""
    for k in range(gates // 4 - 1, -1, -1):
        base = k * SLOTS
        for i in range(WIDTH):
            newer, cosine = tape[base + i + WIDTH], tape[base + i + 2 * WIDTH]
            first, second = tape[base + i + 3 * WIDTH], tape[base + i + 4 * WIDTH]
            d_newer, d_older = slopes[i], slopes[i + WIDTH]
            inverse = 1 / (1 + second * second)
            d_third = d_older + d_newer * inverse
            fourth = tape[base + i + 6 * WIDTH]
            d_second = d_third * first - 2 * second * fourth * inverse * d_newer
            t = second + 0.25 * newer
            d_first = d_third * second + d_second * (1 - t * t)
            slopes[i], slopes[i + WIDTH] = 0.25 * (d_first - d_second), d_first * cosine


@jit
def chain(x, gates):
    """Row n, for a multiple of four gates."""
    gradient, slopes = np.empty_like(x), np.empty(2 * WIDTH)
    last = gates // 4 * SLOTS + WIDTH
    tape, total = np.zeros(last + WIDTH), 0.0
    for start in range(0, x.size, WIDTH):
        n = min(WIDTH, x.size - start)
        for i in range(n):
            tape[i], tape[i + WIDTH] = x[start + i], 0.5 * x[start + i]
        chain_forward(tape, gates)
        slopes[:WIDTH], slopes[WIDTH:] = 1.0, 0.0
        chain_backward(tape, gates, slopes)
        for i in range(n):
            total = accumulate.add(total, tape[last + i])
            gradient[start + i] = slopes[i + WIDTH] + 0.5 * slopes[i]
    return total, gradient


@jit
def chain_of_200(x):
    """Row n-200."""
    return chain(x, 200)


@jit
def chain_of_400(x):
    """Row n-400."""
    return chain(x, 400)


@jit
def black_scholes(spot, strike, maturity, rate, volatility):
    """Row o: one pass; one exponential gives both densities, since strike' n(d2) = spot n(d1)."""
    price, delta, dual = np.empty_like(spot), np.empty_like(spot), np.empty_like(spot)
    theta, rho, vega = np.empty_like(spot), np.empty_like(spot), np.empty_like(spot)
    for i in range(spot.size):
        t, sigma = maturity[i], volatility[i]
        root = math.sqrt(t)
        width = sigma * root
        d1 = (log_f64(spot[i] / strike[i]) + (rate[i] + 0.5 * sigma * sigma) * t) / width
        bell = exp(-0.5 * d1 * d1)
        discount = exp(-rate[i] * t)
        n1 = normal_cdf(d1, bell)
        n2 = normal_cdf(d1 - width, bell * spot[i] / (strike[i] * discount))
        paid = strike[i] * discount * n2
        slope = spot[i] * bell * 0.3989422804014327
        price[i] = spot[i] * n1 - paid
        delta[i], dual[i] = n1, -discount * n2
        theta[i] = rate[i] * paid + 0.5 * slope * sigma / root
        rho[i] = t * paid
        vega[i] = slope * root
    return price, delta, dual, theta, rho, vega


ROWS = {
    "a": neuron,
    "b": circuit,
    "c": sigmoid_squares,
    "j": rosenbrock,
    "n-200": chain_of_200,
    "n-400": chain_of_400,
    "o": black_scholes,
}
