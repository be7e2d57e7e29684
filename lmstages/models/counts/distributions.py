"""Whole distributions of an interpolated n-gram model: every token of the vocabulary at once, for many contexts.

    p_n(. | h) = weight_n(h) p_(n-1)(. | h less its oldest token) + share_n(h, .)        p_0 = 1 / V

One n-gram is looked up by a search at every order, and V of them by V searches; here n-grams lie behind their
contexts, so that what follows a context is a slice. An order costs V products a context and a sum for each n-gram
that follows it; the shortest contexts, of which there are few, are summed up beforehand. ``M`` contexts, ``N``
orders; a context is its place at each of them, -1 where it was never seen.

About 5 bytes of memory an n-gram and 12 a context, and at most 64 MB an order for what is summed up.
Knows the levels of ``counts`` and the formulas of ``smoothing``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmstages.models.counts import counting, smoothing
from lmstages.models.counts.ngram import InterpolatedModel

SUMMED = 1 << 24  # probabilities of an order
CONTEXTS_AT_ONCE = 1 << 13  # what they sum up stays in the cache


@dataclass(frozen=True)
class Followers:
    """One order: followers of context c are ``tokens`` and ``shares`` from begins[c] to begins[c + 1].

    ``weights`` (C,) of the order below; ``shorter`` (C,) is the place there of the context less its oldest token.
    """

    begins: np.ndarray
    tokens: np.ndarray
    shares: np.ndarray
    weights: np.ndarray
    shorter: np.ndarray

    def added_to(self, distributions: np.ndarray, contexts: np.ndarray) -> None:
        """(M, V) of the order below, in place, and (M,) contexts."""
        known = np.flatnonzero(contexts >= 0)
        places = contexts[known]
        weights = np.ones(len(contexts), dtype=np.float32)
        weights[known] = self.weights[places]
        distributions *= weights[:, None]
        begins = self.begins[places].astype(np.int64)
        lengths = self.begins[places + 1] - begins
        slots = np.arange(lengths.sum()) + np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
        distributions[np.repeat(known, lengths), self.tokens[slots]] += self.shares[slots]


class Distributions:
    """Distributions of one model, or of several of one order and vocabulary side by side."""

    def __init__(self, orders: Sequence[Followers], vocab_size: int) -> None:
        self.orders, self.vocab_size = orders, vocab_size

    @classmethod
    def of(cls, model: InterpolatedModel) -> "Distributions":
        """Every n-gram of a fitted model put behind its context."""
        last = np.arange(model.vocab_size)
        contexts = np.zeros(model.vocab_size, dtype=np.int64)
        orders = []
        for n in range(1, len(model.levels)):
            level, shorter = model.levels[n], model.levels[n - 1]
            if n > 1:
                parents = level.keys // level.keys.dtype.type(model.vocab_size)
                older = level.keys - parents * level.keys.dtype.type(model.vocab_size)
                longer = n > 2
                contexts = (
                    shorter.find(contexts[parents], older, model.vocab_size) if longer else older.astype(np.int64)
                )
                last = last[parents]
            grams = contexts, last, level.counts
            orders.append(_followers(model.config.smoothing, model.constants[n - 1], shorter, grams, model.vocab_size))
        return cls(orders, model.vocab_size)

    @classmethod
    def beside(cls, parts: Sequence["Distributions"]) -> "Distributions":
        """Several as one: contexts of a part come after those of the parts before it, ``sizes`` each."""
        joined, below = [], [0] * len(parts)  # the uniform guess is nobody's own
        for orders in zip(*(part.orders for part in parts), strict=True):
            joined.append(_joined(orders, below))
            below = [len(order.weights) for order in orders]
        return cls(joined, parts[0].vocab_size)

    def sizes(self) -> np.ndarray:
        """(N,) how many contexts there are of each order."""
        return np.array([len(order.weights) for order in self.orders])

    def log_probs(self, contexts: np.ndarray) -> np.ndarray:
        """(M, N) -> (M, V) nats in single precision."""
        found = np.full((len(contexts), self.vocab_size), 1 / self.vocab_size, dtype=np.float32)
        for begin in range(0, len(contexts), CONTEXTS_AT_ONCE):
            piece = slice(begin, begin + CONTEXTS_AT_ONCE)
            for order, table in enumerate(self.summed):
                known = contexts[piece, order] >= 0
                found[piece][known] = table[contexts[piece, order][known]]
            for order in range(len(self.summed), len(self.orders)):
                self.orders[order].added_to(found[piece], contexts[piece, order])
        return np.log(found, out=found)

    @cached_property
    def summed(self) -> list[np.ndarray]:
        """(C, V) whole distributions of the shortest orders, as far as they are small."""
        tables = [np.full((1, self.vocab_size), 1 / self.vocab_size, dtype=np.float32)]
        for order in self.orders:
            if order.weights.size * self.vocab_size > SUMMED:
                break
            tables.append(tables[-1][order.shorter])
            order.added_to(tables[-1], np.arange(len(order.weights)))
        return tables[1:]


def contexts_after(model: InterpolatedModel, rows: counting.Rows) -> np.ndarray:
    """(M, N): the contexts that end with each cell of rows, of length 0 ... N - 1."""
    places = counting.places_of(model.levels, rows, model.vocab_size)
    return np.stack([np.zeros_like(places[0]), *places[:-1]], axis=1)


def _followers(
    name: str, constants: np.ndarray, level: counting.Level, grams: tuple[np.ndarray, ...], vocab_size: int
) -> Followers:
    """``level`` holds the contexts; ``grams`` are places of their contexts, last tokens and counts, (U,) each."""
    order = np.argsort(grams[0], kind="stable")
    contexts, last, seen = (each[order[np.count_nonzero(grams[0] < 0) :]] for each in grams)
    evidence = smoothing.Evidence(contexts, seen, level.totals[contexts], level.kinds[contexts])
    shares = smoothing.mixed(name, constants, evidence)[0].astype(np.float32)
    weights = np.ones(len(level.totals), dtype=np.float32)
    cells = np.flatnonzero(level.totals)  # what was never followed leaves the order below as it is
    unseen = smoothing.Evidence(cells, np.zeros_like(cells), level.totals[cells], level.kinds[cells])
    weights[cells] = smoothing.mixed(name, constants, unseen)[1]
    begins = np.append(0, np.cumsum(np.bincount(contexts, minlength=len(weights))))
    shorter = (level.keys // level.keys.dtype.type(vocab_size)).astype(np.int32)
    return Followers(counting.narrowed(begins), counting.narrowed(last), shares, weights, shorter)


def _joined(orders: Sequence[Followers], below: Sequence[int]) -> Followers:
    """The same order of several models, contexts one after the other; ``below``: how many each has an order below."""
    first = np.cumsum([0, *(len(order.tokens) for order in orders)])
    begins = [order.begins[:-1] + begin for order, begin in zip(orders, first[:-1], strict=True)]
    shifts = np.cumsum([0, *below[:-1]])
    shorter = [order.shorter + shift for order, shift in zip(orders, shifts, strict=True)]
    return Followers(
        counting.narrowed(np.append(np.concatenate(begins), first[-1])),
        np.concatenate([order.tokens for order in orders]),
        np.concatenate([order.shares for order in orders]),
        np.concatenate([order.weights for order in orders]),
        np.concatenate(shorter),
    )
