"""N-gram models: with additive smoothing of one order, or with interpolation of all orders.

    p(w | h) = (c(h, w) + a) / (c(h) + a V)        h: the n - 1 tokens before w
    p(w | h) = alpha(h, w) + gamma(h) p(w | h without its oldest token)

For the first, only contexts and n-grams that occur are stored, as sorted integers (``contexts``). Order 1 is the
relative frequencies; order 0 would be the uniform distribution. For the second see ``counting`` (what is stored) and
``smoothing`` (alpha and gamma). Imports no torch.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from lmstages.config.hyperparameters.counts import DISCOUNTED, KneserNey, Ngram, Smoothed, Uniform
from lmstages.core.documents import Arrays, Curve, Documents, history
from lmstages.core.errors import FitError
from lmstages.models.counts import contexts, counting, smoothing
from lmstages.models.counts.lookup import AllOrders, values_at


class UniformModel:
    """log p = -log V for every token; no parameters."""

    def __init__(self, config: Uniform, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Learns nothing from train."""
        return []

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T), -log V everywhere."""
        return np.full(tokens.shape, -np.log(self.vocab_size))

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V), -log V everywhere."""
        return np.full((len(prefix), self.vocab_size), -np.log(self.vocab_size))

    def arrays(self) -> Arrays:
        """No arrays: nothing is fitted."""
        return {}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Nothing to restore."""

    def parameters(self) -> int:
        """0."""
        return 0


class NgramModel:
    """Additive smoothing of one order's counts; it has V - 1 free parameters for each context that occurs."""

    def __init__(self, config: Smoothed | Ngram, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.order, self.add = max(config.orders), config.constants[0]
        self.levels: list[np.ndarray] = []
        self.keys = np.empty(0, np.int64)
        self.counts = np.empty(0, np.int64)
        self.totals = np.empty(0, np.int64)
        self.counted: int | None = None  # the order that is counted

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Count the n-grams of ``train``; keep the order and constant with the lowest loss on ``valid``."""
        candidates, self.counted = list(product(self.config.orders, self.config.constants)), None
        choose("order, add", candidates, lambda pair: self._fit(train, *pair), lambda: self._nats(valid), valid)
        return []

    def _fit(self, train: Documents, order: int, add: float) -> None:
        self.order, self.add = order, add
        if order != self.counted:
            self.levels, self.keys, self.counts, self.totals = contexts.count(
                train, order, self.vocab_size, bool(self.config.padded)
            )
            self.counted = order

    def _nats(self, documents: Documents) -> float:
        """Mean -log p per token, each document with boundaries before it."""
        nats = 0.0
        for rows, counted in contexts.pieces(documents, self.order):
            indices = np.zeros(len(rows.tokens), dtype=np.int64)
            for step, level in enumerate(self.levels):
                earlier = contexts.earlier(rows, self.order - 1 - step)
                indices = _rank_of(level, indices * self.vocab_size + earlier, indices)
            nats -= float(self._log_probs(indices[counted], rows.tokens[counted]).sum())
        return nats / len(documents)

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T) nats."""
        width, length = self.order - 1, tokens.shape[1]
        rows = history(tokens, before, width)
        contexts = np.zeros(tokens.shape, dtype=np.int64)
        for step, level in enumerate(self.levels):
            contexts = _rank_of(level, contexts * self.vocab_size + rows[:, step : step + length], contexts)
        return self._log_probs(contexts, tokens)

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V) nats of every token as the next one."""
        width = self.order - 1
        recent = history(prefix, None, width)[:, prefix.shape[1] :]
        contexts = np.zeros((len(prefix), 1), dtype=np.int64)
        for step, level in enumerate(self.levels):
            contexts = _rank_of(level, contexts * self.vocab_size + recent[:, step : step + 1], contexts)
        return self._log_probs(contexts, np.arange(self.vocab_size)[None, :])

    def _log_probs(self, contexts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Ranks of contexts, -1 where they do not occur in train, and tokens, broadcast -> nats.

        Without any n-gram, as where every document is shorter than one, every token is as probable as any other.
        """
        if not len(self.keys):
            return np.full(np.broadcast_shapes(contexts.shape, tokens.shape), -np.log(self.vocab_size))
        keys = contexts * self.vocab_size + tokens
        indices = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        seen = (self.keys[indices] == keys) & (contexts >= 0)
        counts = np.where(seen, self.counts[indices], 0)
        totals = np.where(contexts >= 0, self.totals[contexts], 0)
        add = self.add
        with np.errstate(divide="ignore", invalid="ignore"):
            log_probs = np.log(counts + add) - np.log(totals + add * self.vocab_size)
        unseen = (totals + add) == 0
        return np.where(unseen, -np.log(self.vocab_size), log_probs)

    def arrays(self) -> Arrays:
        """Contexts that occur, by length; n-grams that occur, with their counts; the constant."""
        levels = {f"level{index}": level for index, level in enumerate(self.levels)}
        counted = {"keys": self.keys, "counts": self.counts, "totals": self.totals}
        return {**levels, **counted, "add": np.array(self.add)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        self.order = 1 + sum(name.startswith("level") for name in arrays)
        self.levels = [arrays[f"level{index}"] for index in range(self.order - 1)]
        self.keys, self.counts, self.totals = arrays["keys"], arrays["counts"], arrays["totals"]
        self.add = float(arrays["add"])

    def parameters(self) -> int:
        """V - 1 free probabilities for each context that occurs (Chen & Goodman 1999, section 2)."""
        return len(self.totals) * (self.vocab_size - 1)


STORED_FIELDS = {"keys": "keys", "counts": "counts", "totals": "totals", "kinds": "type_counts"}  # saved: Level's


class InterpolatedModel(AllOrders):
    """Counts of all orders up to N, interpolated by one of the smoothings.

    Counts are stored and not probabilities, so that distributions sum to one up to floating-point error. Its parameters
    are the n-grams that occur, of every order, and the constants of its smoothing.
    """

    def __init__(self, config: Ngram | KneserNey, vocab_size: int) -> None:
        self.config, self.vocab_size, self.padded = config, vocab_size, bool(config.padded)
        self.levels = []
        self.constants = np.empty((0, 3))

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Count ``train``; ``valid`` chooses among several orders and fits Jelinek-Mercer's weights."""
        orders = self.config.orders
        choose("order", orders, lambda order: self._fit(train, valid, order), lambda: self._nats(valid), valid)
        return []

    def _fit(self, train: Documents, valid: Documents, order: int) -> None:
        """Fit one order; discounts are tuned on a held-out part of train, after which all of train is counted."""
        if self.config.discounts == "tuned":
            counted, held_out = development_split(train)
            self._count(counted, order)
            tuned = smoothing.tuned(self.config.smoothing, self.constants, *self._counts_of(held_out))
            self._count(train, order)
            self.constants = tuned
            return
        self._count(train, order)
        if self.config.smoothing == "jelinek_mercer":
            if not len(valid):
                raise FitError("smoothing jelinek_mercer", "valid is empty", "its weights are fitted on valid")
            self.constants = smoothing.expectation_maximisation(*self._counts_of(valid))

    def _count(self, train: Documents, order: int) -> None:
        """Count ``train`` and compute the closed-form discounts."""
        name = self.config.smoothing
        self.levels = counting.count(train, order, self.vocab_size, name in smoothing.ADJUSTED, self.padded)
        self.constants = np.empty((order, 0))
        if name in DISCOUNTED:
            self.constants = np.array([smoothing.closed_form(name, level.counts) for level in self.levels[1:]])

    def _counts_of(self, documents: Documents) -> tuple[list[smoothing.OrderCounts], int, int]:
        """Counts in train of each token of documents, one element per order; the number of tokens; V."""
        return self._row_counts(self._rows(documents)), len(documents), self.vocab_size

    def _rows(self, documents: Documents) -> counting.Rows:
        return counting.Rows.of_documents(documents, self.padded)

    def _nats(self, documents: Documents) -> float:
        """Mean -log p per token."""
        return -float(self._log_probs(*self._counts_of(documents)[:2]).mean())

    def _row_counts(self, rows: counting.Rows) -> list[smoothing.OrderCounts]:
        """Counts at each predicted position: of the n-gram that ends there and the context that ends one before."""
        return self._order_counts(*self._row_indices(rows))

    def _order_counts(self, grams: Sequence[np.ndarray], contexts: Sequence[np.ndarray]) -> list[smoothing.OrderCounts]:
        """For each order: indices of n-grams (M,) and of their contexts (M,), -1 where absent -> their counts."""
        counts = []
        for n, (gram, context) in enumerate(zip(grams, contexts, strict=True), start=1):
            totals = values_at(self.levels[n - 1].totals, context)
            positions = np.flatnonzero(totals)
            gram_counts = values_at(self.levels[n].counts, gram[positions])
            type_counts = np.take(self.levels[n - 1].type_counts, context[positions], axis=0)
            counts.append(smoothing.OrderCounts(positions, gram_counts, totals[positions], type_counts))
        return counts

    def _log_probs(self, counts: list[smoothing.OrderCounts], positions: int) -> np.ndarray:
        """(M,) nats."""
        name = self.config.smoothing
        return np.log(smoothing.probabilities(name, self.constants, counts, positions, self.vocab_size)[-1])

    def _evaluated(self, grams: Sequence[np.ndarray], contexts: Sequence[np.ndarray]) -> np.ndarray:
        """(M,) nats."""
        return self._log_probs(self._order_counts(grams, contexts), len(grams[0]))

    def arrays(self) -> Arrays:
        """The arrays of each level, named with its order at the end, and the constants."""
        stored = {
            f"{name}{n}": getattr(level, field)
            for n, level in enumerate(self.levels)
            for name, field in STORED_FIELDS.items()
        }
        return {**stored, "constants": self.constants}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        orders = range(len(arrays) // len(STORED_FIELDS))
        self.levels = [counting.Level(*(arrays[f"{name}{n}"] for name in STORED_FIELDS)) for n in orders]
        self.constants = arrays["constants"]

    def parameters(self) -> int:
        """The number of n-grams that occur, of every order, plus the number of constants."""
        return sum(int(np.count_nonzero(level.counts)) for level in self.levels[1:]) + self.constants.size


HELD_OUT = 10  # one document, or token, of train in so many is held out
MOST_HELD_OUT = 1 << 18  # tokens; more do not improve the estimate of a few dozen discounts


def development_split(train: Documents) -> tuple[Documents, Documents]:
    """Train without its held-out part, and that part: every tenth document, or the last tenth of a single document.

    The held-out part has at most about MOST_HELD_OUT tokens.
    """
    if len(train.lengths) < HELD_OUT:
        cut = len(train) - min(len(train) // HELD_OUT, MOST_HELD_OUT)
        tokens = np.asarray(train.tokens)
        starts = train.starts[train.starts < cut]
        return Documents(tokens[:cut], np.append(starts, cut)), Documents.single(tokens[cut:])
    every = max(HELD_OUT, len(train) // MOST_HELD_OUT)
    held_out = np.arange(len(train.lengths)) % every == every - 1
    return _documents(train, ~held_out), _documents(train, held_out)


def _documents(documents: Documents, chosen: np.ndarray) -> Documents:
    """The documents that a mask (D,) selects."""
    tokens = np.asarray(documents.tokens)[np.repeat(chosen, documents.lengths)]
    return Documents(tokens, np.append(0, np.cumsum(documents.lengths[chosen])))


def choose(
    name: str, candidates: Sequence[Any], fit: Callable[[Any], None], nats: Callable[[], float], valid: Documents
) -> None:
    """Fit the candidate that has the lowest loss on valid; a single candidate is fitted without valid.

    Raises FitError where there are several candidates and ``valid`` is empty.
    """
    if len(candidates) == 1:
        return fit(candidates[0])
    if not len(valid):
        raise FitError(f"{name} {list(candidates)}", "valid is empty", "a single value needs none")
    losses = {}
    for candidate in candidates:
        fit(candidate)
        losses[candidate] = nats()
    best = min(losses, key=lambda candidate: losses[candidate])
    comparison = ", ".join(f"{candidate}: {loss:.4f}" for candidate, loss in losses.items())
    logging.getLogger("lmstages").info("%s %s, by nats per token of valid (%s)", name, best, comparison)
    if best != candidates[-1]:
        fit(best)


def _rank_of(level: np.ndarray, keys: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """The rank of every key in ``level``, -1 where it or its parent is absent."""
    if not len(level):
        return np.full(keys.shape, -1)
    indices = np.minimum(np.searchsorted(level, keys), len(level) - 1)
    return np.where((level[indices] == keys) & (parents >= 0), indices, -1)
