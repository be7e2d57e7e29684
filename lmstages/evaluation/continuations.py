"""Many texts that begin alike, scored by a model from left to right, or by a mixture of such models.

Bayes' rule tries every fill of a gap: what stands left of it is the same for all of them, what stands right of it too.
A model that can reads the beginning once (``SharedPrefix``); one of bounded context reads no more of it than that, and
the far end of the right side, which no fill reaches, once.

    p(token) = sum over i of w_i p_i(token)     of a mixture, with the weights that valid gave it

``L`` tokens of the beginning, ``C`` continuations of ``T`` tokens, ``K`` models. Log-probabilities are nats.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lmstages.core.documents import BOUNDARY
from lmstages.evaluation.mixtures import mixed
from lmstages.models.base import LanguageModel, Selective, SharedPrefix
from lmstages.models.nonautoregressive.gaps import sides_within

RIGHT = 32  # tokens of the right side that Bayes' rule reads, unless the caller allows more or fewer
TOKENS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class MixedModels:
    """Fitted models by name, and the weight (K,) of each in their mixture."""

    name: str
    models: Mapping[str, LanguageModel]
    weights: np.ndarray


class Continuations(Protocol):
    """What fills of a gap need of a model; ``reads``: the most tokens of the right side that are worth reading."""

    vocab_size: int
    reads: int

    def right_within(self, left: np.ndarray, right: np.ndarray, length: int) -> np.ndarray:
        """(L,), (R,) -> the part of the right side that a row has room for behind a gap; raises TooLongError."""

    def score(self, left: np.ndarray, tails: np.ndarray, length: int) -> np.ndarray:
        """(L,), (C, T) -> (C, T) nats; the tails differ in their first ``length`` tokens alone."""

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V) nats of the next token."""


class OfModel:
    """Continuations by one model from left to right."""

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.vocab_size, self.context = model, model.vocab_size, model.config.context
        self.reads = sys.maxsize if self.context is None else self.context
        self.window = self.context if model.config.protocol == "stride" else None  # the most tokens of a row

    def right_within(self, left: np.ndarray, right: np.ndarray, length: int) -> np.ndarray:
        """As far as a window has room for both sides."""
        if self.window is None:
            return right
        return sides_within(self.window, length, left[None], right[None]).right[0]

    def score(self, left: np.ndarray, tails: np.ndarray, length: int) -> np.ndarray:
        """(L,), (C, T) -> (C, T): the tokens that no fill reaches are scored once."""
        reached = tails.shape[1] if self.context is None else min(tails.shape[1], length + self.context)
        scores = self._score(left, tails[:, :reached])
        if reached == tails.shape[1]:
            return scores
        rest = self._score(left, tails[:1])[:, reached:]
        return np.hstack([scores, np.broadcast_to(rest, (len(tails), rest.shape[1]))])

    def _score(self, left: np.ndarray, tails: np.ndarray) -> np.ndarray:
        left, before = self._nearest(left, tails.shape[1])
        if isinstance(self.model, SharedPrefix):
            return self.model.score_continuations(np.append(before, left), tails)
        step = max(1, TOKENS_AT_ONCE // (len(left) + tails.shape[1]))
        pieces = [self._score_piece(left, before, tails[first : first + step]) for first in range(0, len(tails), step)]
        return np.concatenate(pieces)

    def _score_piece(self, left: np.ndarray, before: int, tails: np.ndarray) -> np.ndarray:
        rows = np.hstack([np.tile(left, (len(tails), 1)), tails])
        in_front = np.full(len(rows), before)
        if isinstance(self.model, Selective):
            wanted = np.broadcast_to(np.arange(rows.shape[1]) >= len(left), rows.shape)
            return self.model.score_wanted(rows, in_front, wanted)[:, len(left) :].astype(np.float64)
        return self.model.score(rows, in_front)[:, len(left) :].astype(np.float64)

    def _nearest(self, left: np.ndarray, length: int) -> tuple[np.ndarray, int]:
        """The tokens of the beginning that matter to a row, and the token before them."""
        most = len(left) if self.context is None else self.context
        first = max(0, len(left) - (most if self.window is None else self.window - length))
        return left[first:], int(left[first - 1]) if first else BOUNDARY

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V), from the last ``context`` tokens."""
        first = 0 if self.context is None else max(0, prefix.shape[1] - self.context)
        return self.model.next_log_probs(prefix[:, first:])


class OfMixture:
    """Continuations by K models, their probabilities averaged token by token."""

    def __init__(self, parts: Sequence[Continuations], weights: np.ndarray) -> None:
        self.parts, self.weights = parts, weights  # (K,)
        self.vocab_size, self.reads = parts[0].vocab_size, max(part.reads for part in parts)

    def right_within(self, left: np.ndarray, right: np.ndarray, length: int) -> np.ndarray:
        """As far as every model has room for it."""
        for part in self.parts:
            right = part.right_within(left, right, length)
        return right

    def score(self, left: np.ndarray, tails: np.ndarray, length: int) -> np.ndarray:
        """(L,), (C, T) -> (C, T)."""
        return self._mixed([part.score(left, tails, length) for part in self.parts])

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V)."""
        return self._mixed([part.next_log_probs(prefix) for part in self.parts])

    def _mixed(self, log_probs: Sequence[np.ndarray]) -> np.ndarray:
        stacked = np.stack([one.astype(np.float64).ravel() for one in log_probs])
        return mixed(stacked, self.weights).reshape(log_probs[0].shape)


def continuations_of(model: LanguageModel | MixedModels) -> Continuations:
    """Those of a model from left to right, or of a mixture of such models."""
    if isinstance(model, MixedModels):
        return OfMixture([OfModel(part) for part in model.models.values()], model.weights)
    return OfModel(model)
