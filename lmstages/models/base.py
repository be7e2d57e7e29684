"""The contract of every model, as protocols, and the incremental decoding of any model.

    score(x)[:, t] == next_log_probs(x[:, :t])[range(B), x[:, t]]      for all tokens x (B, T), t < T

Token 0 is the boundary between documents, and every document, row and prefix is read as if token 0
stood before it: one rule in place of n-gram padding, GPT's BOS and a recurrent network's initial state.
``B`` rows, ``T`` tokens per row, ``V`` vocabulary, ``N`` tokens of a stream. Log-probabilities are nats.

Imports no text, no file format and no particular model.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from lmstages.config.hyperparameters.base import Derived, ModelConfig
from lmstages.core.documents import Arrays, Curve, Documents
from lmstages.core.errors import UserError
from lmstages.core.runtime import Runtime
from lmstages.core.workflow_files import STARTER


class LanguageModel(Protocol):
    """A model as scoring, sampling and storage use it; whatever they do with a model goes through these methods.

    For all tokens x (B, T), t < T:  score(x)[:, t] == next_log_probs(x[:, :t])[range(B), x[:, t]]
    """

    config: ModelConfig
    vocab_size: int

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Fit to ``train`` from scratch; returns the learning curve, empty for models that are counted.

        ``valid`` may choose hyperparameters or stop early, but nothing is fitted to it. Raises FitError.
        """

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T) nats, log p(token | tokens before it); ``before`` (B,) replaces the boundary in front."""

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T), T may be 0 -> (B, V) nats of the next token."""

    def arrays(self) -> Arrays:
        """All fitted numbers by name, as they are stored."""

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Set the fitted numbers; the inverse of ``arrays``."""

    def parameters(self) -> int:
        """The number of fitted free numbers; the docstring of each model states what it counts."""


@runtime_checkable
class Trainable(Protocol):
    """Is fitted step by step: may run on another device than the CPU, and resume after an interruption."""

    runtime: Runtime


@runtime_checkable
class Initialised(Protocol):
    """Can return the initial arrays of a fit."""

    def initial(self, seed: int) -> Arrays:
        """As ``arrays``, before the first step of a fit with this seed."""


@runtime_checkable
class Derivable(LanguageModel, Protocol):
    """Is made from a fitted model without further training."""

    def derive(self, base: LanguageModel, train: Documents) -> None:
        """Take over the fitted ``base``, which its config names; ``train`` may calibrate. Raises as ``check_base``."""


@runtime_checkable
class Selective(Protocol):
    """Needs a pass of its own for each token of a row, so that it scores no more tokens than are wanted."""

    def score_wanted(self, tokens: np.ndarray, before: np.ndarray | None, wanted: np.ndarray) -> np.ndarray:
        """As ``score``, where ``wanted`` (B, T) is true; any number elsewhere."""


@runtime_checkable
class ChosenOnValid(Protocol):
    """A derived model with numbers that ``valid`` chooses."""

    def choose(self, valid: Documents) -> None:
        """Choose them, after ``derive``. Raises FitError."""


@runtime_checkable
class UpperBound(LanguageModel, Protocol):
    """Gives no probabilities of the next token, but an upper bound on the code length of the tokens that are wanted."""

    def halves(self, tokens: np.ndarray, before: np.ndarray | None, wanted: np.ndarray) -> np.ndarray:
        """(B, T), (B,), (B, T) -> (2, B, T) nats of each wanted token: two independent estimates, 0 elsewhere.

        The wanted tokens of a row are adjacent: those before them are known, those after them are not.
        """


class DecodingState(Protocol):
    """Incremental decoding of B texts of one length, token by token; sampling uses nothing else of a model."""

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the next token."""

    def append(self, tokens: np.ndarray) -> None:
        """(B,): append one token to every text."""


@runtime_checkable
class IncrementalModel(Protocol):
    """Has a decoding state of its own, which is cheaper than recomputing the whole prefix for every token."""

    def decoding_state(self, prefix: np.ndarray) -> DecodingState:
        """(B, T), T may be 0 -> the decoding state after this prefix."""


@runtime_checkable
class SharedPrefix(Protocol):
    """Scores many texts that begin alike, and reads the beginning once."""

    def score_continuations(self, prefix: np.ndarray, tails: np.ndarray) -> np.ndarray:
        """(P,), P > 0, (B, T) -> (B, T) nats; ``prefix`` begins with the token before the row.

        P + T is at most the context + 1.
        """


@runtime_checkable
class LargeState(Protocol):
    """Has a large decoding state; ``max_parallel_states`` caps the sampling batch."""

    def max_parallel_states(self) -> int:
        """The most texts to decode at once."""


class OpenRow(Protocol):
    """A row that is scored piece by piece; it keeps the model's state and not the tokens that were read."""

    def advance(self, tokens: np.ndarray) -> np.ndarray:
        """(T,) the next tokens of the row -> (T,) nats."""


@runtime_checkable
class Continuing(Protocol):
    """Has a state that does not grow with the row, although a prediction may depend on all of it."""

    def open_row(self) -> OpenRow:
        """A row at its beginning, with the boundary before it."""


class TooLongError(UserError):
    """A gap that is too long for a model; shorter ones may not be."""


@runtime_checkable
class Infilling(Protocol):
    """Fills a gap by itself: predicts the hidden tokens one by one, knowing both sides and how many are hidden."""

    def fill_log_probs(self, left: np.ndarray, filled: np.ndarray, right: np.ndarray, hidden: int) -> np.ndarray:
        """(B, L), (B, J), (B, R) -> (B, V) nats of the token after ``filled``, the first J tokens of the gap.

        ``hidden`` >= 1 tokens of the gap are not known yet, the predicted one included; what they are must not matter.
        Raises TooLongError.
        """


@runtime_checkable
class EndsGaps(Infilling, Protocol):
    """Fills a gap whose length it is not told: predicts also where the gap ends."""

    def fill_or_end_log_probs(
        self, left: np.ndarray, filled: np.ndarray, right: np.ndarray, longest: int
    ) -> np.ndarray:
        """(B, L), (B, J), (B, R) -> (B, V + 1) nats of the token after ``filled``, and of no more, the last column.

        A gap has at most ``longest`` tokens. Raises TooLongError.
        """


class Recompute:
    """The decoding state of any model: recomputes ``next_log_probs`` of the last ``context`` tokens at every token."""

    def __init__(self, model: LanguageModel, prefix: np.ndarray) -> None:
        self.model, self.context = model, model.config.context
        self.rows = np.asarray(prefix, dtype=np.int64)
        self._truncate()

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the next token."""
        return self.model.next_log_probs(self.rows)

    def append(self, tokens: np.ndarray) -> None:
        """(B,): append one token to every text."""
        self.rows = np.column_stack([self.rows, tokens])
        self._truncate()

    def _truncate(self) -> None:
        """Drop the tokens that lie before the context."""
        if self.context is not None:
            self.rows = self.rows[:, max(0, self.rows.shape[1] - self.context) :]


def decoding_state(model: LanguageModel, prefix: np.ndarray) -> DecodingState:
    """(B, T) -> the model's own decoding state, or ``Recompute``."""
    return model.decoding_state(prefix) if isinstance(model, IncrementalModel) else Recompute(model, prefix)


class MadeFromBase:
    """What models share that are made from another, their ``base``: it says where and how long a fit runs."""

    base: Any

    @property
    def runtime(self) -> Runtime:
        """That of the model it is made from."""
        return self.base.runtime

    @runtime.setter
    def runtime(self, runtime: Runtime) -> None:
        self.base.runtime = runtime


def record_of_base(config: Derived, what: str) -> ModelConfig:
    """The record of the model that a derived one is made from; a UserError where its section lacks it."""
    if config.base is None:
        raise UserError(f"model {config.name}", f"its section lacks base, the record of {what}")
    return config.base


def check_base(config: ModelConfig, fitted: ModelConfig, of: str) -> None:
    """Raises UserError unless the fitted model has the hyperparameters of the one that the config names."""
    if config != fitted:
        raise UserError(f"--base {of}", "was fitted with other hyperparameters", "", f"run {STARTER} to fit it again")


def build(config: ModelConfig, vocab_size: int, runtime: Runtime | None = None) -> LanguageModel:
    """The unfitted model of a config; only its own module is imported, so that counting models never load torch."""
    from importlib import import_module

    model: LanguageModel = getattr(import_module(config.module), config.fitted_by)(config, vocab_size)
    if runtime is not None and isinstance(model, Trainable):
        model.runtime = runtime
    return model
