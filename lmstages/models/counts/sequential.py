"""What models share that read token by token and may go on learning from what they have just scored.

    read(token):  log p(token | what was read before)   and only then   state <- state with token

What was learned from ``train`` is the fitted state. Every row starts from it, and what a row taught is taken back
when the row is done, so that rows do not see each other: a prediction is the fitted state and what was learned from
the tokens before it in its own row. Learning from a held-out text as a whole therefore takes that text as one row.

Where ``train`` is several documents, token 0 ends each and the contexts of the next begin behind it, as they do at
the beginning of a row; where it is one stream, token 0 is an ordinary token and contexts run through it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy

import numpy as np

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.core.documents import BOUNDARY, Arrays, Curve, Documents
from lmstages.core.progress import Progress
from lmstages.models.base import DecodingState

PIECE = 1 << 14  # tokens between two looks at the clock
PAGE = 1 << 6  # cells of the large array that are put back together
READERS = 1 << 30  # bytes of the states that a reader may hold side by side


class SequentialModel:
    """A reader under the contract of ``base``; a model writes what it keeps and how it reads.

    ``state`` holds everything fitted: one array that is large, named by ``large`` and put back by pages that its
    reader has marked as written, and others that are small.
    """

    large: str

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.online = config.category == "online"
        self.state: Arrays = {}
        self.fitted: Arrays = {}
        self.written = np.zeros(0, dtype=np.bool_)

    # What a model writes.

    def prepare(self, train: Documents) -> None:
        """An empty ``state`` for a text of this size."""
        raise NotImplementedError

    def begin(self, before: int) -> None:
        """Stand at the beginning of a row, behind one token, at a place of its own."""
        raise NotImplementedError

    def study(self, tokens: np.ndarray, done: float) -> None:
        """(T,) Learn the next tokens of train, of which the share ``done`` has been read."""
        raise NotImplementedError

    def finish(self) -> None:
        """Leave out of ``state`` what only studying needed."""

    def bind(self) -> None:
        """Make anew what follows from ``state``, which is another one now."""

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """(T,) -> (T,) nats of the row's next tokens, each scored before it is learned, if it is."""
        raise NotImplementedError

    def parameters(self) -> int:
        """How many numbers were fitted."""
        raise NotImplementedError

    def distribution(self) -> np.ndarray:
        """(V,) nats of every token as the row's next one."""
        raise NotImplementedError

    # What follows from it.

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Read ``train`` once from end to end."""
        tokens = np.asarray(train.tokens)
        self.prepare(train)
        self.bind()
        self.state["restarts"] = np.array([len(train.lengths) > 1])
        self.written = np.zeros(0, dtype=np.bool_)
        self.begin(BOUNDARY)
        progress = Progress(len(tokens), "token")
        for first in range(0, len(tokens), PIECE):
            self.study(tokens[first : first + PIECE].astype(np.int64), first / len(tokens))
            done = min(first + PIECE, len(tokens))
            progress.at(done, done, "tokens")
        self.finish()
        self.bind()
        self._remember()
        return []

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T)."""
        tokens = np.ascontiguousarray(tokens, dtype=np.int64)
        before = np.full(len(tokens), BOUNDARY) if before is None else before
        log_probs = np.empty(tokens.shape)
        for row, first in enumerate(before):
            with self._row(int(first)):
                self._read_on(tokens[row], log_probs[row])
        return log_probs

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V)."""
        log_probs = np.empty((len(prefix), self.vocab_size))
        for row, tokens in enumerate(np.ascontiguousarray(prefix, dtype=np.int64)):
            with self._row(BOUNDARY):
                self._read_on(tokens, np.empty(len(tokens)))
                log_probs[row] = self.distribution()
        return log_probs

    def _read_on(self, tokens: np.ndarray, log_probs: np.ndarray) -> None:
        """(T,) tokens of a row, piece by piece, into (T,) nats."""
        progress = Progress(len(tokens), "token of a row")
        for first in range(0, len(tokens), PIECE):
            log_probs[first : first + PIECE] = self.read(tokens[first : first + PIECE])
            if progress.due():
                done = min(first + PIECE, len(tokens))
                progress.at(done, done, "tokens")

    @contextmanager
    def _row(self, before: int) -> Iterator[None]:
        """A row from its beginning, after which the model is what it was."""
        self.begin(before)
        try:
            yield
        finally:
            if self.online:
                self._take_back()

    def _remember(self) -> None:
        """Keep the fitted state beside the one that rows write into."""
        if self.online:
            self.fitted = {name: array.copy() for name, array in self.state.items()}
            self.written = np.zeros(-(-len(self.state[self.large]) // PAGE), dtype=np.bool_)

    def _take_back(self) -> None:
        """Make the state the fitted one: small arrays as a whole, of the large one the pages that were written."""
        for name, array in self.fitted.items():
            if name != self.large:
                self.state[name][...] = array
        cells = np.flatnonzero(self.written)[:, None] * PAGE + np.arange(PAGE)
        cells = cells[cells < len(self.fitted[self.large])]
        self.state[self.large][cells] = self.fitted[self.large][cells]
        self.written[:] = False

    def arrays(self) -> Arrays:
        """The fitted state."""
        return dict(self.fitted if self.online else self.state)

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``; a copy, since what is compiled for arrays that cannot be written is other code."""
        self.state = {name: np.array(array) for name, array in arrays.items()}
        self.bind()
        self._remember()

    def decoding_state(self, prefix: np.ndarray) -> DecodingState:
        """(B, T) -> its reader: rows side by side, each with a state of its own where it learns."""
        return RowsReader(self, prefix)

    def max_parallel_states(self) -> int:
        """As many as have room for states of their own; all that do not learn read from one."""
        own = sum(array.nbytes for array in self.fitted.values())
        return max(1, READERS // max(1, own))

    def fork(self) -> "SequentialModel":
        """A model that reads on from the fitted state by itself; what it learns it keeps."""
        other = copy(self)
        if self.online:
            other.state = {name: array.copy() for name, array in self.fitted.items()}
            other.written = np.zeros(0, dtype=np.bool_)
            other.bind()
        other.begin(BOUNDARY)
        return other


class RowsReader:
    """Texts that are read on, each by a fork of the model."""

    def __init__(self, model: SequentialModel, prefix: np.ndarray) -> None:
        self.rows = [model.fork() for _ in prefix]
        for row, tokens in zip(self.rows, np.ascontiguousarray(prefix, dtype=np.int64), strict=True):
            row.read(tokens)

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the next token."""
        return np.stack([row.distribution() for row in self.rows])

    def append(self, tokens: np.ndarray) -> None:
        """(B,): one more token for every row."""
        for row, token in zip(self.rows, tokens, strict=True):
            row.read(np.array([token], dtype=np.int64))
