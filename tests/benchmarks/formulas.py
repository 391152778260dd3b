"""What the rows compute: one loss each, written once for every system that differentiates by itself.

Each function takes ``xp``, the words of one system: NumPy's names (``exp``, ``sum``, ``min``, ...) and a few
words that NumPy lacks and that every system says in its own best way (``sigmoid``, ``relu``, ``softplus``,
``softmax``, ``logsumexp``, ``cross_entropy``, ``layer_norm``, ``gelu``, ``erf``). The other arguments are the
row's inputs. The result is the loss, or a pair of the loss and the value that is to be returned with the
gradients in its place.
"""

RATE = 0.1
MOMENTUM = 0.9


def neuron(xp, w, x):
    """The lecture's neuron: two inputs, two weights and a bias."""
    return 1 / (1 + xp.exp(-(w[0] * x[0] + w[1] * x[1] + w[2])))


def circuit(xp, x, y, z):
    """The lecture's first circuit."""
    return (x + y) * z


def sigmoid_squares(xp, a, b, x):
    """A sum over one array, with gradients of two numbers and of the array."""
    return xp.sum(xp.sigmoid(a * x + b) ** 2)


def two_layers(xp, x, y, w1, w2):
    """The network of the lecture: sigmoid hidden units, squared error."""
    h = xp.sigmoid(x @ w1)
    return xp.sum((h @ w2 - y) ** 2)


def classifier(xp, x, labels, w1, b1, w2, b2):
    """One hidden layer of relu, and the mean cross-entropy of the softmax."""
    h = xp.relu(x @ w1 + b1)
    return xp.cross_entropy(h @ w2 + b2, labels)


def logistic_regression(xp, x, y, w, b):
    """The mean negative log-likelihood; ``y`` is 0 or 1."""
    z = x @ w + b
    return xp.mean(xp.softplus(z) - y * z)


def cross_entropy(xp, logits, labels):
    """The loss alone, over many classes."""
    return xp.cross_entropy(logits, labels)


def gaussian_mixture(xp, x, alphas, means, logs, factors):
    """The log-likelihood of ADBench's Gaussian mixture, without its prior and without its constant.

    The inverse covariance of component k is Q.T @ Q, where Q has exp(``logs[k]``) on the diagonal and
    ``factors[k]`` elsewhere (strictly lower triangular in the data, but every entry has a gradient).
    Source: Srajer, Kukelova, Fitzgibbon, A benchmark of selected algorithmic differentiation tools, 2018.
    """
    y = x - means[:, None, :]
    z = y @ xp.swapaxes(factors, -1, -2) + xp.exp(logs)[:, None, :] * y
    terms = (alphas + xp.sum(logs, axis=1))[:, None] - 0.5 * xp.sum(z**2, axis=-1)
    return xp.sum(xp.logsumexp(terms, axis=0)) - x.shape[0] * xp.logsumexp(alphas, axis=0)


def transformer_block(xp, x, gain, shift, w, b):
    """Layer norm, a product with bias, gelu by tanh, and the mean of the squares."""
    return xp.mean(xp.gelu(xp.layer_norm(x, gain, shift) @ w + b) ** 2)


def rosenbrock(xp, x):
    """Rosenbrock's valley in many dimensions."""
    return xp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def attention(xp, x, wq, wk, wv):
    """One head of attention, and the sum of the squares of what it gives."""
    scores = (x @ wq) @ (x @ wk).T / 8
    return xp.sum((xp.softmax(scores, axis=-1) @ (x @ wv)) ** 2)


def k_means(xp, points, centres):
    """The sum over the points of the squared distance from the nearest centre."""
    squares = xp.sum(points**2, axis=1)[:, None] + xp.sum(centres**2, axis=1)
    return xp.sum(xp.min(squares - 2 * points @ centres.T, axis=1))


def momentum_step(xp, x, labels, w1, b1, w2, b2, *velocities):
    """The loss of a training step; `momentum_results` has the rest."""
    return classifier(xp, x, labels, w1, b1, w2, b2)


def momentum_results(value, gradients, inputs):
    """The loss, the new parameters and the new velocities of gradient descent with momentum."""
    parameters, velocities = inputs[2:6], inputs[6:]
    pairs = zip(velocities, gradients, strict=True)
    velocities = [MOMENTUM * velocity + gradient for velocity, gradient in pairs]
    pairs = zip(parameters, velocities, strict=True)
    return (value, *(parameter - RATE * velocity for parameter, velocity in pairs), *velocities)


def chain(xp, x, gates):
    """A chain of small gates, each of which uses the results of the two before it."""
    older, newer = x, 0.5 * x
    for k in range(gates):
        if k % 4 == 0:
            gate = xp.sin(older) + 0.25 * newer
        elif k % 4 == 1:
            gate = xp.tanh(newer) - 0.25 * older
        elif k % 4 == 2:
            gate = older * newer + 0.5
        else:
            gate = newer / (1 + older**2)
        older, newer = newer, gate
    return xp.sum(newer)


def black_scholes(xp, spot, strike, maturity, rate, volatility):
    """The price of European calls (Black and Scholes, 1973): their sum is the loss, they are the value."""
    width = volatility * xp.sqrt(maturity)
    d1 = (xp.log(spot / strike) + (rate + 0.5 * volatility**2) * maturity) / width
    discounted = strike * xp.exp(-rate * maturity)
    price = spot * _normal(xp, d1) - discounted * _normal(xp, d1 - width)
    return xp.sum(price), price


def _normal(xp, x):
    return 0.5 * (1 + xp.erf(x * 0.7071067811865476))
