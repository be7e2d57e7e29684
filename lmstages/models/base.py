"""The contract every model keeps, and the shape in which tokens reach it.

    score(x)[:, t] == next_log_probs(x[:, :t])[range(B), x[:, t]]      for all tokens x (B, T), t < T

Token 0 is the boundary between documents, and every document, row and prefix is read as if token 0
stood before it: one rule in place of n-gram padding, GPT's BOS and a recurrent net's start state.
``B`` rows, ``T`` tokens a row, ``V`` vocabulary, ``N`` tokens of a stream. Log-probabilities are nats.

Knows no text, no file and no other model.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.core.documents import Arrays, Curve, Documents
from lmstages.core.runtime import Runtime


class LanguageModel(Protocol):
    """What scoring, sampling and storage know of a model, and all they know."""

    config: ModelConfig
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


class DecodingState(Protocol):
    """B texts of one length that a model reads on, token by token: what sampling knows of a model, and all it knows."""

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the token after what was read."""

    def append(self, tokens: np.ndarray) -> None:
        """(B,): every text goes on by one token."""


@runtime_checkable
class IncrementalModel(Protocol):
    """A model that reads on more cheaply than by reading everything again."""

    def decoding_state(self, prefix: np.ndarray) -> DecodingState:
        """(B, T), T may be 0 -> what has read it."""


@runtime_checkable
class LargeState(Protocol):
    """A model that keeps so much for every text it reads on that only a few fit side by side."""

    def max_parallel_states(self) -> int:
        """How many a reader should hold."""


class Recompute:
    """Asks ``next_log_probs`` anew after every token, of no more tokens than the context holds."""

    def __init__(self, model: LanguageModel, prefix: np.ndarray) -> None:
        self.model, self.context = model, model.config.context
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


def decoding_state(model: LanguageModel, prefix: np.ndarray) -> DecodingState:
    """(B, T) -> the model's own reader, or one that reads its context again at every token."""
    return model.decoding_state(prefix) if isinstance(model, IncrementalModel) else Recompute(model, prefix)


def build(config: ModelConfig, vocab_size: int, runtime: Runtime | None = None) -> LanguageModel:
    """The unfitted model of a model; only its own family is imported, so that counting never loads torch."""
    from importlib import import_module

    model: LanguageModel = getattr(import_module(config.module), config.fitted_by)(config, vocab_size)
    if runtime is not None and isinstance(model, Trainable):
        model.runtime = runtime
    return model
