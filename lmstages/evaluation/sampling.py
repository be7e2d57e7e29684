"""Predict, append, repeat: text from any model, many samples side by side.

A model that can read on does: attention keeps its keys and values, a recurrent network its state, and whatever has
a window reads that alone. Up to a model's context every token is drawn from ``next_log_probs`` of all before it.
Beyond it, attention with a window of L rolls in strides, as scoring does under ``stride`` by half of L: a token is
drawn from the tokens of its row, L / 2 at least and L at most. Every other model draws from its whole context.

Knows a model only as ``LanguageModel``. All randomness is one numpy generator made from the seed.
"""

import numpy as np

from lmstages.core.documents import BOUNDARY
from lmstages.models.base import LanguageModel, LargeState, decoding_state


def narrowed(log_probs: np.ndarray, temperature: float, top_k: int | None, top_p: float) -> np.ndarray:
    """(B, V) nats -> (B, V) probabilities: sharpened, then the k likeliest, then the fewest that hold ``top_p``.

    Temperature above 0; as it goes to 0 the likeliest token takes all. Nucleus: Holtzman et al. 2020.
    """
    if temperature == 1 and top_k is None and top_p == 1:
        return np.exp(log_probs)
    with np.errstate(over="ignore"):
        probabilities = np.exp((log_probs - log_probs.max(-1, keepdims=True)) / temperature)
    if top_k is None and top_p == 1:
        return probabilities / probabilities.sum(-1, keepdims=True)
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, -1)
    if top_k is not None:
        ranked[:, top_k:] = 0
    ranked /= ranked.sum(-1, keepdims=True)
    ranked[np.cumsum(ranked, -1) - ranked >= top_p] = 0
    ranked /= ranked.sum(-1, keepdims=True)
    np.put_along_axis(probabilities, order, ranked, -1)
    return probabilities


def sample(
    model: LanguageModel,
    count: int,
    length: int,
    seed: int,
    prompt: np.ndarray | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    stop_at_boundary: bool = True,
) -> list[np.ndarray]:
    """``count`` continuations of ``prompt`` (T,), prompt included, of at most ``length`` new tokens.

    A sample ends before its first boundary token, unless the text is one stream without boundaries.
    """
    start = np.asarray([] if prompt is None else prompt, dtype=np.int64)
    if not count or not length:
        return [start.copy() for _ in range(count)]
    rows = np.empty((count, len(start) + length), dtype=np.int64)
    rows[:, : len(start)] = start
    draws, ending = np.random.default_rng(seed), BOUNDARY if stop_at_boundary else None
    step = model.max_parallel_states() if isinstance(model, LargeState) else count
    for top in range(0, count, step):
        _continue(model, rows[top : top + step], len(start), draws, (temperature, top_k, top_p), ending)
    return [_until_boundary(row, len(start)) if stop_at_boundary else row for row in rows]


def _continue(
    model: LanguageModel,
    rows: np.ndarray,
    begin: int,
    draws: np.random.Generator,
    filtering: tuple[float, int | None, float],
    ending: int | None,
) -> None:
    """(B, T) rows, filled from ``begin`` on, until all have had the token that ends them, if one does."""
    read = decoding_state(model, rows[:, :begin])
    alive = np.ones(len(rows), dtype=bool)
    for place in range(begin, rows.shape[1]):
        if place > begin:
            read.append(rows[:, place - 1])
        rows[:, place] = chosen(narrowed(read.log_probs(), *filtering), draws.random(len(rows)))
        alive &= rows[:, place] != ending
        if not alive.any():
            break


def chosen(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(B, V), (B,) uniform on [0, 1) -> (B,) tokens: where the cumulative probability passes the threshold."""
    cumulative = probabilities.cumsum(-1)
    thresholds = thresholds * cumulative[:, -1]
    cumulative[:, -1] = np.inf  # a product that rounding makes the whole sum is passed by the last token
    return (cumulative > thresholds[:, None]).argmax(-1)


def _until_boundary(row: np.ndarray, prompt: int) -> np.ndarray:
    """The prompt and what follows it up to the first boundary."""
    ends = np.flatnonzero(row[prompt:] == BOUNDARY)
    return row[: prompt + ends[0]] if len(ends) else row
