"""What is known about the values of a node without looking at its inputs."""

from __future__ import annotations

import math

from graphc.ir import BROADCAST_TO, SIZE, Node, uniform_number
from graphc.ops import elementwise as ew
from graphc.ops import norms as nm
from graphc.ops import products as pr
from graphc.ops import reduce, shape
from graphc.ops import softmax as sm
from graphc.types import is_float

ALWAYS = frozenset(
    {
        *(ew.square, ew.exp, ew.absolute, ew.relu, ew.sigmoid, ew.softplus, sm.softmax),
        *(nm.sum_of_squares, nm.norm, nm.variance, nm.mse, pr.squared_distances),
    }
)
IF_OPERANDS_ARE = frozenset(
    {
        BROADCAST_TO,
        ew.add,
        ew.multiply,
        ew.divide,
        ew.reciprocal,
        ew.sqrt,
        ew.maximum,
        ew.minimum,
        ew.copy,
        reduce.sum_,
        reduce.mean,
        reduce.max_,
        reduce.min_,
        reduce.prod,
        shape.expand_dims,
        shape.squeeze,
        shape.reshape,
        shape.permute_dims,
    }
)
DEEPEST = 6
"""How many nodes up the sign is followed."""


def is_nonnegative(node: Node, depth: int = DEEPEST) -> bool:
    """Whether every element is +0, positive or nan, whatever the inputs are.

    Never for integers: the square of one may wrap around to a negative number.
    """
    if not is_float(node.dtype):
        return False
    value = uniform_number(node)
    if value is not None:
        return value >= 0 and math.copysign(1, value) > 0
    if node.op in ALWAYS or node.op is SIZE:
        return True
    return (
        depth > 0
        and node.op in IF_OPERANDS_ARE
        and all(is_nonnegative(arg, depth - 1) for arg in node.args)
    )


def is_peak(top: Node, x: Node, axes: tuple[int, ...]) -> bool:
    """Whether ``top`` is the maximum of ``x``, or that maximum with its gradient stopped."""
    peak = top.args[0] if top.op is ew.stop_gradient else top
    return peak.op is reduce.max_ and peak.args[0] is x and peak.attrs["axes"] == axes
