"""Gaussian noise on embeddings: at time t a vector is z = sqrt(1 - t) e + sqrt(t) times a standard normal; its bound.

Every token has an embedding e of E numbers whose mean square is 1, so that the noise is as strong as the signal at
t = 1/2. The ratio of signal to noise, (1 - t) / t, falls at the rate 1 / t^2, and the code length of a text is at most

    integral over t of  1 / (2 t^2)  sum over places of  | e - e'(z, t) |^2        e' the predicted embedding

(Kingma et al. 2021, equation 15; for embeddings Gulrajani & Hashimoto 2023). At t = 1 there is no signal and at t = 0
no noise, so that neither the prior nor the reconstruction of a token adds to it. With e' the mean of e given all of z,
the mean over texts is their entropy (Guo et al. 2005): every set of distinct embeddings has the same best bound.

e' is the mean of the embeddings under the predicted probabilities of the tokens. Of these the noisy vector of a place
is evidence by Bayes' rule, with a likelihood that is known (the output prior of Gulrajani & Hashimoto): the network
adds what the other places say. ``N`` places, ``V`` vocabulary.
"""

import numpy as np
import torch

from lmstages.training.devices import in_full_precision

LEAST_TIME = 1e-6  # nearer to 0 the evidence of a vector leaves the range of 32 bits


def noisy(embedded: torch.Tensor, levels: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """Embeddings and standard normals (..., E), the signal's share of the variance 1 - t (...) -> vectors (..., E)."""
    return levels.sqrt()[..., None] * embedded + (1 - levels).sqrt()[..., None] * normal


def with_evidence(
    logits: torch.Tensor, vectors: torch.Tensor, levels: torch.Tensor, embeddings: torch.Tensor
) -> torch.Tensor:
    """Logits (..., V), noisy vectors (..., E), levels (...), embeddings (V, E) -> logits given the vectors too."""
    with in_full_precision(logits.device):
        ratio = levels.sqrt() / (1 - levels).clamp_min(LEAST_TIME)
        return logits.float() + (ratio[..., None] * vectors) @ embeddings.T


def predicted(logits: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """Logits (..., V), embeddings (V, E) -> (..., E) the mean embedding."""
    with in_full_precision(logits.device):
        return logits.softmax(-1) @ embeddings.to(logits.dtype)


def bound(logits: torch.Tensor, tokens: torch.Tensor, embeddings: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Logits given all of z (N, V), true tokens (N,), embeddings (V, E), times (N,) -> (N,) nats; none below zero."""
    distances = (predicted(logits, embeddings) - embeddings[tokens].to(logits.dtype)).square().sum(-1)
    return distances / (2 * times.clamp_min(LEAST_TIME).square()).to(logits.dtype)


def earlier(vectors: np.ndarray, estimates: np.ndarray, before: float, after: float, normal: np.ndarray) -> np.ndarray:
    """Vectors at time ``after`` and predicted embeddings (..., E) -> vectors at the earlier time ``before``.

    Drawn from q(z_before | z_after, e) with the prediction for e (Ho et al. 2020, equation 7).
    """
    kept = (1 - after) / (1 - before)  # of the signal's variance, from the one time to the other
    mean = np.sqrt(kept) * before / after * vectors + np.sqrt(1 - before) * (1 - kept) / after * estimates
    return np.asarray(mean + np.sqrt((1 - kept) * before / after) * normal)
