"""Rows of tokens for a network: documents tiled by rows, drawn at random or evenly spread, always the same ones.

A row has ``length`` targets behind ``window`` tokens of history. Each document is tiled by such rows; all but a
document's first start up to a row earlier, at random, so that every token is about equally often a target while
a document's beginning is always seen as one. Which rows a step takes is drawn on the host and is the same on
every device; the tokens lie on the device, where one gather makes a batch of them without waiting for the host.

Knows tokens; never a network.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from lmstages.core.documents import BOUNDARY, Documents
from lmstages.training.distributed import Processes

IGNORED = -100  # cross_entropy's own mark for "no target here"
BATCH_DRAW = 0
CPU, ALONE = torch.device("cpu"), Processes()
Spans = tuple[np.ndarray, np.ndarray, np.ndarray]
Pair = tuple[torch.Tensor, torch.Tensor]  # inputs and targets


class Batch(NamedTuple):
    """(B, window + length - 1) inputs and (B, length) targets, IGNORED past a document's end.

    ``targets_of_all`` counts the targets of the whole batch, of which other processes may have the rest.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    targets_of_all: int


@dataclass(frozen=True)
class Rows:
    """Cuts documents into rows of ``length`` targets behind ``window`` tokens of history."""

    documents: Documents
    window: int
    length: int
    device: torch.device = CPU
    processes: Processes = ALONE

    def __post_init__(self) -> None:
        per_document = -(-self.documents.lengths // self.length)
        object.__setattr__(self, "_first", np.concatenate([[0], np.cumsum(per_document)]))
        object.__setattr__(self, "_resident", None if self.device.type == "cpu" else self.resident())

    def __len__(self) -> int:
        return int(self._first[-1])  # type: ignore[attr-defined]

    def cut(self, rows: np.ndarray, shift: np.ndarray | int = 0) -> Batch:
        """(B,) row numbers -> this process's share of the batch."""
        spans = self.spans(rows, shift)
        count = int(np.minimum(self.length, spans[2] - spans[0]).sum())
        begin, start, end = (self.processes.share(places) for places in spans)
        return Batch(*self.gather((begin, start, end)), count)

    def spans(self, rows: np.ndarray, shift: np.ndarray | int) -> Spans:
        """(B,) -> (B,) places of each row's first target, and of its document's first token and end."""
        first, starts = self._first, self.documents.starts  # type: ignore[attr-defined]
        document = np.searchsorted(first, rows, side="right") - 1
        tile = rows - first[document]
        begin = starts[document] + tile * self.length - np.where(tile > 0, shift, 0)
        return begin, starts[document], starts[document + 1]

    def gather(self, spans: Spans) -> Pair:
        """(B,) each -> inputs and targets; in NumPy where the tokens lie on the host, which is twice as quick there."""
        if self._resident is not None:  # type: ignore[attr-defined]
            return self.gather_on_device(spans, self._resident)  # type: ignore[attr-defined]
        begin, start, end = (places[:, None] for places in spans)
        places = begin + np.arange(-self.window, self.length)
        outside = (places < start) | (places >= end)
        places = np.where(outside, 0, places)
        inputs = np.where(outside, BOUNDARY, self.documents.inputs[places].astype(np.int64))[:, :-1]
        targets = np.where(outside, IGNORED, self.documents.tokens[places].astype(np.int64))[:, self.window :]
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    def gather_on_device(self, spans: Spans, resident: Pair) -> Pair:
        """The same from tokens that lie on a device; the spans go there while it still works at the step before."""
        told = torch.from_numpy(np.stack(spans))[..., None]
        told = told.pin_memory() if self.device.type == "cuda" else told
        begin, start, end = told.to(self.device, non_blocking=True)
        places = begin + torch.arange(-self.window, self.length, device=self.device)
        outside = (places < start) | (places >= end)
        places = places.masked_fill(outside, 0)
        inputs, targets = (each[places].long() for each in resident)
        return inputs.masked_fill(outside, BOUNDARY)[:, :-1], targets.masked_fill(outside, IGNORED)[:, self.window :]

    def resident(self) -> Pair:
        """(N,) all inputs and all tokens on the device, once where they are the same."""
        inputs, tokens = self.documents.inputs, self.documents.tokens
        targets = self._moved(tokens)
        return targets if inputs is tokens else self._moved(inputs), targets

    def _moved(self, values: np.ndarray) -> torch.Tensor:
        """As few bytes each as torch has a whole type for."""
        kind = values.dtype if values.dtype in (np.uint8, np.int64) else np.int32
        return torch.from_numpy(np.array(values, dtype=kind)).to(self.device)

    def drawn(self, count: int, seed: int, step: int) -> Batch:
        """The batch of one step: ``count`` rows at random."""
        draw = np.random.Generator(np.random.Philox(key=[seed, BATCH_DRAW], counter=[0, 0, 0, step]))
        return self.cut(draw.integers(len(self), size=count), draw.integers(self.length, size=count))

    def whole(self) -> Batch:
        """All rows as one batch, every token once."""
        return self.cut(np.arange(len(self)))

    def spread(self, tokens: int, count: int) -> Iterator[Batch]:
        """Batches of at most ``count`` rows, about ``tokens`` targets in all, evenly spread and always the same."""
        wanted = min(len(self), max(1, tokens // self.length))
        rows = np.linspace(0, len(self) - 1, wanted).round().astype(np.int64)
        for start in range(0, wanted, count):
            yield self.cut(rows[start : start + count])
