"""Batches for a network: documents are divided into rows; a step draws rows at random, by its seed and number alone.

A row has ``length`` targets behind ``window`` tokens of history. Each document is divided into such rows end to end;
every row but a document's first is shifted back by a random number of tokens below ``length``, so that every token is
about equally often a target while a document's beginning is always at the start of a row. The rows of a step are drawn
on the host and are the same on every device; the tokens lie on the device, where one gather makes the batch without
waiting for the host.

Knows tokens; never a network.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from lmstages.core.documents import BOUNDARY, Documents
from lmstages.training.distributed import ONE_PASS, Pass, Processes

IGNORED = -100  # cross_entropy's own value for "no target here"
BATCH_DRAW = 0
CPU, ONE_PROCESS = torch.device("cpu"), Processes()
Spans = tuple[np.ndarray, np.ndarray, np.ndarray]
Pair = tuple[torch.Tensor, torch.Tensor]  # inputs and targets


class Batch(NamedTuple):
    """(B, window + length - 1) inputs and (B, length) targets, IGNORED past a document's end.

    ``lengths`` (rows of the whole batch, over all processes): the targets of each row, which come first in it.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    lengths: np.ndarray

    @property
    def targets_of_all(self) -> int:
        """The targets of the whole batch, over all processes."""
        return int(self.lengths.sum())


@dataclass(frozen=True)
class Rows:
    """Documents, divided into rows of ``length`` targets behind ``window`` tokens of history."""

    documents: Documents
    window: int
    length: int
    device: torch.device = CPU
    processes: Processes = ONE_PROCESS

    def __post_init__(self) -> None:
        per_document = -(-self.documents.lengths // self.length)
        object.__setattr__(self, "_first", np.concatenate([[0], np.cumsum(per_document)]))
        object.__setattr__(self, "_resident", None if self.device.type == "cpu" else self.resident())

    def __len__(self) -> int:
        return int(self._first[-1])  # type: ignore[attr-defined]

    def cut(self, rows: np.ndarray, shift: np.ndarray | int = 0, within: Pass = ONE_PASS) -> Batch:
        """(B,) row numbers, and by how many tokens each is shifted back -> this process's part of the batch."""
        spans = self.spans(rows, shift)
        lengths = np.minimum(self.length, spans[2] - spans[0])
        begin, start, end = (self.processes.local_rows(positions, within) for positions in spans)
        return Batch(*self.gather((begin, start, end)), lengths)

    def spans(self, rows: np.ndarray, shift: np.ndarray | int) -> Spans:
        """(B,) -> three times (B,): where each row's targets begin, and where its document begins and ends."""
        first, starts = self._first, self.documents.starts  # type: ignore[attr-defined]
        document = np.searchsorted(first, rows, side="right") - 1
        within = rows - first[document]
        begin = starts[document] + within * self.length - np.where(within > 0, shift, 0)
        return begin, starts[document], starts[document + 1]

    def gather(self, spans: Spans) -> Pair:
        """Spans -> inputs and targets; in NumPy where the tokens lie on the host, which is twice as fast there."""
        if self._resident is not None:  # type: ignore[attr-defined]
            return self.gather_on_device(spans, self._resident)  # type: ignore[attr-defined]
        begin, start, end = (bound[:, None] for bound in spans)
        positions = begin + np.arange(-self.window, self.length)
        outside = (positions < start) | (positions >= end)
        positions = np.where(outside, 0, positions)
        inputs = np.where(outside, BOUNDARY, self.documents.inputs[positions].astype(np.int64))[:, :-1]
        targets = np.where(outside, IGNORED, self.documents.tokens[positions].astype(np.int64))[:, self.window :]
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    def gather_on_device(self, spans: Spans, resident: Pair) -> Pair:
        """``gather`` from tokens on a device; the spans are copied there while it still computes the step before."""
        bounds = torch.from_numpy(np.stack(spans))[..., None]
        bounds = bounds.pin_memory() if self.device.type == "cuda" else bounds
        begin, start, end = bounds.to(self.device, non_blocking=True)
        positions = begin + torch.arange(-self.window, self.length, device=self.device)
        outside = (positions < start) | (positions >= end)
        positions = positions.masked_fill(outside, 0)
        inputs, targets = (tokens[positions].long() for tokens in resident)
        return inputs.masked_fill(outside, BOUNDARY)[:, :-1], targets.masked_fill(outside, IGNORED)[:, self.window :]

    def resident(self) -> Pair:
        """(N,) all inputs and all targets on the device; one tensor where they are the same."""
        inputs, tokens = self.documents.inputs, self.documents.tokens
        targets = self._moved(tokens)
        return targets if inputs is tokens else self._moved(inputs), targets

    def _moved(self, values: np.ndarray) -> torch.Tensor:
        """Tokens on the device: 8-bit ones as they are, 16-bit ones as int32, since torch does little with uint16."""
        dtype = values.dtype if values.dtype in (np.uint8, np.int64) else np.int32
        return torch.from_numpy(np.array(values, dtype=dtype)).to(self.device)

    def random_batch(self, count: int, seed: int, step: int, within: Pass = ONE_PASS) -> Batch:
        """The batch of one step: ``count`` rows at random, each shifted at random; of them those of one pass."""
        draw = np.random.Generator(np.random.Philox(key=[seed, BATCH_DRAW], counter=[0, 0, 0, step]))
        return self.cut(draw.integers(len(self), size=count), draw.integers(self.length, size=count), within)

    def full_batch(self, within: Pass = ONE_PASS) -> Batch:
        """All rows as one batch, every token once; of them those of one pass."""
        return self.cut(np.arange(len(self)), 0, within)

    def spread(self, tokens: int, count: int, at_least: int = 1) -> Iterator[Batch]:
        """Batches of at most ``count`` rows, about ``tokens`` targets in all: evenly spaced rows, always the same.

        What would leave fewer than ``at_least`` rows to the last batch is in the one before it.
        """
        wanted = min(len(self), max(1, tokens // self.length))
        rows = np.linspace(0, len(self) - 1, wanted).round().astype(np.int64)
        starts = [start for start in range(0, wanted, count) if start == 0 or wanted - start >= at_least]
        for start, end in zip(starts, [*starts[1:], wanted], strict=True):
            yield self.cut(rows[start:end])
