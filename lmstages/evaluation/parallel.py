"""Orders of prediction other than left to right, and many tokens at once, each with its exact code length.

    most certain first     next comes the place of the block whose distribution has the least entropy
    S steps                the places of a block are divided once into S sets, by a seed; a set is predicted at once

Both are normalised distributions over texts: the order is fixed beforehand or follows from what is already known
(DUEL, arXiv 2603.01367), and the tokens of a set are independent given those of earlier sets. Blocks follow from left
to right. Samples are drawn by inverse transform sampling in 64 bits: Gumbel noise in 32 bits would lower the
temperature without saying so (Zheng et al. 2024).

Uses a model only by ``log_probs`` of hidden tokens. ``B`` rows, ``T`` tokens, at most the window, ``V`` vocabulary.
"""

from collections.abc import Iterator

import numpy as np

from lmstages.core.documents import BOUNDARY, history
from lmstages.evaluation.sampling import chosen
from lmstages.models.nonautoregressive.diffusion import DiffusionModel


def most_certain_first(model: DiffusionModel, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """(B, T), (B,) -> (B, T) log-probabilities, nats, each token predicted when its place is the most certain."""
    row, block = history(tokens, before, 1), model.config.block_length
    scores, rows = np.zeros(tokens.shape), np.arange(len(tokens))
    for begin in range(0, tokens.shape[1], block):
        hidden = np.tile(np.arange(tokens.shape[1]) >= begin, (len(tokens), 1))
        for _ in range(min(block, tokens.shape[1] - begin)):
            log_probs = model.log_probs(row, hidden)
            entropy = -(np.exp(log_probs) * log_probs).sum(-1)  # (B, T)
            entropy[~hidden] = np.inf
            entropy[:, begin + block :] = np.inf
            place = entropy.argmin(-1)
            scores[rows, place] = log_probs[rows, place, tokens[rows, place]]
            hidden[rows, place] = False
    return scores


def steps_of(length: int, block: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """The sets of places that are predicted at once, block by block; ``steps`` a block, fewer in a shorter one."""
    draws = np.random.default_rng(seed)
    for begin in range(0, length, block):
        places = begin + draws.permutation(min(block, length - begin))
        yield from np.array_split(places, min(steps, len(places)))


def parallel_score(
    model: DiffusionModel, tokens: np.ndarray, steps: int, seed: int, before: np.ndarray | None = None
) -> np.ndarray:
    """(B, T), (B,) -> (B, T) log-probabilities, nats, of the sampler with so many steps a block."""
    row, scores = history(tokens, before, 1), np.zeros(tokens.shape)
    hidden = np.ones(tokens.shape, dtype=bool)
    for places in steps_of(tokens.shape[1], model.config.block_length, steps, seed):
        log_probs = model.log_probs(row, hidden)[:, places]  # (B, places, V)
        scores[:, places] = np.take_along_axis(log_probs, tokens[:, places, None], -1)[..., 0]
        hidden[:, places] = False
    return scores


def parallel_sample(model: DiffusionModel, count: int, length: int, steps: int, seed: int) -> np.ndarray:
    """(count, length) tokens, at most a window of them, drawn in ``steps`` steps a block; a boundary is a token."""
    assert length <= model.config.window, "a row is read at once"
    draws, row = np.random.default_rng(seed), np.full((count, 1 + length), BOUNDARY)
    hidden = np.ones((count, length), dtype=bool)
    for places in steps_of(length, model.config.block_length, steps, seed):
        probabilities = np.exp(model.log_probs(row, hidden)[:, places])
        drawn = chosen(probabilities.reshape(-1, model.vocab_size), draws.random(count * len(places)))
        row[:, 1 + places] = drawn.reshape(count, -1)
        hidden[:, places] = False
    return row[:, 1:]
