"""Tokens as models receive them: documents end to end, token 0 between them.

Token 0 is the boundary between documents, and every document, row and prefix is read as if token 0 stood before it:
one rule in place of n-gram padding, GPT's BOS and a recurrent network's initial state.
``B`` rows, ``T`` tokens per row, ``V`` vocabulary, ``N`` tokens of a stream. Log-probabilities are nats.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

BOUNDARY = 0
Arrays = dict[str, np.ndarray]
Curve = list[dict[str, Any]]  # points {step, tokens, train, valid, learning_rate}


@dataclass(frozen=True)
class Documents:
    """Tokens of D documents end to end, (N,), and the positions where documents begin, (D + 1,), the last being N."""

    tokens: np.ndarray
    starts: np.ndarray

    @classmethod
    def single(cls, tokens: Any) -> "Documents":
        """A stream of tokens (N,) as one document."""
        tokens = np.asarray(tokens)
        return cls(tokens, np.array([0, len(tokens)]))

    @classmethod
    def of(cls, rows: list[list[int]]) -> "Documents":
        """Documents from one list of tokens per document."""
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
        """(N,) the inputs of a network in training, one per token: here the tokens themselves."""
        return self.tokens

    def positions(self) -> np.ndarray:
        """(N,) the position of every token in its document, from 0."""
        return np.arange(len(self.tokens)) - np.repeat(self.starts[:-1], self.lengths)


def history(tokens: np.ndarray, before: np.ndarray | None, width: int) -> np.ndarray:
    """(B, T), (B,) -> (B, T + width): prepends ``width`` tokens to every row, boundaries and, last, ``before``."""
    rows, length = tokens.shape
    extended = np.full((rows, length + width), BOUNDARY, dtype=np.int64)
    extended[:, width:] = tokens
    if before is not None and width:
        extended[:, width - 1] = before
    return extended
