"""Orders of prediction other than left to right, and many tokens at once, each with its exact code length.

The places of a block are divided into as many sets as there are steps; a set is predicted at once. Of ``order``

    left      the next places come next; one at a time this is the row of every next-token model
    random    places come in an order that a seed draws once for each block, the same for all rows
    certain   those places come next whose distributions have the least entropy

All are normalised distributions over texts: the order is fixed beforehand or follows from what is already known (DUEL,
arXiv 2603.01367), and the tokens of a set are independent given those of earlier sets. Blocks follow from left to
right. Samples are drawn by inverse transform sampling in 64 bits: Gumbel noise in 32 bits would lower the temperature
without saying so (Zheng et al. 2024).

``B`` rows, ``T`` tokens, at most the window, ``n`` of them in a block, ``V`` vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lmstages.core.documents import BOUNDARY, history
from lmstages.evaluation.sampling import chosen
from lmstages.models.nonautoregressive.diffusion import DiffusionModel


@dataclass(frozen=True)
class Steps:
    """How a block is predicted: in ``count`` steps, fewer in a shorter block, and in which order."""

    count: int
    order: Literal["left", "random", "certain"]
    seed: int = 0

    def sizes(self, length: int) -> list[int]:
        """How many tokens of a block each step predicts."""
        return [len(places) for places in np.array_split(np.arange(length), min(self.count, length))]

    def next_places(self, log_probs: np.ndarray, hidden: np.ndarray, block: int, size: int) -> np.ndarray:
        """(B, n, V) nats, (B, n) which places are hidden -> (B, n), true at the ``size`` places that come next."""
        ranks = np.where(hidden, self._ranks(log_probs, block), np.inf)
        return np.asarray(ranks.argsort(-1, kind="stable").argsort(-1, kind="stable") < size)

    def _ranks(self, log_probs: np.ndarray, block: int) -> np.ndarray:
        """Of each place of the block of that number, (n,) or (B, n); those with the least come first."""
        if self.order == "certain":
            return np.asarray(-(np.exp(log_probs) * log_probs).sum(-1))
        places = np.arange(log_probs.shape[1])
        return places if self.order == "left" else np.random.default_rng([self.seed, block]).permutation(places)


def parallel_score(
    model: DiffusionModel, tokens: np.ndarray, steps: Steps, before: np.ndarray | None = None
) -> np.ndarray:
    """(B, T), (B,) -> (B, T) log-probabilities, nats. Every pass is a step of all blocks, given the clean ones."""
    row, length = history(tokens, before, 1), model.config.block_length
    scores, hidden = np.zeros(tokens.shape), np.ones(tokens.shape, dtype=bool)
    for step in range(min(steps.count, length)):
        log_probs = model.log_probs(row, hidden)
        of_tokens = np.take_along_axis(log_probs, tokens[..., None], -1)[..., 0]
        for block, begin in enumerate(range(0, tokens.shape[1], length)):
            places = slice(begin, begin + length)
            sizes = steps.sizes(hidden[:, places].shape[1])
            if step < len(sizes):
                following = steps.next_places(log_probs[:, places], hidden[:, places], block, sizes[step])
                scores[:, places][following] = of_tokens[:, places][following]
                hidden[:, places] &= ~following
    return scores


def parallel_drafts(
    model: DiffusionModel, count: int, length: int, steps: Steps, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(count, length) tokens, at most a window of them, and which are hidden still, after each step of each block.

    A boundary is a token. Finished blocks are read once, into a cache.
    """
    assert length <= model.config.window, "a row is read at once"
    draws, rows = np.random.default_rng(seed), np.full((count, length), BOUNDARY)
    hidden, blocks = np.ones(rows.shape, dtype=bool), model.open_blocks(np.full(count, BOUNDARY))
    for block, begin in enumerate(range(0, length, model.config.block_length)):
        places = slice(begin, begin + model.config.block_length)
        if begin:
            blocks.append(rows[:, begin - model.config.block_length : begin])
        for size in steps.sizes(rows[:, places].shape[1]):
            log_probs = blocks.log_probs(rows[:, places], hidden[:, places])
            following = steps.next_places(log_probs, hidden[:, places], block, size)
            rows[:, places][following] = chosen(np.exp(log_probs[following]), draws.random(count * size))
            hidden[:, places] &= ~following
            yield rows.copy(), hidden.copy()


def parallel_sample(model: DiffusionModel, count: int, length: int, steps: Steps, seed: int) -> np.ndarray:
    """(count, length) tokens, the last of ``parallel_drafts``."""
    *_, (rows, _) = parallel_drafts(model, count, length, steps, seed)
    return rows
