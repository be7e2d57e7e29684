"""What is counted for every pair of a table's rows, compiled: a thousand rows are half a million pairs.

The numbers are those of the same lines in numpy, to the last bit. Importing it costs half a second, so that
``statistics`` does so for many pairs only.
"""

import numpy as np

from lmstages.core.compiled import compiled


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
def smallest_and_largest(figures: np.ndarray, a: int, smallest: np.ndarray, largest: np.ndarray) -> None:
    """(M, R) resampled figures -> of row a less each row after it the S ``smallest`` (N, S), rising, and ``largest``,
    falling."""
    for other in range(len(smallest)):
        low, high = smallest[other], largest[other]
        low[:], high[:] = np.inf, -np.inf
        for resample in range(figures.shape[1]):
            difference = figures[a, resample] - figures[a + 1 + other, resample]
            if difference < low[-1]:
                index = len(low) - 1
                while index > 0 and low[index - 1] > difference:
                    low[index] = low[index - 1]
                    index -= 1
                low[index] = difference
            if difference > high[-1]:
                index = len(high) - 1
                while index > 0 and high[index - 1] < difference:
                    high[index] = high[index - 1]
                    index -= 1
                high[index] = difference
