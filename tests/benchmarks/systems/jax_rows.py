"""JAX: ``jit(value_and_grad)`` of the shared formulas, compiled once, with arrays on the device."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp

from systems.base import Backend


def cross_entropy(logits, labels):
    """The mean over the rows, as Optax writes it."""
    picked = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - picked)


def layer_norm(x, gain, shift):
    """Along the last axis."""
    return jax.nn.standardize(x, axis=-1, epsilon=1e-5) * gain + shift


WORDS = SimpleNamespace(
    exp=jnp.exp,
    log=jnp.log,
    sqrt=jnp.sqrt,
    sin=jnp.sin,
    tanh=jnp.tanh,
    erf=jax.scipy.special.erf,
    sum=jnp.sum,
    mean=jnp.mean,
    min=jnp.min,
    swapaxes=jnp.swapaxes,
    sigmoid=jax.nn.sigmoid,
    relu=jax.nn.relu,
    softplus=jax.nn.softplus,
    softmax=jax.nn.softmax,
    logsumexp=jax.nn.logsumexp,
    gelu=jax.nn.gelu,  # by tanh, unless told otherwise
    cross_entropy=cross_entropy,
    layer_norm=layer_norm,
)


def results(row):
    """The row as a function of arrays to trace."""
    positions = row.positions

    def loss(*inputs):
        return row.evaluate(WORDS, inputs)

    def function(*inputs):
        (_, value), gradients = jax.value_and_grad(loss, positions, has_aux=True)(*inputs)
        return row.results(value, gradients, inputs)

    return function


class System(Backend):
    """64-bit types are on in float64 rows only."""

    def build(self, row):
        """One execution gives all results, so waiting for one is waiting for all."""
        compiled = jax.jit(results(row))

        def function(*inputs):
            found = compiled(*inputs)
            found[0].block_until_ready()
            return found

        return function

    def arguments(self, row):
        """On the device before timing starts."""
        return [jax.device_put(array).block_until_ready() for array in row.arrays()]

    def scope(self, row):
        """JAX traces and calls in 64 bits only where it is told to."""
        return jax.enable_x64(row.dtype == "float64")

    def versions(self):
        """JAX's version and that of its compiler."""
        return {"jax": jax.__version__, "jaxlib": jax.lib.__version__}
