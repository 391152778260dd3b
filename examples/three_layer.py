"""A neuron's firing rate, and a three-layer network with each of six activations.

The network is W3 f(W2 f(W1 x)): three inputs, two hidden layers of four units, one output, one example a
column. Every activation f is checked twice, its forward values against NumPy and its gradients against
numerical ones, and then learns a small function for a few steps of gradient descent.

    python examples/three_layer.py
"""

import numpy as np

import graphc as gx

EXAMPLES, STEPS, RATE = 64, 200, 0.1
SHAPES = ((4, 3), (4, 4), (1, 4))

# Name: how many weighted sums it takes, its graph, and the same in NumPy.
ACTIVATIONS = {
    "sigmoid": (1, gx.nn.sigmoid, lambda z: 1 / (1 + np.exp(-z))),
    "tanh": (1, gx.nn.tanh, np.tanh),
    "relu": (1, gx.nn.relu, lambda z: np.maximum(0, z)),
    "leaky_relu": (1, gx.nn.leaky_relu, lambda z: np.maximum(0.1 * z, z)),
    "maxout": (2, gx.nn.maxout, np.maximum),
    "elu": (1, gx.nn.elu, lambda z: np.where(z > 0, z, np.exp(z) - 1)),
}


def firing_rate():
    """A neuron: its firing rate is the sigmoid of the weighted sum of its inputs."""
    inputs, weights, bias = gx.input("inputs", (3,)), gx.input("weights", (3,)), gx.input("bias")
    rate = gx.nn.sigmoid(gx.sum(weights * inputs) + bias)
    values = {inputs: [1.0, -2.0, 0.5], weights: [0.4, -0.3, 0.8], bias: 0.1}
    found = gx.evaluate(rate, values)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-1.5)), rtol=1e-15)
    gx.check_grad(rate, [inputs, weights, bias], values)
    return float(found)


def layers(weights, x, activation):
    """W3 f(W2 f(W1 x)), on tensors and arrays alike; maxout has two matrices a hidden layer."""
    first, second, (last,) = weights
    h1 = activation(*(W @ x for W in first))
    h2 = activation(*(W @ h1 for W in second))
    return last @ h2


def declare_weights(pieces):
    """The inputs for the weights, layer by layer."""
    counts = (pieces, pieces, 1)
    return [
        [gx.input(f"W{layer}_{k}", shape) for k in range(count)]
        for layer, (shape, count) in enumerate(zip(SHAPES, counts, strict=True), 1)
    ]


def run(name, x_values, y_values, rng):
    """Checks and trains the network with one activation: forward and gradient errors, first and last loss."""
    pieces, activation, numpy_activation = ACTIVATIONS[name]
    x, y = gx.input("x", (3, "N")), gx.input("y", (1, "N"))
    weights = declare_weights(pieces)
    flat = [W for layer in weights for W in layer]
    values = [rng.normal(0, np.sqrt(2 / W.shape[1]), W.shape) for W in flat]

    output = layers(weights, x, activation)
    loss = gx.nn.mse(output, y)
    new_weights = [W - RATE * dW for W, dW in zip(flat, gx.grad(loss, flat), strict=True)]
    step = gx.compile([x, y, *flat], (output, loss, new_weights), name=f"three_layer_{name}")

    found, first_loss, _ = step(x_values, y_values, *values)
    arrays = iter(values)
    expected = layers(
        [[next(arrays) for _ in layer] for layer in weights], x_values, numpy_activation
    )
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    few = {x: x_values[:, :8], y: y_values[:, :8], **dict(zip(flat, values, strict=True))}
    gradient_error = gx.check_grad(loss, flat, few, atol=1e-12)

    for _ in range(STEPS):
        _, last_loss, values = step(x_values, y_values, *values)
    assert last_loss < 0.5 * first_loss, f"{name} does not learn"
    gradient_error = max(gradient_error, 1e-12)
    return np.abs(found - expected).max(), gradient_error, float(first_loss), float(last_loss)


def main():
    """Prints one line an activation."""
    print(f"firing rate of a neuron: {firing_rate():.6f}, gradients checked\n")
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (3, EXAMPLES))
    y = np.sin(2 * x[:1]) + x[1:2] * x[2:]
    print(f"{'activation':10}  {'forward':>8}  {'gradient':>8}  {'loss':>6} -> after {STEPS} steps")
    for name in ACTIVATIONS:
        forward, gradient, first, last = run(name, x, y, rng)
        print(f"{name:10}  {forward:8.1e}  {gradient:8.1e}  {first:6.3f} -> {last:.3f}")
    print("\nforward: the largest difference to NumPy")
    print(
        "gradient: the largest relative difference to numerical gradients, or 1e-12 if it is less"
    )


if __name__ == "__main__":
    main()
