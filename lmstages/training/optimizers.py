"""How a step's gradient becomes new weights: the learning rate of every step, the optimizers, the average of weights.

    AdamW    each weight by its own gradient's mean and spread                    (Loshchilov & Hutter 2019)
    Muon     each matrix by its momentum, orthogonalized                          (Jordan et al. 2024)
    average  of the weights of the last steps, in place of the last weights       (Polyak & Juditsky 1992)

Muon updates the matrices between hidden vectors. AdamW updates embeddings and the output matrix, whose rows are
tokens, and all vectors. Knows a network's parameters and a model's hyperparameters; never a batch, a loss or a file.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lmstages.config.hyperparameters.neural import Neural
from lmstages.training.sharding import divided_as, is_divided, whole
from lmstages.training.without_compiler import plain_step, spare_compiler

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: steepest at 0 with singular values ending in 0.7 to 1.2
NEWTON_SCHULZ_STEPS = 5
NOT_INNER = ("output.", "positions")  # names of weights that are no inner matrices; embeddings are none either

State = dict[str, Any]


def learning_rate(config: Neural, step: int) -> float:
    """The learning rate of a step, counted from 0: linear warm-up, then constant, or down to ``final_learning_rate``.

    ``linear`` and ``cosine`` decay over all steps, ``step`` at once, ``stable`` linearly after a constant phase
    (warm-up, stable, decay; Hu et al. 2024).
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    scale = {
        "constant": 1.0,
        "linear": 1 - done,
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "step": float(done <= config.drop_after),
        "stable": min(1.0, (config.steps - step) / (config.decay_share * config.steps)),
    }[config.schedule]
    return config.final_learning_rate + scale * (config.learning_rate - config.final_learning_rate)


def optimizers_of(network: nn.Module, config: Neural) -> list[torch.optim.Optimizer]:
    """SGD, AdamW, or Muon and AdamW, each with its own weights; together they have every weight once.

    A group's ``lr_scale`` is its learning rate as a multiple of the model's, so that one schedule drives them all.
    """
    inner = inner_matrices(network) if config.optimizer == "muon" else []
    groups = _groups([weight for weight in network.parameters() if not any(weight is m for m in inner)], config)
    if config.optimizer == "sgd":
        return [SGD(groups, lr=config.learning_rate)]
    optimizers: list[torch.optim.Optimizer] = []
    if inner:
        rate = config.matrix_learning_rate
        matrices = [{"params": inner, "lr_scale": rate / config.learning_rate}]
        optimizers.append(Muon(matrices, rate, config.momentum, config.weight_decay))
    if groups:
        betas = (0.9, config.beta2)
        optimizers.append(AdamW(groups, lr=config.learning_rate, betas=betas, fused=True))
    assert optimizers, "a network has weights"
    return optimizers


def _groups(weights: list[nn.Parameter], config: Neural) -> list[State]:
    """Weight decay on matrices only, as is usual."""
    matrices, vectors = ([weight for weight in weights if (weight.dim() >= 2) is wide] for wide in (True, False))
    groups: list[State] = [{"params": matrices, "weight_decay": config.weight_decay}]
    groups.append({"params": vectors, "weight_decay": 0.0})
    return [{**group, "lr_scale": 1.0} for group in groups if group["params"]]


def inner_matrices(network: nn.Module) -> list[torch.Tensor]:
    """The matrices that multiply hidden vectors: neither embeddings nor the output matrix."""
    embeddings = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    return [
        weight
        for name, weight in network.named_parameters()
        if weight.dim() >= 2 and id(weight) not in embeddings and not name.startswith(NOT_INNER)
    ]


spare_compiler(torch.optim.Optimizer)


class AdamW(torch.optim.AdamW):
    """torch's own, without its import of torch's compiler."""

    step = plain_step(torch.optim.AdamW)


class SGD(torch.optim.SGD):
    """torch's own, without its import of torch's compiler."""

    step = plain_step(torch.optim.SGD)


class Muon(torch.optim.Optimizer):
    """Orthogonalized momentum for every matrix; a weight of more than two dimensions is a stack of matrices.

    It differs from torch's own Muon in that matrices of one shape are processed as one batch, and in float32: bfloat16,
    in which torch's works, is slow on a CPU without units for it, and its rounding differs between machines.
    """

    def __init__(self, groups: list[State], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update from the gradients that are there."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[torch.Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[tuple(sorted(weight.shape[-2:]))].append(weight)
            for weights in by_shape.values():
                is_large = is_divided(weights[0])  # then one matrix at a time is gathered
                for batch in [[weight] for weight in weights] if is_large else [weights]:
                    self._step_batch(batch, group)

    def _step_batch(self, weights: list[torch.Tensor], group: Mapping[str, Any]) -> None:
        """Nesterov's momentum, then one Newton-Schulz for all matrices of one shape.

        A matrix with more rows than columns moves by sqrt(rows / columns) more (Jordan et al. 2024).
        """
        momentum, rate = group["momentum"], group["lr"]
        gradients: list[Any] = [weight.grad for weight in weights]
        means = [self.state[weight].setdefault("momentum", torch.zeros_like(weight)) for weight in weights]
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        matrices = [as_wide(whole(change)) for change in torch._foreach_lerp(gradients, means, momentum)]
        changes = orthogonal(torch.cat(matrices)).split([len(stack) for stack in matrices])
        for weight, change in zip(weights, changes, strict=True):
            rows, columns = weight.shape[-2:]
            change = divided_as(weight, (change.mT if rows > columns else change).reshape(weight.shape))
            scale = max(1.0, rows / columns) ** 0.5
            weight.mul_(1 - rate * group["weight_decay"]).add_(change, alpha=-rate * scale)


def as_wide(matrices: torch.Tensor) -> torch.Tensor:
    """(..., n, m) -> (B, n, m), transposed to (B, m, n) where n > m: at least as many columns as rows."""
    matrices = matrices.flatten(0, -3) if matrices.dim() > 2 else matrices[None]
    return matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """(B, n, m) -> (B, n, m), n <= m: about U V' of each matrix's singular value decomposition U S V'.

    Newton-Schulz: x <- (a + b s + c s^2) x with s = x x' acts on singular values alone and brings them to about 1
    (Jordan et al. 2024). All its factors are polynomials of the first s, which is n by n: they are multiplied in that
    size, and x once at the end.
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


class WeightAverage:
    """The average of a network's weights over the last ``average_share`` (a fraction) of the steps.

    ``averaging: mean`` weighs every step alike (Polyak & Juditsky 1992); ``ema`` decays by ``average_decay`` a step,
    with bias correction, so that its coefficients sum to one (Kingma & Ba 2015). Buffers stay those of the last step.
    """

    def __init__(self, network: nn.Module, config: Neural) -> None:
        self.config, self.weights = config, list(network.parameters())
        self.first = config.steps - round(config.average_share * config.steps)
        self.count = 0
        self.averaged: list[torch.Tensor] = []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Include the weights after ``step``, counted from 0, where it is one of the last."""
        if self.config.averaging == "none" or step < self.first:
            return
        self.count += 1
        if not self.averaged:
            self.averaged = [weight.detach().clone() for weight in self.weights]
            return
        torch._foreach_lerp_(self.averaged, [weight.detach() for weight in self.weights], self._coefficient())

    def _coefficient(self) -> float:
        """The coefficient of the newest weights in the average."""
        if self.config.averaging == "mean":
            return 1 / self.count
        return (1 - self.config.average_decay) / (1 - self.config.average_decay**self.count)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the network's weights and their average, where there is one; a second call undoes the first."""
        for weight, averaged in zip(self.weights, self.averaged, strict=False):
            last = weight.detach().clone()
            weight.copy_(averaged)
            averaged.copy_(last)

    def state_dict(self) -> State:
        """All that a later ``update`` depends on: how many steps are averaged, and the average."""
        return {"count": self.count, "averaged": [tensor.clone() for tensor in self.averaged]}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.count = int(saved["count"])
        self.averaged = [tensor.clone() for tensor in saved["averaged"]]
