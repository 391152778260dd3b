"""The error function and its relatives, elementwise. References are SciPy's, in float64 throughout."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from typing import Any

import numpy as np
import scipy

from graphc.facts import Domain
from graphc.ir import Array, Op
from graphc.ops.elementwise import chain, exp, square
from graphc.ops.families import SPECIAL, elementwise, silent
from graphc.types import FLOATS

_SLOPE = 2 / sqrt(pi)


def _in_float64(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """``function`` computed in float64, its result in the dtype of the argument."""
    return silent(lambda x: np.asarray(function(x.astype(np.float64))).astype(x.dtype))


def _log_erfc(x: Array) -> Any:
    # Neither way cancels where it is used: at 0 the result is 0, far above it erfc underflows.
    far = np.log(scipy.special.erfcx(np.maximum(x, 0.5))) - np.square(x)
    return np.where(x > 0.5, far, np.log1p(-scipy.special.erf(x)))


erf: Op = elementwise(
    "erf",
    dtypes=FLOATS,
    reference=_in_float64(lambda x: scipy.special.erf(x)),
    code="vmath_special.erf_{suffix}({0})",
    vjp=lambda g, out, x: (g * (_SLOPE * exp(-square(x))),),
    samples=(Domain(-2, 2, also=(*SPECIAL, 7.0, 1e-20), smooth=(0.0,)),),
    cost=40,
)
erfc: Op = elementwise(
    "erfc",
    dtypes=FLOATS,
    reference=_in_float64(lambda x: scipy.special.erfc(x)),
    code="vmath_special.erfc_{suffix}({0})",
    vjp=lambda g, out, x: (g * (-_SLOPE * exp(-square(x))),),
    samples=(Domain(-2, 2, also=(*SPECIAL, 5.0, -7.0, 1e3), smooth=(0.0,)),),
    cost=40,
)
erfcx: Op = elementwise(
    "erfcx",
    dtypes=FLOATS,
    reference=_in_float64(lambda x: scipy.special.erfcx(x)),
    code="vmath_special.erfcx_{suffix}({0})",
    vjp=lambda g, out, x: (chain(g, 2 * x * out - _SLOPE),),
    samples=(Domain(-1, 3, also=(*SPECIAL, 1e10, -1e3), smooth=(0.0,)),),
    cost=40,
)
log_erfc: Op = elementwise(
    "log_erfc",
    dtypes=FLOATS,
    reference=_in_float64(_log_erfc),
    code="vmath_special.log_erfc_{suffix}({0})",
    vjp=lambda g, out, x: (chain(g, -_SLOPE / erfcx(x)),),
    samples=(Domain(-2, 3, also=(*SPECIAL, 1e3, 1e18, -7.0, 1e-20), smooth=(0.0, 5.0)),),
    cost=60,
)
