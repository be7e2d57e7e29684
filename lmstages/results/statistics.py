"""How far a figure of a held-out text may be trusted: block bootstrap, paired differences, Holm's correction.

A text is cut into blocks, the same bytes for every model and tokenizer, and a block is the unit that chance deals:

    blocks        documents, neighbours joined where there are more than enough; where there are few, runs of at
                  least 1,000 characters, longer where a model's code lengths are correlated for longer
    interval      2.5 % and 97.5 % of the figure over resamples of the blocks, widened for few blocks
    difference    bits per byte of a less those of b, over the very same resamples
    p             how often a difference as large comes of flipping the sign of whole blocks

Blocks do not overlap (Carlstein 1986; Kuensch 1989 lets them), so that the same ones serve intervals and signs. An
interval speaks of other text from the same source, not of other seeds. Knows arrays of numbers; no file and no model.
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
AT_ONCE = 1 << 21  # numbers drawn at a time


class Difference(NamedTuple):
    """Rows a < b of a table: mean of a less b in bits per byte, its 95 % interval, and two p-values."""

    a: int
    b: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


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
    with np.errstate(invalid="ignore"):  # beyond a token that is held impossible nothing is a number
        return np.diff([np.interp(cuts, stops, nats), np.clip(cuts, begin, stops[-1])], axis=1)


def automatic_length(series: np.ndarray) -> float:
    """(N,) -> how many steps a block should span so that the variance of a mean has the least mean squared error.

    Politis & White 2004, section 3, with the flat-top lag window and the constant of their correction (Patton, Politis
    & White 2009); at most 3 sqrt(N), as they have it.
    """
    n = len(series)
    quiet = max(5, math.ceil(math.sqrt(math.log10(max(n, 10)))))
    reach = math.ceil(math.sqrt(n)) + quiet
    if n <= 2 * reach or not np.isfinite(series).all():
        return 1.0
    covariance = _autocovariance(series, reach)
    if covariance[0] <= 0:
        return 1.0
    loud = np.abs(covariance[1:] / covariance[0]) >= 2 * math.sqrt(math.log10(n) / n)
    runs = np.convolve(~loud, np.ones(quiet, dtype=int), "valid")
    still = np.flatnonzero(runs == quiet)  # the first lag after which nothing is correlated for a while
    last = int(still[0]) if len(still) else int(np.flatnonzero(loud)[-1]) + 1
    lags = np.arange(1, min(2 * max(last, 1), reach) + 1)
    window = np.minimum(1, 2 * (1 - lags / lags[-1]))
    spectrum = covariance[0] + 2 * float(window @ covariance[lags])
    slope = 2 * float((window * lags) @ covariance[lags])
    length = (2 * slope**2 / (4 / 3 * spectrum**2)) ** (1 / 3) * n ** (1 / 3) if spectrum else 1.0
    return float(min(max(length, 1.0), math.ceil(min(3 * math.sqrt(n), n / 3))))


def _autocovariance(series: np.ndarray, reach: int) -> np.ndarray:
    """(N,) -> (reach + 1,) by the Wiener-Khinchin theorem."""
    centred = series.astype(np.float64) - series.mean(dtype=np.float64)
    size = next_fast_len(len(series) + reach, real=True)
    spectrum = np.abs(rfft(centred, size)) ** 2
    return np.asarray(irfft(spectrum, size)[: reach + 1]) / len(series)


# ---------------------------------------------------------------- resamples


def resampled(nats: np.ndarray, sizes: np.ndarray, seed: int = 0) -> np.ndarray:
    """(M, K) nats, (M, K) bytes of M rows -> (R, M) bits per byte, every row over the same resampled blocks."""
    blocks = nats.shape[1]
    found = []
    for count in _counts(RESAMPLES, blocks, np.random.default_rng([seed, 0])):
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(count @ nats.T / (count @ sizes.T) / math.log(2))
    return np.concatenate(found)


def _counts(resamples: int, blocks: int, draws: np.random.Generator) -> Iterator[np.ndarray]:
    """(r, K) how often each block is in each resample, as many rows at a time as memory likes."""
    step = max(1, AT_ONCE // blocks)
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        drawn = draws.integers(0, blocks, (rows, blocks)) + blocks * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * blocks).reshape(rows, blocks).astype(np.float64)


def interval(ratios: np.ndarray, blocks: int) -> np.ndarray:
    """(R, ...) resampled figures -> (2, ...) the ends of a 95 % percentile interval.

    Percentiles of K blocks are too narrow by sqrt(1 - 1/K) and by what Student's t is wider than the normal; they are
    taken further out to make up for both (Hesterberg 2015, section 5.3).
    """
    outer = float(ndtr(math.sqrt(blocks / (blocks - 1)) * stdtrit(blocks - 1, LEVEL / 2)))
    return np.quantile(ratios, [outer, 1 - outer], axis=0)


def row_intervals(nats: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(M, K), (M, K) -> (M, 2) bits per byte; NaN where there are too few blocks."""
    if nats.shape[1] < FEWEST_BLOCKS:
        return np.full((len(nats), 2), np.nan)
    return interval(resampled(nats, sizes), nats.shape[1]).T


# ---------------------------------------------------------------- pairs


def differences(nats: np.ndarray, sizes: np.ndarray) -> list[Difference]:
    """(M, K), (M, K) -> every two of M rows, over the blocks of which all rows scored the same bytes."""
    shared = (sizes == sizes[0]).all(0) & (sizes[0] > 0)
    nats, sizes = nats[:, shared], sizes[:, shared]
    blocks = nats.shape[1]
    if len(nats) < 2 or blocks < FEWEST_BLOCKS:
        return []
    ratios, means = resampled(nats, sizes), nats.sum(1) / sizes.sum(1) / math.log(2)
    first, second = np.triu_indices(len(nats), 1)
    ends = [interval(ratios[:, [a]] - ratios[:, a + 1 :], blocks) for a in range(len(nats) - 1)]
    low, high = np.concatenate(ends, axis=1)
    p = sign_flips(nats)
    rows = zip(first, second, means[first] - means[second], low, high, p, holm(p), strict=True)
    return [Difference(int(a), int(b), *map(float, rest)) for a, b, *rest in rows]


def sign_flips(nats: np.ndarray, seed: int = 0, flips: int = FLIPS) -> np.ndarray:
    """(M, K) -> (M (M - 1) / 2,) two-sided p of every two rows, under which each block is as likely to favour either.

    (1 + flips at least as far) / (1 + flips), Phipson & Smyth 2010; where no flip comes as far, Hoeffding's bound
    2 exp(-t^2 / 2 sum d^2) (1963, theorem 2) where it is smaller, so that a large table does not exhaust the flips.
    """
    first, second = np.triu_indices(len(nats), 1)
    observed = np.abs(nats.sum(1)[first] - nats.sum(1)[second])
    reached, least = np.zeros(len(first), dtype=np.int64), observed * (1 - 1e-12) - 1e-12
    for signs in _signs(flips, nats.shape[1], np.random.default_rng([seed, 1])):
        sums = (signs @ nats.T).T
        for a in range(len(nats) - 1):
            mine = slice(int(np.searchsorted(first, a)), int(np.searchsorted(first, a + 1)))
            reached[mine] += (np.abs(sums[a] - sums[a + 1 :]) >= least[mine, None]).sum(1)
    p = (1 + reached) / (1 + flips)
    squares = np.array([((nats[a] - nats[b]) ** 2).sum() for a, b in zip(first, second, strict=True)])
    bound = 2 * np.exp(-(observed**2) / np.maximum(2 * squares, 1e-300))
    return np.where(reached == 0, np.minimum(p, bound), p)


def _signs(flips: int, blocks: int, draws: np.random.Generator) -> Iterator[np.ndarray]:
    """(f, K) of -1 and 1, as many rows at a time as memory likes."""
    step = max(1, AT_ONCE // blocks)
    for first in range(0, flips, step):
        rows = min(step, flips - first)
        bits = np.unpackbits(np.frombuffer(draws.bytes(-(-rows * blocks // 8)), dtype=np.uint8))
        yield bits[: rows * blocks].reshape(rows, blocks) * 2.0 - 1.0


def holm(p: np.ndarray) -> np.ndarray:
    """(m,) p-values -> (m,) the same, adjusted so that at 5 % no more than one table in twenty errs (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
