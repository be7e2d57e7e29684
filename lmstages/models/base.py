"""The contract every rung keeps, and the shape in which tokens reach it.

    score(x)[:, t] == next_log_probs(x[:, :t])[range(B), x[:, t]]      for all tokens x (B, T), t < T

Token 0 is the boundary between documents, and every document, row and prefix is read as if token 0
stood before it: one rule in place of n-gram padding, GPT's BOS and a recurrent net's start state.
``B`` rows, ``T`` tokens a row, ``V`` vocabulary, ``N`` tokens of a stream. Log-probabilities are nats.

Knows no text, no file and no other rung.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lmstages.ladder import Rung

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


def history(tokens: np.ndarray, before: np.ndarray | None, width: int) -> np.ndarray:
    """(B, T), (B,) -> (B, T + width): each row behind ``width`` tokens, boundaries and at last ``before``."""
    rows, length = tokens.shape
    extended = np.full((rows, length + width), BOUNDARY, dtype=np.int64)
    extended[:, width:] = tokens
    if before is not None and width:
        extended[:, width - 1] = before
    return extended


def build(rung: Rung, vocab_size: int) -> LanguageModel:
    """The unfitted model of a rung; only its own family is imported, so that counting never loads torch."""
    from importlib import import_module

    return getattr(import_module(rung.module), rung.fitted_by)(rung, vocab_size)
