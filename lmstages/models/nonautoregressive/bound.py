"""An upper bound on the code length of a diffusion model that predicts the tokens of a block in random order.

    score of token i = - mean over samples of  (n / k) [i in M] CE_i        n wanted tokens of a block, k of them in M

The sum over a text is the bound, in expectation over M; no score is above zero. Tokens before the wanted ones are
known, those after them are hidden. Of blocks of up to ``ENUMERATED`` tokens every M is scored, without error. For
others each half of the samples takes its sizes k from as many equal parts of 1 ... n, which varies less than
independent sizes, and the difference of the halves tells the Monte Carlo error. A model of any order is scored in
orders that are drawn (Hoogeboom et al. 2022): the mean of their code lengths is the same bound.

All randomness of a row is a function of the row's own tokens: neither other rows nor their order change a score, and
the noise of different windows is independent. ``B`` rows, ``T`` tokens, K blocks of L places.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.diffusion import ENUMERATED, Bound
from lmstages.core.documents import Arrays, Curve, Documents, history
from lmstages.core.errors import UserError
from lmstages.models.base import MadeFromBase, check_base, record_of_base
from lmstages.models.nonautoregressive.any_order import AnyOrderModel
from lmstages.models.nonautoregressive.diffusion import DiffusionModel
from lmstages.models.nonautoregressive.hiding import Hidden, every_choice, hidden_at_random

HALVES = 2


class BoundScores:
    """What every bound shares: its score, and windows end to end."""

    config: ModelConfig
    longest: int  # row that is scored at once: the window
    instead = "take a model of another category"

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T), (B,) -> (B, T) nats, none above zero, which sum to the bound of each row."""
        return -self.halves(tokens, before, np.ones(tokens.shape, dtype=bool)).mean(0)

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """Raises UserError: a bound is none of a next token."""
        problem = "a bound gives no probabilities of the next token"
        raise UserError(f"model {self.config.name}", problem, "", self.instead)

    def halves(self, tokens: np.ndarray, before: np.ndarray | None, wanted: np.ndarray) -> np.ndarray:
        """As ``models.base.UpperBound``; a row that is longer than the window is cut into windows, end to end."""
        row, window = history(tokens, before, 1), self.longest
        parts = [
            self._halves(row[:, left : left + window + 1], wanted[:, left : left + window])
            for left in range(0, tokens.shape[1], window)
        ]
        return np.concatenate([np.empty((HALVES, len(tokens), 0)), *parts], axis=-1)

    def _halves(self, row: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """(B, 1 + T), (B, T), T at most the window -> (2, B, T)."""
        raise NotImplementedError


class BoundModel(MadeFromBase, BoundScores):
    """The arrays and parameters of the diffusion model that it is made from; only its score differs."""

    made_of: type[Any] = DiffusionModel

    def __init__(self, config: Bound, vocab_size: int) -> None:
        base = record_of_base(config, "the model that it is a bound of")
        self.config: Bound = config
        self.vocab_size = vocab_size
        self.base = self.made_of(base, vocab_size)
        self.longest = self.base.config.window
        self.instead = f"take {config.of}, the model that it is a bound of"

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Fit a diffusion model of its own; ``derive`` is the short cut where that is fitted already."""
        return self.base.fit(train, valid, seed)

    def derive(self, base: DiffusionModel, train: Documents) -> None:
        """Take over the arrays of the fitted ``base``."""
        check_base(self.base.config, base.config, self.config.of)
        self.restore(base.arrays())

    def _halves(self, row: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """(B, 1 + T), (B, T), T at most the window -> (2, B, T)."""
        block, length = self.base.config.block_length, wanted.shape[1]
        is_open = np.pad(wanted, ((0, 0), (0, -length % block))).reshape(len(wanted), -1, block)
        is_past = np.arange(length) > length - 1 - wanted[:, ::-1].argmax(1)[:, None]
        if block <= ENUMERATED:
            total = sum(self._weighted(row, hidden, is_past) for hidden in every_choice(is_open))
            return np.stack([total, total])
        samples = self.config.samples // HALVES
        totals = np.zeros((HALVES, *wanted.shape))
        for number, hidden in enumerate(self._sampled(row, wanted, is_open)):
            totals[number // samples] += self._weighted(row, hidden, is_past) / samples
        return totals

    def _weighted(self, row: np.ndarray, hidden: Hidden, is_past: np.ndarray) -> np.ndarray:
        """(B, T) nats of the hidden tokens, each times its weight."""
        places, weights = (part.reshape(len(row), -1)[:, : is_past.shape[1]] for part in hidden)
        return weights * self.base.nats(row, places | is_past)

    def _sampled(self, row: np.ndarray, wanted: np.ndarray, is_open: np.ndarray) -> Iterator[Hidden]:
        """The samples of the first half, then those of the second; in each, a fraction of every equal part of 0 to 1.

        Draws for a whole window, so that a row has the same draws in a batch of longer rows.
        """
        samples, (_, blocks, block) = self.config.samples // HALVES, is_open.shape
        draws, most = [row_generator(*pair) for pair in zip(row, wanted, strict=True)], self.base.config.window // block
        for _ in range(HALVES):
            offsets = np.stack([draw.random(most)[:blocks] for draw in draws])  # (B, K)
            for part in range(samples):
                noise = np.stack([draw.random((most, block))[:blocks] for draw in draws])  # (B, K, L)
                yield hidden_at_random(is_open, (part + offsets) / samples, noise)

    def arrays(self) -> Arrays:
        """Those of the model that it is made from."""
        return self.base.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        self.base.restore(arrays)

    def parameters(self) -> int:
        """Those of the model that it is made from."""
        return self.base.parameters()


class OrderBoundModel(BoundModel):
    """Of a model of any order: the mean code length over random orders of the wanted tokens, behind the known ones."""

    made_of = AnyOrderModel

    def _halves(self, row: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """(B, 1 + T), (B, T), T at most the window -> (2, B, T)."""
        samples, totals = self.config.samples // HALVES, np.zeros((HALVES, *wanted.shape))
        for number, order in enumerate(self._orders(row, wanted)):
            scores = self.base.order_score(row[:, 1:], order, row[:, 0])
            totals[number // samples] -= np.where(wanted, scores, 0.0) / samples
        return totals

    def _orders(self, row: np.ndarray, wanted: np.ndarray) -> Iterator[np.ndarray]:
        """(B, T) for each sample: known tokens from the left, wanted ones at random, then those that follow them.

        Draws for a whole window, so that a row has the same draws in a batch of longer rows.
        """
        draws, (_, length) = [row_generator(*pair) for pair in zip(row, wanted, strict=True)], wanted.shape
        places, noise = np.arange(length), np.empty(wanted.shape)
        first = wanted.argmax(1)[:, None]
        for _ in range(HALVES):
            for number in range(self.config.samples // HALVES):
                if number % 2 == 0:
                    noise = np.stack([draw.random(self.base.config.window)[:length] for draw in draws])
                ranks = np.where(wanted, first + (1 - noise if number % 2 else noise), places + (places > first))
                yield ranks.argsort(axis=1, kind="stable")


def row_generator(row: np.ndarray, wanted: np.ndarray) -> np.random.Generator:
    """A generator whose seed is a hash of a row (1 + T) up to its last wanted token, and of which are wanted."""
    end = int(np.flatnonzero(wanted).max(initial=-1)) + 1
    content = row[: 1 + end].astype("<i8").tobytes() + np.packbits(wanted[:end]).tobytes()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(content).digest()[:16], "little"))
