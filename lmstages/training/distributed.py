"""Data-parallel training: each of several processes has some rows of every batch, and all take the same step.

    gradient = sum over processes of  d(sum of the process's losses) / dw  /  (targets of the whole batch)

The rows of a batch are drawn as in a single process and then divided, so that data and gradient are those of one
process, up to the order in which floating-point numbers are added. With one process all of this does nothing.
Knows torch.distributed; never a network's architecture, a file or a model.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import distributed, nn

from lmstages.core import runtime
from lmstages.core.errors import UserError


class Processes:
    """``count`` processes, of which this one has number ``rank``; only the main process, 0, writes files and logs."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def local_rows(self, rows: np.ndarray) -> np.ndarray:
        """(B, ...) -> this process's rows of a batch."""
        return rows[self.rank :: self.count]

    def all_reduce_sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of every process's ``value``, in every process; in place."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    def all_reduce_max(self, number: int) -> int:
        """The largest of every process's ``number``, in every process; on the host, never on the accelerator."""
        if self.count == 1:
            return number
        largest = torch.tensor(number)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return int(largest)

    def wrap_model(self, network: nn.Module) -> nn.Module:
        """The network with gradients that are averaged over the processes; a UserError where it has BatchNorm."""
        if self.count == 1:
            return network
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
            problem = "its BatchNorm takes its statistics from a whole batch"
            raise UserError(f"{self.count} processes", problem, "", "fit this model with one process, without torchrun")
        return nn.parallel.DistributedDataParallel(network)


@contextmanager
def process_group() -> Iterator[Processes]:
    """The processes that a launcher such as torchrun has started, or this one alone."""
    if runtime.processes() == 1:
        yield Processes()
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
