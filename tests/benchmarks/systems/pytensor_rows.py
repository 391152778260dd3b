"""PyTensor: the shared formulas and ``pytensor.grad``, by its default compiler and by its Numba one."""

import sys
from types import SimpleNamespace

import pytensor
import pytensor.tensor as pt
from pytensor.tensor.special import log_softmax, softmax

from systems.base import Backend


def cross_entropy(logits, labels):
    """The mean over the rows."""
    return -pt.mean(log_softmax(logits, axis=-1)[pt.arange(labels.shape[0]), labels])


def layer_norm(x, gain, shift):
    """Along the last axis."""
    centred = x - pt.mean(x, axis=-1, keepdims=True)
    variance = pt.mean(centred**2, axis=-1, keepdims=True)
    return centred / pt.sqrt(variance + _as(x, 1e-5)) * gain + shift


def gelu(x):
    """By tanh."""
    inner = _as(x, 0.7978845608028654) * (x + _as(x, 0.044715) * x**3)
    return _as(x, 0.5) * x * (1 + pt.tanh(inner))


def _as(x, number):
    return pt.constant(number, dtype=x.dtype)


WORDS = SimpleNamespace(
    exp=pt.exp,
    log=pt.log,
    sqrt=pt.sqrt,
    sin=pt.sin,
    tanh=pt.tanh,
    erf=pt.erf,
    sum=pt.sum,
    mean=pt.mean,
    min=pt.min,
    swapaxes=pt.swapaxes,
    sigmoid=pt.sigmoid,
    relu=lambda x: pt.maximum(x, _as(x, 0)),
    softplus=pt.softplus,
    softmax=softmax,
    logsumexp=pt.logsumexp,
    gelu=gelu,
    cross_entropy=cross_entropy,
    layer_norm=layer_norm,
)


def declare(row):
    """The inputs and the results of a row as variables; named sizes are unknown ones."""
    inputs = []
    for given, array in zip(row.inputs, row.arrays(), strict=True):
        shape = tuple(None if isinstance(size, str) else size for size in given.shape)
        inputs.append(pt.tensor(given.name, shape=shape, dtype=array.dtype.name))
    loss, value = row.evaluate(WORDS, inputs)
    gradients = pytensor.grad(loss, [inputs[k] for k in row.positions])
    return inputs, row.results(value, gradients, inputs)


class System(Backend):
    """The variant is the mode of compilation."""

    def __init__(self, variant, threads):
        super().__init__(variant, threads)
        # PyTensor walks its graphs by recursion, and row n is longer than Python's own limit allows.
        sys.setrecursionlimit(50_000)

    def build(self, row):
        """Arguments are not checked at a call, as PyTensor's users are told to do for speed."""
        pytensor.config.floatX = row.dtype
        inputs, results = declare(row)
        mode = self.variant or None
        function = pytensor.function(inputs, list(results), mode=mode)
        function.trust_input = True
        return function

    def arguments(self, row):
        """Arrays without axes too, as unchecked arguments must be."""
        return row.arrays()

    def versions(self):
        """PyTensor's version."""
        return {"pytensor": pytensor.__version__}
