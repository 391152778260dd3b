"""graphc: the shared formulas in its words."""

import inspect
from functools import partial
from types import SimpleNamespace

import numpy as np

import graphc as gx
from systems.base import Backend


def cross_entropy(logits, labels):
    """The mean over the rows."""
    return gx.mean(gx.nn.softmax_cross_entropy(logits, labels))


def layer_norm(x, gain, shift):
    """Along the last axis."""
    return gx.nn.layer_norm(x) * gain + shift


WORDS = SimpleNamespace(
    exp=gx.exp,
    log=gx.log,
    sqrt=gx.sqrt,
    sin=gx.sin,
    tanh=gx.tanh,
    erf=gx.special.erf,
    sum=gx.sum,
    mean=gx.mean,
    min=gx.min,
    swapaxes=gx.swapaxes,
    sigmoid=gx.nn.sigmoid,
    relu=gx.nn.relu,
    softplus=gx.nn.softplus,
    softmax=gx.nn.softmax,
    logsumexp=gx.logsumexp,
    gelu=partial(gx.nn.gelu, approximate="tanh"),
    cross_entropy=cross_entropy,
    layer_norm=layer_norm,
)


def declare(row):
    """The inputs and the results of a row as a graph; sizes that differ from call to call have names."""
    dtypes = [array.dtype.name for array in row.arrays()]
    inputs = [
        gx.input(given.name, given.shape, getattr(gx, dtype))
        for given, dtype in zip(row.inputs, dtypes, strict=True)
    ]
    loss, value = row.evaluate(WORDS, inputs)
    gradients = gx.grad(loss, [inputs[k] for k in row.positions])
    return inputs, row.results(value, gradients, inputs)


class System(Backend):
    """The variant ``out`` writes the results into the same arrays at every call."""

    def build(self, row):
        """Compiled for every number of examples."""
        inputs, results = declare(row)
        options = {}
        if "threads" in inspect.signature(gx.compile).parameters:
            options["threads"] = self.threads
        function = gx.compile(inputs, tuple(results), name="row", **options)
        if self.variant != "out":
            return function
        return partial(function, out=tuple(map(np.empty_like, function(*row.arrays()))))

    def versions(self):
        """graphc's version."""
        return {"graphc": gx.__version__}
