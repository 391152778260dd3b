"""The whole training of a two-layer network in 20 lines, in NumPy and as one compiled graph.

64 examples, 1,000 inputs, 100 hidden sigmoid units, 10 outputs, squared error, plain gradient descent with
step 1e-4. NumPy's version derives the backward pass by hand; the graph only says what the loss is. Both
start from the same random numbers, and their losses are compared at every step.

    python examples/two_layer.py
"""

import os
from time import perf_counter

# On both sides matrix products run on one thread, so that times can be compared.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import graphc as gx
from timing import median_seconds

N, INPUTS, HIDDEN, OUTPUTS = 64, 1000, 100, 10
RATE = 1e-4
STEPS = 500


def numpy_step(x, y, w1, w2):
    """One step by hand: the loss and the new weights."""
    h = 1 / (1 + np.exp(-x.dot(w1)))
    y_pred = h.dot(w2)
    loss = np.square(y_pred - y).sum()
    grad_y_pred = 2.0 * (y_pred - y)
    grad_w2 = h.T.dot(grad_y_pred)
    grad_h = grad_y_pred.dot(w2.T)
    grad_w1 = x.T.dot(grad_h * h * (1 - h))
    return loss, w1 - RATE * grad_w1, w2 - RATE * grad_w2


def compiled_step():
    """The same step as a graph."""
    x, y = gx.input("x", ("N", INPUTS)), gx.input("y", ("N", OUTPUTS))
    w1, w2 = gx.input("w1", (INPUTS, HIDDEN)), gx.input("w2", (HIDDEN, OUTPUTS))
    h = 1 / (1 + gx.exp(-(x @ w1)))
    y_pred = h @ w2
    loss = gx.sum(gx.square(y_pred - y))
    grad_w1, grad_w2 = gx.grad(loss, [w1, w2])
    new_w1, new_w2 = w1 - RATE * grad_w1, w2 - RATE * grad_w2
    return gx.compile([x, y, w1, w2], (loss, new_w1, new_w2), name="two_layer")


def main():
    """Trains both and compares them."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((N, INPUTS)), rng.standard_normal((N, OUTPUTS))
    w1, w2 = rng.standard_normal((INPUTS, HIDDEN)), rng.standard_normal((HIDDEN, OUTPUTS))

    start = perf_counter()
    step = compiled_step()
    compile_time = perf_counter() - start
    print(step.dump())

    ours, theirs = (w1, w2), (w1, w2)
    for k in range(STEPS):
        loss, *ours = step(x, y, *ours)
        expected, *theirs = numpy_step(x, y, *theirs)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        if k % 100 == 0 or k == STEPS - 1:
            print(f"step {k:3}: loss {loss:12.6f}, NumPy's {expected:12.6f}")
    print(f"losses equal to 1e-5 relative in all {STEPS} steps")

    seconds = median_seconds(lambda: step(x, y, *ours), lambda: numpy_step(x, y, *theirs))
    print(f"compile {compile_time:.2f} s")
    print(f"step    {seconds[0] * 1e6:.0f} us compiled, {seconds[1] * 1e6:.0f} us NumPy (medians)")


if __name__ == "__main__":
    main()
