"""Intervals and paired tests of a table of 40 rows over 500 kB, and the interval of one row by scipy.stats.bootstrap.

    python benchmarks/intervals.py

scipy resamples the same blocks of the same row as often as we do, vectorized, by percentiles; it is compared with ours
on one row. The 40 intervals and 780 tested differences of the table are one call. No test depends on it.
"""

import math
import time

import numpy as np
from scipy import stats

from lmstages.evaluation.score_files import Scores
from lmstages.results.intervals import Text, attach, profile
from lmstages.results.schema import Result
from lmstages.results.statistics import RESAMPLES, block_ends, row_intervals

ROWS, SIZE = 40, 500_000


def scores_of(row: int, size: int = SIZE) -> Scores:
    """A stream of characters whose code lengths correlate over some dozens of them."""
    draws = np.random.default_rng(row)
    costs = np.convolve(draws.gamma(1.0, 1.0 + row / 100, size + 31), np.full(32, 1 / 32), "valid")
    return Scores(-costs.astype(np.float32), np.ones(size, np.uint16), np.zeros(size, np.int32), size, "stream")


def result(number: int) -> Result:
    """A row of the table, without figures."""
    return Result(
        corpus="text",
        split="test",
        tokenizer="char",
        model=str(number),
        type="gpt",
        title="GPT",
        family="neural",
        category="static",
        rank=number,
        status="ok",
        protocol="stream",
        seeds="0",
        adds="",
        source="",
        hyperparameters="{}",
        inputs="{}",
        tokens=SIZE,
        bytes=SIZE,
        characters=SIZE,
        perplexity=1.0,
    )


def table(scores: list[Scores]) -> float:
    """Seconds from score files in memory to intervals and tested differences."""
    ends = np.array([SIZE])
    text = Text("hash", ends, block_ends(ends, SIZE), SIZE)
    rows = [result(number) for number in range(len(scores))]
    started = time.perf_counter()
    profiles = {row.key: profile(scored, text, "") for row, scored in zip(rows, scores, strict=True)}
    differences = attach(rows, profiles, {("text", "test"): text})
    seconds = time.perf_counter() - started
    assert len(differences) == len(rows) * (len(rows) - 1) // 2, "every pair is compared"
    return seconds


def ours_and_scipys(blocks: int = SIZE // 1000) -> tuple[float, float]:
    """Seconds of the interval of one row, ours and scipy's alternated, the best of five runs."""
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


def main() -> None:
    """Print the seconds of the table, the best of three runs, and of one row."""
    scores = [scores_of(row) for row in range(ROWS)]
    best = min(table(scores) for _ in range(3))
    pairs = ROWS * (ROWS - 1) // 2
    print(f"{ROWS} rows over {SIZE:,} bytes: {ROWS} intervals, {pairs} tested differences: {best:.2f} s")
    ours, scipys = ours_and_scipys()
    print(f"one row: {ours * 1000:.1f} ms, scipy.stats.bootstrap {scipys * 1000:.1f} ms, ratio {scipys / ours:.2f}")


if __name__ == "__main__":
    main()
