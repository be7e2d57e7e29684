"""Uniform noise: every token is kept with probability alpha, else replaced by any of the V tokens; its bound.

Forwards in time t from 0 to 1, a token is replaced at the rate -alpha'/alpha, by each token with probability 1/V. With
q(z | x) = c(x = z) / V and c(p) = V alpha p + 1 - alpha, the reverse process jumps from z to j at the rate

    -alpha' / (V alpha) q(j) / q(z)        in the model, whose q is that of its prediction p: q(j) = c(p_j) / V

Two processes with rates a_j and b_j, equal but for a factor w, differ by w sum_j (a_j log(a_j / b_j) - a_j + b_j) nats
per unit of time (the divergence of two Poisson processes). With a of the true x and b of the prediction its integral is
an upper bound on the code length (Schiff et al. 2025, equation 18; the limit of Austin et al. 2021 for T steps); at
t = 0 nothing is noisy, at t = 1 everything is, so that no other term is left. It is zero where p is one at x. Any
alpha gives the same integral: 1 - t^2 is taken, since with 1 - t its samples would have an infinite variance at 0.

The best p is that of a token given all others, without z itself, whose evidence stands in c already:
p(x | all of z) is proportional to p(x | others) c(x = z) by Bayes' rule. ``N`` places, ``V`` vocabulary.
"""

import numpy as np
import torch

LEAST_TIME = 1e-6  # from 0 and from 1; nearer to them 32 bits do not tell alpha from 1 or 0


def kept(times: np.ndarray) -> np.ndarray:
    """Times -> alpha, the probability that a token is kept."""
    return np.asarray(1 - times**2)


def replaced(tokens: np.ndarray, alpha: np.ndarray, uniforms: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Tokens, of which each is replaced by its ``noise`` where its uniform number is not below its ``alpha``."""
    return np.where(uniforms < alpha, tokens, noise)


def evidence(times: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Times -> V alpha / (1 - alpha): how much likelier than any other the token is that is seen, less one."""
    squares = times.clamp(LEAST_TIME, 1 - LEAST_TIME).square()
    return vocab_size * (1 - squares) / squares


def bound(logits: torch.Tensor, tokens: torch.Tensor, noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Logits of each token given the others (N, V), true and noisy tokens, times (N,) -> (N,) nats; none below zero."""
    vocab_size, times = logits.shape[-1], times.clamp(LEAST_TIME, 1 - LEAST_TIME)
    ratio = evidence(times, vocab_size).to(logits.dtype)[:, None]
    predicted = 1 + ratio * logits.softmax(-1)
    true = torch.ones_like(predicted).scatter_add(-1, tokens[:, None], ratio)
    a, b = (rates / rates.gather(-1, noisy[:, None]) for rates in (true, predicted))
    divergence = (a * (a / b).log() - a + b).sum(-1).clamp_min(0)
    return divergence * (2 * times / (vocab_size * (1 - times**2))).to(logits.dtype)


def with_evidence(logits: torch.Tensor, noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Logits given the other tokens (N, V) -> given all of the noisy text, by Bayes' rule."""
    return logits.scatter_add(-1, noisy[:, None], _log_evidence(logits, times))


def without_evidence(logits: torch.Tensor, noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """The inverse of ``with_evidence``."""
    return logits.scatter_add(-1, noisy[:, None], -_log_evidence(logits, times))


def _log_evidence(logits: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    return torch.log1p(evidence(times, logits.shape[-1])).to(logits.dtype)[:, None]


def drawn(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Logits (N, V), uniform numbers (N,) -> (N,) tokens by inverse transform sampling in 64 bits, without gradient."""
    wide = logits.detach().cpu() if logits.device.type == "mps" else logits.detach()  # an Apple GPU has no 64 bits
    cumulative = wide.double().softmax(-1).cumsum(-1)
    thresholds = uniforms.to(cumulative) * cumulative[:, -1]
    cumulative[:, -1] = torch.inf  # where rounding makes a threshold the whole sum, the last token exceeds it
    return (cumulative > thresholds[:, None]).to(torch.uint8).argmax(-1).to(logits.device)
