"""Counting bigrams: lmstages and ``collections.Counter`` over pairs, on the same random characters in one run.

    python benchmarks/counting.py [TOKENS]

Prints the seconds of both, the best of three runs, and the ratio. No test depends on it.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from lmstages.config.hyperparameters.counts import Bigram
from lmstages.core.documents import Documents
from lmstages.models.counts.ngram import NgramModel

VOCABULARY = 67


def best_of_three(work: Callable[[], object]) -> float:
    """Seconds of the quickest of three calls."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main(count: int) -> None:
    """Time both on the same tokens."""
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, count).astype(np.uint8)
    documents, pairs = Documents.single(tokens), tokens.tolist()
    ours = best_of_three(lambda: NgramModel(Bigram(), VOCABULARY).fit(documents, documents, 0))
    counter = best_of_three(lambda: Counter(pairwise(pairs)))
    print(f"{count:,} bigrams: lmstages {ours:.3f} s, collections.Counter {counter:.3f} s, ratio {ours / counter:.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000)
