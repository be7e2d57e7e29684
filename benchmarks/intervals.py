"""Intervals and paired tests of a table: 40 rows over 500 kB, and one row against scipy.stats.bootstrap.

    python benchmarks/intervals.py

The peer resamples the same blocks of the same row as often as we do, vectorized, by percentiles. What is ours beside
it is one row too; the table's 40 intervals and 780 tested differences are one call.
"""

import math
import time

import numpy as np
from scipy import stats

from lmstages.evaluation.score_files import Scores
from lmstages.results.intervals import Text, attach, key, profile
from lmstages.results.statistics import RESAMPLES, block_ends, row_intervals

ROWS, SIZE = 40, 500_000
EMPTY = {"corpus": "text", "split": "test", "tokenizer": "char", "family": "neural", "ensemble_of": None, "flag": None}


def scores_of(row: int, size: int = SIZE) -> Scores:
    """A stream of characters whose costs correlate over some dozens."""
    draws = np.random.default_rng(row)
    costs = np.convolve(draws.gamma(1.0, 1.0 + row / 100, size + 31), np.full(32, 1 / 32), "valid")
    return Scores(-costs.astype(np.float32), np.ones(size, np.uint16), np.zeros(size, np.int32), size, "stream")


def table(several: list[Scores]) -> float:
    """Seconds from score files in memory to intervals and tested differences."""
    ends = np.array([SIZE])
    text = Text("hash", ends, block_ends(ends, SIZE), SIZE)
    rows = [EMPTY | {"model": str(n), "rank": n, "bytes": SIZE, "characters": SIZE} for n in range(len(several))]
    rows = [row | {"tokens": SIZE, "perplexity": 1.0} for row in rows]
    started = time.perf_counter()
    profiles = {key(row): profile(scores, text, "") for row, scores in zip(rows, several, strict=True)}
    found = attach(rows, profiles, {("text", "test"): text})
    seconds = time.perf_counter() - started
    assert len(found) == len(rows) * (len(rows) - 1) // 2
    return seconds


def ours_and_scipys(blocks: int = SIZE // 1000) -> tuple[float, float]:
    """Seconds of one row's interval, alternated, the best of five each."""
    nats, sizes = np.random.default_rng(0).gamma(50, 20, blocks), np.full(blocks, 1000.0)
    ours, scipys = [], []
    for _ in range(5):
        started = time.perf_counter()
        row_intervals(nats[None], sizes[None])
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        stats.bootstrap(
            (nats, sizes),
            lambda n, s, axis: n.sum(axis) / s.sum(axis) / math.log(2),
            paired=True,
            vectorized=True,
            method="percentile",
            n_resamples=RESAMPLES,
            rng=np.random.default_rng(0),
        )
        scipys.append(time.perf_counter() - started)
    return min(ours), min(scipys)


if __name__ == "__main__":
    several = [scores_of(row) for row in range(ROWS)]
    best = min(table(several) for _ in range(3))
    print(
        f"{ROWS} rows over {SIZE:,} bytes: {ROWS} intervals, {ROWS * (ROWS - 1) // 2} tested differences: {best:.2f} s"
    )
    ours, scipys = ours_and_scipys()
    print(f"one row: {ours * 1000:.1f} ms, scipy.stats.bootstrap {scipys * 1000:.1f} ms, ratio {scipys / ours:.2f}")
