"""Base of the models that process a row token by token and may be evaluated online.

    advance(token):  log p(token | earlier tokens of the row)   and only then, online,   state <- state updated with
    token

The state learned from ``train`` is the fitted state. Every row starts from it, and the updates of a row are undone at
its end, so that rows are independent: a prediction depends on the fitted state and on the earlier tokens of its own
row. Online evaluation of a held-out text as a whole therefore scores that text as one row.

Where ``train`` is several documents, token 0 ends each and contexts do not cross it, neither there nor within rows;
where it is one stream, token 0 is an ordinary token and contexts run through it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy

import numpy as np

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.core.documents import BOUNDARY, Arrays, Curve, Documents
from lmstages.core.progress import Progress
from lmstages.models.base import DecodingState, OpenRow

PIECE = 1 << 14  # tokens between two reports of progress
PAGE = 1 << 6  # elements of the large array that are restored together
DECODING_MEMORY = 1 << 30  # bytes of parallel decoding states


class SequentialModel:
    """A sequential model under the contract of ``models.base``; a subclass writes its state and its updates.

    ``state`` holds all fitted arrays: a large one, named by ``large``, of which the subclass marks the pages it writes
    so that only those are restored, and small ones that are restored as a whole.
    """

    large: str

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.online = config.category == "online"
        self.state: Arrays = {}
        self.fitted: Arrays = {}
        self.written = np.zeros(0, dtype=np.bool_)

    # What a subclass writes.

    def prepare(self, train: Documents) -> None:
        """Set ``state`` to an untrained one for a text of this size."""
        raise NotImplementedError

    def begin(self, before: int) -> None:
        """Start a row after the token ``before``, with a context of this row's own."""
        raise NotImplementedError

    def learn(self, tokens: np.ndarray, progress: float) -> None:
        """(T,) Learn the next tokens of train, of which the fraction ``progress`` is done."""
        raise NotImplementedError

    def finish(self) -> None:
        """Remove from ``state`` what only fitting needs."""

    def bind(self) -> None:
        """Recompute what is derived from ``state``, whose arrays have been replaced."""

    def advance(self, tokens: np.ndarray) -> np.ndarray:
        """(T,) -> (T,) nats of the row's next tokens; online, the state is updated with each after it is scored."""
        raise NotImplementedError

    def parameters(self) -> int:
        """How many numbers were fitted."""
        raise NotImplementedError

    def distribution(self) -> np.ndarray:
        """(V,) nats of every token as the row's next one."""
        raise NotImplementedError

    # What follows from it.

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """One pass over ``train``."""
        tokens = np.asarray(train.tokens)
        self.prepare(train)
        self.bind()
        self.state["restarts"] = np.array([len(train.lengths) > 1])
        self.written = np.zeros(0, dtype=np.bool_)
        self.begin(BOUNDARY)
        progress = Progress(len(tokens), "token")
        for first in range(0, len(tokens), PIECE):
            self.learn(tokens[first : first + PIECE].astype(np.int64), first / len(tokens))
            done = min(first + PIECE, len(tokens))
            progress.at(done, done, "tokens")
        self.finish()
        self.bind()
        self._save_fitted()
        return []

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T) nats."""
        tokens = np.ascontiguousarray(tokens, dtype=np.int64)
        before = np.full(len(tokens), BOUNDARY) if before is None else before
        log_probs = np.empty(tokens.shape)
        for row, first in enumerate(before):
            with self._row(int(first)):
                self._advance_in_pieces(tokens[row], log_probs[row])
        return log_probs

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V) nats."""
        log_probs = np.empty((len(prefix), self.vocab_size))
        for row, tokens in enumerate(np.ascontiguousarray(prefix, dtype=np.int64)):
            with self._row(BOUNDARY):
                self._advance_in_pieces(tokens, np.empty(len(tokens)))
                log_probs[row] = self.distribution()
        return log_probs

    def _advance_in_pieces(self, tokens: np.ndarray, log_probs: np.ndarray) -> None:
        """(T,) tokens of a row, PIECE at a time, into (T,) nats."""
        progress = Progress(len(tokens), "token of a row")
        for first in range(0, len(tokens), PIECE):
            log_probs[first : first + PIECE] = self.advance(tokens[first : first + PIECE])
            if progress.due():
                done = min(first + PIECE, len(tokens))
                progress.at(done, done, "tokens")

    @contextmanager
    def _row(self, before: int) -> Iterator[None]:
        """Start a row, and restore the fitted state at its end."""
        self.begin(before)
        try:
            yield
        finally:
            if self.online:
                self._restore_fitted()

    def _save_fitted(self) -> None:
        """Keep a copy of the fitted state beside the one that online evaluation updates."""
        if self.online:
            self.fitted = {name: array.copy() for name, array in self.state.items()}
            self.written = np.zeros(-(-len(self.state[self.large]) // PAGE), dtype=np.bool_)

    def _restore_fitted(self) -> None:
        """Set the state to the fitted one: small arrays as a whole, of the large one the pages that were written."""
        for name, array in self.fitted.items():
            if name != self.large:
                self.state[name][...] = array
        elements = np.flatnonzero(self.written)[:, None] * PAGE + np.arange(PAGE)
        elements = elements[elements < len(self.fitted[self.large])]
        self.state[self.large][elements] = self.fitted[self.large][elements]
        self.written[:] = False

    def arrays(self) -> Arrays:
        """The fitted state."""
        return dict(self.fitted if self.online else self.state)

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``; copies them, since numba compiles other code for read-only arrays."""
        self.state = {name: np.array(array) for name, array in arrays.items()}
        self.bind()
        self._save_fitted()

    def decoding_state(self, prefix: np.ndarray) -> DecodingState:
        """(B, T) -> decoding states of B rows; online, each row updates a state of its own."""
        return ForkedRows(self, prefix)

    def max_parallel_states(self) -> int:
        """How many states of their own fit into DECODING_MEMORY; static models share one state."""
        size = sum(array.nbytes for array in self.fitted.values())
        return max(1, DECODING_MEMORY // max(1, size))

    def open_row(self) -> OpenRow:
        """A row that is scored piece by piece; online, its updates are its own."""
        return self.fork()

    def fork(self) -> "SequentialModel":
        """A copy that starts a row from the fitted state; online, its updates are its own and are kept."""
        other = copy(self)
        if self.online:
            other.state = {name: array.copy() for name, array in self.fitted.items()}
            other.written = np.zeros(0, dtype=np.bool_)
            other.bind()
        other.begin(BOUNDARY)
        return other


class ForkedRows:
    """Decoding states of B rows, each a fork of the model."""

    def __init__(self, model: SequentialModel, prefix: np.ndarray) -> None:
        self.rows = [model.fork() for _ in prefix]
        for row, tokens in zip(self.rows, np.ascontiguousarray(prefix, dtype=np.int64), strict=True):
            row.advance(tokens)

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the next token."""
        return np.stack([row.distribution() for row in self.rows])

    def append(self, tokens: np.ndarray) -> None:
        """(B,): the next token of every row."""
        for row, token in zip(self.rows, tokens, strict=True):
            row.advance(np.array([token], dtype=np.int64))
