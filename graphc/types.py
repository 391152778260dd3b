"""Types of the values in a graph: dtypes and their promotion, symbolic sizes, tensor types.

A size is an ``int`` or a `Size`: a polynomial with integer coefficients over named dimensions, in a
normal form, so two sizes are equal exactly when they are the same polynomial. A constant polynomial is
always a plain ``int``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from graphc.errors import GraphTypeError, GraphValueError, compose

DType: TypeAlias = "np.dtype[np.generic]"

bool_: DType = np.dtype(np.bool_)
int32: DType = np.dtype(np.int32)
int64: DType = np.dtype(np.int64)
float32: DType = np.dtype(np.float32)
float64: DType = np.dtype(np.float64)

SHORT_NAMES: Mapping[DType, str] = {
    bool_: "bool",
    int32: "i32",
    int64: "i64",
    float32: "f32",
    float64: "f64",
}
BOOL = (bool_,)
INTEGERS = (int32, int64)
FLOATS = (float32, float64)
NUMBERS = INTEGERS + FLOATS
ALL_DTYPES = BOOL + NUMBERS


def as_dtype(dtype: object) -> DType:
    """The supported dtype that ``dtype`` names: a NumPy dtype or scalar type, a string, a Python type.

    Raises `GraphTypeError` when it is none of bool, int32, int64, float32, float64.

    >>> as_dtype("float32"), as_dtype(float)
    (dtype('float32'), dtype('float64'))
    """
    try:
        found = np.dtype(dtype)  # type: ignore[call-overload]
    except TypeError:
        found = None
    if dtype is None or found not in SHORT_NAMES:
        supported = ", ".join(d.name for d in ALL_DTYPES)
        raise GraphTypeError(
            compose("dtype", f"{dtype!r} is not supported", fix=f"use one of {supported}")
        )
    return found  # type: ignore[no-any-return]


def is_float(dtype: DType) -> bool:
    """Whether ``dtype`` is one of the two floating-point types."""
    return dtype.kind == "f"


def integer_limits(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest value of an integer dtype."""
    bits = 8 * dtype.itemsize - 1
    return -(2**bits), 2**bits - 1


def largest_float(dtype: DType) -> float:
    """The largest finite value of a float dtype."""
    info: Any = np.finfo(dtype)
    return float(info.max)


def promote(*operands: DType | bool | int | float) -> DType:
    """The dtype of an operation on ``operands``, by NEP 50: Python scalars are weak.

    >>> promote(float32, 1.5), promote(int32, 1.5), promote(float32, int64)
    (dtype('float32'), dtype('float64'), dtype('float64'))
    """
    return as_dtype(np.result_type(*operands))


@dataclass(frozen=True)
class FloorDivision:
    """The atom ``numerator // divisor`` of a size that does not divide evenly."""

    numerator: Size
    divisor: int

    def __str__(self) -> str:
        numerator = str(self.numerator)
        numerator = numerator if numerator.isidentifier() else f"({numerator})"
        # The outer parentheses keep the text a valid Python factor: 2*(N//2) is not 2*N//2.
        return f"({numerator}//{self.divisor})"


Atom: TypeAlias = "str | FloorDivision"
Monomial: TypeAlias = "tuple[Atom, ...]"
Dimension: TypeAlias = "int | Size"
Shape: TypeAlias = "tuple[Dimension, ...]"


class Size:
    """A symbolic size: a polynomial over named dimensions, equal by structure.

    Sizes add, subtract, multiply and floor-divide with each other and with ints; what turns out to be
    constant is returned as an int.

    >>> N, M = Size.named("N"), Size.named("M")
    >>> str(2 * (N + 1) - M), (N + 1) - N, (4 * N) // 2 == 2 * N, str((N + 1) // 2)
    ('2*N - M + 2', 1, True, '((N + 1)//2)')
    """

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Iterable[tuple[Monomial, int]]) -> None:
        self.terms: tuple[tuple[Monomial, int], ...] = tuple(terms)
        self._hash = hash(self.terms)

    @staticmethod
    def named(name: str) -> Size:
        """The size that is bound by an input's dimension ``name``."""
        return Size([((name,), 1)])

    def names(self) -> set[str]:
        """The named dimensions that this size is made of."""
        found: set[str] = set()
        for monomial, _ in self.terms:
            for atom in monomial:
                found |= {atom} if isinstance(atom, str) else atom.numerator.names()
        return found

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The value of this size when each named dimension has the value given in ``sizes``."""
        return sum(
            coefficient * math.prod(_evaluate_atom(atom, sizes) for atom in monomial)
            for monomial, coefficient in self.terms
        )

    @property
    def name(self) -> str | None:
        """The name of a size that is just one named dimension, else None."""
        if len(self.terms) == 1:
            monomial, coefficient = self.terms[0]
            if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], str):
                return monomial[0]
        return None

    def never_negative(self) -> bool:
        """Whether every assignment of sizes makes this at least 0 (sufficient, not necessary)."""
        return all(
            coefficient >= 0 and all(_atom_never_negative(atom) for atom in monomial)
            for monomial, coefficient in self.terms
        )

    def __add__(self, other: Dimension) -> Dimension:
        if not isinstance(other, int | Size):
            return NotImplemented
        return _normal(_terms(self) + _terms(other))

    def __sub__(self, other: Dimension) -> Dimension:
        return self + (-1 * other) if isinstance(other, int | Size) else NotImplemented

    def __rsub__(self, other: Dimension) -> Dimension:
        return (-1 * self) + other

    def __neg__(self) -> Dimension:
        return -1 * self

    def __mul__(self, other: Dimension) -> Dimension:
        if not isinstance(other, int | Size):
            return NotImplemented
        return _normal(
            [
                (tuple(sorted(left + right, key=str)), a * b)
                for left, a in _terms(self)
                for right, b in _terms(other)
            ]
        )

    def __floordiv__(self, divisor: int) -> Dimension:
        if not isinstance(divisor, int) or divisor <= 0:
            return NotImplemented
        if all(coefficient % divisor == 0 for _, coefficient in self.terms):
            return _normal([(monomial, c // divisor) for monomial, c in self.terms])
        return Size([((FloorDivision(self, divisor),), 1)])

    __radd__ = __add__
    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __bool__(self) -> bool:
        raise GraphTypeError(
            compose(f"size {self}", "has no truth value: it is known only at the call")
        )

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms:
            factors = [str(atom) for atom in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+"
            text += f" {sign} {'*'.join(factors)}"
        return text[3:] if text.startswith(" + ") else "-" + text[3:]

    def __repr__(self) -> str:
        return f"Size({str(self)!r})"


def _atom_never_negative(atom: Atom) -> bool:
    return isinstance(atom, str) or atom.numerator.never_negative()


def _evaluate_atom(atom: Atom, sizes: Mapping[str, int]) -> int:
    if isinstance(atom, str):
        return sizes[atom]
    return atom.numerator.evaluate(sizes) // atom.divisor


def _terms(size: Dimension) -> list[tuple[Monomial, int]]:
    return list(size.terms) if isinstance(size, Size) else [((), size)]


def _normal(terms: Iterable[tuple[Monomial, int]]) -> Dimension:
    collected: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        collected[monomial] = collected.get(monomial, 0) + coefficient
    kept = [(m, c) for m, c in collected.items() if c != 0]
    if not kept:
        return 0
    if len(kept) == 1 and kept[0][0] == ():
        return kept[0][1]
    # Highest degree first, positive before negative, so that texts read as a person writes them.
    kept.sort(key=lambda term: (-len(term[0]), term[1] < 0, [str(a) for a in term[0]]))
    return Size(kept)


def evaluate_size(size: Dimension, sizes: Mapping[str, int]) -> int:
    """The value of an int or `Size` when the named dimensions have the values in ``sizes``."""
    return size.evaluate(sizes) if isinstance(size, Size) else size


def product(shape: Iterable[Dimension]) -> Dimension:
    """The number of elements of ``shape``.

    >>> str(product((Size.named("N"), 64)))
    '64*N'
    """
    return reduce(operator.mul, shape, 1)


def exact_quotient(total: Dimension, part: Dimension) -> Dimension | None:
    """``total / part`` if it is a size for every assignment of the named dimensions, else None."""
    if isinstance(part, int):
        if part == 0:
            return None
        quotient = total // part
        return quotient if quotient * part == total else None
    if len(part.terms) != 1:
        return 1 if total == part else None
    monomial, coefficient = part.terms[0]
    divided = []
    for term, c in _terms(total):
        rest = list(term)
        for atom in monomial:
            if atom not in rest:
                return None
            rest.remove(atom)
        if c % coefficient:
            return None
        divided.append((tuple(rest), c // coefficient))
    return _normal(divided)


def shape_text(shape: Sequence[Dimension]) -> str:
    """A shape as it is shown in dumps and messages: ``[N,64]``."""
    return "[" + ",".join(str(d).replace(" ", "") for d in shape) + "]"


@dataclass(frozen=True, slots=True)
class TensorType:
    """The type of one value: a dtype and a shape of ints and sizes.

    >>> str(TensorType(float32, (Size.named("N"), 64)))
    'f32[N,64]'
    """

    dtype: DType
    shape: Shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def with_shape(self, shape: Iterable[Dimension]) -> TensorType:
        """The same dtype with another shape."""
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        """The same shape with another dtype."""
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return SHORT_NAMES[self.dtype] + shape_text(self.shape)


@dataclass(frozen=True, slots=True)
class TupleType:
    """The type of a gate with several results."""

    items: tuple[TensorType, ...]

    def __str__(self) -> str:
        return "(" + ", ".join(map(str, self.items)) + ")"


Type: TypeAlias = "TensorType | TupleType"


@dataclass(frozen=True, slots=True)
class Requirement:
    """What must hold between sizes at a call and cannot be known at declaration.

    ``relation`` is ``"=="`` or ``">="``; ``reason`` says what needs it.
    """

    left: Dimension
    relation: str
    right: Dimension
    reason: str

    def is_known(self) -> bool:
        """Whether it holds for every assignment of the named dimensions."""
        if self.relation == "==":
            return self.left == self.right
        difference = self.left - self.right
        if isinstance(difference, int):
            return difference >= 0
        return difference.never_negative()

    def is_impossible(self) -> bool:
        """Whether both sides are known and contradict it."""
        difference = self.left - self.right
        if not isinstance(difference, int):
            return False
        return difference != 0 if self.relation == "==" else difference < 0

    def check(self, sizes: Mapping[str, int]) -> None:
        """Raises `GraphValueError` unless it holds for ``sizes``."""
        left, right = evaluate_size(self.left, sizes), evaluate_size(self.right, sizes)
        if not (left == right if self.relation == "==" else left >= right):
            values = ", ".join(f"{name} = {sizes[name]}" for name in sorted(self.names()))
            detail = f"{self.left} is {left}, {self.right} is {right}"
            raise GraphValueError(compose(self.reason, f"needs {self} but {values}", detail=detail))

    def names(self) -> set[str]:
        """The named dimensions that it speaks of."""
        sides = (self.left, self.right)
        return set().union(*(side.names() for side in sides if isinstance(side, Size)))

    def __str__(self) -> str:
        return f"{self.left} {self.relation} {self.right}"


def bind_sizes(
    declared: Sequence[tuple[str, TensorType]], shapes: Sequence[tuple[int, ...]]
) -> dict[str, int]:
    """The named dimensions' values, read off the shapes of the arrays given for the inputs.

    Raises `GraphValueError` for a wrong rank, a wrong fixed size, or two arrays that bind one name to
    different sizes; the message shows the declared types and the shapes.
    """
    sizes: dict[str, int] = {}
    for (name, wanted), shape in zip(declared, shapes, strict=True):
        if len(shape) != wanted.ndim:
            problem = f"needs {wanted.ndim} axes ({wanted}) but has {len(shape)} (shape {shape})"
            raise GraphValueError(compose(f"argument {name!r}", problem))
        for size, actual in zip(wanted.shape, shape, strict=True):
            if isinstance(size, Size) and size.name is not None:
                sizes.setdefault(size.name, actual)
    _check_sizes(declared, shapes, sizes)
    return sizes


def _check_sizes(
    declared: Sequence[tuple[str, TensorType]],
    shapes: Sequence[tuple[int, ...]],
    sizes: Mapping[str, int],
) -> None:
    for (name, wanted), shape in zip(declared, shapes, strict=True):
        expected = tuple(evaluate_size(size, sizes) for size in wanted.shape)
        if expected == shape:
            continue
        problem = f"has shape {shape} but {wanted} needs shape {expected}"
        shared = [
            f"{other!r} is {type_} with shape {other_shape}"
            for (other, type_), other_shape in zip(declared, shapes, strict=True)
            if other != name and _names_of(type_.shape) & _names_of(wanted.shape)
        ]
        raise GraphValueError(compose(f"argument {name!r}", problem, detail="; ".join(shared)))


def _names_of(shape: Shape) -> set[str]:
    return set().union(*(size.names() for size in shape if isinstance(size, Size)))
