"""Cross-entropy that never holds all logits (B, T, V), for large vocabularies.

The last states are taken a few tokens at a time: their logits are computed, their cross-entropy is summed, and the
logits are forgotten. Backward computes them again, which costs one more product with the output matrix. Knows states
and how logits are made of them; never a network's architecture.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from lmstages.training.batches import IGNORED
from lmstages.training.recomputing import recompute

ALL_AT_ONCE = 1 << 27  # numbers: so many logits of a pass, 512 MB, are held whole
LOGITS_AT_ONCE = 1 << 24  # numbers of a part, 64 MB

Logits = Callable[[torch.Tensor], torch.Tensor]


def is_large(targets: torch.Tensor, vocab_size: int) -> bool:
    """Whether the logits of a pass are too many to be held."""
    return targets.numel() * vocab_size > ALL_AT_ONCE


def summed_cross_entropy(
    logits: Logits, states: torch.Tensor, targets: torch.Tensor, at_once: int = LOGITS_AT_ONCE
) -> torch.Tensor:
    """Last states (B, T, D) and targets (B, T) -> nats, summed over all targets that are not IGNORED.

    ``logits`` makes (N, D) into (N, V); at most ``at_once`` numbers of it are held.
    """

    def nats(states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits(states), targets, ignore_index=IGNORED, reduction="sum")

    with torch.no_grad():
        vocab_size = logits(states[:1, :1]).shape[-1]
    step = max(1, at_once // vocab_size)
    parts = zip(states.flatten(0, 1).split(step), targets.flatten().split(step), strict=True)
    return torch.stack([recompute(nats, *part) for part in parts]).sum()
