"""A model of one's own that is fitted without gradient descent, under the contract of ``models.base``.

Its record has two functions: what is learned, as arrays, and the distribution after a history of ``context`` tokens.
They keep nothing between calls, so that whatever counts lies in the arrays.
"""

from collections.abc import Mapping

import numpy as np

from lmstages.core.documents import Arrays, Curve, Documents, history
from lmstages.core.errors import FitError
from lmstages.models.own import Counting

NUMBERS = 1 << 23  # log-probabilities computed at once: 64 MB of float64


class OwnCounts:
    """The arrays that a record has learned, and what it predicts from them."""

    def __init__(self, config: Counting, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.learned: Arrays = {}

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """What the record learns; nothing is random, and there is no curve."""
        arrays = self.config.fit(train, valid, self.vocab_size)
        if not isinstance(arrays, dict):
            problem = f"fit returns {type(arrays).__name__}"
            raise FitError(self.config.name, problem, "arrays by name, a dict", 'such as return {"counts": counts}')
        self.learned = {name: np.asarray(array) for name, array in arrays.items()}
        return []

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T), (B,) -> (B, T) nats, from the distribution after each token's last ``context``."""
        context, (rows, length) = self._context, tokens.shape
        extended = history(tokens, before, context)
        if not length:
            return np.empty((rows, 0))
        windows = np.lib.stride_tricks.sliding_window_view(extended, context + 1, axis=1)
        windows = windows.reshape(rows * length, context + 1)
        step = max(1, NUMBERS // self.vocab_size)
        parts = [self._scores(windows[begin : begin + step]) for begin in range(0, len(windows), step)]
        return np.concatenate([np.empty(0), *parts]).reshape(rows, length)

    def _scores(self, windows: np.ndarray) -> np.ndarray:
        """(N, context + 1) -> (N,) nats of the last token of each."""
        log_probs = self.config.next_log_probs(self.learned, np.ascontiguousarray(windows[:, :-1]))
        return np.asarray(log_probs[np.arange(len(windows)), windows[:, -1]], dtype=np.float64)

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V) nats, from the last ``context`` tokens of the prefix."""
        context = self._context
        rows = history(prefix, None, context)
        return self.config.next_log_probs(self.learned, rows[:, rows.shape[1] - context :])

    def arrays(self) -> Arrays:
        """What was learned."""
        return dict(self.learned)

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        self.learned = dict(arrays)

    def parameters(self) -> int:
        """As the record counts them."""
        return int(self.config.parameters(self.learned))

    @property
    def _context(self) -> int:
        context = self.config.context
        assert context is not None, "a record without a longest context is refused when it is described"
        return context
