"""Samples of models that change a whole text at once, step by step, with every draft on the way.

    uniform diffusion   each token's earlier value, given its later one and the prediction (Austin et al. 2021)
    SUNDAE              some of the places are drawn anew from what the network would put there (Savinov et al. 2022)
    SED                 each vector's earlier value, given its later one and the predicted embedding (Ho et al. 2020)

The first and the last are the process with so many steps, whose bound tends to the row's as they become many
(``step_bound`` has it of the first); the second has no likelihood. Tokens are drawn by inverse transform sampling in 64
bits. ``B`` rows, ``T`` tokens, at most a window, ``V`` vocabulary.
"""

import math

import numpy as np

from lmstages.core.documents import BOUNDARY
from lmstages.evaluation.sampling import chosen, filter_logits
from lmstages.models.nonautoregressive import gaussian, noise
from lmstages.models.nonautoregressive.sed import SedModel
from lmstages.models.nonautoregressive.sundae import SundaeModel
from lmstages.models.nonautoregressive.uniform import UniformModel
from lmstages.models.nonautoregressive.windows import Noisy


def denoised(model: UniformModel, count: int, length: int, steps: int, seed: int) -> list[np.ndarray]:
    """``steps`` + 1 drafts (count, length), of which the first is noise; a boundary is a token."""
    assert length <= model.config.window, "a row is read at once"
    draws = np.random.default_rng(seed)
    drafts = [draws.integers(model.vocab_size, size=(count, length))]
    for step in range(steps, 0, -1):
        probabilities = earlier(model, drafts[-1], (step - 1) / steps, step / steps)
        tokens = chosen(probabilities.reshape(-1, model.vocab_size), draws.random(count * length))
        drafts.append(tokens.reshape(count, length))
    return drafts


def earlier(
    model: UniformModel, draft: np.ndarray, before: float, after: float, token_before: np.ndarray | None = None
) -> np.ndarray:
    """(B, T) a draft at time ``after`` -> (B, T, V) probabilities of its tokens at the earlier time ``before``.

    ``token_before`` (B,) stands before the row in place of a boundary.
    """
    levels = np.full(draft.shape, noise.kept(np.array(after)))
    first = np.full(len(draft), BOUNDARY) if token_before is None else token_before
    predicted = np.exp(model.log_probs(first, Noisy(np.full(len(draft), after), draft, levels)))
    return _posterior(predicted, draft, before, after)


def _posterior(predicted: np.ndarray, draft: np.ndarray, before: float, after: float) -> np.ndarray:
    """(B, T, V) probabilities of the true tokens, (B, T) -> those of the tokens at the earlier time, by Bayes' rule."""
    alpha, later = (noise.kept(np.array(time)) for time in (before, after))
    kept, size = later / alpha, predicted.shape[-1]
    joint = (alpha * predicted + (1 - alpha) / size) * (kept * np.eye(size)[draft] + (1 - kept) / size)
    return np.asarray(joint / joint.sum(-1, keepdims=True))


def step_bound(
    model: UniformModel, tokens: np.ndarray, steps: int, seed: int, before: np.ndarray | None = None
) -> np.ndarray:
    """(B, T), (B,) -> (B, T) nats: one sample of the upper bound on the code length of ``denoised`` in so many steps.

    Of every step the divergence of the model's probabilities from those of the noise, given the true tokens, at a
    noisy copy that is drawn for it (Austin et al. 2021, equation 1; at time 1 nothing of the text is left).
    """
    draws, nats, true = np.random.default_rng(seed), np.zeros(tokens.shape), np.eye(model.vocab_size)[tokens]
    for step in range(steps, 0, -1):
        times = (step - 1) / steps, step / steps
        random_tokens = draws.integers(model.vocab_size, size=tokens.shape)
        alpha = np.full(tokens.shape, noise.kept(np.array(times[1])))
        draft = noise.replaced(tokens, alpha, draws.random(tokens.shape), random_tokens)
        expected, given = _posterior(true, draft, *times), earlier(model, draft, *times, before)
        nats += np.where(expected > 0, expected * np.log(np.where(expected > 0, expected, 1.0) / given), 0.0).sum(-1)
    return nats


def improved(
    model: SundaeModel,
    count: int,
    length: int,
    steps: int,
    seed: int,
    temperature: float = 1.0,
    updated_share: float = 1.0,
) -> list[np.ndarray]:
    """``steps`` + 1 drafts (count, length), of which the first is noise; a step draws a share of the places anew."""
    assert length <= model.config.window, "a row is read at once"
    draws = np.random.default_rng(seed)
    drafts = [draws.integers(model.vocab_size, size=(count, length))]
    for _ in range(steps):
        log_probs = model.mended(drafts[-1]).reshape(-1, model.vocab_size)
        tokens = chosen(filter_logits(log_probs, temperature, None, 1.0), draws.random(count * length))
        is_updated = draws.random((count, length)).argsort(-1) < math.ceil(updated_share * length)
        drafts.append(np.where(is_updated, tokens.reshape(count, length), drafts[-1]))
    return drafts


def embedded(model: SedModel, count: int, length: int, steps: int, seed: int) -> list[np.ndarray]:
    """``steps`` + 1 drafts (count, length) of the likeliest tokens, the first of noise, the last one drawn.

    The network's estimate is of the same vectors, not of those of the step before, as it is in the bound.
    """
    assert length <= model.config.window, "a row is read at once"
    draws, embeddings = np.random.default_rng(seed), model.embeddings.cpu().double().numpy()
    vectors, before = draws.standard_normal((count, length, embeddings.shape[1])), np.full(count, BOUNDARY)
    drafts = [(vectors @ embeddings.T).argmax(-1)]
    for step in range(steps, 0, -1):
        levels = np.full((count, length), 1 - step / steps, np.float32)
        noisy = Noisy(np.full(count, step / steps), vectors.astype(np.float32), levels)
        probabilities = np.exp(model.log_probs(before, noisy))  # (B, T, V)
        drafts.append(probabilities.argmax(-1))
        normal = draws.standard_normal(vectors.shape)
        vectors = gaussian.earlier(vectors, probabilities @ embeddings, (step - 1) / steps, step / steps, normal)
    tokens = chosen(probabilities.reshape(-1, model.vocab_size), draws.random(count * length))
    return [*drafts[:-1], tokens.reshape(count, length)]
