"""Models that count: n-grams with the same constant added to every count.

    p(w | h) = (c(h, w) + a) / (c(h) + a V)        h: the n - 1 tokens before w

Only the contexts and n-grams that occur are stored, as sorted integers: the rank of a context among
those seen, times V, plus the next token. Order 1 is the frequencies; order 0 would be the uniform guess.
Imports no torch.
"""

from collections.abc import Mapping

import numpy as np

from lmstages.ladder import Smoothed, Uniform
from lmstages.models.base import Arrays, Curve, Documents, history

DENSE = 1 << 22  # below so many possible keys a table of all of them is quicker than sorting


class UniformModel:
    """log p = -log V; no parameters."""

    def __init__(self, rung: Uniform, vocab_size: int) -> None:
        self.rung, self.vocab_size = rung, vocab_size

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

    def __init__(self, rung: Smoothed, vocab_size: int) -> None:
        self.rung, self.vocab_size = rung, vocab_size
        self.levels: list[np.ndarray] = []
        self.keys = np.empty(0, np.int64)
        self.counts = np.empty(0, np.int64)
        self.totals = np.empty(0, np.int64)

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Count every n-gram of ``train`` once; O(N log N) for sorting, vectorised throughout."""
        self.levels = []
        positions, size = train.positions(), 1
        counted = positions >= (0 if self.rung.padded else self.rung.order - 1)
        contexts = np.zeros(np.count_nonzero(counted), dtype=np.int64)
        for distance in range(self.rung.order - 1, 0, -1):
            extended = contexts * self.vocab_size + self._earlier(train.tokens, positions, distance)[counted]
            level, contexts = _ranked(extended, size * self.vocab_size)
            self.levels.append(level)
            size = len(level)
        keys = contexts * self.vocab_size + train.tokens[counted]
        self.keys, self.counts = _counted(keys, size * self.vocab_size)
        self.totals = np.bincount(self.keys // self.vocab_size, self.counts, size).astype(np.int64)
        return []

    @staticmethod
    def _earlier(tokens: np.ndarray, positions: np.ndarray, distance: int) -> np.ndarray:
        """(N,) -> (N,) the token ``distance`` places back, the boundary where the document begins later."""
        earlier = np.zeros(len(tokens), dtype=np.int64)
        earlier[distance:] = tokens[:-distance]
        return np.where(positions >= distance, earlier, 0)

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T)."""
        width, length = self.rung.order - 1, tokens.shape[1]
        rows = history(tokens, before, width)
        contexts = np.zeros(tokens.shape, dtype=np.int64)
        for step, level in enumerate(self.levels):
            contexts = _found(level, contexts * self.vocab_size + rows[:, step : step + length], contexts)
        return self._log_probs(contexts, tokens)

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V): every token of the vocabulary as the next one."""
        width = self.rung.order - 1
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
        add = self.rung.add
        with np.errstate(divide="ignore", invalid="ignore"):
            log_probs = np.log(counts + add) - np.log(totals + add * self.vocab_size)
        unseen = (totals + add) == 0
        return np.where(unseen, -np.log(self.vocab_size), log_probs)

    def arrays(self) -> Arrays:
        """Contexts that occur, level by level; n-grams that occur, with their counts."""
        levels = {f"level{index}": level for index, level in enumerate(self.levels)}
        return {**levels, "keys": self.keys, "counts": self.counts, "totals": self.totals}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        self.levels = [arrays[f"level{index}"] for index in range(self.rung.order - 1)]
        self.keys, self.counts, self.totals = arrays["keys"], arrays["counts"], arrays["totals"]

    def parameters(self) -> int:
        """V - 1 free probabilities for each context that occurs (Chen & Goodman 1999, section 2)."""
        return len(self.totals) * (self.vocab_size - 1)


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
