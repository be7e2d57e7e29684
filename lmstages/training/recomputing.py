"""Activations that are computed again instead of kept (Chen et al. 2016): less memory, a third more computing.

Of each block only its input is kept; backward computes the block forwards once more, with the same random numbers.
The gradient is the same. Knows a network's list of blocks; never its architecture.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lmstages.training.sharding import blocks_of


@contextmanager
def recomputed(network: nn.Module, is_wanted: bool) -> Iterator[None]:
    """While it is entered, and where it is wanted, the blocks of the network keep nothing but their inputs."""
    blocks = blocks_of(network) if is_wanted else []
    for block in blocks:
        block.forward = partial(recompute, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def recompute(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    """What ``forward`` makes of its inputs, of which alone backward computes it again."""
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, **named)
