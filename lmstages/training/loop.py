"""Gradient descent, once for every neural model: steps, selection on valid, and going on where a fit was interrupted.

Every random draw is a function of (seed, step, purpose) and of nothing else, so that neither evaluation nor a
restart moves it. What a fit is at a step is therefore the ``TrainState``, and nothing besides: saved, killed and
restored after any step, it ends with the same bits. Nothing waits for an accelerator but evaluation, a line of
progress and saving: until then the losses stay where they are.

Knows tokens and a network ``(B, window + T - 1) -> (B, T, V)``; never a text, a file or a model's architecture.
"""

import math
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.neural import Neural
from lmstages.core.artifacts import finite_or_none
from lmstages.core.documents import Curve, Documents
from lmstages.core.errors import FitError, Interrupted, UserError
from lmstages.core.progress import Progress
from lmstages.core.runtime import Runtime, Signals
from lmstages.training.batches import IGNORED, Batch, Rows
from lmstages.training.devices import at_precision, device_of, machine_of, precision_of
from lmstages.training.distributed import Processes, joined
from lmstages.training.optimizers import CombinedOptimizer, WeightAverage, learning_rate, optimizer_of
from lmstages.training.resume import mapped

VALID_TOKENS = 32768  # enough for a selection error of about 0.01 nats
ROWS_AT_ONCE = 256  # in evaluation, where batch_size does not say
NOISE_DRAW = 1
AGREE_EVERY = 10  # steps between two moments at which several processes may stop or save together
COMPILED_FROM = 1000  # steps: fewer do not pay for the minute that compiling takes
NOTHING, SAVE, STOP = 0, 1, 2


@dataclass
class TrainState:
    """Exactly what resuming needs; all else follows from the model, the tokens, the seed and the number of the step."""

    network: nn.Module
    optimizer: "torch.optim.Optimizer | CombinedOptimizer"
    average: WeightAverage
    losses: torch.Tensor  # (steps,) nats, on the network's device; those of several processes are summed when asked for
    step: int = 0  # how many are done
    tokens: int = 0
    curve: Curve = field(default_factory=list)
    best: float = math.inf
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    machines: list[str] = field(default_factory=list)  # on which the steps were done

    def saved(self) -> dict[str, Any]:
        """All of it as dictionaries and lists of arrays and JSON values."""
        owners = {name: getattr(self, name).state_dict() for name in ("network", "optimizer", "average")}
        told = {name: getattr(self, name) for name in ("step", "tokens", "curve", "machines", "best_weights")}
        tree = {**owners, **told, "best": finite_or_none(self.best), "losses": self.losses[: self.step]}
        return dict(mapped(tree, torch.Tensor, lambda tensor: tensor.detach().cpu().numpy()))

    def restore(self, saved: dict[str, Any]) -> None:
        """The inverse of ``saved``, onto the devices where network and losses lie."""
        device = self.losses.device
        tree = mapped(saved, np.ndarray, lambda array: torch.from_numpy(array.copy()).to(device))
        for name in ("network", "optimizer", "average"):
            getattr(self, name).load_state_dict(tree[name])
        for name in ("step", "tokens", "curve", "machines", "best_weights"):
            setattr(self, name, tree[name])
        self.best = math.inf if tree["best"] is None else tree["best"]
        self.losses[: self.step] = tree["losses"]


def loss_of(network: Callable[[torch.Tensor], torch.Tensor], batch: Batch) -> torch.Tensor:
    """The sum of cross-entropies, nats, over the targets that are there."""
    logits = network(batch.inputs).flatten(0, 1)
    return functional.cross_entropy(logits, batch.targets.flatten(), ignore_index=IGNORED, reduction="sum")


def valid_loss(network: nn.Module, rows: Rows, batch_size: int) -> float | None:
    """Mean nats per token over a fixed spread of rows of valid; None where valid is empty."""
    if not len(rows):
        return None
    network.eval()
    total, count = torch.zeros((), dtype=torch.float64, device=rows.device), 0
    with torch.inference_mode():
        for batch in rows.spread(VALID_TOKENS, batch_size):
            if len(batch.inputs):
                total += loss_of(network, batch)
            count += batch.targets_of_all
    network.train()
    return float(rows.processes.total(total)) / count


class Trainer:
    """One fit of a network: its steps, its evaluations, and its interruptions."""

    def __init__(
        self, network: nn.Module, config: Neural, data: tuple[Rows, Rows], seed: int, runtime: Runtime, share: Processes
    ) -> None:
        self.network, self.config, self.seed, self.runtime, self.processes = network, config, seed, runtime, share
        self.rows, self.valid = data
        self.device = self.rows.device
        self.precision = precision_of(self.device)
        self.whole = self.rows.whole() if config.batch_size is None else None
        self.together = share.together(network)
        losses = torch.zeros(config.steps, device=self.device)
        self.state = TrainState(network, optimizer_of(network, config), WeightAverage(network, config), losses)
        self.summed = 0  # steps whose losses are already those of all processes
        self.signals = Signals()

    def run(self) -> Curve:
        """All steps that are left; leaves the network with the weights that ``keep`` asks for."""
        self.resume()
        self.network.train()
        self.forward = self.compiled()
        with self.signals if self.runtime.points else nullcontext():
            self.evaluate_if_due()
            while self.state.step < self.config.steps:
                self.step()
                self.save_or_stop()
                self.evaluate_if_due()
        if self.config.keep == "best":
            self.network.load_state_dict(self.state.best_weights)
        else:
            self.state.average.swap()
        self.network.eval()
        return self.state.curve

    # ------------------------------------------------------------ a step

    def step(self) -> None:
        """One update of the weights from one batch."""
        state, step = self.state, self.state.step
        batch = self.batch(step)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step) * group["share"]
        if self.config.dropout:
            torch.manual_seed(hash((self.seed, NOISE_DRAW, step, self.processes.rank)) & 0x7FFFFFFFFFFFFFFF)
        with at_precision(self.precision, self.device):
            loss = loss_of(self.forward, batch) / batch.targets_of_all
        state.optimizer.zero_grad(set_to_none=True)
        (loss * self.processes.count if self.processes.count > 1 else loss).backward()
        if self.config.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        state.optimizer.step()
        state.average.update(step)
        state.losses[step] = loss.detach()
        state.tokens += batch.targets_of_all
        state.step += 1
        self.report()

    def batch(self, step: int) -> Batch:
        """All rows, or as many as ``batch_size`` drawn at random."""
        if self.whole is not None:
            return self.whole
        assert self.config.batch_size is not None, "without a batch_size there is the whole"
        return self.rows.drawn(self.config.batch_size, self.seed, step)

    def compiled(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The network for steps, compiled where that pays; evaluation takes it as it is."""
        pays = self.device.type == "cuda" and self.config.steps - self.state.step >= COMPILED_FROM
        wanted = {"auto": pays, "always": True, "never": False}[self.runtime.compiled]
        return torch.compile(self.together) if wanted else self.together

    def report(self) -> None:
        """A line of progress when one is due."""
        if self.progress.due():
            loss = float(self.state.losses[self.state.step - 1]) * self.processes.count
            self.progress.at(self.state.step, self.state.tokens, "tokens", {"loss": loss})

    # ------------------------------------------------------------ evaluation

    def evaluate_if_due(self) -> None:
        """At every ``evaluate_every`` steps and at the end, once each, whatever interrupted the steps before."""
        done, last = self.state.step, self.state.curve[-1]["step"] if self.state.curve else 0
        if done > last and (done % self.config.evaluate_every == 0 or done == self.config.steps):
            self.evaluate(last)

    def evaluate(self, last: int) -> None:
        """Append to the curve, stop on NaN, remember the best weights on valid."""
        state = self.state
        self.sum_losses()
        self.stop_if_not_finite(last)
        loss = float(state.losses[last : state.step].mean())
        state.average.swap()
        valid = valid_loss(self.network, self.valid, self.config.batch_size or ROWS_AT_ONCE)
        rate = learning_rate(self.config, state.step - 1)
        point = {"step": state.step, "tokens": state.tokens, "train": loss, "valid": valid, "learning_rate": rate}
        state.curve.append(point)
        told = {"train": loss} | ({} if valid is None else {"valid": valid})
        self.progress.at(state.step, state.tokens, "tokens", told)
        if self.config.keep == "best" and valid is not None and valid < state.best:
            state.best = valid
            state.best_weights = {name: weight.clone() for name, weight in self.network.state_dict().items()}
        state.average.swap()

    def sum_losses(self) -> None:
        """Each process knows its share of a batch's loss; from here on all know the whole."""
        recent = self.state.losses[self.summed : self.state.step]
        recent.copy_(self.processes.total(recent.clone()))
        self.summed = self.state.step

    def stop_if_not_finite(self, first: int) -> None:
        """A loss that is no number never becomes one again: name the step and what helps."""
        bad = torch.nonzero(~torch.isfinite(self.state.losses[first:]))
        if len(bad):
            found = f"the training loss is not a number from step {first + int(bad[0]) + 1} on"
            remedy = f"lower learning_rate (now {self.config.learning_rate:g}) or clip (now {self.config.clip:g})"
            raise FitError(f"model {self.config.name}", found, "", remedy)

    # ------------------------------------------------------------ interruption

    def resume(self) -> None:
        """Go on from the newest resume point of this very fit, if there is one."""
        points, state, share = self.runtime.points, self.state, self.processes
        if points is not None:
            environment = {"device": self.device.type, "precision": self.precision, "processes": share.count}
            environment["compiled"] = self.runtime.compiled
            found = points.open(environment) if share.is_main_process else None
            step = share.all_reduce_max(points.last_step)
            if not share.is_main_process and step:
                found = points.newest(environment, step)
                if found is None:
                    raise UserError(points.folder, "not readable by every process", "", "put it where all can read it")
            if found is not None:
                state.restore(found)
                self.summed = state.step
        machine = machine_of(self.device)
        state.machines += [machine] if machine not in state.machines else []
        self.runtime.machines, self.runtime.precision = state.machines, self.precision
        self.progress = Progress(self.config.steps, "step", state.step, state.tokens)

    def save_or_stop(self) -> None:
        """Write a resume point when one is due; when asked to end, or the time is up, write one and end."""
        points, state = self.runtime.points, self.state
        if points is None or (self.processes.count > 1 and state.step % AGREE_EVERY):
            return
        ended = self.signals.received is not None or time.monotonic() > self.runtime.deadline
        wanted = STOP if ended else SAVE if self.processes.is_main_process and points.due(state.step) else NOTHING
        wanted = self.processes.all_reduce_max(wanted)
        if wanted == NOTHING:
            return
        self.sum_losses()
        if self.processes.is_main_process and points.last_step < state.step:
            points.save(state.step, state.saved())
        if wanted == STOP:
            number = self.signals.received
            why = "another process asked for it" if number is None else signal.Signals(number).name
            why = "its time is nearly up" if time.monotonic() > self.runtime.deadline else why
            raise Interrupted(f"stopped after step {state.step:,} of {self.config.steps:,}, which is saved ({why})")


def train(
    network: nn.Module,
    config: Neural,
    documents: tuple[Documents, Documents],
    window: int,
    seed: int,
    runtime: Runtime,
) -> Curve:
    """Fit a network in place: minimise its cross-entropy on the first documents, train, choose on the second, valid."""
    device = device_of(runtime.device)
    with joined() as share:
        if config.batch_size is not None and config.batch_size < share.count:
            found = f"{share.count} processes have more than the {config.batch_size} rows of a batch"
            raise UserError(f"model {config.name}", found, "each takes one row at least", "start fewer processes")
        lengths = config.row_length, max(config.row_length, window)
        rows, valid = (Rows(d, window, n, device, share) for d, n in zip(documents, lengths, strict=True))
        return Trainer(network.to(device), config, (rows, valid), seed, runtime, share).run()
