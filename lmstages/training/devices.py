"""The device a network runs on, the precision of training there, and the name of the hardware that its bits depend on.

On the CPU everything is float32. A GPU with bfloat16 multiplies matrices in it during training; weights, losses and
everything in scoring stay float32. Apple's GPUs (MPS) have no float64: what is summed in it lies on the host. Knows
torch; never a model.
"""

import os
import platform
from contextlib import AbstractContextManager, nullcontext

import torch

from lmstages.core.errors import UserError
from lmstages.core.runtime import APPLE, processes


def device_of(name: str) -> torch.device:
    """The device for ``cpu``, ``cuda``, ``mps`` or ``auto``: an NVIDIA or AMD GPU, else an Apple one, else the CPU.

    Each local process has its own GPU; several processes share no Apple one. Raises UserError for a GPU where there is
    none.
    """
    several = processes() > 1
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_there in available.items() if is_there and not (kind == "mps" and several))
    if not available[name] or (name == "mps" and several):
        problem = "is for one process alone" if available[name] else "torch finds no GPU here"
        raise UserError(f"--device {name}", problem, "cpu and auto work everywhere", "give --device cpu")
    if name != "cuda":
        return torch.device(name)
    local_rank, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local_rank >= there:
        problem = f"more processes on this node than the {there} GPUs that torch finds"
        raise UserError(
            f"--device {name}", problem, "each process needs one of its own", "lower processes of the model"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def precision_of(device: torch.device) -> str:
    """The precision of a network's matrix products in training."""
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def at_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """A context in which matrices are multiplied in a precision; float32 changes nothing."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def in_full_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context in which matrices are multiplied in their own precision, whatever surrounds it."""
    computes = device.type != "meta"  # which has no precision
    return torch.autocast(device.type, enabled=False) if computes else nullcontext()


def wide_zero(device: torch.device) -> torch.Tensor:
    """A float64 zero to sum what is computed on a device: there, or on the host where the device has no float64."""
    return torch.zeros((), dtype=torch.float64, device="cpu" if device.type == "mps" else device)


def machine_of(device: torch.device) -> str:
    """The name of the GPU, or the vector instructions of the CPU: the last bits of a result depend on them."""
    if device.type == "mps":
        return f"{APPLE}, {platform.machine()}, macOS {platform.mac_ver()[0]}"
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU, {torch.backends.cpu.get_cpu_capability()}"
