"""Learns to read handwritten digits, forward, backward and update in one compiled graph.

A two-layer ReLU network with a softmax loss and L2 regularisation, in float32, is trained on four fifths of
1,797 small images by mini-batches with momentum, and reads the fifth that it has not seen. The training step
is then compared with the same step in plain NumPy: first the numbers, then the time.

    python examples/digits.py [--plot loss.png]
"""

import argparse
import os
from pathlib import Path
from time import perf_counter

# On both sides matrix products run on one thread, so that times can be compared.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import graphc as gx
from progress import progress_bar
from timing import median_seconds

try:
    from matplotlib.figure import Figure
except ImportError:
    Figure = None

PIXELS, HIDDEN, CLASSES = 64, 100, 10
BATCH, EPOCHS = 64, 30
RATE, MOMENTUM, DECAY = 0.05, 0.9, 1e-3
DATA = Path(__file__).with_name("digits.npz")


def load(rng):
    """Images scaled to [0, 1] and labels, shuffled: the part to learn from and the part held out."""
    with np.load(DATA) as file:
        images, labels = file["images"].astype(np.float32) / 16, file["labels"].astype(np.int64)
    order = rng.permutation(len(images))
    held_out, rest = np.split(order, [len(images) // 5])
    return (images[rest], labels[rest]), (images[held_out], labels[held_out])


def first_weights(rng):
    """Random weights of the size that keeps the variance through a ReLU, and biases of 0."""
    W1 = rng.normal(0, np.sqrt(2 / PIXELS), (PIXELS, HIDDEN)).astype(np.float32)
    W2 = rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, CLASSES)).astype(np.float32)
    return [W1, np.zeros(HIDDEN, np.float32), W2, np.zeros(CLASSES, np.float32)]


def compile_network():
    """The training step and the prediction; each serves every batch size."""
    x, y = gx.input("x", ("N", PIXELS), gx.float32), gx.input("y", ("N",), gx.int64)
    W1, b1 = gx.input("W1", (PIXELS, HIDDEN), gx.float32), gx.input("b1", (HIDDEN,), gx.float32)
    W2, b2 = gx.input("W2", (HIDDEN, CLASSES), gx.float32), gx.input("b2", (CLASSES,), gx.float32)
    weights = [W1, b1, W2, b2]
    speeds = [gx.input(f"v{k}", weight.shape, gx.float32) for k, weight in enumerate(weights)]

    hidden = gx.nn.relu(x @ W1 + b1)
    scores = hidden @ W2 + b2
    data_loss = gx.mean(gx.nn.softmax_cross_entropy(scores, y))
    loss = data_loss + 0.5 * DECAY * (gx.sum(W1**2) + gx.sum(W2**2))

    # Momentum is a part of the graph: new speeds and weights are outputs like any other.
    gradients = gx.grad(loss, weights)
    new_speeds = [MOMENTUM * v - RATE * dw for v, dw in zip(speeds, gradients, strict=True)]
    new_weights = [w + v for w, v in zip(weights, new_speeds, strict=True)]

    outputs = (loss, new_weights, new_speeds)
    step = gx.compile([x, y, *weights, *speeds], outputs, name="train_step")
    predict = gx.compile([x, *weights], gx.argmax(scores, axis=1), name="predict")
    return step, predict


def numpy_step(x, y, W1, b1, W2, b2, *speeds):
    """The same step by hand."""
    hidden = np.maximum(x @ W1 + b1, 0)
    scores = hidden @ W2 + b2
    scores -= scores.max(axis=1, keepdims=True)
    powers = np.exp(scores)
    sums = powers.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    data_loss = np.mean(np.log(sums[:, 0]) - scores[rows, y])
    loss = data_loss + 0.5 * DECAY * (np.sum(W1 * W1) + np.sum(W2 * W2))

    dscores = powers / sums
    dscores[rows, y] -= 1
    dscores /= len(y)
    dhidden = dscores @ W2.T
    dhidden[hidden <= 0] = 0
    gradients = [
        x.T @ dhidden + DECAY * W1,
        dhidden.sum(axis=0),
        hidden.T @ dscores + DECAY * W2,
        dscores.sum(axis=0),
    ]
    new_speeds = [MOMENTUM * v - RATE * dw for v, dw in zip(speeds, gradients, strict=True)]
    new_weights = [w + v for w, v in zip((W1, b1, W2, b2), new_speeds, strict=True)]
    return loss, new_weights, new_speeds


def train(step, images, labels, weights, rng):
    """Trains ``weights`` and returns them with the loss of every step."""
    speeds = [np.zeros_like(weight) for weight in weights]
    losses = []
    with progress_bar("training", EPOCHS) as advance:
        for _ in range(EPOCHS):
            order = rng.permutation(len(images))
            # The last batch of an epoch is smaller, and needs no other function.
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                loss, weights, speeds = step(images[batch], labels[batch], *weights, *speeds)
                losses.append(float(loss))
            advance(f"loss {losses[-1]:.4f}")
    return weights, losses


def compare_with_numpy(step, arguments):
    """Checks one step against NumPy's, then times both."""
    ours, theirs = step(*arguments), numpy_step(*arguments)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    for new, expected in zip(ours[1] + ours[2], theirs[1] + theirs[2], strict=True):
        np.testing.assert_allclose(new, expected, rtol=1e-4, atol=1e-6)
    print("one step equals NumPy's")
    compiled, plain = median_seconds(lambda: step(*arguments), lambda: numpy_step(*arguments))
    print(
        f"step of {BATCH} images: {compiled * 1e6:.0f} us compiled, {plain * 1e6:.0f} us NumPy (medians)"
    )


def plot(losses, path):
    """A picture of the losses, if matplotlib is there."""
    if Figure is None:
        print("no picture of the losses: matplotlib is not installed")
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(losses, linewidth=0.8)
    axes.set(xlabel="step", ylabel="loss", title="handwritten digits")
    figure.savefig(path, dpi=120)
    print(f"loss curve: {path}")


def main(arguments=None):
    """Compiles, trains, tests and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", default="loss.png", help="where the loss curve goes")
    options = parser.parse_args(arguments)

    rng = np.random.default_rng(0)
    (images, labels), (test_images, test_labels) = load(rng)
    weights = first_weights(rng)

    start = perf_counter()
    step, predict = compile_network()
    print(step.dump())
    print(f"compiled in {perf_counter() - start:.2f} s")

    speeds = [np.zeros_like(weight) for weight in weights]
    compare_with_numpy(step, (images[:BATCH], labels[:BATCH], *weights, *speeds))
    start = perf_counter()
    weights, losses = train(step, images, labels, weights, rng)
    print(f"trained {len(losses)} steps in {perf_counter() - start:.2f} s,", end=" ")
    print(f"loss {losses[0]:.4f} to {losses[-1]:.4f}")

    accuracy = np.mean(predict(test_images, *weights) == test_labels)
    print(f"test accuracy {100 * accuracy:.2f} % of {len(test_labels)} images")
    assert accuracy >= 0.96, "the network must read 96 % of the images it has not seen"
    plot(losses, options.plot)


if __name__ == "__main__":
    main()
