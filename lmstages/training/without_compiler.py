"""Keeps torch from importing its compiler in a process that compiles nothing: that import takes about a second.

Optimizers, and modes that watch every operation, import ``torch._dynamo`` at their first call, only to exclude their
own bookkeeping from compilation. ``torch._compile._disable_dynamo`` first looks for what it made before, under the name
below; a version of torch that looks elsewhere imports its compiler as it always did.
"""

from inspect import unwrap
from typing import Any


def spare_compiler(owner: type) -> None:
    """Let the methods of a class of torch's run as they are, once and for the whole process."""
    for method in vars(owner).values():
        if bookkeeping := getattr(method, "__wrapped__", None):
            setattr(bookkeeping, "__dynamo_disable", bookkeeping)


def plain_step(optimizer: type) -> Any:
    """The ``step`` of one of torch's optimizers, which computes without gradients, without the compiler's import."""
    import torch

    return torch.no_grad()(unwrap(optimizer.step))  # type: ignore[attr-defined]
