"""Which tokens of a block are hidden, and what each then counts in the bound.

    bound of a block = E over k uniform in 1 ... n, and M a random set of k of n places:  (n / k) sum over M of CE

CE is the cross-entropy of a hidden token, nats (Sahoo et al. 2024; Shi et al. 2024; Ou et al. 2025 for exact counts).
``open`` marks the places that may be hidden: of a block's n real tokens those that are not given. Places past the end
of a text are always hidden and count nothing. Shapes: R rows, K blocks, ``L`` places of a block.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Hidden(NamedTuple):
    """Which places are hidden, and the weight of each in the bound; (R, K, L) each."""

    places: np.ndarray
    weights: np.ndarray


def stratified(draws: np.random.Generator, count: int) -> np.ndarray:
    """(count,) numbers in [0, 1), one from each of ``count`` equal parts, in random order."""
    return (draws.permutation(count) + draws.random(count)) / count


def hidden_at_random(is_open: np.ndarray, fractions: np.ndarray, noise: np.ndarray) -> Hidden:
    """``is_open`` and uniform noise (R, K, L), fractions (R, K) in [0, 1) -> hides 1 + floor(fraction n) of n."""
    counts = is_open.sum(-1)  # (R, K)
    hidden = np.minimum(counts, 1 + (fractions * counts).astype(np.int64))
    ranks = np.where(is_open, noise, 2.0).argsort(-1).argsort(-1)
    places = ranks < hidden[..., None]
    return Hidden(places, places * (counts / np.maximum(hidden, 1))[..., None])


def every_choice(is_open: np.ndarray) -> Iterator[Hidden]:
    """Each of the 2^L - 1 choices of hidden places; the weighted sum over all of them is the bound, without error.

    A choice that hides a place which is not open counts nothing in that block.
    """
    length, counts = is_open.shape[-1], is_open.sum(-1)
    for code in range(1, 1 << length):
        choice = (code >> np.arange(length) & 1).astype(bool)
        k = int(choice.sum())
        chosen = np.array([k * math.comb(n, k) for n in range(length + 1)])[counts]
        possible = ~(choice & ~is_open).any(-1)
        weights = np.where(possible, 1 / np.maximum(chosen, 1), 0.0)
        places = choice & is_open & possible[..., None]
        yield Hidden(places, places * weights[..., None])


def open_places(lengths: np.ndarray, blocks: int, block: int) -> np.ndarray:
    """(R,) tokens of each row -> (R, K, L): all places up to there."""
    return (np.arange(blocks * block) < lengths[:, None]).reshape(len(lengths), blocks, block)
