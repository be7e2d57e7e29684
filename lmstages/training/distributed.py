"""Several processes that fit one network together: each takes its share of every batch, all take the same step.

    gradient = sum over processes of  d(sum of my losses) / dw  /  (targets of the whole batch)

The rows of a batch are drawn as in a single process and then dealt out, so that data and gradient are those of
one process, up to the order in which floating-point numbers are added. One process alone is the case in which
all of this does nothing. Knows torch.distributed; never a network's kind, a file or a model.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import distributed, nn

from lmstages.core import runtime
from lmstages.core.errors import UserError


class Processes:
    """``count`` processes, this one being number ``rank``; the first alone writes and speaks."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def is_main_process(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """(B, ...) -> the rows of them that are this process's."""
        return rows[self.rank :: self.count]

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of every process's ``value``, in every process."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    def all_reduce_max(self, number: int) -> int:
        """The largest of every process's ``number``, in every process; passes by the accelerator."""
        if self.count == 1:
            return number
        told = torch.tensor(number)
        distributed.all_reduce(told, distributed.ReduceOp.MAX)
        return int(told)

    def together(self, network: nn.Module) -> nn.Module:
        """The network with gradients that are the mean over the processes."""
        if self.count == 1:
            return network
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
            found = "its BatchNorm takes its statistics from a whole batch"
            raise UserError(f"{self.count} processes", found, "", "fit this model with one process, without torchrun")
        return nn.parallel.DistributedDataParallel(network)


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that a launcher such as torchrun has started, or this one alone."""
    if runtime.processes() == 1:
        yield Processes()
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
