"""A unigram of the last few tokens: what was just said is said again.

    p(w | h) = (c(h, w) + add) / (n(h) + add V)      c(h, w) = sum over the places i of w in h of decay^(age of i - 1)

h is the last ``window`` tokens, the newest of age 1, and n(h) sums c(h, w) over all tokens (Kuhn & De Mori 1990;
Grave et al. 2017 take it as their baseline, without decay). Nothing is learned from train, so that the cache knows
only what a text has said of itself; added to another model's probabilities it lends that model a memory. Each row has
its own, which holds the token before the row, too.
"""

from collections.abc import Mapping

import numpy as np

from lmstages.config.hyperparameters.counts import Cache
from lmstages.core.documents import Arrays, Curve, Documents, history
from lmstages.models.counts.compiled import compiled


@compiled
def weight_of(length: int, decay: float) -> float:
    """n(h) of ``length`` tokens."""
    return float(length) if decay == 1.0 else (1.0 - decay**length) / (1.0 - decay)


@compiled
def read(
    tokens: np.ndarray, counts: np.ndarray, window: int, decay: float, add: float, probabilities: np.ndarray
) -> None:
    """(T + 1,) -> (T,) p of every token but the first; leaves c(h, w) behind the last token in ``counts`` (V,).

    A count fades only when its token comes, goes or is asked for: ``seen`` says since when it stands.
    """
    seen = np.zeros(len(counts), np.int64)
    for place, token in enumerate(tokens):
        if place > 0:
            total = weight_of(min(place, window), decay)
            count = counts[token] * decay ** (place - seen[token])
            probabilities[place - 1] = (count + add) / (total + add * len(counts))
        if place >= window:
            oldest = tokens[place - window]
            faded = counts[oldest] * decay ** (place - seen[oldest]) - decay ** (window - 1)
            counts[oldest], seen[oldest] = max(faded, 0.0), place
        counts[token] = counts[token] * decay ** (place + 1 - seen[token]) + 1.0
        seen[token] = place + 1
    counts *= decay ** (len(tokens) - seen)


class CacheModel:
    """No parameters: nothing is fitted."""

    def __init__(self, config: Cache, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Nothing to learn."""
        return []

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T)."""
        return np.log(self._read(history(tokens, before, 1))[0])

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V): of no more than the last ``window`` tokens."""
        rows = history(prefix, None, 1)[:, -self.config.window :]
        counts = self._read(rows)[1] + self.config.add
        return np.log(counts / (weight_of(rows.shape[1], self.config.decay) + self.config.add * self.vocab_size))

    def _read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, T + 1) -> p (B, T) of all but the first tokens, and c(h, w) (B, V) behind the last."""
        probabilities, counts = np.empty((len(rows), rows.shape[1] - 1)), np.zeros((len(rows), self.vocab_size))
        for tokens, count, p in zip(rows, counts, probabilities, strict=True):
            read(tokens, count, self.config.window, self.config.decay, self.config.add, p)
        return probabilities, counts

    def arrays(self) -> Arrays:
        """Nothing was fitted."""
        return {}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Nothing to restore."""

    def parameters(self) -> int:
        """None."""
        return 0
