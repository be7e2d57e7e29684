"""What a network is trained on: the next token, or what a model's own objective makes of a batch.

    objective(network, batch, draw)             nats, summed over the process's rows: what a step minimises
    objective.selected(network, batch, draw)    the same of valid: the quantity that is reported, which selects weights

Both are divided by the targets of the whole batch. All randomness of an objective comes from its ``Draw``, a function
of (seed, purpose, step) alone, from which every process draws for the rows of the whole batch and keeps its own, in
every pass of a step: the same rows have the same draws in one process and in many, in one pass and in several, and a
resumed fit draws what it would have drawn.
Knows batches; never a model, a text or a file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from lmstages.training.batches import IGNORED, ONE_PROCESS, Batch
from lmstages.training.distributed import ONE_PASS, Pass, Processes
from lmstages.training.large_vocabulary import is_large

OBJECTIVE_DRAW, VALID_DRAW = 2, 3  # purposes, beside those of batches and of dropout
Network = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Draw:
    """The randomness of an objective at one step, or on one batch of valid."""

    seed: int
    purpose: int
    step: int
    processes: Processes = ONE_PROCESS
    within: Pass = ONE_PASS

    def generator(self) -> np.random.Generator:
        """A new generator, in the same state at every call and in every process."""
        return np.random.Generator(np.random.Philox(key=[self.seed, self.purpose], counter=[0, 0, 0, self.step]))

    def local_rows(self, values: np.ndarray) -> np.ndarray:
        """(rows of the whole batch, ...) -> those of this process, in the order of its ``Batch``."""
        return self.processes.local_rows(values, self.within)


class Objective(Protocol):
    """What is minimised on train, and what selects on valid; often the same."""

    def __call__(self, network: Network, batch: Batch, draw: Draw) -> torch.Tensor:
        """Nats, summed over the rows of ``batch``, with a gradient."""

    def selected(self, network: Network, batch: Batch, draw: Draw) -> torch.Tensor:
        """Nats, summed over the rows of ``batch``; its mean over the targets of valid is the selection criterion."""


class NextToken:
    """Cross-entropy of the next token after each input; draws nothing.

    ``vocab_size`` of a network that takes targets beside its inputs, and then returns their summed cross-entropy: it is
    given them where all logits would be too many to hold.
    """

    def __init__(self, vocab_size: int = 0) -> None:
        self.vocab_size = vocab_size

    def __call__(self, network: Network, batch: Batch, draw: Draw) -> torch.Tensor:
        """The sum of cross-entropies over all targets that are not IGNORED."""
        if is_large(batch.targets, self.vocab_size):
            return network(batch.inputs, batch.targets)
        logits = network(batch.inputs).flatten(0, 1)
        return functional.cross_entropy(logits, batch.targets.flatten(), ignore_index=IGNORED, reduction="sum")

    def selected(self, network: Network, batch: Batch, draw: Draw) -> torch.Tensor:
        """The same."""
        return self(network, batch, draw)


NEXT_TOKEN = NextToken()
