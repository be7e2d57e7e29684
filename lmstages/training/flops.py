"""How many floating-point operations a fit took, by a stated formula.

    FLOPs of a fit = 3 x forward FLOPs per token x tokens seen          (Kaplan et al. 2020, section 2.1)

A backward pass costs twice a forward pass. A forward pass counts two operations for each multiply-add of every matrix
product of the network on one row of ``row_length`` tokens, attention's whole T x T included, divided by the row's
tokens; look-ups, norms, activations and the optimizer are left out. Counting models have no figure.

Knows a model only by the network that it builds.
"""

import warnings
from typing import Any

from lmstages.training.without_compiler import spare_compiler

FORMULA = "3 x forward matrix-product FLOPs per token x tokens seen; a multiply-add is two"
BACKWARD = 2  # forward passes that a backward pass costs


def forward_flops(model: Any) -> float | None:
    """Forward FLOPs per token of a model that is fitted by gradient descent, counted on a new network; or None."""
    length = getattr(model.config, "row_length", None)
    if length is None or not hasattr(model, "build"):
        return None
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils import flop_counter

    spare_compiler(flop_counter._FlopCounterMode)  # whose methods watch the operations for FlopCounterMode
    with torch.random.fork_rng(devices=[]):
        network = model.build().eval()
    tokens = torch.zeros(1, model.window + length - 1, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of attention kernels that this machine lacks
        unfused = torch.backends.mkldnn.flags(enabled=False)  # FlopCounterMode does not count fused kernels
        with (
            unfused,
            sdpa_kernel(SDPBackend.MATH),
            torch.inference_mode(),
            flop_counter.FlopCounterMode(display=False) as counter,
        ):
            model.training_pass(network, tokens)
    return float(counter.get_total_flops() / length)


def of_fit(model: Any, tokens_seen: int) -> float | None:
    """The FLOPs of a fit that has seen so many tokens of train; None for counting models."""
    forward = forward_flops(model)
    return None if forward is None else (1 + BACKWARD) * forward * tokens_seen
