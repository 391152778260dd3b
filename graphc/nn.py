"""``gx.nn``: activations and losses of neural networks."""

from __future__ import annotations

import math
from functools import reduce as fold

from graphc import dsl
from graphc.dsl import Tensor, TensorLike, fail, lift
from graphc.errors import GraphTypeError
from graphc.ir import Node
from graphc.ops import elementwise, index, nn, norms, shape
from graphc.ops import softmax as softmax_ops
from graphc.types import int64, is_float


def _float_node(op: str, x: TensorLike) -> Node:
    return dsl.aligned(op, [x], inexact=True)[0]


def relu(x: TensorLike) -> Tensor:
    """``max(0, x)``; the derivative at 0 is 0.

    >>> import graphc as gx
    >>> gx.evaluate(gx.nn.relu(gx.constant([-1.0, 2.0])), {})
    array([0., 2.])
    """
    return Tensor(elementwise.relu(lift(x, "relu")))


def leaky_relu(x: TensorLike, negative_slope: float = 0.1) -> Tensor:
    """``x`` above 0 and ``negative_slope * x`` below; the derivative at 0 is ``negative_slope``."""
    return Tensor(nn.leaky_relu(_float_node("leaky_relu", x), slope=float(negative_slope)))


def elu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """``x`` above 0 and ``alpha * (exp(x) - 1)`` below (Clevert et al., 2016, equation 15)."""
    return Tensor(nn.elu(_float_node("elu", x), alpha=float(alpha)))


def sigmoid(x: TensorLike) -> Tensor:
    """``1 / (1 + exp(-x))``, without overflow; the local gradient is ``s * (1 - s)``."""
    return Tensor(elementwise.sigmoid(_float_node("sigmoid", x)))


def tanh(x: TensorLike) -> Tensor:
    """The hyperbolic tangent, as `graphc.tanh`."""
    return dsl.tanh(x)


def softplus(x: TensorLike) -> Tensor:
    """``log(1 + exp(x))`` without overflow; the derivative is the sigmoid."""
    return Tensor(elementwise.softplus(_float_node("softplus", x)))


def log_sigmoid(x: TensorLike) -> Tensor:
    """``log(sigmoid(x))`` without underflow."""
    return -softplus(-Tensor(_float_node("log_sigmoid", x)))


def silu(x: TensorLike) -> Tensor:
    """``x * sigmoid(x)`` (Elfwing et al., 2018), also called swish."""
    return Tensor(nn.silu(_float_node("silu", x)))


def gelu(x: TensorLike, approximate: str = "none") -> Tensor:
    """``x`` times the normal distribution function (Hendrycks and Gimpel, 2016).

    ``approximate`` is "none", or "tanh" for their formula ``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715
    x**3)))``. Raises `GraphValueError` for anything else.

    >>> import graphc as gx
    >>> gx.evaluate(gx.nn.gelu(gx.constant([-1.0, 1.0])), {})
    array([-0.15865525,  0.84134475])
    """
    node = _float_node("gelu", x)
    if approximate == "tanh":
        return Tensor(nn.gelu_tanh(node, scale=math.sqrt(2 / math.pi), cubic=0.044715))
    if approximate != "none":
        raise fail("gelu", f"approximate is {approximate!r}", node, fix="say 'none' or 'tanh'")
    return Tensor(nn.gelu(node))


def layer_norm(x: TensorLike, axis: dsl.AxisLike = -1, epsilon: float = 1e-5) -> Tensor:
    """``(x - mean) / sqrt(variance + epsilon)`` along ``axis`` (Ba et al., 2016), without scale and shift."""
    node = _float_node("layer_norm", x)
    axes = dsl.normal_axes("layer_norm", node, axis)
    return Tensor(norms.layer_norm(node, axes=axes, epsilon=float(epsilon)))


def rms_norm(x: TensorLike, axis: dsl.AxisLike = -1, epsilon: float = 1e-5) -> Tensor:
    """``x / sqrt(mean(x**2) + epsilon)`` along ``axis`` (Zhang and Sennrich, 2019), without scale."""
    node = _float_node("rms_norm", x)
    axes = dsl.normal_axes("rms_norm", node, axis)
    return Tensor(norms.rms_norm(node, axes=axes, epsilon=float(epsilon)))


def maxout(*pieces: TensorLike) -> Tensor:
    """The largest of several linear pieces, elementwise: ``maxout(x @ W1 + b1, x @ W2 + b2)``.

    Where pieces are equal, the first one gets the gradient (Goodfellow et al., 2013).
    """
    if not pieces:
        raise fail("maxout", "needs at least one piece")
    first = Tensor(lift(pieces[0], "maxout"))
    return fold(dsl.maximum, pieces[1:], first)


def softmax(x: TensorLike, axis: dsl.AxisLike = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` along ``axis``, without overflow; same shape as ``x``."""
    node = _float_node("softmax", x)
    return Tensor(softmax_ops.softmax(node, axes=dsl.normal_axes("softmax", node, axis)))


def log_softmax(x: TensorLike, axis: dsl.AxisLike = -1) -> Tensor:
    """``log(softmax(x))`` along ``axis``, without overflow or cancellation."""
    node = _float_node("log_softmax", x)
    return Tensor(softmax_ops.log_softmax(node, axes=dsl.normal_axes("log_softmax", node, axis)))


def softmax_cross_entropy(logits: TensorLike, targets: TensorLike) -> Tensor:
    """The cross-entropy of ``softmax(logits)``, one number an example: logits ``[..., classes]``.

    ``targets`` are integer labels ``[...]`` or probabilities ``[..., classes]``. Raises `GraphTypeError`
    for float labels, `GraphValueError` for other shapes, and at a call `GraphIndexError` for a label
    outside the classes.

    >>> import graphc as gx
    >>> loss = gx.nn.softmax_cross_entropy(gx.constant([[0.0, 0.0]]), gx.constant([1]))
    >>> gx.evaluate(loss, {})
    array([0.69314718])
    """
    node, goal = (
        _float_node("softmax_cross_entropy", logits),
        lift(targets, "softmax_cross_entropy"),
    )
    if not node.shape:
        raise fail("softmax_cross_entropy", "logits need an axis of classes", node, goal)
    if is_float(goal.dtype):
        return _against_probabilities(node, goal)
    _check_labels("softmax_cross_entropy", node, goal)
    return Tensor(softmax_ops.cross_entropy(node, goal))


def _against_probabilities(logits: Node, goal: Node) -> Tensor:
    if len(goal.shape) != len(logits.shape):
        raise fail(
            "softmax_cross_entropy",
            "probability targets need the shape of the logits",
            logits,
            goal,
            fix="labels must be of an integer dtype",
        )
    scores, targets = dsl.aligned("softmax_cross_entropy", (Tensor(logits), Tensor(goal)))
    return Tensor(softmax_ops.soft_cross_entropy(scores, targets, axes=(len(scores.shape) - 1,)))


def _check_labels(op: str, x: Node, labels: Node) -> None:
    if labels.dtype.kind != "i":
        raise fail(op, "labels are not integers", x, labels, error=GraphTypeError)
    if labels.shape != x.shape[:-1]:
        raise fail(op, "needs one label for each row of scores", x, labels)


def hinge_loss(scores: TensorLike, labels: TensorLike, margin: float = 1.0) -> Tensor:
    """The multiclass SVM loss (Weston and Watkins, 1999), one number an example.

    ``sum over j != label of max(0, scores[j] - scores[label] + margin)`` for scores ``[..., classes]``
    and integer labels ``[...]``.

    >>> import graphc as gx
    >>> gx.evaluate(gx.nn.hinge_loss(gx.constant([[3.2, 5.1, -1.7]]), gx.constant([0])), {})
    array([2.9])
    """
    node, goal = _float_node("hinge_loss", scores), lift(labels, "hinge_loss")
    if not node.shape:
        raise fail("hinge_loss", "scores need an axis of classes", node, goal)
    _check_labels("hinge_loss", node, goal)
    right = dsl.expand_dims(Tensor(index.pick(node, goal)), -1)
    terms = dsl.maximum(Tensor(node) - right + margin, 0)
    position = Tensor(shape.iota(shape=node.shape, axis=len(node.shape) - 1, dtype=int64))
    own = dsl.equal(position, dsl.expand_dims(_from_start(goal, node), -1))
    return dsl.sum_(dsl.where(own, 0, terms), axis=-1)


def _from_start(labels: Node, scores: Node) -> Tensor:
    label = Tensor(labels)
    return dsl.where(label < 0, label + scores.shape[-1], label)


def mse(prediction: TensorLike, target: TensorLike) -> Tensor:
    """The mean of the squared differences over all elements: a 0-d tensor."""
    return dsl.mean(dsl.square(dsl.subtract(prediction, target)))
