"""Where a network attends: what goes through torch's one function of attention is seen on its way.

    weights     softmax(q k' / sqrt(W) + past only)                                   (Vaswani et al. 2017)
    induction   the mean weight from a token that came before to what followed it then (Olsson et al. 2022)

A network of any model is watched as it is: it is scored, and scoring is what runs it. Knows no model.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Watch(TorchFunctionMode):
    """Within it every call of attention leaves its weights (B, H, T, T) in ``seen``, layer by layer."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[np.ndarray] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The call itself, unchanged, once its weights are known."""
        named = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            self.seen.append(weights(args[0], args[1], named.get("scale")).float().numpy())
        return func(*args, **named)


def weights(queries: torch.Tensor, keys: torch.Tensor, scale: float | None = None) -> torch.Tensor:
    """(B, H, T, W), (B, H or fewer, T, W) -> (B, H, T, T): what each place takes from itself and what came before."""
    keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    products = queries @ keys.transpose(-2, -1) * (scale or queries.shape[-1] ** -0.5)
    future = torch.ones(products.shape[-2:], dtype=torch.bool).triu(1)
    return products.masked_fill(future, -math.inf).softmax(-1)


def attention(model: Any, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(B, T) -> weights (L, B, H, T, T) over the boundary and all tokens but the last, and scores (B, T).

    None of a model that does not attend.
    """
    with Watch() as watch:
        scores = model.score(tokens)
    return (np.stack(watch.seen), scores) if watch.seen else None


def induction(weights: np.ndarray, period: int, begin: int = 0) -> np.ndarray:
    """(..., T, T) over a sequence that repeats itself after ``period`` places -> (...): from each place of the
    second time to the place after the same one of the first time; ``begin``: places before the sequence.
    """
    looking_back = np.diagonal(weights, offset=1 - period, axis1=-2, axis2=-1)
    return np.asarray(looking_back[..., begin + 1 :].mean(-1))
