"""A unigram model of the last few tokens, because texts repeat their own words.

    p(w | h) = (c(h, w) + add) / (n(h) + add V)     c(h, w) = sum over the positions i of w in h of decay^(age of i - 1)

h is the last ``window`` tokens, the newest of age 1, and n(h) sums c(h, w) over all tokens (Kuhn & De Mori 1990; Grave
et al. 2017 take it as their baseline, without decay). Nothing is learned from train: the model depends only on the text
being scored, and mixed with another model it adds a memory of that text. Each row has its own cache, which includes the
token before the row.
"""

from collections.abc import Mapping

import numpy as np

from lmstages.config.hyperparameters.counts import Cache
from lmstages.core.compiled import compiled
from lmstages.core.documents import Arrays, Curve, Documents, history


@compiled
def total_of(length: int, decay: float) -> float:
    """n(h) of a history of ``length`` tokens."""
    return float(length) if decay == 1.0 else (1.0 - decay**length) / (1.0 - decay)


@compiled
def scan(
    tokens: np.ndarray, counts: np.ndarray, window: int, decay: float, add: float, probabilities: np.ndarray
) -> None:
    """(T + 1,) -> (T,) p of every token but the first; leaves c(h, w) after the last token in ``counts`` (V,).

    A count is decayed only when its token enters, leaves or is scored; ``updated`` is the position at which that was.
    """
    updated = np.zeros(len(counts), np.int64)
    for position, token in enumerate(tokens):
        if position > 0:
            total = total_of(min(position, window), decay)
            count = counts[token] * decay ** (position - updated[token])
            probabilities[position - 1] = (count + add) / (total + add * len(counts))
        if position >= window:
            oldest = tokens[position - window]
            decayed = counts[oldest] * decay ** (position - updated[oldest]) - decay ** (window - 1)
            counts[oldest], updated[oldest] = max(decayed, 0.0), position
        counts[token] = counts[token] * decay ** (position + 1 - updated[token]) + 1.0
        updated[token] = position + 1
    counts *= decay ** (len(tokens) - updated)


class CacheModel:
    """Has no parameters: nothing is fitted."""

    def __init__(self, config: Cache, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Learns nothing from train."""
        return []

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T) nats."""
        return np.log(self._scan(history(tokens, before, 1))[0])

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V) nats, from the last ``window`` tokens at most."""
        rows = history(prefix, None, 1)[:, -self.config.window :]
        counts = self._scan(rows)[1] + self.config.add
        return np.log(counts / (total_of(rows.shape[1], self.config.decay) + self.config.add * self.vocab_size))

    def _scan(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, T + 1) -> p (B, T) of all but the first tokens, and c(h, w) (B, V) after the last."""
        probabilities, counts = np.empty((len(rows), rows.shape[1] - 1)), np.zeros((len(rows), self.vocab_size))
        for tokens, count, p in zip(rows, counts, probabilities, strict=True):
            scan(tokens, count, self.config.window, self.config.decay, self.config.add, p)
        return probabilities, counts

    def arrays(self) -> Arrays:
        """No arrays: nothing is fitted."""
        return {}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Nothing to restore."""

    def parameters(self) -> int:
        """0."""
        return 0
