"""Models that count: n-grams with the same constant added to every count, or smoothed by shorter contexts.

    p(w | h) = (c(h, w) + a) / (c(h) + a V)        h: the n - 1 tokens before w
    p(w | h) = share(h, w) + weight(h) p(w | h less its oldest token)

For the first, only the contexts and n-grams that occur are stored, as sorted integers: the rank of a
context among those seen, times V, plus the next token. Order 1 is the frequencies; order 0 would be the
uniform guess. For the second see ``counts`` (what is stored) and ``smoothing`` (share and weight).
Imports no torch.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from lmstages.config.hyperparameters.counts import DISCOUNTED, KneserNey, Ngram, Smoothed, Uniform
from lmstages.core.documents import Arrays, Curve, Documents, history
from lmstages.core.errors import FitError
from lmstages.models.counts import counting, smoothing

SCORED_AT_ONCE = 1 << 20  # tokens; at order 8 some 200 bytes of memory each
DENSE = 1 << 22  # below so many possible keys a table of all of them is quicker than sorting


class UniformModel:
    """log p = -log V; no parameters."""

    def __init__(self, config: Uniform, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Nothing to learn."""
        return []

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T), the same everywhere."""
        return np.full(tokens.shape, -np.log(self.vocab_size))

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V), the same everywhere."""
        return np.full((len(prefix), self.vocab_size), -np.log(self.vocab_size))

    def arrays(self) -> Arrays:
        """Nothing was fitted."""
        return {}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Nothing to restore."""

    def parameters(self) -> int:
        """None."""
        return 0


class NgramModel:
    """Counts of n-grams that occur; its free parameters are V - 1 for each context that occurs."""

    def __init__(self, config: Smoothed | Ngram, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.order, self.add = max(config.orders), config.constants[0]
        self.levels: list[np.ndarray] = []
        self.keys = np.empty(0, np.int64)
        self.counts = np.empty(0, np.int64)
        self.totals = np.empty(0, np.int64)

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Count every n-gram of ``train`` once, for each order and constant there is to choose from."""
        candidates = list(product(self.config.orders, self.config.constants))
        choose("order, add", candidates, lambda each: self._fit(train, *each), lambda: self._nats(valid), valid)
        return []

    def _fit(self, train: Documents, order: int, add: float) -> None:
        self.add = add
        self._count(train, order)

    def _count(self, train: Documents, order: int) -> None:
        """O(N log N) for sorting, vectorised throughout."""
        self.levels, self.order = [], order
        positions, size = train.positions(), 1
        counted = positions >= (0 if self.config.padded else self.order - 1)
        contexts = np.zeros(np.count_nonzero(counted), dtype=np.int64)
        for distance in range(self.order - 1, 0, -1):
            extended = contexts * self.vocab_size + self._earlier(train.tokens, positions, distance)[counted]
            level, contexts = _ranked(extended, size * self.vocab_size)
            self.levels.append(level)
            size = len(level)
        keys = contexts * self.vocab_size + train.tokens[counted]
        self.keys, self.counts = _counted(keys, size * self.vocab_size)
        self.totals = np.bincount(self.keys // self.vocab_size, self.counts, size).astype(np.int64)

    def _nats(self, documents: Documents) -> float:
        """Mean -log p of documents, each read behind boundaries."""
        rows = np.split(np.asarray(documents.tokens), documents.starts[1:-1])
        return -sum(float(self.score(row[None]).sum()) for row in rows) / len(documents)

    @staticmethod
    def _earlier(tokens: np.ndarray, positions: np.ndarray, distance: int) -> np.ndarray:
        """(N,) -> (N,) the token ``distance`` places back, the boundary where the document begins later."""
        earlier = np.zeros(len(tokens), dtype=np.int64)
        earlier[distance:] = tokens[:-distance]
        return np.where(positions >= distance, earlier, 0)

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T)."""
        width, length = self.order - 1, tokens.shape[1]
        rows = history(tokens, before, width)
        contexts = np.zeros(tokens.shape, dtype=np.int64)
        for step, level in enumerate(self.levels):
            contexts = _found(level, contexts * self.vocab_size + rows[:, step : step + length], contexts)
        return self._log_probs(contexts, tokens)

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V): every token of the vocabulary as the next one."""
        width = self.order - 1
        recent = history(prefix, None, width)[:, prefix.shape[1] :]
        contexts = np.zeros((len(prefix), 1), dtype=np.int64)
        for step, level in enumerate(self.levels):
            contexts = _found(level, contexts * self.vocab_size + recent[:, step : step + 1], contexts)
        return self._log_probs(contexts, np.arange(self.vocab_size)[None, :])

    def _log_probs(self, contexts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Contexts (rank, or -1 where never seen) and tokens, broadcast -> log p."""
        keys = contexts * self.vocab_size + tokens
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        seen = (self.keys[places] == keys) & (contexts >= 0)
        counts = np.where(seen, self.counts[places], 0)
        totals = np.where(contexts >= 0, self.totals[contexts], 0)
        add = self.add
        with np.errstate(divide="ignore", invalid="ignore"):
            log_probs = np.log(counts + add) - np.log(totals + add * self.vocab_size)
        unseen = (totals + add) == 0
        return np.where(unseen, -np.log(self.vocab_size), log_probs)

    def arrays(self) -> Arrays:
        """Contexts that occur, level by level; n-grams that occur, with their counts."""
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


class InterpolatedModel:
    """Counts of all orders up to N, mixed by one of the smoothings; all numbers on disk are counts, so that what
    they make sums to one as exactly as floating point can.

    Its parameters are one for each n-gram that occurs, of every order, and the constants of its smoothing.
    """

    def __init__(self, config: Ngram | KneserNey, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.levels: list[counting.Level] = []
        self.constants = np.empty((0, 3))

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Count ``train``; ``valid`` chooses the order of several, and Jelinek-Mercer's weights."""
        choose(
            "order", self.config.orders, lambda order: self._fit(train, valid, order), lambda: self._nats(valid), valid
        )
        return []

    def _fit(self, train: Documents, valid: Documents, order: int) -> None:
        """One order; discounts are tuned on a part of train that is counted with the rest afterwards."""
        if self.config.discounts == "tuned":
            counted, held_out = development_split(train)
            self._count(counted, order)
            tuned = smoothing.tuned(self.config.smoothing, self.constants, *self._seen(held_out))
            self._count(train, order)
            self.constants = tuned
            return
        self._count(train, order)
        if self.config.smoothing == "jelinek_mercer":
            if not len(valid):
                raise FitError("smoothing jelinek_mercer", "valid is empty", "its weights are fitted there")
            self.constants = smoothing.expectation_maximisation(*self._seen(valid))

    def _count(self, train: Documents, order: int) -> None:
        """Count, with the constants that follow from counts alone."""
        name = self.config.smoothing
        self.levels = counting.count(
            train, order, self.vocab_size, name in smoothing.ADJUSTED, bool(self.config.padded)
        )
        self.constants = np.empty((order, 0))
        if name in DISCOUNTED:
            self.constants = np.array([smoothing.closed_form(name, level.counts) for level in self.levels[1:]])

    def _seen(self, documents: Documents) -> tuple[list[smoothing.Evidence], int, int]:
        """Evidence for every token of documents, how many there are, and V."""
        return self._evidence_of(self._rows(documents)), len(documents), self.vocab_size

    def _rows(self, documents: Documents) -> counting.Rows:
        return counting.Rows.of_documents(documents, bool(self.config.padded))

    def _nats(self, documents: Documents) -> float:
        """Mean -log p."""
        return -float(self._log_probs(*self._seen(documents)[:2]).mean())

    def _evidence_of(self, rows: counting.Rows) -> list[smoothing.Evidence]:
        """Of each cell but those before rows: its n-gram is the one that ends there, its context ends before."""
        places = counting.places_of(self.levels, rows, self.vocab_size)
        predicted = np.flatnonzero(rows.predicted())
        contexts = [np.zeros(len(predicted), dtype=np.int32)] + [place[predicted - 1] for place in places[:-1]]
        return self._evidence([place[predicted] for place in places], contexts)

    def _evidence(self, grams: Sequence[np.ndarray], contexts: Sequence[np.ndarray]) -> list[smoothing.Evidence]:
        """For each order: places of n-grams (M,) and of their contexts (M,), -1 where never seen -> what is known."""
        told = []
        for n, (gram, context) in enumerate(zip(grams, contexts, strict=True), start=1):
            totals = _at(self.levels[n - 1].totals, context)
            cells = np.flatnonzero(totals)
            seen = _at(self.levels[n].counts, gram[cells])
            kinds = np.take(self.levels[n - 1].kinds, context[cells], axis=0)
            told.append(smoothing.Evidence(cells, seen, totals[cells], kinds))
        return told

    def _log_probs(self, evidence: list[smoothing.Evidence], cells: int) -> np.ndarray:
        """(M,) nats."""
        return np.log(
            smoothing.probabilities(self.config.smoothing, self.constants, evidence, cells, self.vocab_size)[-1]
        )

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T); long rows in pieces, each behind as many tokens as the order looks back."""
        order, length = len(self.levels) - 1, tokens.shape[1]
        step = max(1, SCORED_AT_ONCE // max(len(tokens), 1))
        scored = [self._score_piece(tokens[:, :step], before)]
        for left in range(step, length, step):
            begin = max(left - order, 0)
            piece = tokens[:, begin : left + step]
            preceding = tokens[:, begin - 1] if begin else before
            scored.append(self._score_piece(piece, preceding)[:, left - begin :])
        return np.concatenate(scored, axis=1)

    def _score_piece(self, tokens: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        rows = counting.Rows.of_batch(tokens, before, bool(self.config.padded))
        return self._log_probs(self._evidence_of(rows), tokens.size).reshape(tokens.shape)

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V): every token of the vocabulary as the next one."""
        boundaries = max(1, len(self.levels) - 2) if self.config.padded else 1
        recent = history(prefix, None, boundaries)[:, ::-1]  # the latest first, boundaries last
        contexts = self._places(recent[:, :1], recent[:, 1:])[: len(self.levels) - 2]
        everything = np.tile(np.arange(self.vocab_size), (len(prefix), 1))
        grams = self._places(everything, recent)
        empty = np.zeros((len(prefix), 1), dtype=np.int32)
        spread = [np.repeat(context.ravel(), self.vocab_size) for context in [empty, *contexts]]
        evidence = self._evidence([gram.ravel() for gram in grams], spread)
        return self._log_probs(evidence, everything.size).reshape(everything.shape)

    def _places(self, latest: np.ndarray, older: np.ndarray) -> list[np.ndarray]:
        """For n = 1 ... N: place of ``latest`` (B, K) behind the first n - 1 of ``older`` (B, T), the nearest first."""
        places = [latest.astype(np.int32)]
        for n in range(2, len(self.levels)):
            if n - 2 < older.shape[1]:
                further = np.broadcast_to(older[:, n - 2 : n - 1], latest.shape)
                places.append(self.levels[n].find(places[-1], further, self.vocab_size))
            else:
                places.append(np.full(latest.shape, -1, dtype=np.int32))
        return places

    def arrays(self) -> Arrays:
        """The levels' arrays with their order as last letter, and the constants."""
        fields = ("keys", "counts", "totals", "kinds")
        stored = {f"{field}{n}": getattr(level, field) for n, level in enumerate(self.levels) for field in fields}
        return {**stored, "constants": self.constants}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        orders = range(len(arrays) // 4)
        fields = ("keys", "counts", "totals", "kinds")
        self.levels = [counting.Level(*(arrays[f"{field}{n}"] for field in fields)) for n in orders]
        self.constants = arrays["constants"]

    def parameters(self) -> int:
        """N-grams of every order, and constants."""
        return sum(int(np.count_nonzero(level.counts)) for level in self.levels[1:]) + self.constants.size


def _at(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values at places, 0 at place -1."""
    return np.where(places >= 0, values[places], 0) if len(values) else np.zeros(places.shape, dtype=values.dtype)


HELD_OUT = 10  # one part in so many of train, when it stands in for text never seen
MOST_HELD_OUT = 1 << 18  # tokens; more tell no more about a few dozen discounts


def development_split(train: Documents) -> tuple[Documents, Documents]:
    """Every tenth document held out, or the end of a single one; at most a quarter of a million tokens or so."""
    if len(train.lengths) < HELD_OUT:
        cut = len(train) - min(len(train) // HELD_OUT, MOST_HELD_OUT)
        tokens = np.asarray(train.tokens)
        starts = train.starts[train.starts < cut]
        return Documents(tokens[:cut], np.append(starts, cut)), Documents.single(tokens[cut:])
    every = max(HELD_OUT, len(train) // MOST_HELD_OUT)
    held_out = np.arange(len(train.lengths)) % every == every - 1
    return _documents(train, ~held_out), _documents(train, held_out)


def _documents(documents: Documents, chosen: np.ndarray) -> Documents:
    """Those documents (D,) that are chosen."""
    tokens = np.asarray(documents.tokens)[np.repeat(chosen, documents.lengths)]
    return Documents(tokens, np.append(0, np.cumsum(documents.lengths[chosen])))


def choose(
    what: str, candidates: Sequence[Any], fit: Callable[[Any], None], nats: Callable[[], float], valid: Documents
) -> None:
    """Fit the candidate that has the fewest nats on valid; of one there is nothing to choose."""
    if len(candidates) == 1:
        return fit(candidates[0])
    if not len(valid):
        raise FitError(f"{what} {list(candidates)}", "valid is empty", "one value needs none")
    losses = {}
    for candidate in candidates:
        fit(candidate)
        losses[candidate] = nats()
    best = min(losses, key=lambda candidate: losses[candidate])
    told = ", ".join(f"{candidate}: {loss:.4f}" for candidate, loss in losses.items())
    logging.getLogger("lmstages").info("%s %s, by nats per token of valid (%s)", what, best, told)
    if best != candidates[-1]:
        fit(best)


def _ranked(keys: np.ndarray, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """(N,) below ``bound`` -> distinct keys sorted (U,), and each key's rank among them (N,)."""
    if bound > DENSE:
        return np.unique(keys, return_inverse=True)
    present = np.bincount(keys, minlength=bound) > 0
    return np.flatnonzero(present), (np.cumsum(present) - 1)[keys]


def _counted(keys: np.ndarray, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """(N,) below ``bound`` -> distinct keys sorted (U,), how often each occurs (U,)."""
    if bound > DENSE:
        return np.unique(keys, return_counts=True)
    counts = np.bincount(keys, minlength=bound)
    distinct = np.flatnonzero(counts)
    return distinct, counts[distinct]


def _found(level: np.ndarray, keys: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Rank of each key in ``level``, -1 where it or its parent is absent."""
    places = np.minimum(np.searchsorted(level, keys), len(level) - 1)
    return np.where((level[places] == keys) & (parents >= 0), places, -1)
