"""One position of the backward pass of infilling as machine code: sums and maxima over the next token of every state.

Takes the table of an automaton as it is, without a copy of the rows that are asked for.
"""

import numpy as np

from lmstages.core.compiled import compiled


@compiled
def backward(
    probabilities: np.ndarray,
    following: np.ndarray,
    states: np.ndarray,
    first: int,
    beta: np.ndarray,
    path: np.ndarray,
    sums: np.ndarray,
    tops: np.ndarray,
) -> None:
    """Tables (S, V), (M,) states, the first token that counts, messages behind the token (S,) -> fills sums and tops.

    ``sums`` (S,) gets the sum, ``tops`` (S,) the largest, of probability times message over the next token.
    """
    for state in states:
        total, largest = 0.0, 0.0
        for token in range(first, probabilities.shape[1]):
            after = following[state, token]
            total += probabilities[state, token] * beta[after]
            largest = max(largest, probabilities[state, token] * path[after])
        sums[state], tops[state] = total, largest
