"""Times two functions side by side, for the examples."""

from statistics import median
from time import perf_counter


def median_seconds(*functions, repeats=200):
    """The median time of a call of each function; they take turns, so that noise hits all of them."""
    times = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken in zip(functions, times, strict=True):
            start = perf_counter()
            function()
            taken.append(perf_counter() - start)
    return [median(taken) for taken in times]
