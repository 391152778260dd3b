"""The op that fusion makes: a gate with a body, and the selection of one of its results."""

from __future__ import annotations

from typing import Any

from graphc.errors import InvalidGraph
from graphc.facts import FORBIDDEN, FusedCode, Leaf
from graphc.ir import Graph, Op, Rejected
from graphc.types import TensorType, TupleType, Type


def _infer_fused(*types: Type, body: Graph, name: str, **how: Any) -> TupleType:
    if [node.type for node in body.inputs] != list(types):
        raise Rejected("the body's inputs have other types")
    return TupleType(tuple(node.tensor_type for node in body.outputs))


def _infer_item(gate: TupleType, *, index: int) -> TensorType:
    return gate.items[index]


def _evaluated_through_its_body(*arrays: Any, **attrs: Any) -> Any:
    raise InvalidGraph("a fused gate is evaluated through its body")


_derivative = FORBIDDEN("graphs are differentiated before their gates are fused")


def _with_body(name: str) -> Op:
    return Op(
        name,
        infer=_infer_fused,
        reference=_evaluated_through_its_body,
        lowering=FusedCode(),
        vjp=_derivative,
        samples=(),
        dtypes=(),
    )


fused: Op = _with_body("fused")
"""Nodes that become one gate: ``body`` computes all results of the gate ``name``.

``schedule`` says in which loops, and ``cost`` at what price.
"""

composite: Op = _with_body("composite")
"""A gate with several results that a reader knows by ``name``, before it becomes loops."""

item: Op = Op(
    "item",
    infer=_infer_item,
    reference=lambda gate, *, index: gate[index],
    lowering=Leaf(),
    vjp=_derivative,
    samples=(),
    dtypes=(),
)
"""One result of a fused gate."""
