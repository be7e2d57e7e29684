"""Gradient descent, once for every neural rung: batches, schedule, optimizer, selection on valid.

A batch is ``batch_size`` rows of ``row_length`` targets. Each document is tiled by such rows; all but a
document's first start up to a row earlier, at random, so that every token is about equally often a
target while a document's beginning is always seen as one. Without a ``batch_size`` every step takes all
rows as they lie, cut once. Every random draw is a function of (seed, step, purpose) and of nothing else,
so that neither evaluation nor a restart moves it.

Knows tokens and a network ``(B, window + T - 1) -> (B, T, V)``; never a text, a file or a rung's architecture.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.errors import FitError
from lmstages.ladder import Neural
from lmstages.models.base import BOUNDARY, Curve, Documents
from lmstages.progress import Progress

IGNORED = -100  # cross_entropy's own mark for "no target here"
VALID_TOKENS = 32768  # enough for a selection error of about 0.01 nats
ROWS_AT_ONCE = 256  # in evaluation, where batch_size does not say
BATCH_DRAW, NOISE_DRAW = 0, 1


@dataclass(frozen=True)
class Rows:
    """Cuts documents into rows of ``length`` targets behind ``window`` tokens of history."""

    documents: Documents
    window: int
    length: int

    def __post_init__(self) -> None:
        per_document = -(-self.documents.lengths // self.length)
        object.__setattr__(self, "_first", np.concatenate([[0], np.cumsum(per_document)]))

    def __len__(self) -> int:
        return int(self._first[-1])  # type: ignore[attr-defined]

    def cut(self, rows: np.ndarray, shift: np.ndarray | int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """(B,) row numbers -> inputs (B, window + length - 1), targets (B, length), IGNORED past a document's end."""
        first, starts = self._first, self.documents.starts  # type: ignore[attr-defined]
        document = np.searchsorted(first, rows, side="right") - 1
        tile = rows - first[document]
        begin = starts[document] + tile * self.length - np.where(tile > 0, shift, 0)
        places = begin[:, None] + np.arange(-self.window, self.length)
        outside = (places < starts[document, None]) | (places >= starts[document + 1, None])
        tokens = self.documents.tokens[np.where(outside, 0, places)].astype(np.int64)
        inputs = np.where(outside, BOUNDARY, tokens)[:, :-1]
        targets = np.where(outside, IGNORED, tokens)[:, self.window :]
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    def drawn(self, count: int, seed: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch of one step: ``count`` rows at random."""
        draw = np.random.Generator(np.random.Philox(key=[seed, BATCH_DRAW], counter=[0, 0, 0, step]))
        return self.cut(draw.integers(len(self), size=count), draw.integers(self.length, size=count))

    def whole(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All rows as one batch, every token once."""
        return self.cut(np.arange(len(self)))

    def spread(self, tokens: int, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of at most ``count`` rows, about ``tokens`` targets in all, evenly spread and always the same."""
        wanted = min(len(self), max(1, tokens // self.length))
        rows = np.linspace(0, len(self) - 1, wanted).round().astype(np.int64)
        for start in range(0, wanted, count):
            yield self.cut(rows[start : start + count])


def learning_rate(rung: Neural, step: int) -> float:
    """Linear warm-up, then constant, or down to ``final_learning_rate``: linear, cosine, or at once (step)."""
    if step < rung.warmup_steps:
        return rung.learning_rate * (step + 1) / (rung.warmup_steps + 1)
    done = (step - rung.warmup_steps) / max(1, rung.steps - rung.warmup_steps)
    left = {
        "constant": 1.0,
        "linear": 1 - done,
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "step": float(done <= rung.drop_after),
    }[rung.schedule]
    return rung.final_learning_rate + left * (rung.learning_rate - rung.final_learning_rate)


def optimizer_of(network: nn.Module, rung: Neural) -> torch.optim.Optimizer:
    """AdamW or SGD; weight decay on matrices only, as is usual."""
    matrices = [weight for weight in network.parameters() if weight.dim() >= 2]
    vectors = [weight for weight in network.parameters() if weight.dim() < 2]
    groups = [{"params": matrices, "weight_decay": rung.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if rung.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rung.learning_rate)
    return torch.optim.AdamW(groups, lr=rung.learning_rate, betas=(0.9, rung.beta2), fused=True)


def loss_of(network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Cross-entropy in nats over the targets that are there."""
    return functional.cross_entropy(
        network(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction=reduction
    )


def valid_loss(network: nn.Module, rows: Rows, batch_size: int) -> float | None:
    """Mean nats per token over a fixed spread of rows of valid; None where valid is empty."""
    if not len(rows):
        return None
    network.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for inputs, targets in rows.spread(VALID_TOKENS, batch_size):
            total += float(loss_of(network, inputs, targets, "sum"))
            count += int((targets != IGNORED).sum())
    network.train()
    return total / count


class Trainer:
    """One fit: the network, its optimizer, the curve so far and the best weights so far."""

    def __init__(self, network: nn.Module, rung: Neural, train: Documents, valid: Documents, window: int, seed: int):
        self.network, self.rung, self.seed = network, rung, seed
        self.rows = Rows(train, window, rung.row_length)
        self.valid = Rows(valid, window, max(rung.row_length, window))
        self.whole = self.rows.whole() if rung.batch_size is None else None
        self.optimizer = optimizer_of(network, rung)
        self.losses = torch.zeros(rung.steps)
        self.curve: Curve = []
        self.best, self.tokens = math.inf, 0
        self.best_weights: dict[str, torch.Tensor] = {}
        self.progress = Progress(rung.steps, "step")

    def run(self) -> Curve:
        """All steps; leaves the network with the weights that ``keep`` asks for."""
        self.network.train()
        for step in range(self.rung.steps):
            self.losses[step] = self.step(step)
            self.report(step + 1)
            if (step + 1) % self.rung.evaluate_every == 0 or step + 1 == self.rung.steps:
                self.evaluate(step + 1)
        if self.rung.keep == "best":
            self.network.load_state_dict(self.best_weights)
        self.network.eval()
        return self.curve

    def step(self, step: int) -> torch.Tensor:
        """One update; returns the loss before it, still on its device."""
        inputs, targets = self.batch(step)
        self.tokens += int((targets != IGNORED).sum())
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.rung, step)
        if self.rung.dropout:
            torch.manual_seed(hash((self.seed, NOISE_DRAW, step)) & 0x7FFFFFFFFFFFFFFF)
        loss = loss_of(self.network, inputs, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.rung.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.rung.clip)
        self.optimizer.step()
        return loss.detach()

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All rows, or as many as ``batch_size`` drawn at random."""
        if self.whole is not None:
            return self.whole
        assert self.rung.batch_size is not None, "without a batch_size there is the whole"
        return self.rows.drawn(self.rung.batch_size, self.seed, step)

    def report(self, done: int) -> None:
        """A line of progress when one is due."""
        if self.progress.due():
            self.progress.at(done, self.tokens, "tokens", {"loss": float(self.losses[done - 1])})

    def evaluate(self, done: int) -> None:
        """Append to the curve, stop on NaN, remember the best weights on valid."""
        recent = self.losses[self.curve[-1]["step"] if self.curve else 0 : done]
        self.stop_if_not_finite(done - len(recent))
        valid = valid_loss(self.network, self.valid, self.rung.batch_size or ROWS_AT_ONCE)
        rate = learning_rate(self.rung, done - 1)
        self.curve.append(
            {"step": done, "tokens": self.tokens, "train": float(recent.mean()), "valid": valid, "learning_rate": rate}
        )
        told = {"train": float(recent.mean())} | ({} if valid is None else {"valid": valid})
        self.progress.at(done, self.tokens, "tokens", told)
        if self.rung.keep == "best" and valid is not None and valid < self.best:
            self.best = valid
            self.best_weights = {name: weight.clone() for name, weight in self.network.state_dict().items()}

    def stop_if_not_finite(self, first: int) -> None:
        """A loss that is no number never becomes one again: name the step and what helps."""
        bad = torch.nonzero(~torch.isfinite(self.losses[first:]))
        if len(bad):
            found = f"the training loss is not a number from step {first + int(bad[0]) + 1} on"
            remedy = f"lower learning_rate (now {self.rung.learning_rate:g}) or clip (now {self.rung.clip:g})"
            raise FitError(f"rung {self.rung.name}", found, "", remedy)


def train(network: nn.Module, rung: Neural, train: Documents, valid: Documents, window: int, seed: int) -> Curve:
    """Fit a network in place: minimise its cross-entropy on ``train``, choose on ``valid``; returns the curve."""
    return Trainer(network, rung, train, valid, window, seed).run()
