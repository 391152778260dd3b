"""The family of elementwise ops: its constructor, and what its members state about themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import GraphTypeError
from graphc.facts import Domain, Sample, ScalarCode, Vjp
from graphc.ir import Node, Op, Rejected
from graphc.types import DType, TensorType, is_float

INF, NAN = float("inf"), float("nan")
SPECIAL = (0.0, -0.0, INF, -INF, NAN)

Unit = Callable[[DType], "float | None"]


def no_unit(dtype: DType) -> float | None:
    """For ops without a unit or absorbing element."""
    return None


def always(value: float) -> Unit:
    """The same unit for every dtype."""
    return lambda dtype: value


def integers_only(value: float) -> Unit:
    """A unit or absorbing element that floats lack because of nan, inf or -0.0."""
    return lambda dtype: None if is_float(dtype) else value


def elementwise(
    name: str,
    *,
    dtypes: tuple[DType, ...],
    reference: Callable[..., Any],
    code: str | Callable[[Node], str],
    vjp: Vjp,
    samples: tuple[Domain, ...],
    result: DType | None = None,
    commutative: bool = False,
    associative: bool = False,
    unit: Unit | None = None,
    right_unit: Unit = no_unit,
    absorbing: Unit | None = None,
    left_unit: Unit = no_unit,
    left_absorbing: Unit = no_unit,
    right_absorbing: Unit = no_unit,
    cost: int = 1,
) -> Op:
    """Declares an op on operands of one type, as many as there are ``samples``.

    ``result`` is the dtype of the result where it is not the operands'; ``unit`` and ``absorbing`` are
    two-sided.
    """
    arity = len(samples)

    def infer(*types: TensorType) -> TensorType:
        if len(types) != arity:
            raise Rejected(f"takes {arity} arguments, not {len(types)}", error=GraphTypeError)
        require_dtype(types[0].dtype, dtypes)
        require_one_type(types)
        return types[0].with_dtype(result or types[0].dtype)

    return Op(
        name,
        infer=infer,
        reference=reference,
        lowering=ScalarCode(code),
        vjp=vjp,
        samples=(Sample(((5,),) * arity, {}, samples),),
        dtypes=dtypes,
        commutative=commutative,
        associative=associative,
        left_unit=unit or left_unit,
        right_unit=unit or right_unit,
        left_absorbing=absorbing or left_absorbing,
        right_absorbing=absorbing or right_absorbing,
        cost=cost,
    )


def require_dtype(dtype: DType, accepted: tuple[DType, ...]) -> None:
    """Rejects a dtype that an op does not accept."""
    if dtype not in accepted:
        names = ", ".join(d.name for d in accepted)
        raise Rejected(
            f"does not accept {dtype.name}", detail=f"accepted: {names}", error=GraphTypeError
        )


def require_one_type(types: tuple[TensorType, ...]) -> None:
    """Rejects operands of different types: broadcasting and casts are nodes of their own."""
    for other in types[1:]:
        if other.dtype != types[0].dtype:
            raise Rejected("operands have different dtypes", error=GraphTypeError)
        if other.shape != types[0].shape:
            raise Rejected("operands have different shapes")


def silent(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's function without its floating-point warnings; nan and inf are values here."""

    def quiet(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return quiet


def by_kind(floats: str, integers: str) -> Callable[[Node], str]:
    """A template that depends on whether the result is a float."""
    return lambda node: floats if is_float(node.dtype) else integers
