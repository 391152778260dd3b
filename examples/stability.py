"""What plain NumPy makes of formulas as they stand in books, and what graphc makes of them.

Each expression is written once, and computed by NumPy, by a function that graphc compiled, and with a
thousand digits. NumPy overflows, divides infinities, or takes the difference of nearly equal numbers;
graphc finds the form that does not.

    python examples/stability.py
"""

import decimal
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

import graphc as gx

DIGITS = 1000


def elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    return np.frompyfunc(function, 1, 1)


exact = SimpleNamespace(
    exp=elementwise(lambda x: x.exp()),
    log=elementwise(lambda x: x.ln()),
    sqrt=elementwise(lambda x: x.sqrt()),
    sum=np.sum,
    mean=np.mean,
)
"""The functions of a namespace such as NumPy's, on arrays of decimal numbers."""


@dataclass(frozen=True)
class Case:
    """An expression, the numbers at which it is computed, and NumPy's fault: nan, inf, -inf or digits."""

    text: str
    expression: Callable[[Any, Any], Any]
    point: tuple[float, ...]
    fault: str


def sigmoid(xp: Any, x: Any) -> Any:
    return 1 / (1 + xp.exp(-x))


def softmax(xp: Any, x: Any) -> Any:
    return xp.exp(x) / xp.sum(xp.exp(x))


def logsumexp(xp: Any, x: Any) -> Any:
    return xp.log(xp.sum(xp.exp(x)))


CASES = (
    Case("log(1 + exp(x))", lambda xp, x: xp.log(1 + xp.exp(x[0])), (1000,), "inf"),
    Case("log(1 + exp(x))", lambda xp, x: xp.log(1 + xp.exp(x[0])), (-40,), "digits"),
    Case("exp(x) / (1 + exp(x))", lambda xp, x: xp.exp(x[0]) / (1 + xp.exp(x[0])), (1000,), "nan"),
    Case("1 - sigmoid(x)", lambda xp, x: 1 - sigmoid(xp, x[0]), (40,), "digits"),
    Case("log(sigmoid(x))", lambda xp, x: xp.log(sigmoid(xp, x[0])), (-1000,), "-inf"),
    Case("log(1 - sigmoid(x))", lambda xp, x: xp.log(1 - sigmoid(xp, x[0])), (40,), "-inf"),
    Case("exp(x) - 1", lambda xp, x: xp.exp(x[0]) - 1, (1e-20,), "digits"),
    Case("log(1 + x)", lambda xp, x: xp.log(1 + x[0]), (1e-20,), "digits"),
    Case(
        "tanh(x) by exponentials",
        lambda xp, x: (xp.exp(x[0]) - xp.exp(-x[0])) / (xp.exp(x[0]) + xp.exp(-x[0])),
        (1000,),
        "nan",
    ),
    Case("softmax(x)[0]", lambda xp, x: softmax(xp, x)[0], (1000, 0), "nan"),
    Case("1 - softmax(x)[0]", lambda xp, x: (1 - softmax(xp, x))[0], (40, 0), "digits"),
    Case("logsumexp(x)", logsumexp, (1000, 1000), "inf"),
    Case("logsumexp(x)", logsumexp, (-1000, -1000), "-inf"),
    Case("logsumexp(x)", logsumexp, (0, -40), "digits"),
    Case("-log(softmax(x))[0]", lambda xp, x: -xp.log(softmax(xp, x))[0], (40, 0), "digits"),
    Case("-log(softmax(x))[0]", lambda xp, x: -xp.log(softmax(xp, x))[0], (-1000, 0), "inf"),
    Case(
        "mixture log-likelihood",
        lambda xp, x: xp.log(xp.sum(xp.exp(-(x**2)))),
        (30, 31),
        "-inf",
    ),
    Case(
        "mean(x**2) - mean(x)**2",
        lambda xp, x: xp.mean(x**2) - xp.mean(x) ** 2,
        (1e8, 1e8 + 1, 1e8 + 2),
        "digits",
    ),
    Case("sqrt(x**2)", lambda xp, x: xp.sqrt(x[0] ** 2), (1e200,), "inf"),
)


def results(case: Case) -> tuple[Any, Any, Any]:
    """The value by NumPy, by graphc, and the true one rounded to float64."""
    point = np.array(case.point, np.float64)
    with np.errstate(all="ignore"):
        plain = case.expression(np, point)
    x = gx.input("x", point.shape)
    compiled = gx.compile([x], case.expression(gx, x))(point)
    with decimal.localcontext(prec=DIGITS):
        numbers = np.array([decimal.Decimal(value) for value in point.tolist()])
        true = np.float64(case.expression(exact, numbers))
    return plain, compiled[()], true


def main() -> None:
    print(f"{'expression':25} {'x':30} {'NumPy':>22} {'graphc':>22} {'true value':>22}")
    for case in CASES:
        point = ", ".join(f"{value:.15g}" for value in case.point)
        values = " ".join(f"{value:22.16g}" for value in results(case))
        print(f"{case.text:25} {point:30} {values}")


if __name__ == "__main__":
    main()
