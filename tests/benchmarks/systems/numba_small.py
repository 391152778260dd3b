"""Hand-written rows without products of matrices."""

import math

import numpy as np

from graphc.runtime import accumulate
from graphc.runtime.vmath import log_f64
from graphc.runtime.vmath_special import erf_f64
from systems.numba_tools import exp, jit, sigmoid, sin_cos


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


@jit
def chain_forward(x, tape, cosines, gates):
    """Four gates in a loop; the tape gets all values, and the cosines that the way back needs."""
    for i in range(x.size):
        tape[0, i], tape[1, i] = x[i], 0.5 * x[i]
    for k in range(0, gates, 4):
        for i in range(x.size):
            older, newer = tape[k, i], tape[k + 1, i]
            sine, cosines[k // 4, i] = sin_cos(older)
            first = sine + 0.25 * newer
            second = 2 * sigmoid(2 * first) - 1 - 0.25 * newer
            third = first * second + 0.5
            tape[k + 2, i], tape[k + 3, i], tape[k + 4, i] = first, second, third
            tape[k + 5, i] = third / (1 + second * second)


@jit
def chain_backward(tape, cosines, gates, d_newer, d_older):
    """The way back, four gates in a loop: from the gradients of the last two values to those of the first."""
    for k in range(gates - 4, -1, -4):
        for i in range(d_newer.size):
            newer, first, second = tape[k + 1, i], tape[k + 2, i], tape[k + 3, i]
            inverse = 1 / (1 + second * second)
            d_third = d_older[i] + d_newer[i] * inverse
            d_second = d_third * first - 2 * second * tape[k + 5, i] * inverse * d_newer[i]
            t = second + 0.25 * newer
            d_first = d_third * second + d_second * (1 - t * t)
            d_older[i] = d_first * cosines[k // 4, i]
            d_newer[i] = 0.25 * (d_first - d_second)


@jit
def chain(x, gates):
    """Row n, for a multiple of four gates: a block of elements at a time, whose tape stays in the cache."""
    block = 32
    gradient = np.empty_like(x)
    tape, cosines = np.empty((gates + 2, block)), np.empty((gates // 4, block))
    d_newer, d_older = np.empty(block), np.empty(block)
    total = 0.0
    for start in range(0, x.size, block):
        part = x[start : start + block]
        n = part.size
        chain_forward(part, tape, cosines, gates)
        d_newer[:], d_older[:] = 1.0, 0.0
        chain_backward(tape, cosines, gates, d_newer[:n], d_older[:n])
        for i in range(n):
            total = accumulate.add(total, tape[gates + 1, i])
            gradient[start + i] = d_older[i] + 0.5 * d_newer[i]
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
    """Row o: one pass; both densities are one exponential, since strike' n(d2) = spot n(d1)."""
    price, delta, dual = np.empty_like(spot), np.empty_like(spot), np.empty_like(spot)
    theta, rho, vega = np.empty_like(spot), np.empty_like(spot), np.empty_like(spot)
    for i in range(spot.size):
        t, sigma = maturity[i], volatility[i]
        root = math.sqrt(t)
        width = sigma * root
        d1 = (log_f64(spot[i] / strike[i]) + (rate[i] + 0.5 * sigma * sigma) * t) / width
        n1 = 0.5 + 0.5 * erf_f64(d1 * 0.7071067811865476)
        n2 = 0.5 + 0.5 * erf_f64((d1 - width) * 0.7071067811865476)
        discount = exp(-rate[i] * t)
        paid = strike[i] * discount * n2
        slope = spot[i] * exp(-0.5 * d1 * d1) * 0.3989422804014327
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
