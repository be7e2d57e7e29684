"""How a step's gradient becomes new weights: the learning rate of every step, the optimizer, the average of weights.

    AdamW    each weight by its own gradient's mean and spread                    (Loshchilov & Hutter 2019)
    Muon     each matrix by its momentum made orthogonal: all directions alike    (Jordan et al. 2024)
    average  of the weights of the last steps, in place of the last weights       (Polyak & Juditsky 1992)

Muon is for the matrices within a network. Embeddings and the output, whose rows are tokens, and all vectors
are AdamW's. Knows a network's parameters and a model's hyperparameters; never a batch, a loss or a file.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lmstages.config.hyperparameters.neural import Neural

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: as steep at 0 as leaves singular values within 0.7 to 1.2
NEWTON_SCHULZ_STEPS = 5
OUTSIDE = ("output.", "positions")  # where a network's own parts are no inner matrices, nor are its embeddings

State = dict[str, Any]


def learning_rate(config: Neural, step: int) -> float:
    """Linear warm-up, then constant, or down to ``final_learning_rate``: linear, cosine, at once (step), or linearly
    after being constant (stable: warm-up, stable, decay; Hu et al. 2024)."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    left = {
        "constant": 1.0,
        "linear": 1 - done,
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "step": float(done <= config.drop_after),
        "stable": min(1.0, (config.steps - step) / (config.decay_share * config.steps)),
    }[config.schedule]
    return config.final_learning_rate + left * (config.learning_rate - config.final_learning_rate)


def optimizer_of(network: nn.Module, config: Neural) -> "torch.optim.Optimizer | CombinedOptimizer":
    """AdamW, SGD, or Muon beside AdamW; weight decay on matrices only, as is usual.

    A group's ``share`` is its learning rate as a multiple of the model's, so that one schedule drives them all.
    """
    inner = inner_matrices(network) if config.optimizer == "muon" else []
    others = [weight for weight in network.parameters() if not any(weight is matrix for matrix in inner)]
    matrices, vectors = ([w for w in others if (w.dim() >= 2) is wide] for wide in (True, False))
    groups: list[State] = [{"params": matrices, "weight_decay": config.weight_decay}]
    groups.append({"params": vectors, "weight_decay": 0.0})
    groups = [{**group, "share": 1.0} for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate)
    adamw = (
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2), fused=True) if groups else None
    )
    if not inner:
        assert adamw is not None, "a network has weights"
        return adamw
    share = config.matrix_learning_rate / config.learning_rate
    muon = Muon([{"params": inner, "share": share}], config.matrix_learning_rate, config.momentum, config.weight_decay)
    return CombinedOptimizer([muon, adamw] if adamw is not None else [muon])


def inner_matrices(network: nn.Module) -> list[torch.Tensor]:
    """The weights that multiply vectors of the network's own making: neither embeddings nor the output."""
    tables = {id(part.weight) for part in network.modules() if isinstance(part, nn.Embedding)}
    return [
        weight
        for name, weight in network.named_parameters()
        if weight.dim() >= 2 and id(weight) not in tables and not name.startswith(OUTSIDE)
    ]


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, for every matrix; a weight of more dimensions is as many matrices as they say.

    Of torch's own it differs in that matrices of one shape are taken together and in float32, since bfloat16, in
    which torch's works, is slow on a CPU without units for it and rounds what is to be the same on every machine.
    """

    def __init__(self, groups: list[State], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update from the gradients that are there."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[torch.Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[tuple(sorted(weight.shape[-2:]))].append(weight)
            for weights in alike.values():
                self._step_together(weights, group)

    def _step_together(self, weights: list[torch.Tensor], group: Mapping[str, Any]) -> None:
        """Nesterov's momentum, then one Newton-Schulz for all; taller matrices move more (Jordan et al. 2024)."""
        momentum, rate = group["momentum"], group["lr"]
        gradients: list[Any] = [weight.grad for weight in weights]
        means = [self.state[weight].setdefault("momentum", torch.zeros_like(weight)) for weight in weights]
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        moved = [lying(change) for change in torch._foreach_lerp(gradients, means, momentum)]
        changes = orthogonal(torch.cat(moved)).split([len(each) for each in moved])
        for weight, change in zip(weights, changes, strict=True):
            rows, columns = weight.shape[-2:]
            change = (change.mT if rows > columns else change).view_as(weight)
            scale = max(1.0, rows / columns) ** 0.5
            weight.mul_(1 - rate * group["weight_decay"]).add_(change, alpha=-rate * scale)


def lying(matrices: torch.Tensor) -> torch.Tensor:
    """(..., n, m) -> (B, n, m), or (B, m, n) where n is the larger: all as wide as they are high, or wider."""
    matrices = matrices.flatten(0, -3) if matrices.dim() > 2 else matrices[None]
    return matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """(B, n, m) -> (B, n, m), n <= m: U V' of each one's singular value decomposition, singular values about 1.

    Newton-Schulz: x <- (a + b s + c s^2) x with s = x x' acts on singular values alone (Jordan et al. 2024). All
    its factors are polynomials of the first s, which is n by n: they are multiplied there, and x once at the end.
    """
    a, b, c = QUINTIC
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    square = x @ x.mT
    factor = torch.eye(x.shape[-2], device=x.device, dtype=x.dtype).expand_as(square)
    for step in range(NEWTON_SCHULZ_STEPS):
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        factor = torch.baddbmm(factor, polynomial, factor, beta=a)
        if step + 1 < NEWTON_SCHULZ_STEPS:
            square = torch.baddbmm(square, polynomial, square, beta=a)
            square = torch.baddbmm(square, polynomial, square, beta=a)
    return factor @ x


class CombinedOptimizer:
    """Several optimizers over one network, stepped, saved and restored as one, in torch's own format."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[State]:
        """The groups of all of them."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        """One update by each."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> State:
        """{state: {number of a weight: its tensors}, param_groups}, weights numbered through all parts."""
        state: State = {}
        groups: list[State] = []
        for part in self.parts:
            own, first = part.state_dict(), sum(len(group["params"]) for group in groups)
            state |= {first + number: kept for number, kept in own["state"].items()}
            groups += [{**group, "params": [first + n for n in group["params"]]} for group in own["param_groups"]]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        groups, first = list(saved["param_groups"]), 0
        for part in self.parts:
            own, groups = groups[: len(part.param_groups)], groups[len(part.param_groups) :]
            count = sum(len(group["params"]) for group in own)
            state = {n - first: kept for n, kept in saved["state"].items() if first <= n < first + count}
            shifted = [{**group, "params": [n - first for n in group["params"]]} for group in own]
            part.load_state_dict({"state": state, "param_groups": shifted})
            first += count


class WeightAverage:
    """The mean of a network's weights over the last ``average_share`` of the steps, as ``averaging`` says.

    ``mean`` counts every step alike (Polyak & Juditsky 1992); ``ema`` forgets by ``average_decay`` a step, its
    start corrected so that weights always sum to one (Kingma & Ba 2015). Buffers stay those of the last step.
    """

    def __init__(self, network: nn.Module, config: Neural) -> None:
        self.config, self.weights = config, list(network.parameters())
        self.first = config.steps - round(config.average_share * config.steps)
        self.count = 0
        self.averaged: list[torch.Tensor] = []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step``, counted from 0."""
        if self.config.averaging == "none" or step < self.first:
            return
        self.count += 1
        if not self.averaged:
            self.averaged = [weight.detach().clone() for weight in self.weights]
            return
        torch._foreach_lerp_(self.averaged, [weight.detach() for weight in self.weights], self._share())

    def _share(self) -> float:
        """The newest weights' share of the average."""
        if self.config.averaging == "mean":
            return 1 / self.count
        return (1 - self.config.average_decay) / (1 - self.config.average_decay**self.count)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the network's weights and their average, where there is one; twice is nothing."""
        for weight, averaged in zip(self.weights, self.averaged, strict=False):
            kept = weight.detach().clone()
            weight.copy_(averaged)
            averaged.copy_(kept)

    def state_dict(self) -> State:
        """Tensors and a number, all that a later ``update`` depends on."""
        return {"count": self.count, "averaged": [tensor.clone() for tensor in self.averaged]}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.count = int(saved["count"])
        self.averaged = [tensor.clone() for tensor in saved["averaged"]]
