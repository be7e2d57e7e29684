"""Sampling from any model: predict, draw, append, for many samples in parallel.

Decoding is incremental: attention caches keys and values, a recurrent network its state; a model with a short window
recomputes it. Up to a model's context every token is drawn from ``next_log_probs`` of all tokens before it. Beyond,
attention with a window of L moves by strides of L / 2, as scoring does under ``stride``: a token is conditioned on the
last L / 2 to L tokens of its row. Every other model is conditioned on its whole context.

Uses a model only as ``LanguageModel``. All randomness is one numpy generator made from the seed.
"""

import numpy as np

from lmstages.core.documents import BOUNDARY
from lmstages.models.base import LanguageModel, LargeState, decoding_state


def filter_logits(log_probs: np.ndarray, temperature: float, top_k: int | None, top_p: float) -> np.ndarray:
    """(B, V) nats -> (B, V) probabilities after temperature, top-k and top-p (nucleus; Holtzman et al. 2020), in order.

    The temperature is above 0; towards 0 the likeliest token gets all probability.
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
    return [until_boundary(row, len(start)) if stop_at_boundary else row for row in rows]


def _continue(
    model: LanguageModel,
    rows: np.ndarray,
    begin: int,
    draws: np.random.Generator,
    filtering: tuple[float, int | None, float],
    ending: int | None,
) -> None:
    """Fill rows (B, T) from column ``begin`` on, until each contains the token ``ending`` (None: to the end)."""
    state = decoding_state(model, rows[:, :begin])
    alive = np.ones(len(rows), dtype=bool)
    for position in range(begin, rows.shape[1]):
        if position > begin:
            state.append(rows[:, position - 1])
        rows[:, position] = chosen(filter_logits(state.log_probs(), *filtering), draws.random(len(rows)))
        alive &= rows[:, position] != ending
        if not alive.any():
            break


def chosen(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Inverse transform sampling: (B, V) probabilities, (B,) uniform on [0, 1) -> (B,) tokens."""
    cumulative = probabilities.cumsum(-1)
    thresholds = thresholds * cumulative[:, -1]
    cumulative[:, -1] = np.inf  # rounding may make the threshold equal to the sum: the last token exceeds it
    return (cumulative > thresholds[:, None]).argmax(-1)


def until_boundary(row: np.ndarray, prompt: int = 0) -> np.ndarray:
    """The prompt and the tokens after it before the first boundary."""
    ends = np.flatnonzero(row[prompt:] == BOUNDARY)
    return row[: prompt + ends[0]] if len(ends) else row
