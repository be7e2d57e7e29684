"""Data-parallel training: each of several processes has some rows of every batch, and all take the same step.

    gradient = sum over processes and passes of  d(sum of the losses of its rows) / dw  /  (targets of the whole batch)

The rows of a batch are drawn as in a single process and then divided, among processes and among the passes of each
(gradient accumulation), so that data and gradient are those of one process in one pass, up to the order in which
floating-point numbers are added. With one process and one pass all of this does nothing.
Knows torch.distributed; never a network's architecture, a file or a model.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import distributed, nn

from lmstages.core import runtime
from lmstages.core.errors import UserError


class Pass(NamedTuple):
    """Number ``number`` of the ``of`` passes through the network that a step takes; each has some of the rows."""

    number: int = 0
    of: int = 1


ONE_PASS, CPU = Pass(), torch.device("cpu")


class Processes:
    """``count`` processes, of which this one has number ``rank``; only the main process, 0, writes files and logs."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def local_rows(self, rows: np.ndarray, within: Pass = ONE_PASS) -> np.ndarray:
        """(B, ...) -> this process's rows of a batch, those of one pass."""
        return rows[self.rank + within.number * self.count :: within.of * self.count]

    def passes(self, rows: int, at_once: int | None) -> list[Pass]:
        """Passes that divide so many rows of a batch: each process has at most ``at_once`` rows in each, but one at
        least in each; None is a single pass.
        """
        count = 1 if at_once is None else min(-(-rows // (self.count * at_once)), max(1, rows // self.count))
        return [Pass(number, count) for number in range(count)]

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

    def wrap_model(self, network: nn.Module, device: torch.device = CPU, sharding: str = "none") -> nn.Module:
        """The network with gradients that are averaged over the processes; a UserError where it has BatchNorm.

        With ``sharding`` it is divided among them, in place.
        """
        if self.count == 1:
            return network.to(device)
        refuse_batch_norm(network, f"{self.count} processes", "fit this model with one process, without torchrun")
        if sharding == "full":
            from lmstages.training.sharding import shard  # torch's DTensor, which takes a while to import

            shard(network, device, self.count)
            return network
        network.to(device)
        # with find_unused_parameters buckets keep their order after the first step, and with it additions theirs: a fit
        # that is resumed would begin with the first order again
        return nn.parallel.DistributedDataParallel(network, find_unused_parameters=True)

    def accumulating(self, wrapped: nn.Module, within: Pass) -> AbstractContextManager[object]:
        """In which gradients are added up here alone: of every pass but a step's last, which sums over processes."""
        if within.number + 1 == within.of or not isinstance(wrapped, nn.parallel.DistributedDataParallel):
            return nullcontext()  # a divided network has no room for a whole gradient
        return wrapped.no_sync()


def refuse_batch_norm(network: nn.Module, where: str, remedy: str) -> None:
    """Raises UserError for a network that must see a batch whole."""
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise UserError(where, "its BatchNorm takes its statistics from a whole batch", "", remedy)


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
