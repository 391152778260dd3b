"""From a fused graph to the source of a Python module that Numba compiles."""
