"""What is counted for every pair of a table's rows, compiled: a thousand rows are half a million pairs.

The numbers are those of the same lines in numpy, to the last bit. Importing it costs half a second, so that
``statistics`` does so for many pairs only.
"""

import numpy as np

from lmstages.core.compiled import compiled

BINS = 256


@compiled
def count_reached(sums: np.ndarray, least: np.ndarray, reached: np.ndarray) -> None:
    """(M, F) sums of M rows under F flips, (P,) distances -> adds to (P,) counts in how many flips a pair is so far."""
    pair = 0
    for a in range(len(sums) - 1):
        for b in range(a + 1, len(sums)):
            count = 0
            for flip in range(sums.shape[1]):
                count += abs(sums[a, flip] - sums[b, flip]) >= least[pair]
            reached[pair] += count
            pair += 1


@compiled
def two_from(values: np.ndarray, bins: np.ndarray, counts: np.ndarray, position: int) -> np.ndarray:
    """(R,) values with their bins, (BINS,) how many each bin holds -> the sorted values ``position`` and the next."""
    first = before = 0
    while before + counts[first] <= position:
        before += counts[first]
        first += 1
    last, until = first, before + counts[first]
    while until <= position + 1:
        last += 1
        until += counts[last]
    inside = np.empty(until - before)
    count = 0
    for index in range(len(values)):
        if first <= bins[index] <= last:
            inside[count] = values[index]
            count += 1
    inside.sort()
    return inside[position - before : position - before + 2]


@compiled
def order_statistics(figures: np.ndarray, a: int, low: int, high: int, out: np.ndarray) -> None:
    """(M, R) resampled figures -> (N, 4): of row a less each row after it the sorted differences low, low + 1, high
    and high + 1.

    Differences are put into bins of equal width, so that only the few in the bins that hold those are sorted.
    """
    size = figures.shape[1]
    differences, bins, counts = np.empty(size), np.empty(size, np.uint8), np.empty(BINS, np.int64)
    for other in range(len(out)):
        smallest, largest = np.inf, -np.inf
        for index in range(size):
            difference = figures[a, index] - figures[a + 1 + other, index]
            differences[index] = difference
            smallest, largest = min(smallest, difference), max(largest, difference)
        scale = (BINS - 1) / (largest - smallest) if largest > smallest else 0.0
        counts[:] = 0
        for index in range(size):
            bins[index] = int((differences[index] - smallest) * scale)
            counts[bins[index]] += 1
        out[other, :2] = two_from(differences, bins, counts, low)
        out[other, 2:] = two_from(differences, bins, counts, high)
