"""The family of gates: ops that stand for other ops, with stable derivatives that are gates too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.facts import BY_DEFINITION, Definition, Domain, Sample, Vjp
from graphc.ir import Array, Graph, Node, Op, input_node, size_node
from graphc.ops.families import require_one_type, silent
from graphc.ops.reduce import Axes, infer_same
from graphc.reference import evaluate
from graphc.types import FLOATS, TensorType, product

WIDE = Domain(-3, 3)
OVER_ROWS = Sample(((3, 4),), {"axes": (1,)}, (WIDE,))
OVER_COLUMNS = Sample(((3, 4),), {"axes": (0,)}, (WIDE,))
OVER_TWO = Sample(((2, 3, 4),), {"axes": (0, 2)}, (WIDE,))


def gate(
    name: str,
    *,
    infer: Callable[..., TensorType],
    expand: Callable[..., Node],
    reference: Callable[..., Any],
    vjp: Vjp,
    samples: tuple[Sample, ...],
) -> Op:
    """Declares an op that stands for other ops: ``expand(*args, **attrs)`` builds them."""
    return Op(
        name,
        infer=infer,
        reference=silent(reference),
        lowering=Definition(expand),
        vjp=vjp,
        samples=samples,
        dtypes=FLOATS,
    )


def derivative_gate(
    name: str,
    *,
    infer: Callable[..., TensorType],
    expand: Callable[..., Node],
    samples: tuple[Sample, ...],
) -> Op:
    """Declares a gate of backward graphs: its values and its own derivative are those of its definition."""
    return gate(
        name,
        infer=infer,
        expand=expand,
        reference=_by_definition(expand),
        vjp=BY_DEFINITION,
        samples=samples,
    )


def _by_definition(expand: Callable[..., Node]) -> Callable[..., Array]:
    def reference(*arrays: Array, **attrs: Any) -> Array:
        types = [TensorType(array.dtype, array.shape) for array in arrays]
        inputs = tuple(input_node(f"x{k}", type_) for k, type_ in enumerate(types))
        return evaluate(Graph("definition", inputs, (expand(*inputs, **attrs),)), arrays)[0]

    return reference


def infer_rowwise(*types: TensorType, axes: Axes, epsilon: float = 0.0) -> TensorType:
    """The type rule of a gate whose operands are of one type, of floats, which it works on along ``axes``."""
    require_one_type(types)
    return infer_same(types[0], axes=axes)


def count_along(x: Node, axes: Axes) -> Node:
    """The number of elements of ``x`` along ``axes``, of its dtype."""
    return size_node(product(x.shape[axis] for axis in axes), x.dtype)


def of_operands(count: int, *samples: Sample) -> tuple[Sample, ...]:
    """``samples`` of one operand, for a gate that takes ``count`` of its type."""
    return tuple(Sample(s.shapes * count, s.attrs, s.domains * count, s.dtypes) for s in samples)
