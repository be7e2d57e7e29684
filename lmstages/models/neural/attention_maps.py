"""Attention weights of a fitted network, recorded from its calls of torch's ``scaled_dot_product_attention``.

    weights     softmax(q k' / sqrt(W) + causal mask)                                  (Vaswani et al. 2017)
    induction   mean weight from a repeated token to the token after its first occurrence  (Olsson et al. 2022)

The recorder needs no change of the network: the model scores tokens as usual, and every call is recorded. Imports no
model.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class AttentionRecorder(TorchFunctionMode):
    """Within its context every call of attention appends its weights (B, H, T, T) to ``recorded``, layer by layer."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[np.ndarray] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Records the weights, then calls ``func`` as it was called."""
        keywords = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            self.recorded.append(weights(args[0], args[1], keywords.get("scale")).float().numpy())
        return func(*args, **keywords)


def weights(queries: torch.Tensor, keys: torch.Tensor, scale: float | None = None) -> torch.Tensor:
    """(B, H, T, W), (B, H or fewer, T, W) -> (B, H, T, T): how much each position attends to each."""
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    products = queries @ keys.transpose(-2, -1) * (scale or queries.shape[-1] ** -0.5)
    future = torch.ones(products.shape[-2:], dtype=torch.bool).triu(1)
    return products.masked_fill(future, -math.inf).softmax(-1)


def attention(model: Any, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(B, T) -> weights (L, B, H, T, T) over the boundary and all tokens but the last, and scores (B, T).

    None for a model without attention. ``L`` layers.
    """
    with AttentionRecorder() as recorder:
        scores = model.score(tokens)
    return (np.stack(recorder.recorded), scores) if recorder.recorded else None


def induction(weights: np.ndarray, period: int, begin: int = 0) -> np.ndarray:
    """(..., T, T) weights over a sequence that repeats after ``period`` tokens -> (...) induction score of each head.

    Averages over the second occurrences: the weight from a token to the one after its first occurrence. ``begin`` is
    the number of tokens in front of the sequence.
    """
    looking_back = np.diagonal(weights, offset=1 - period, axis1=-2, axis2=-1)
    return np.asarray(looking_back[..., begin + 1 :].mean(-1))
