"""Maximum likelihood on the smallest examples: the probabilities under which observations are most likely.

    - log L(theta) = - sum over outcomes of  count * log p_theta(outcome)            (Fisher 1922)

A coin shows what is maximised; three outcomes show the cost of a wrong constraint and the gain of a right one; the
number of parameters of a joint distribution shows why language models need constraints. The observations are those of
"Neural Language Models" (2022), part A. Knows no text and no model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

COIN = (62, 38)  # heads and tails of 100 tosses
WIDGETS = (38, 7, 955)  # big gear failed, small gear failed, none failed; of 1,000 widgets

Parametrization = Callable[[np.ndarray], np.ndarray]


def negative_log_likelihood(counts: Sequence[int], probabilities: np.ndarray) -> np.ndarray:
    """(K,) counts, (..., K) probabilities -> (...) nats; infinite where an observed outcome has probability zero."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    observed = np.asarray(counts, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        nats = np.where(observed > 0, -observed * np.log(np.maximum(probabilities, 0)), 0.0)
    return np.where((probabilities < 0).any(-1), np.inf, nats.sum(-1))


def coin(theta: np.ndarray) -> np.ndarray:
    """(..., 1) -> (..., 2): theta, 1 - theta."""
    return np.concatenate([theta, 1 - theta], axis=-1)


def free(theta: np.ndarray) -> np.ndarray:
    """(..., 2) -> (..., 3): a parameter for each outcome but the last."""
    return np.concatenate([theta, 1 - theta.sum(-1, keepdims=True)], axis=-1)


def squared(theta: np.ndarray) -> np.ndarray:
    """(..., 1) -> (..., 3): theta, theta^2; a constraint that the widgets violate."""
    return free(np.concatenate([theta, theta**2], axis=-1))


def a_third(theta: np.ndarray) -> np.ndarray:
    """(..., 1) -> (..., 3): theta, theta / 3; a constraint that holds for the widgets."""
    return free(np.concatenate([theta, theta / 3], axis=-1))


@dataclass(frozen=True)
class Optimum:
    """The maximum-likelihood parameters, their probabilities, and the negative log-likelihood there, nats."""

    theta: np.ndarray
    probabilities: np.ndarray
    nats: float


def likeliest(counts: Sequence[int], parametrization: Parametrization, parameters: int) -> Optimum:
    """Minimise the negative log-likelihood without gradients (Nelder & Mead 1965)."""
    from scipy.optimize import minimize

    def nats(theta: np.ndarray) -> float:
        return float(negative_log_likelihood(counts, parametrization(theta)))

    start = np.full(parameters, 1 / len(counts) / 2)
    result = minimize(nats, start, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 10_000})
    assert result.success, "a likelihood of proportions has one maximum"
    return Optimum(result.x, parametrization(result.x), float(result.fun))


def joint_parameters(outcomes: int, variables: int) -> int:
    """V^m - 1: a probability for each combination of outcomes, which sum to 1."""
    return outcomes**variables - 1


def conditional_parameters(outcomes: int, position: int) -> int:
    """V^(k - 1) (V - 1): the k-th variable given the k - 1 before it; summed over all m variables, V^m - 1 again."""
    return outcomes ** (position - 1) * (outcomes - 1)


def independent_parameters(outcomes: int) -> int:
    """V - 1: independent, identically distributed variables have one common table."""
    return outcomes - 1
