"""The contract every rung keeps, and the shape in which tokens reach it.

    score(x)[:, t] == next_log_probs(x[:, :t])[range(B), x[:, t]]      for all tokens x (B, T), t < T

Token 0 is the boundary between documents, and every document, row and prefix is read as if token 0
stood before it: one rule in place of n-gram padding, GPT's BOS and a recurrent net's start state.
``B`` rows, ``T`` tokens a row, ``V`` vocabulary, ``N`` tokens of a stream. Log-probabilities are nats.

Knows no text, no file and no other rung.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from lmstages.ladder import Rung
from lmstages.training.runtime import Runtime

BOUNDARY = 0
Arrays = dict[str, np.ndarray]
Curve = list[dict[str, Any]]  # points {step, tokens, train, valid, learning_rate}


@dataclass(frozen=True)
class Documents:
    """Tokens of D documents end to end, (N,), and where each begins, (D + 1,), the last entry being N."""

    tokens: np.ndarray
    starts: np.ndarray

    @classmethod
    def single(cls, tokens: Any) -> "Documents":
        """One stream as one document."""
        tokens = np.asarray(tokens)
        return cls(tokens, np.array([0, len(tokens)]))

    @classmethod
    def of(cls, rows: list[list[int]]) -> "Documents":
        """Documents from lists of tokens."""
        lengths = [len(row) for row in rows]
        tokens = np.array([token for row in rows for token in row], dtype=np.int64)
        return cls(tokens, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> np.ndarray:
        """(D,) tokens in each document."""
        return np.diff(self.starts)

    @property
    def inputs(self) -> np.ndarray:
        """(N,) what a network reads in place of each token while it learns: the token itself."""
        return self.tokens

    def positions(self) -> np.ndarray:
        """(N,) how many tokens of its own document stand before each token."""
        return np.arange(len(self.tokens)) - np.repeat(self.starts[:-1], self.lengths)


class LanguageModel(Protocol):
    """What scoring, sampling and storage know of a model, and all they know."""

    rung: Rung
    vocab_size: int

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Learn from ``train`` alone, forgetting any earlier fit; ``valid`` may choose, never teach."""

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T), (B,) -> (B, T) log p(token | tokens before it); ``before`` stands in place of the boundary."""

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T), T may be 0 -> (B, V)."""

    def arrays(self) -> Arrays:
        """Everything that was fitted."""

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""

    def parameters(self) -> int:
        """How many free numbers were fitted; each model's docstring says what it counts."""


@runtime_checkable
class Trainable(Protocol):
    """A model that is fitted step by step: it may run elsewhere than on the CPU, and go on after an interruption."""

    runtime: Runtime


@runtime_checkable
class Initialised(Protocol):
    """A model that can say where a fit with a seed begins."""

    def initial(self, seed: int) -> Arrays:
        """As ``arrays``, before the first step."""


class Reader(Protocol):
    """B texts of one length that a model reads on, token by token: what sampling knows of a model, and all it knows."""

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the token after what was read."""

    def append(self, tokens: np.ndarray) -> None:
        """(B,): every text goes on by one token."""


@runtime_checkable
class Readable(Protocol):
    """A model that reads on more cheaply than by reading everything again."""

    def reader(self, prefix: np.ndarray) -> Reader:
        """(B, T), T may be 0 -> what has read it."""


@runtime_checkable
class Bulky(Protocol):
    """A model that keeps so much for every text it reads on that only a few fit side by side."""

    def rows_at_once(self) -> int:
        """How many a reader should hold."""


class Rereader:
    """Asks ``next_log_probs`` anew after every token, of no more tokens than the context holds."""

    def __init__(self, model: LanguageModel, prefix: np.ndarray) -> None:
        self.model, self.context = model, model.rung.context
        self.rows = np.asarray(prefix, dtype=np.int64)
        self._forget()

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the token after what was read."""
        return self.model.next_log_probs(self.rows)

    def append(self, tokens: np.ndarray) -> None:
        """(B,): every text goes on by one token."""
        self.rows = np.column_stack([self.rows, tokens])
        self._forget()

    def _forget(self) -> None:
        if self.context is not None:
            self.rows = self.rows[:, max(0, self.rows.shape[1] - self.context) :]


def reader(model: LanguageModel, prefix: np.ndarray) -> Reader:
    """(B, T) -> the model's own reader, or one that reads its context again at every token."""
    return model.reader(prefix) if isinstance(model, Readable) else Rereader(model, prefix)


@runtime_checkable
class Derived(Protocol):
    """A model that is made of a fitted one; ``against`` gives two things to be scored: divergence and agreement."""

    def derive(self, base: Any, train: Documents) -> None:
        """Take over the fitted model; ``train`` may calibrate."""

    def bits_per_weight(self) -> float:
        """Of all that is stored."""

    def export(self, path: Path, vocabulary: Any) -> None:
        """Write the one file that holds it, with a vocabulary of ``tokenizers.vocabularies``."""

    def against(self, base: Any) -> tuple[Any, Any]:
        """What to score for how far it is from ``base``."""


def history(tokens: np.ndarray, before: np.ndarray | None, width: int) -> np.ndarray:
    """(B, T), (B,) -> (B, T + width): each row behind ``width`` tokens, boundaries and at last ``before``."""
    rows, length = tokens.shape
    extended = np.full((rows, length + width), BOUNDARY, dtype=np.int64)
    extended[:, width:] = tokens
    if before is not None and width:
        extended[:, width - 1] = before
    return extended


def build(rung: Rung, vocab_size: int, runtime: Runtime | None = None) -> LanguageModel:
    """The unfitted model of a rung; only its own family is imported, so that counting never loads torch."""
    from importlib import import_module

    model: LanguageModel = getattr(import_module(rung.module), rung.fitted_by)(rung, vocab_size)
    if runtime is not None and isinstance(model, Trainable):
        model.runtime = runtime
    return model
