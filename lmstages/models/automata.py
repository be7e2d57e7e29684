"""A model that reads a bounded context as a finite automaton: states, next-token distributions, next states.

An interpolated n-gram model predicts from the longest suffix of the text that occurs in train as a context, and the
suffix after the next token follows from the suffix before it: contexts are states. Any other model of a short context
has the histories of so many tokens as states. Exact infilling runs over these states.

``S`` states, ``V`` vocabulary, ``M`` states asked for. Probabilities are float64, not logarithms.
"""

from functools import cached_property
from typing import Protocol

import numpy as np

from lmstages.core.documents import history
from lmstages.models.base import LanguageModel
from lmstages.models.counts.distributions import by_context, contexts_of_grams, followers_of
from lmstages.models.counts.ngram import InterpolatedModel

MOST_ENTRIES = 1 << 25  # of a table (S, V), 12 bytes each; larger automata compute their rows when asked
MOST_HISTORIES = 1 << 16  # states of a model that is no n-gram model


class Automaton(Protocol):
    """What infilling uses of a model with finitely many states; ``memory``: tokens after which a state forgets."""

    vocab_size: int
    memory: int
    size: int

    @property
    def table(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The rows of all S states, None where they are too many to hold."""

    def after(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T), T may be 0 -> (B,) states after these rows."""

    def rows(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(M,) states -> probabilities of the next token (M, V), states after it (M, V)."""

    def step(self, states: np.ndarray, tokens: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
        """(M,) states, a token of each or one for all -> its probability and the state after it (M,)."""

    def fits(self, count: int) -> bool:
        """Whether the rows of so many states fit into memory."""


class _Tabled:
    """An automaton whose rows are computed once, where a table of all of them is not too large."""

    vocab_size: int
    size: int

    def rows(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(M,) states -> probabilities of the next token (M, V), states after it (M, V)."""
        if self.table is None:
            return self._rows(states)
        probabilities, following = self.table
        return probabilities[states], following[states]

    def step(self, states: np.ndarray, tokens: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
        """(M,) states, a token of each or one for all -> its probability and the state after it (M,)."""
        if self.table is not None:
            return self.table[0][states, tokens], self.table[1][states, tokens]
        probabilities, following = self._rows(states)
        index = np.arange(len(states))
        return probabilities[index, tokens], following[index, tokens]

    def fits(self, count: int) -> bool:
        """Whether the rows of so many states fit into memory."""
        return count * self.vocab_size <= MOST_ENTRIES

    @cached_property
    def table(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The rows of all S states, None where they are too many to hold."""
        return self._rows(np.arange(self.size)) if self.fits(self.size) else None

    def _rows(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError


class ContextAutomaton(_Tabled):
    """The contexts of an interpolated n-gram model, shortest first; state 0 is the empty context.

    Contexts are closed under dropping the oldest and the newest token, since train holds every part of what it holds.
    The longest seen suffix of a history and a token is therefore found from the longest seen suffix of the history.
    """

    def __init__(self, model: InterpolatedModel) -> None:
        self.vocab_size, self.padded = model.vocab_size, model.padded
        self.orders = followers_of(model, np.dtype(np.float64))
        self.grams = [by_context(contexts) for contexts, _ in contexts_of_grams(model)]
        self.memory = len(self.orders) - 1
        self.first = np.cumsum([0, *(len(order.gammas) for order in self.orders)])
        self.size = int(self.first[-1])

    def after(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T), T may be 0 -> (B,) states: the longest seen suffixes, boundaries in front included."""
        recent = history(prefix, None, max(1, self.memory) if self.padded else 1)
        states = np.zeros(len(prefix), dtype=np.int64)
        for token in recent[:, max(0, recent.shape[1] - self.memory) :].T:
            states = self.step(states, token)[1]
        return states

    def _rows(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From the shortest context up, as ``Distributions`` interpolates; longer contexts lead to longer states."""
        contexts = self._contexts(states)
        probabilities = np.full((len(states), self.vocab_size), 1 / self.vocab_size)
        following = np.zeros(probabilities.shape, dtype=np.int32)
        for length, order in enumerate(self.orders):
            order.interpolate(probabilities, contexts[length])
            if length < self.memory:
                seen = np.flatnonzero(contexts[length] >= 0)
                rows, slots = order.slots(contexts[length][seen])
                following[seen[rows], order.tokens[slots]] = self.first[length + 1] + self.grams[length][slots]
        return probabilities, following

    def _contexts(self, states: np.ndarray) -> list[np.ndarray]:
        """(M,) states -> for every length (M,) the index of the state's suffix of it, -1 where the state is shorter."""
        lengths = np.searchsorted(self.first, states, side="right") - 1
        suffixes = [np.full(len(states), -1, dtype=np.int64) for _ in self.orders]
        for length in reversed(range(len(self.orders))):
            exact = lengths == length
            suffixes[length][exact] = states[exact] - self.first[length]
            longer = lengths > length
            if longer.any():
                suffixes[length][longer] = self.orders[length + 1].shorter[suffixes[length + 1][longer]]
        return suffixes


class HistoryAutomaton(_Tabled):
    """All histories of a model's longest context as states: a number in base V whose last digit is the latest token."""

    def __init__(self, model: LanguageModel) -> None:
        assert model.config.context is not None, "a model of unbounded context has no finite number of states"
        self.model, self.vocab_size, self.memory = model, model.vocab_size, model.config.context
        self.size = self.vocab_size**self.memory
        self.powers = self.vocab_size ** np.arange(self.memory)[::-1]

    def after(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T), T may be 0 -> (B,) states, with boundaries in front of short prefixes."""
        extended = history(prefix, None, self.memory)
        return extended[:, extended.shape[1] - self.memory :] @ self.powers.astype(np.int64)

    def _rows(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        digits = states[:, None] // self.powers % self.vocab_size if self.memory else np.zeros((len(states), 0))
        probabilities = np.exp(self.model.next_log_probs(digits.astype(np.int64)).astype(np.float64))
        following = (states[:, None] * self.vocab_size + np.arange(self.vocab_size)) % self.size
        return probabilities, following.astype(np.int32)


def automaton_of(model: LanguageModel) -> Automaton | None:
    """The automaton of a model; None where its context is unbounded, or has too many histories."""
    if isinstance(model, InterpolatedModel):
        return ContextAutomaton(model)
    context = model.config.context
    if model.config.category != "static" or context is None:
        return None
    return HistoryAutomaton(model) if model.vocab_size ** min(context, 64) <= MOST_HISTORIES else None
