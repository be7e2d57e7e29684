"""The device a network runs on, the precision of training there, and the name of the hardware that its bits depend on.

On the CPU everything is float32. A GPU with bfloat16 multiplies matrices in it during training; weights, losses and
everything in scoring stay float32. Knows torch; never a model.
"""

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from lmstages.core.errors import UserError


def device_of(name: str) -> torch.device:
    """The device for ``cpu``, ``cuda`` or ``auto`` (a GPU where there is one); each local process has its own GPU.

    Raises UserError for ``cuda`` where there is none.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("--device cuda", "torch finds no GPU here", "cpu and auto work everywhere", "give --device cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def precision_of(device: torch.device) -> str:
    """The precision of a network's matrix products in training."""
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def at_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """A context in which matrices are multiplied in a precision; float32 changes nothing."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def machine_of(device: torch.device) -> str:
    """The name of the GPU, or the vector instructions of the CPU: the last bits of a result depend on them."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU, {torch.backends.cpu.get_cpu_capability()}"
