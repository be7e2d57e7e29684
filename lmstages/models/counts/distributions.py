"""Next-token distributions of an interpolated n-gram model, over the whole vocabulary, for many contexts at once.

    p_n(. | h) = gamma_n(h) p_(n-1)(. | h without its oldest token) + alpha_n(h, .)        p_0 = 1 / V

Looking up a single n-gram takes one search per order, and a distribution by single look-ups V searches; here n-grams
are stored by context, so that the tokens that follow a context are a slice. An order costs V products per context and
one addition per n-gram that follows it; distributions of the shortest contexts, of which there are few, are
precomputed. ``M`` contexts, ``N`` orders, ``C`` contexts of an order; a context is its index at each order, -1 where it
does not occur in train.

Memory: about 5 bytes per n-gram, 12 per context, and at most 64 MB per order for precomputed distributions.
Uses the levels of ``counting`` and the formulas of ``smoothing``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmstages.models.counts import counting, smoothing
from lmstages.models.counts.ngram import InterpolatedModel

SUMMED = 1 << 24  # probabilities of an order, at most, that are precomputed
CONTEXTS_AT_ONCE = 1 << 13  # so that their distributions stay in the processor's cache


@dataclass(frozen=True)
class Followers:
    """One order: context c is followed by ``tokens`` with ``alphas``, from index begins[c] to begins[c + 1].

    ``gammas`` (C,) weigh the order below; ``shorter`` (C,) is the index there of the context without its oldest token.
    """

    begins: np.ndarray
    tokens: np.ndarray
    alphas: np.ndarray
    gammas: np.ndarray
    shorter: np.ndarray

    def interpolate(self, distributions: np.ndarray, contexts: np.ndarray) -> None:
        """Turn distributions of the order below (M, V), in place, into those of this order after contexts (M,)."""
        seen = np.flatnonzero(contexts >= 0)
        indices = contexts[seen]
        gammas = np.ones(len(contexts), dtype=self.gammas.dtype)
        gammas[seen] = self.gammas[indices]
        distributions *= gammas[:, None]
        rows, slots = self.slots(indices)
        distributions[seen[rows], self.tokens[slots]] += self.alphas[slots]

    def slots(self, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(M,) contexts -> which of the M every token that follows one of them belongs to, and its index."""
        begins = self.begins[contexts].astype(np.int64)
        lengths = self.begins[contexts + 1] - begins
        slots = np.arange(lengths.sum()) + np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
        return np.repeat(np.arange(len(contexts)), lengths), slots


class Distributions:
    """Distributions of one model, or of several models with the same order and vocabulary."""

    def __init__(self, orders: Sequence[Followers], vocab_size: int) -> None:
        self.orders, self.vocab_size = orders, vocab_size

    @classmethod
    def of(cls, model: InterpolatedModel) -> "Distributions":
        """The n-grams of a fitted model, grouped by context."""
        return cls(followers_of(model, np.dtype(np.float32)), model.vocab_size)

    @classmethod
    def concatenated(cls, parts: Sequence["Distributions"]) -> "Distributions":
        """Several models as one: contexts of a part are numbered after those of earlier parts, ``sizes`` of each."""
        joined, below = [], [0] * len(parts)  # all parts share the uniform distribution
        for orders in zip(*(part.orders for part in parts), strict=True):
            joined.append(_joined(orders, below))
            below = [len(order.gammas) for order in orders]
        return cls(joined, parts[0].vocab_size)

    def sizes(self) -> np.ndarray:
        """(N,) the number of contexts of each order."""
        return np.array([len(order.gammas) for order in self.orders])

    def log_probs(self, contexts: np.ndarray) -> np.ndarray:
        """(M, N) -> (M, V) nats, float32."""
        result = np.full((len(contexts), self.vocab_size), 1 / self.vocab_size, dtype=np.float32)
        for begin in range(0, len(contexts), CONTEXTS_AT_ONCE):
            piece = slice(begin, begin + CONTEXTS_AT_ONCE)
            for order, table in enumerate(self.summed):
                seen = contexts[piece, order] >= 0
                result[piece][seen] = table[contexts[piece, order][seen]]
            for order in range(len(self.summed), len(self.orders)):
                self.orders[order].interpolate(result[piece], contexts[piece, order])
        return np.log(result, out=result)

    @cached_property
    def summed(self) -> list[np.ndarray]:
        """(C, V) precomputed distributions of the shortest orders, up to the first that exceeds SUMMED numbers."""
        tables = [np.full((1, self.vocab_size), 1 / self.vocab_size, dtype=np.float32)]
        for order in self.orders:
            if order.gammas.size * self.vocab_size > SUMMED:
                break
            tables.append(tables[-1][order.shorter])
            order.interpolate(tables[-1], np.arange(len(order.gammas)))
        return tables[1:]


def contexts_after(model: InterpolatedModel, rows: counting.Rows) -> np.ndarray:
    """(M, N): indices of the contexts of length 0 ... N - 1 that end with each position of rows."""
    indices = counting.indices_of(model.levels, rows, model.vocab_size)
    return np.stack([np.zeros_like(indices[0]), *indices[:-1]], axis=1)


def followers_of(model: InterpolatedModel, dtype: np.dtype) -> list[Followers]:
    """Every order of a fitted model, its n-grams grouped by context; alphas and gammas are of type ``dtype``."""
    return [
        _followers(model, n, (contexts, last, model.levels[n].counts), dtype)
        for n, (contexts, last) in enumerate(contexts_of_grams(model), start=1)
    ]


def contexts_of_grams(model: InterpolatedModel) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For n = 1 ... N: of every n-gram the index of its first n - 1 tokens at that order, -1 if absent; its last."""
    last = np.arange(model.vocab_size)
    contexts = np.zeros(model.vocab_size, dtype=np.int64)
    for n in range(1, len(model.levels)):
        level, shorter = model.levels[n], model.levels[n - 1]
        if n > 1:
            parents = level.keys // level.keys.dtype.type(model.vocab_size)
            older = level.keys - parents * level.keys.dtype.type(model.vocab_size)
            longer = n > 2
            contexts = shorter.find(contexts[parents], older, model.vocab_size) if longer else older.astype(np.int64)
            last = last[parents]
        yield contexts, last


def by_context(contexts: np.ndarray) -> np.ndarray:
    """(U,) contexts of n-grams -> the n-grams in the order of their contexts, without those whose context is absent."""
    return np.argsort(contexts, kind="stable")[np.count_nonzero(contexts < 0) :]


def _followers(model: InterpolatedModel, n: int, grams: tuple[np.ndarray, ...], dtype: np.dtype) -> Followers:
    """Order n; ``grams``: indices of their contexts, last tokens and counts, (U,) each."""
    name, constants, level = model.config.smoothing, model.constants[n - 1], model.levels[n - 1]
    order = by_context(grams[0])
    contexts, last, counts = (array[order] for array in grams)
    observed = smoothing.OrderCounts(contexts, counts, level.totals[contexts], level.type_counts[contexts])
    alphas = smoothing.interpolation_terms(name, constants, observed)[0].astype(dtype)
    gammas = np.ones(len(level.totals), dtype=dtype)
    followed = np.flatnonzero(level.totals)  # a context that no token follows leaves the order below unchanged
    none = np.zeros_like(followed)
    unseen = smoothing.OrderCounts(followed, none, level.totals[followed], level.type_counts[followed])
    gammas[followed] = smoothing.interpolation_terms(name, constants, unseen)[1]
    begins = np.append(0, np.cumsum(np.bincount(contexts, minlength=len(gammas))))
    shorter = (level.keys // level.keys.dtype.type(model.vocab_size)).astype(np.int32)
    begins, last = counting.to_smallest_dtype(begins), counting.to_smallest_dtype(last)
    return Followers(begins, last, alphas, gammas, shorter)


def _joined(orders: Sequence[Followers], below: Sequence[int]) -> Followers:
    """The same order of several models, contexts end to end; ``below``: the contexts that each has one order down."""
    first = np.cumsum([0, *(len(order.tokens) for order in orders)])
    begins = [order.begins[:-1] + begin for order, begin in zip(orders, first[:-1], strict=True)]
    shifts = np.cumsum([0, *below[:-1]])
    shorter = [order.shorter + shift for order, shift in zip(orders, shifts, strict=True)]
    return Followers(
        counting.to_smallest_dtype(np.append(np.concatenate(begins), first[-1])),
        np.concatenate([order.tokens for order in orders]),
        np.concatenate([order.alphas for order in orders]),
        np.concatenate([order.gammas for order in orders]),
        np.concatenate(shorter),
    )
