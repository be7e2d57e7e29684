"""How far a figure of held-out text may be trusted: block bootstrap, paired differences, Holm's correction.

A text is cut into blocks, the same bytes for every model and tokenizer. Blocks are the resampling unit:

    blocks        documents, neighbours joined where there are more than enough; where there are few, runs of at
                  least 1,000 characters, longer where a model's code lengths are correlated for longer
    interval      2.5 % and 97.5 % of the figure over resamples of the blocks, widened for few blocks
    difference    bits per byte of a less those of b, over the very same resamples
    p             how often a difference as large results from flipping the sign of whole blocks

Blocks do not overlap (Carlstein 1986; Kuensch 1989 lets them), so that the same ones serve intervals and signs. An
interval is about other text from the same source, not about other seeds. Every interval and test of the project is
made here, from arrays of numbers alone.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtr, stdtrit

RESAMPLES = 2000
FLIPS = 9999
LEVEL = 0.05
LEAST_CHARACTERS = 1000  # of a block that is no document
FEWEST_DOCUMENTS = 20  # below that blocks are cut by length
FEWEST_BLOCKS = 6  # below that no interval is given
MOST_BLOCKS = 2000
DRAWN_AT_ONCE = 1 << 21  # random numbers, bounds memory
MANY_PAIRS = 10_000  # from here on compiled code saves more time than it takes to load
COUNTED_AT_ONCE = 512  # flips, whose sums of all rows stay in the processor's cache


class PairedDifference(NamedTuple):
    """Rows a < b of a table: mean of a less b in bits per byte, its 95 % interval, and two p-values."""

    a: int
    b: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


class PairedDifferences(NamedTuple):
    """``PairedDifference`` of every pair of a table's rows as columns (P,), in the order of ``np.triu_indices``."""

    a: np.ndarray
    b: np.ndarray
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    p_holm: np.ndarray


# ---------------------------------------------------------------- blocks


def block_ends(document_ends: np.ndarray, characters: int) -> np.ndarray:
    """(D,) bytes where documents end -> (K,) bytes where blocks end, the last of them the text's."""
    documents, size = len(document_ends), int(document_ends[-1]) if len(document_ends) else 0
    if documents >= FEWEST_DOCUMENTS:
        joined = -(-documents // MOST_BLOCKS)
        return document_ends[::-joined][::-1]
    count = max(1, characters // LEAST_CHARACTERS)
    return np.round(np.linspace(0, size, count + 1)[1:]).astype(np.int64)


def code_lengths(log_probs: np.ndarray, lengths: np.ndarray, begin: int, ends: np.ndarray) -> np.ndarray:
    """(N,) nats, (N,) bytes from byte ``begin`` on -> (2, K) nats and bytes of each block.

    A token that lies across the end of a block is shared by the bytes it has on either side.
    """
    stops = begin + np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    nats = np.concatenate([[0.0], np.cumsum(-log_probs.astype(np.float64))])
    cuts = np.concatenate([[0], ends])
    with np.errstate(invalid="ignore"):  # behind a token of probability zero nothing is a number
        return np.diff([np.interp(cuts, stops, nats), np.clip(cuts, begin, stops[-1])], axis=1)


def automatic_length(series: np.ndarray) -> float:
    """(N,) -> how many steps a block should span so that the variance of a mean has the least mean squared error.

    Politis & White 2004, section 3, with the flat-top lag window and the constant of their correction (Patton, Politis
    & White 2009); at most 3 sqrt(N), as they have it.
    """
    n = len(series)
    run_length = max(5, math.ceil(math.sqrt(math.log10(max(n, 10)))))
    largest_lag = math.ceil(math.sqrt(n)) + run_length
    if n <= 2 * largest_lag or not np.isfinite(series).all():
        return 1.0
    covariance = _autocovariance(series, largest_lag)
    if covariance[0] <= 0:
        return 1.0
    significant = np.abs(covariance[1:] / covariance[0]) >= 2 * math.sqrt(math.log10(n) / n)
    runs = np.convolve(~significant, np.ones(run_length, dtype=int), "valid")
    insignificant = np.flatnonzero(runs == run_length)  # lags after which a run of them is uncorrelated
    last = int(insignificant[0]) if len(insignificant) else int(np.flatnonzero(significant)[-1]) + 1
    lags = np.arange(1, min(2 * max(last, 1), largest_lag) + 1)
    window = np.minimum(1, 2 * (1 - lags / lags[-1]))
    spectrum = covariance[0] + 2 * float(window @ covariance[lags])
    derivative = 2 * float((window * lags) @ covariance[lags])
    length = (2 * derivative**2 / (4 / 3 * spectrum**2)) ** (1 / 3) * n ** (1 / 3) if spectrum else 1.0
    return float(min(max(length, 1.0), math.ceil(min(3 * math.sqrt(n), n / 3))))


def _autocovariance(series: np.ndarray, largest_lag: int) -> np.ndarray:
    """(N,) -> (largest_lag + 1,) by the Wiener-Khinchin theorem."""
    centred = series.astype(np.float64) - series.mean(dtype=np.float64)
    size = next_fast_len(len(series) + largest_lag, real=True)
    spectrum = np.abs(rfft(centred, size)) ** 2
    return np.asarray(irfft(spectrum, size)[: largest_lag + 1]) / len(series)


# ---------------------------------------------------------------- resamples


def resampled(nats: np.ndarray, sizes: np.ndarray, seed: int = 0) -> np.ndarray:
    """(M, K) nats, (M, K) bytes of M rows -> (R, M) bits per byte, every row over the same resampled blocks."""
    ratios = []
    for counts in _counts(RESAMPLES, nats.shape[1], np.random.default_rng([seed, 0])):
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios.append(counts @ nats.T / (counts @ sizes.T) / math.log(2))
    return np.concatenate(ratios)


def resampled_sums(sums: np.ndarray, seed: int = 0) -> np.ndarray:
    """(K, ...) sums of each block -> (R, ...) sums over each resample of the blocks."""
    flat = sums.reshape(len(sums), -1)
    counts = _counts(RESAMPLES, len(sums), np.random.default_rng([seed, 0]))
    return np.concatenate([count @ flat for count in counts]).reshape(RESAMPLES, *sums.shape[1:])


def _counts(resamples: int, blocks: int, draws: np.random.Generator) -> Iterator[np.ndarray]:
    """(r, K) how often each block is in each resample, some rows at a time, which bounds memory."""
    step = max(1, DRAWN_AT_ONCE // blocks)
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        drawn = draws.integers(0, blocks, (rows, blocks)) + blocks * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * blocks).reshape(rows, blocks).astype(np.float64)


def interval(ratios: np.ndarray, blocks: int) -> np.ndarray:
    """(R, ...) resampled figures, whose order is lost -> (2, ...) the ends of a 95 % percentile interval.

    Percentiles over K blocks are too narrow by sqrt(1 - 1/K), and by as much as the normal is narrower than Student's
    t; wider percentiles make up for both (Hesterberg 2015, section 5.3).
    """
    outer = _outer(blocks)
    return np.quantile(ratios, [outer, 1 - outer], axis=0, overwrite_input=True)


def interval_where_finite(figures: np.ndarray, blocks: int) -> tuple[float | None, float | None]:
    """(R,) resampled figures -> the interval of those that exist; None where none does, or of too few blocks."""
    finite = figures[np.isfinite(figures)]
    if not len(finite) or blocks < FEWEST_BLOCKS:
        return None, None
    low, high = interval(finite, blocks).tolist()
    return low, high


def _outer(blocks: int) -> float:
    return float(ndtr(math.sqrt(blocks / (blocks - 1)) * stdtrit(blocks - 1, LEVEL / 2)))


def row_intervals(nats: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(M, K), (M, K) -> (M, 2) bits per byte; NaN where there are too few blocks."""
    if nats.shape[1] < FEWEST_BLOCKS:
        return np.full((len(nats), 2), np.nan)
    return interval(resampled(nats, sizes), nats.shape[1]).T


# ---------------------------------------------------------------- pairs


def differences(nats: np.ndarray, sizes: np.ndarray) -> list[PairedDifference]:
    """``paired_differences`` as one tuple a pair, for few rows."""
    columns = (column.tolist() for column in paired_differences(nats, sizes))
    return [PairedDifference(*pair) for pair in zip(*columns, strict=True)]


def paired_differences(nats: np.ndarray, sizes: np.ndarray) -> PairedDifferences:
    """(M, K), (M, K) -> every pair of M rows, over the blocks of which all rows scored the same bytes."""
    shared = (sizes == sizes[0]).all(0) & (sizes[0] > 0)
    nats, sizes = nats[:, shared], sizes[:, shared]
    blocks = nats.shape[1]
    if len(nats) < 2 or blocks < FEWEST_BLOCKS:
        return PairedDifferences(*np.zeros((2, 0), dtype=np.int64), *np.zeros((5, 0)))
    means = nats.sum(1) / sizes.sum(1) / math.log(2)
    first, second = np.triu_indices(len(nats), 1)
    low, high = _paired_intervals(resampled(nats, sizes), blocks)
    p = sign_flips(nats)
    return PairedDifferences(first, second, means[first] - means[second], low, high, p, holm(p))


def _paired_intervals(ratios: np.ndarray, blocks: int) -> np.ndarray:
    """(R, M) resampled figures of rows -> (2, P) ends of the interval of every pair's difference."""
    by_row, rows = np.ascontiguousarray(ratios.T), range(ratios.shape[1] - 1)
    if _are_many(len(by_row)):
        return np.concatenate([_compiled_intervals(by_row, a, _outer(blocks)) for a in rows], axis=1)
    return np.concatenate([interval((by_row[a] - by_row[a + 1 :]).T, blocks) for a in rows], axis=1)


def _are_many(rows: int) -> bool:
    return rows * (rows - 1) // 2 >= MANY_PAIRS


def _compiled_intervals(by_row: np.ndarray, a: int, outer: float) -> np.ndarray:
    """(M, R) resampled figures -> (2, M - a - 1) ends of the intervals of row a less each row after it.

    As ``np.quantile`` has them: a straight line between the two sorted differences that are next to an end.
    """
    from lmstages.results import pairwise

    last = by_row.shape[1] - 1
    positions = last * outer, last * (1 - outer)
    sorted_differences = np.empty((len(by_row) - a - 1, 4))
    pairwise.order_statistics(by_row, a, int(positions[0]), int(positions[1]), sorted_differences)
    lower, upper = sorted_differences.T[[0, 2]], sorted_differences.T[[1, 3]]
    fraction = np.array([[position - int(position)] for position in positions])
    step = upper - lower
    return np.where(fraction < 0.5, lower + step * fraction, upper - step * (1 - fraction))


def sign_flips(nats: np.ndarray, seed: int = 0, flips: int = FLIPS) -> np.ndarray:
    """(M, K) -> (M (M - 1) / 2,) two-sided p of every pair; the null: each block is as likely to favour either row.

    (1 + flips at least as far) / (1 + flips), Phipson & Smyth 2010; where no flip comes as far, Hoeffding's bound
    2 exp(-t^2 / 2 sum d^2) (1963, theorem 2) where it is smaller, so that a large table does not exhaust the flips.
    """
    first, second = np.triu_indices(len(nats), 1)
    observed = np.abs(nats.sum(1)[first] - nats.sum(1)[second])
    reached, least = np.zeros(len(first), dtype=np.int64), observed * (1 - 1e-12) - 1e-12
    count = _count_compiled if _are_many(len(nats)) else _count_reached
    for signs in _signs(flips, nats.shape[1], np.random.default_rng([seed, 1])):
        count((signs @ nats.T).T, least, reached)
    p = (1 + reached) / (1 + flips)
    squares = np.concatenate([_squared_distances(nats[a], nats[a + 1 :]) for a in range(len(nats) - 1)])
    bound = 2 * np.exp(-(observed**2) / np.maximum(2 * squares, 1e-300))
    return np.where(reached == 0, np.minimum(p, bound), p)


def _count_reached(sums: np.ndarray, least: np.ndarray, reached: np.ndarray) -> None:
    """(M, F) sums of M rows under F flips, (P,) distances -> adds to (P,) counts in how many a pair is so far apart."""
    begin = 0
    for a in range(len(sums) - 1):
        pairs = slice(begin, begin := begin + len(sums) - a - 1)
        reached[pairs] += (np.abs(sums[a] - sums[a + 1 :]) >= least[pairs, None]).sum(1)


def _count_compiled(sums: np.ndarray, least: np.ndarray, reached: np.ndarray) -> None:
    from lmstages.results import pairwise

    for start in range(0, sums.shape[1], COUNTED_AT_ONCE):
        pairwise.count_reached(np.ascontiguousarray(sums[:, start : start + COUNTED_AT_ONCE]), least, reached)


def _squared_distances(row: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(K,), (N, K) -> (N,), each the sum over contiguous numbers that two rows alone give, to the last bit."""
    return (np.subtract(row, others, order="C") ** 2).sum(1)


def _signs(flips: int, blocks: int, draws: np.random.Generator) -> Iterator[np.ndarray]:
    """(f, K) of -1 and 1, some rows at a time, which bounds memory."""
    step = max(1, DRAWN_AT_ONCE // blocks)
    for first in range(0, flips, step):
        rows = min(step, flips - first)
        bits = np.unpackbits(np.frombuffer(draws.bytes(-(-rows * blocks // 8)), dtype=np.uint8))
        yield bits[: rows * blocks].reshape(rows, blocks) * 2.0 - 1.0


def holm(p: np.ndarray) -> np.ndarray:
    """(m,) p-values -> (m,) the same, adjusted for how many there are (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
