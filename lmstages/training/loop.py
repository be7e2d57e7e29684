"""The training loop of every neural model: steps, selection on valid, and resuming an interrupted fit.

Every random draw is a function of (seed, step, purpose) and of nothing else, so that neither evaluation nor a restart
changes it. The ``TrainState`` is therefore the whole state of a fit: saved, killed and restored after any step, a fit
ends with the same bits. Only evaluation, a line of progress and saving wait for an accelerator: until then the losses
stay on it.

What a step minimises is the objective's matter. Knows tokens and a network; never a text, a file or a model's
architecture.
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

from lmstages.config.hyperparameters.neural import Neural
from lmstages.core.artifacts import finite_or_none
from lmstages.core.documents import Curve, Documents
from lmstages.core.errors import FitError, Interrupted, UserError
from lmstages.core.progress import Progress
from lmstages.core.runtime import Runtime, Signals
from lmstages.training.batches import Batch, Rows
from lmstages.training.devices import at_precision, device_of, machine_of, precision_of, wide_zero
from lmstages.training.distributed import Pass, Processes, process_group, refuse_batch_norm
from lmstages.training.objectives import NEXT_TOKEN, OBJECTIVE_DRAW, VALID_DRAW, Draw, Objective
from lmstages.training.optimizers import WeightAverage, learning_rate, optimizers_of
from lmstages.training.recomputing import recomputed
from lmstages.training.resume import mapped
from lmstages.training.sharding import divided_as, divided_state, filled, gathered, is_divided, outline

VALID_TOKENS = 32768  # enough for a selection error of about 0.01 nats
EVALUATION_BATCH = 256  # rows, where batch_size is not set
NOISE_DRAW = 1
AGREE_EVERY = 10  # steps: how often several processes decide together whether to save or stop
COMPILED_FROM = 1000  # steps: fewer do not make up for the minute that compiling takes
NOTHING, SAVE, STOP = 0, 1, 2


@dataclass
class TrainState:
    """Exactly what resuming needs; all else follows from the model, the tokens, the seed and the number of the step."""

    network: nn.Module
    optimizers: list[torch.optim.Optimizer]
    average: WeightAverage
    losses: torch.Tensor  # (steps,) nats, on the network's device; summed over processes by ``Trainer.sum_losses``
    step: int = 0  # how many are done
    tokens: int = 0
    curve: Curve = field(default_factory=list)
    best: float = math.inf
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    machines: list[str] = field(default_factory=list)  # on which the steps were done

    def saved(self, is_kept: bool = True) -> dict[str, Any]:
        """All of it as dictionaries and lists of arrays and JSON values; no arrays where this process keeps none.

        Every process takes part where the network is divided.
        """
        tree = {name: getattr(self, name) for name in ("step", "tokens", "curve", "machines", "best_weights")}
        tree |= {"network": self.network.state_dict(), "average": self.average.state_dict()}
        tree["optimizers"] = [optimizer.state_dict() for optimizer in self.optimizers]
        tree |= {"best": finite_or_none(self.best), "losses": self.losses[: self.step]}
        return dict(mapped(tree, torch.Tensor, lambda tensor: gathered(tensor, is_kept)))

    def restore(self, saved: dict[str, Any]) -> None:
        """The inverse of ``saved``, onto the devices where network and losses lie."""
        device = self.losses.device
        tree = mapped(saved, np.ndarray, lambda array: torch.from_numpy(array.copy()).to(device))
        weights, names = self.network.state_dict(), ("network", "best_weights")
        tree |= {key: {name: divided_as(weights[name], tree[key][name]) for name in tree[key]} for key in names}
        averaged = zip(tree["average"]["averaged"], self.average.weights, strict=False)
        tree["average"]["averaged"] = [divided_as(weight, complete) for complete, weight in averaged]
        self.network.load_state_dict(tree["network"])
        self.average.load_state_dict(tree["average"])
        for optimizer, state in zip(self.optimizers, tree["optimizers"], strict=True):
            optimizer.load_state_dict(divided_state(state, optimizer))
        for name in ("step", "tokens", "curve", "machines", "best_weights"):
            setattr(self, name, tree[name])
        self.best = math.inf if tree["best"] is None else tree["best"]
        self.losses[: self.step] = tree["losses"]


def valid_loss(
    network: nn.Module,
    rows: Rows,
    batch_size: int,
    objective: Objective = NEXT_TOKEN,
    seed: int = 0,
    at_least: int = 1,
) -> float | None:
    """Mean nats per token that the objective selects by, over a fixed spread of rows of valid; None without valid.

    What an objective draws is the same at every call. ``at_least`` so many rows are in every batch.
    """
    if not len(rows):
        return None
    network.eval()
    total, count = wide_zero(rows.device), 0
    # a divided network keeps the memory in which it gathers its blocks, and steps write to it
    divided = is_divided(next(network.parameters()))
    with torch.no_grad() if divided else torch.inference_mode():
        for number, batch in enumerate(rows.spread(VALID_TOKENS, batch_size, at_least)):
            if len(batch.inputs):
                draw = Draw(seed, VALID_DRAW, number, rows.processes)
                total += objective.selected(network, batch, draw).to(total.device)
            count += batch.targets_of_all
    network.train()
    return float(rows.processes.all_reduce_sum(total)) / count


class Trainer:
    """One fit of a network: its steps, its evaluations, and its interruptions."""

    def __init__(
        self,
        network: nn.Module,
        config: Neural,
        rows: tuple[Rows, Rows],
        seed: int,
        runtime: Runtime,
        processes: Processes,
        objective: Objective = NEXT_TOKEN,
    ) -> None:
        self.network, self.config, self.seed, self.runtime, self.processes = network, config, seed, runtime, processes
        self.objective = objective
        self.rows, self.valid = rows
        self.device = self.rows.device
        self.precision = precision_of(self.device)
        self.passes = processes.passes(config.batch_size or len(self.rows), config.micro_batch)
        if len(self.passes) > 1:
            refuse_batch_norm(network, f"model {config.name}", "leave micro_batch out")
        self.full_batch = [*map(self.rows.full_batch, self.passes)] if config.batch_size is None else None
        self.is_sharded = config.sharding == "full" and processes.count > 1
        self.outline = outline(network) if self.is_sharded else None
        self.wrapped = processes.wrap_model(network, self.device, config.sharding)
        losses = torch.zeros(config.steps, device=self.device)
        self.state = TrainState(network, optimizers_of(network, config), WeightAverage(network, config), losses)
        self.summed = 0  # steps whose losses are already summed over processes
        self.signals = Signals()

    def run(self) -> Curve:
        """Take all remaining steps and return the learning curve; the network ends with the weights ``keep`` names."""
        self.resume()
        self.network.train()
        self.forward = self.compiled()
        recomputing = recomputed(self.network, self.config.recompute)
        with self.signals if self.runtime.points else nullcontext(), recomputing:
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
        self.set_learning_rates(step)
        if self.config.dropout:
            torch.manual_seed(hash((self.seed, NOISE_DRAW, step, self.processes.rank)) & 0x7FFFFFFFFFFFFFFF)
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        for within in self.passes:
            batch = self.batch(step, within)
            state.losses[step] += self.gradient(batch, Draw(self.seed, OBJECTIVE_DRAW, step, self.processes, within))
        if self.config.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        for optimizer in state.optimizers:
            optimizer.step()
        state.average.update(step)
        state.tokens += batch.targets_of_all
        state.step += 1
        self.report()

    def gradient(self, batch: Batch, draw: Draw) -> torch.Tensor:
        """Add the gradient of one pass to that of its step; its part of the step's loss."""
        with self.processes.accumulating(self.wrapped, draw.within):
            with at_precision(self.precision, self.device):
                loss = self.objective(self.forward, batch, draw) / batch.targets_of_all
            (loss * self.processes.count if self.processes.count > 1 else loss).backward()
        return loss.detach()

    def set_learning_rates(self, step: int) -> None:
        """The schedule's learning rate of a step, times each parameter group's scale."""
        rate = learning_rate(self.config, step)
        for optimizer in self.state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["lr_scale"]

    def batch(self, step: int, within: Pass) -> Batch:
        """All rows, or ``batch_size`` of them at random; of these the rows of one pass."""
        if self.full_batch is not None:
            return self.full_batch[within.number]
        assert self.config.batch_size is not None, "without a batch_size there is a full batch"
        return self.rows.random_batch(self.config.batch_size, self.seed, step, within)

    def compiled(self) -> Callable[..., torch.Tensor]:
        """The network for steps, compiled where that saves time; evaluation uses the network as it is."""
        pays = self.device.type == "cuda" and self.config.steps - self.state.step >= COMPILED_FROM
        wanted = {"auto": pays, "always": True, "never": False}[self.runtime.compiled]
        return torch.compile(self.wrapped) if wanted else self.wrapped

    def report(self) -> None:
        """A line of progress when one is due."""
        if self.progress.due():
            loss = float(self.state.losses[self.state.step - 1]) * self.processes.count
            self.progress.at(self.state.step, self.state.tokens, "tokens", {"loss": loss})

    # ------------------------------------------------------------ evaluation

    def evaluate_if_due(self) -> None:
        """Every ``evaluate_every`` steps and at the end, once each, also where the fit was interrupted in between."""
        done, last = self.state.step, self.state.curve[-1]["step"] if self.state.curve else 0
        if done > last and (done % self.config.evaluate_every == 0 or done == self.config.steps):
            self.evaluate(last)

    def evaluate(self, last: int) -> None:
        """Append to the curve, stop on NaN, keep the best weights on valid."""
        state = self.state
        self.sum_losses()
        self.stop_if_not_finite(last)
        loss = float(state.losses[last : state.step].mean())
        state.average.swap()
        batch_size = self.config.batch_size or EVALUATION_BATCH
        at_least = self.processes.count if self.is_sharded else 1  # every process gathers each block
        valid = valid_loss(self.network, self.valid, batch_size, self.objective, self.seed, at_least)
        rate = learning_rate(self.config, state.step - 1)
        point = {"step": state.step, "tokens": state.tokens, "train": loss, "valid": valid, "learning_rate": rate}
        state.curve.append(point)
        self.runtime.follow(state.curve)
        losses = {"train": loss} | ({} if valid is None else {"valid": valid})
        self.progress.at(state.step, state.tokens, "tokens", losses)
        if self.config.keep == "best" and valid is not None and valid < state.best:
            state.best = valid
            state.best_weights = {name: weight.clone() for name, weight in self.network.state_dict().items()}
        state.average.swap()

    def plain_network(self) -> nn.Module:
        """The fitted network; of a divided one the main process has the weights, and the others their shapes."""
        if self.outline is None:
            return self.network
        return filled(self.outline, self.network, self.processes.is_main_process)

    def sum_losses(self) -> None:
        """Sum the losses of the last steps over processes, each of which has those of its own rows."""
        recent = self.state.losses[self.summed : self.state.step]
        recent.copy_(self.processes.all_reduce_sum(recent.clone()))
        self.summed = self.state.step

    def stop_if_not_finite(self, first: int) -> None:
        """Raise FitError where a loss is NaN or infinite, with the step and the hyperparameters that help."""
        bad = torch.nonzero(~torch.isfinite(self.state.losses[first:]))
        if len(bad):
            problem = f"the training loss is not a number from step {first + int(bad[0]) + 1} on"
            remedy = f"lower learning_rate (now {self.config.learning_rate:g}) or clip (now {self.config.clip:g})"
            raise FitError(f"model {self.config.name}", problem, "", remedy)

    # ------------------------------------------------------------ interruption

    def resume(self) -> None:
        """Restore the newest resume point of this very fit, if there is one, and record the machine."""
        state = self.state
        saved = self.newest_point()
        if saved is not None:
            state.restore(saved)
            self.summed = state.step
        self.runtime.follow(state.curve)
        machine = machine_of(self.device) + (f", {self.processes.count} processes" if self.processes.count > 1 else "")
        state.machines += [machine] if machine not in state.machines else []
        self.runtime.machines, self.runtime.precision = state.machines, self.precision
        self.progress = Progress(self.config.steps, "step", state.step, state.tokens)

    def newest_point(self) -> dict[str, Any] | None:
        """The saved state from which every process resumes, or None; the main process chooses it."""
        points, processes = self.runtime.points, self.processes
        if points is None:
            return None
        environment = {"device": self.device.type, "precision": self.precision, "processes": processes.count}
        environment |= {key: getattr(self.config, key) for key in ("micro_batch", "sharding")}
        environment["compiled"] = self.runtime.compiled
        saved = points.open(environment) if processes.is_main_process else None
        step = processes.all_reduce_max(points.last_step)
        if not processes.is_main_process and step:
            saved = points.newest(environment, step)
            if saved is None:
                raise UserError(points.folder, "not readable by every process", "", "put it where all can read it")
        return saved

    def save_or_stop(self) -> None:
        """Save a resume point when one is due; upon a signal, or shortly before the time limit, save and stop."""
        points, state = self.runtime.points, self.state
        if points is None or (self.processes.count > 1 and state.step % AGREE_EVERY):
            return
        stops = self.signals.received is not None or time.monotonic() > self.runtime.deadline
        saves = self.processes.is_main_process and points.due(state.step)
        wanted = self.processes.all_reduce_max(STOP if stops else SAVE if saves else NOTHING)
        if wanted == NOTHING:
            return
        self.sum_losses()
        is_main = self.processes.is_main_process
        saved = state.saved(is_main) if is_main or self.is_sharded else {}
        if is_main and points.last_step < state.step:
            points.save(state.step, saved)
        if wanted == STOP:
            reason = self.reason_to_stop()
            raise Interrupted(f"stopped after step {state.step:,} of {self.config.steps:,}, which is saved ({reason})")

    def reason_to_stop(self) -> str:
        """The signal's name, or the time limit, or what is known of another process that has one."""
        if time.monotonic() > self.runtime.deadline:
            return "its time is nearly up"
        number = self.signals.received
        return "another process asked for it" if number is None else signal.Signals(number).name


def train(
    network: nn.Module,
    config: Neural,
    documents: tuple[Documents, Documents],
    window: int,
    seed: int,
    runtime: Runtime,
    objective: Objective = NEXT_TOKEN,
) -> tuple[nn.Module, Curve]:
    """Fit a network to ``documents`` (train, valid): minimise its objective on train, select on valid.

    Returns the fitted network, which is this one unless it was divided among processes, and the learning curve. Raises
    FitError where the loss diverges, Interrupted where a signal or the time limit stopped the fit after saving.
    """
    device = device_of(runtime.device)
    with process_group() as processes:
        if config.batch_size is not None and config.batch_size < processes.count:
            problem = f"{processes.count} processes are more than the {config.batch_size} rows of a batch"
            raise UserError(f"model {config.name}", problem, "each needs one row at least", "start fewer processes")
        lengths = config.row_length, max(config.row_length, window)
        rows, valid = (Rows(d, window, n, device, processes) for d, n in zip(documents, lengths, strict=True))
        trainer = Trainer(network, config, (rows, valid), seed, runtime, processes, objective)
        curve = trainer.run()
        return trainer.plain_network(), curve
