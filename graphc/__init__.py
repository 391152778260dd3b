"""graphc: a JIT compiler for static computational graphs. The public names, nothing else."""

from graphc import nn, special
from graphc.check import check_grad
from graphc.compile import compile, dump, evaluate
from graphc.derivatives import grad
from graphc.dsl import (
    Tensor,
    absolute,
    add,
    argmax,
    argmin,
    astype,
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    broadcast_to,
    ceil,
    clip,
    concat,
    constant,
    cos,
    divide,
    dot,
    equal,
    exp,
    expand_dims,
    expm1,
    floor,
    floor_divide,
    greater,
    greater_equal,
    input,
    invert,
    isnan,
    left_shift,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    logsumexp,
    matmul,
    matrix_transpose,
    maximum,
    mean,
    minimum,
    multiply,
    negative,
    not_equal,
    ones_like,
    outer,
    permute_dims,
    power,
    prod,
    ravel,
    reciprocal,
    remainder,
    reshape,
    right_shift,
    sign,
    sin,
    sqrt,
    square,
    squeeze,
    stack,
    std,
    stop_gradient,
    subtract,
    swapaxes,
    take,
    take_along_axis,
    tanh,
    transpose,
    var,
    where,
    zeros_like,
)
from graphc.dsl import absolute as abs
from graphc.dsl import all_ as all
from graphc.dsl import any_ as any
from graphc.dsl import max_ as max
from graphc.dsl import min_ as min
from graphc.dsl import round_ as round
from graphc.dsl import sum_ as sum
from graphc.errors import (
    GradientError,
    GradientMismatch,
    GraphcError,
    GraphIndexError,
    GraphTypeError,
    GraphValueError,
    InvalidGraph,
    RewriteError,
)
from graphc.extension import rule
from graphc.function import Function
from graphc.types import Size, bool_, float32, float64, int32, int64
from graphc.types import bool_ as bool

__version__ = "0.1.0"
