"""Weights, gradients and moments divided among processes, for models beyond one device (FSDP2; Zhao et al. 2023).

Each process holds a part of every weight. A block's weights are gathered when it computes, and freed after it; its
gradient is summed over processes and divided again. What is computed is what data-parallel processes compute, up to
the order in which floating-point numbers are added. A file holds whole arrays: it serves any number of processes.
Knows a network's list of blocks; never its architecture. Imports what divides tensors only where one is divided.
"""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The layers of a network that has a list of ``blocks``, as all with attention have; no other has any."""
    blocks = getattr(network, "blocks", ())
    return list(blocks) if isinstance(blocks, nn.ModuleList) else []


def shard(network: nn.Module, device: torch.device, processes: int) -> None:
    """Divide a network in place, block by block, so that no device ever holds more than a block of it whole."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes,))
    for block in blocks_of(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def outline(network: nn.Module) -> nn.Module:
    """A copy whose weights have shapes and no values."""
    empty = {id(w): nn.Parameter(torch.empty_like(w, device="meta"), w.requires_grad) for w in network.parameters()}
    return copy.deepcopy(network, empty)


def filled(empty: nn.Module, network: nn.Module, is_kept: bool) -> nn.Module:
    """An outline with the weights of the divided network; every process takes part, those that keep none stay empty."""
    device, weights = next(network.parameters()).device, dict[str, torch.Tensor]()
    for name, weight in network.state_dict().items():
        array = gathered(weight, is_kept)
        weights |= {} if array is None else {name: torch.from_numpy(array)}
    if is_kept:
        empty.load_state_dict(weights, assign=True)
        empty.to(device)
    return empty.eval()


def is_divided(tensor: torch.Tensor) -> bool:
    """Whether this process holds a part of it: whether it is a DTensor."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor, gathered from all processes where it is divided."""
    divided: Any = tensor
    return divided.full_tensor() if is_divided(tensor) else tensor


def gathered(tensor: torch.Tensor, is_kept: bool = True) -> np.ndarray | None:
    """A tensor, whole, on the host; of a divided one every process takes part, and None where it is not kept."""
    complete = whole(tensor.detach())
    return complete.cpu().numpy() if is_kept else None


def divided_as(example: torch.Tensor, complete: torch.Tensor) -> torch.Tensor:
    """This process's part of a whole tensor, where ``example`` is divided and has its shape; else all of it."""
    if not is_divided(example) or example.shape != complete.shape:
        return complete
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(example, DTensor), "nothing else is divided"
    return distribute_tensor(complete, example.device_mesh, example.placements, src_data_rank=None)


def divided_state(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's whole state, divided as the weights that it belongs to."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments = {
        number: {k: divided_as(weights[number], v) if torch.is_tensor(v) else v for k, v in entries.items()}
        for number, entries in state["state"].items()
    }
    return {**state, "state": moments}
