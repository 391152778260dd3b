"""Numba by hand: gradients derived by hand and fused into as few loops as possible, the limit to reach."""

import numba

from systems import numba_blocks, numba_networks, numba_small
from systems.base import Backend

ROWS = {**numba_small.ROWS, **numba_networks.ROWS, **numba_blocks.ROWS}


class System(Backend):
    """Numba, with machine code kept on disk."""

    def build(self, row):
        """Compiled at the first call."""
        return ROWS[row.key]

    def versions(self):
        """Numba's version."""
        return {"numba": numba.__version__}
