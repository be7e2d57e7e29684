"""The device a network runs on, and what may differ there: precision, and what of the machine its bits depend on.

On the CPU everything is float32. A GPU that has bfloat16 multiplies in it during training; weights, losses and all
that is scored stay float32. Knows torch; never a model.
"""

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from lmstages.core.errors import UserError


def device_of(name: str) -> torch.device:
    """``cpu``, ``cuda`` or ``auto``, a GPU where there is one; of several processes on a machine each has its own."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("--device cuda", "torch finds no GPU here", "cpu and auto work everywhere", "give --device cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def precision_of(device: torch.device) -> str:
    """What a network is trained in."""
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def at_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Within it matrices are multiplied so; float32 is how things are."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def machine_of(device: torch.device) -> str:
    """The part of a machine that the last bits of a result depend on."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU, {torch.backends.cpu.get_cpu_capability()}"
