"""The circuits of a first lecture on backpropagation, with their values and gradients.

A function is a graph of gates. The forward pass computes the values along the wires; the backward pass
starts at the output with 1 and goes back, and every gate multiplies the gradient that arrives by its own
local gradient. Each circuit below prints its graph, as declared or as it runs, and the numbers on its
wires, which are compared with the published ones.

    python examples/circuits.py
"""

import numpy as np

import graphc as gx


def report(names, values):
    """Prints numbers and small arrays, one name a line."""
    for name, value in zip(names.split(), values, strict=True):
        print(f"  {name:8} = {np.round(value, 6).tolist()}")
    print()


def product_of_a_sum():
    """f = (x + y) z: add hands its gradient on, multiply switches its inputs."""
    x, y, z = gx.input("x"), gx.input("y"), gx.input("z")
    q = x + y
    f = q * z
    circuit = gx.compile([x, y, z], [q, f, *gx.grad(f, [x, y, z, q])], name="product_of_a_sum")
    values = circuit(-2.0, 5.0, -4.0)
    print(circuit.dump())
    report("q f df/dx df/dy df/dz df/dq", values)
    np.testing.assert_array_equal(values, [3, -12, -4, -4, 3, -4])


def neuron():
    """f = 1 / (1 + exp(-(w0 x0 + w1 x1 + w2))): four gates that are one sigmoid gate."""
    w0, w1, w2, x0, x1 = (gx.input(name) for name in ("w0", "w1", "w2", "x0", "x1"))
    f = 1 / (1 + gx.exp(-(w0 * x0 + w1 * x1 + w2)))
    inputs = [w0, w1, w2, x0, x1]
    circuit = gx.compile(inputs, [f, *gx.grad(f, inputs)], name="neuron")
    values = circuit(2.0, -3.0, -3.0, -1.0, -2.0)
    print(circuit.dump())
    report("f df/dw0 df/dw1 df/dw2 df/dx0 df/dx1", values)
    # The lecture multiplies rounded numbers, hence its 0.39 where 0.393 is met.
    np.testing.assert_allclose(values, [0.73, -0.20, -0.39, 0.20, 0.39, -0.59], atol=0.005)
    # The gate was found, and its local gradient is (1 - s) s.
    assert "sigmoid(" in circuit.dump()
    assert "exp(" not in circuit.dump()


def neuron_gate_by_gate():
    """The same neuron with every wire asked for: nothing is grouped, and each gate does its own step."""
    w0, w1, w2, x0, x1 = (gx.input(name) for name in ("w0", "w1", "w2", "x0", "x1"))
    products = w0 * x0 + w1 * x1
    total = products + w2
    negated = -total
    power = gx.exp(negated)
    denominator = 1 + power
    f = 1 / denominator
    wires = [f, denominator, power, negated, total, products]
    chain = gx.compile([w0, w1, w2, x0, x1], gx.grad(f, wires), name="neuron_gate_by_gate")
    values = chain(2.0, -3.0, -3.0, -1.0, -2.0)
    print(chain.dump())
    report("1/x +1 exp *-1 +w2 +", values)
    np.testing.assert_allclose(values, [1.00, -0.53, -0.53, -0.20, 0.20, 0.20], atol=0.005)


def router():
    """f = 2 (x y + max(z, w)): max sends the whole gradient to the input that was higher."""
    x, y, z, w = (gx.input(name) for name in ("x", "y", "z", "w"))
    f = 2 * (x * y + gx.maximum(z, w))
    circuit = gx.compile([x, y, z, w], [f, *gx.grad(f, [x, y, z, w])], name="router")
    values = circuit(3.0, -4.0, 2.0, -1.0)
    print(circuit.dump())
    report("f df/dx df/dy df/dz df/dw", values)
    np.testing.assert_array_equal(values, [-20, -8, 6, 2, 0])


def sum_of_squares():
    """f = sum((W x)^2): the gradient of a matrix has the matrix's shape."""
    W, x = gx.input("W", (2, 2)), gx.input("x", (2,))
    q = W @ x
    f = gx.sum(q**2)
    circuit = gx.compile([W, x], [q, f, *gx.grad(f, [q, W, x])], name="sum_of_squares")
    values = circuit([[0.1, 0.5], [-0.3, 0.8]], [0.2, 0.4])
    print(circuit.dump())
    report("q f df/dq df/dW df/dx", values)
    expected = [
        [0.22, 0.26],
        0.116,
        [0.44, 0.52],
        [[0.088, 0.176], [0.104, 0.208]],
        [-0.112, 0.636],
    ]
    for value, published in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, published, rtol=1e-12)


def staged():
    """f = (x + s(y)) / (s(x) + (x + y)^2): where a wire branches, the gradients add up."""
    x, y = gx.input("x"), gx.input("y")
    numerator = x + gx.nn.sigmoid(y)
    denominator = gx.nn.sigmoid(x) + (x + y) ** 2
    f = numerator / denominator
    circuit = gx.compile([x, y], [f, *gx.grad(f, [x, y])], name="staged")
    values = circuit(3.0, -4.0)
    print(circuit.dump())
    report("f df/dx df/dy", values)
    np.testing.assert_allclose(values, [1.545645, 2.059570, 1.592233], atol=5e-7)


def relu_of_a_minibatch():
    """max(0, x) of 4,096 numbers, for a minibatch of 100: the Jacobian is never formed."""
    x, dy = gx.input("x", ("N", 4096), gx.float32), gx.input("dy", ("N", 4096), gx.float32)
    y = gx.nn.relu(x)
    circuit = gx.compile([x, dy], [y, gx.grad(y, x, seed=dy)], name="relu_of_a_minibatch")
    rng = np.random.default_rng(0)
    batch, arriving = rng.standard_normal((2, 100, 4096), dtype=np.float32)
    value, gradient = circuit(batch, arriving)
    print(circuit.dump())
    print(f"  y  {value.shape}, dx {gradient.shape}: {gradient.nbytes / 1e6:.1f} MB each")
    print(f"  the Jacobian, {batch.size:,} squared, would take {4 * batch.size**2 / 1e9:.0f} GB\n")
    np.testing.assert_array_equal(value, np.maximum(batch, 0))
    np.testing.assert_array_equal(gradient, np.where(batch > 0, arriving, 0))


CIRCUITS = (
    product_of_a_sum,
    neuron,
    neuron_gate_by_gate,
    router,
    sum_of_squares,
    staged,
    relu_of_a_minibatch,
)


def main():
    """Runs every circuit."""
    for circuit in CIRCUITS:
        print(f"# {circuit.__doc__}\n")
        circuit()
    print(f"{len(CIRCUITS)} circuits agree with the published values")


if __name__ == "__main__":
    main()
