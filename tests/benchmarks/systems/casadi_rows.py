"""CasADi: the shared formulas on its symbols, evaluated by its virtual machine in float64.

Calls go through a `FunctionBuffer`, the cheapest way in that CasADi has from Python: it reads and writes
NumPy's memory without a copy. Matrices are stored by columns.
"""

from types import SimpleNamespace

import casadi as cs
import numpy as np

from systems.base import Backend

WORDS = SimpleNamespace(
    exp=cs.exp,
    log=cs.log,
    sqrt=cs.sqrt,
    sin=cs.sin,
    tanh=cs.tanh,
    erf=cs.erf,
    sum=lambda x: cs.sum1(cs.sum2(x)),
    sigmoid=lambda x: 1 / (1 + cs.exp(-x)),
)
ROWS = ("a", "b", "c", "d", "j", "n-200", "n-400", "o")


def shape_of(array):
    """Everything is a matrix: a vector is a column."""
    return (*array.shape, 1, 1)[:2]


def declare(row, arrays):
    """The function of a row: numbers as scalar expressions if they are few, else as matrices."""
    inputs = [cs.MX.sym(i.name, *shape_of(a)) for i, a in zip(row.inputs, arrays, strict=True)]
    loss, value = row.evaluate(WORDS, inputs)
    gradients = [cs.gradient(loss, inputs[k]) for k in row.positions]
    results = [cs.densify(r) for r in row.results(value, gradients, inputs)]
    function = cs.Function("row", inputs, results, {"cse": True})
    return function.expand() if sum(array.size for array in arrays) < 100 else function


class System(Backend):
    """CasADi without a C compiler."""

    def without(self, row):
        """It has float64 only, no broadcasting and no axes of sums."""
        if row.dtype != "float64":
            return "float64 only"
        return "" if row.key in ROWS else "no broadcasting, no axes"

    def build(self, row):
        """Results are fresh arrays."""
        arrays = row.arrays()
        declared = declare(row, arrays)
        buffer, evaluate = declared.buffer()
        value_shape = arrays[0].shape if row.key == "o" else ()
        shapes = [value_shape, *(arrays[k].shape for k in row.positions)]

        def function(*inputs):
            results = [np.empty(shape, order="F") for shape in shapes]
            for k, array in enumerate(inputs):
                buffer.set_arg(k, memoryview(array.T))
            for k, array in enumerate(results):
                buffer.set_res(k, memoryview(array.T))
            evaluate()
            return results

        # The function must live as long as its buffer.
        function.declared = declared
        return function

    def arguments(self, row):
        """By columns."""
        return [np.asfortranarray(array) if array.ndim else array for array in row.arrays()]

    def versions(self):
        """CasADi's version."""
        return {"casadi": cs.__version__}
