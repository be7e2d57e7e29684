"""N-gram models that predict from n-grams of all orders: finds them for a text, whatever is then computed of them."""

from collections.abc import Sequence

import numpy as np

from lmstages.core.documents import history
from lmstages.models.counts import counting

SCORED_AT_ONCE = 1 << 20  # tokens; at order 8 about 200 bytes of memory each


class AllOrders:
    """Scores tokens by their n-grams of every order; what it needs of a model is ``_evaluated``.

    ``levels``: the n-grams of order 0 ... N. ``padded``: boundary tokens all the way before a row, not one.
    """

    vocab_size: int
    levels: list[counting.Level]
    padded: bool

    def _evaluated(self, grams: Sequence[np.ndarray], contexts: Sequence[np.ndarray]) -> np.ndarray:
        """(M,) nats; for each order indices of n-grams (M,), and of their contexts (M,), -1 where absent."""
        raise NotImplementedError

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T) nats; long rows in pieces, each preceded by as many tokens as the order needs."""
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
        rows = counting.Rows.of_batch(tokens, before, self.padded)
        return self._evaluated(*self._row_indices(rows)).reshape(tokens.shape)

    def _row_indices(self, rows: counting.Rows) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """At each predicted position the n-gram that ends there, and the context that ends one before."""
        indices = counting.indices_of(self.levels, rows, self.vocab_size)
        predicted = np.flatnonzero(rows.predicted())
        contexts = [np.zeros(len(predicted), dtype=np.int32)] + [of_order[predicted - 1] for of_order in indices[:-1]]
        return [of_order[predicted] for of_order in indices], contexts

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V) nats of every token as the next one."""
        boundaries = max(1, len(self.levels) - 2) if self.padded else 1
        recent = history(prefix, None, boundaries)[:, ::-1]  # the latest first, boundaries last
        contexts = self._indices(recent[:, :1], recent[:, 1:])[: len(self.levels) - 2]
        vocabulary = np.tile(np.arange(self.vocab_size), (len(prefix), 1))
        grams = self._indices(vocabulary, recent)
        empty = np.zeros((len(prefix), 1), dtype=np.int32)
        repeated = [np.repeat(context.ravel(), self.vocab_size) for context in [empty, *contexts]]
        return self._evaluated([gram.ravel() for gram in grams], repeated).reshape(vocabulary.shape)

    def _indices(self, latest: np.ndarray, older: np.ndarray) -> list[np.ndarray]:
        """For n = 1 ... N: (B, K) indices of ``latest`` (B, K) after the n - 1 newest of ``older`` (B, T)."""
        indices = [latest.astype(np.int32)]
        for n in range(2, len(self.levels)):
            if n - 2 < older.shape[1]:
                preceding = np.broadcast_to(older[:, n - 2 : n - 1], latest.shape)
                indices.append(self.levels[n].find(indices[-1], preceding, self.vocab_size))
            else:
                indices.append(np.full(latest.shape, -1, dtype=np.int32))
        return indices


def values_at(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Values at indices, 0 at index -1."""
    return np.where(indices >= 0, values[indices], 0) if len(values) else np.zeros(indices.shape, dtype=values.dtype)
