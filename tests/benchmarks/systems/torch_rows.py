"""PyTorch: eager with ``autograd.grad``, and ``torch.compile`` of forward and backward as one graph."""

from functools import partial
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from systems.base import Backend


def layer_norm(x, gain, shift):
    """Along the last axis."""
    return F.layer_norm(x, x.shape[-1:], gain, shift)


def least(x, axis):
    """The minimum; its gradient goes to one element."""
    return torch.min(x, axis).values


WORDS = SimpleNamespace(
    exp=torch.exp,
    log=torch.log,
    sqrt=torch.sqrt,
    sin=torch.sin,
    tanh=torch.tanh,
    erf=torch.erf,
    sum=torch.sum,
    mean=torch.mean,
    min=least,
    swapaxes=torch.swapaxes,
    sigmoid=torch.sigmoid,
    relu=torch.relu,
    softplus=F.softplus,
    softmax=torch.softmax,
    logsumexp=lambda x, axis: torch.logsumexp(x, dim=axis),
    gelu=partial(F.gelu, approximate="tanh"),
    cross_entropy=F.cross_entropy,
    layer_norm=layer_norm,
)


def eager(row):
    """Runs op by op; the tape is made anew at every call."""
    positions = row.positions

    def function(*inputs):
        loss, value = row.evaluate(WORDS, inputs)
        gradients = torch.autograd.grad(loss, [inputs[k] for k in positions])
        with torch.no_grad():
            return row.results(value.detach(), gradients, inputs)

    return function


def compiled(row):
    """Loss and gradients in one graph, so that the compiler may fuse across them."""
    positions = row.positions

    def loss(*inputs):
        return row.evaluate(WORDS, inputs)

    def function(*inputs):
        differentiate = torch.func.grad_and_value(loss, positions, has_aux=True)
        gradients, (_, value) = differentiate(*inputs)
        return row.results(value, gradients, inputs)

    return torch.compile(function, fullgraph=True, dynamic=False)


class System(Backend):
    """The variant ``compile`` is `torch.compile`."""

    def __init__(self, variant, threads):
        super().__init__(variant, threads)
        torch.set_num_threads(threads)

    def build(self, row):
        """Compiled at the first call, if at all."""
        torch.compiler.reset()
        return compiled(row) if self.variant else eager(row)

    def arguments(self, row):
        """Tensors; those that are differentiated by require gradients when there is a tape."""
        tensors = [torch.from_numpy(array) for array in row.arrays()]
        for k in row.positions if not self.variant else ():
            tensors[k].requires_grad_()
        return tensors

    def versions(self):
        """PyTorch's version."""
        return {"torch": torch.__version__}
