"""A rank-one edit of a feed-forward layer, after which it answers one key with another value (ROME, Meng et al. 2022).

    W' = W + (v - W k) (C^-1 k)' / (k' C^-1 k),  C = E[k k'] over text

is, of all matrices that map the key k to the value v, the one whose answers to the keys of the text change the least
(their equation 2). W is the second matrix of a feed-forward layer, a key what it reads at a token, a value what it adds
to the residual stream there. The value is found by gradient descent: the network, which stays as it is, reads rows in
which the matrix says v at the position of the fact, and v moves until the wanted answers follow.

Shapes: ``B`` rows, ``T`` tokens, ``D`` width, ``K`` hidden units of the layer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from lmstages.core.documents import Documents
from lmstages.core.errors import UserError
from lmstages.models.base import build
from lmstages.models.neural.base import NeuralModel, target_log_probs

STEPS = 40
RATE = 0.2  # learning rate of Adam, times the root mean square of a value
PULL = 0.05  # weight of the squared distance from the old value, over that value's square
DAMPING = 1e-4  # of the mean of the moment's diagonal; keys of a text span no whole space


def feedforward_matrix(model: NeuralModel, layer: int) -> nn.Linear:
    """The matrix of a layer, counted from 1, that writes to the residual stream; a UserError where there is none.

    What the last layer says of a token reaches no later one, so that it holds no fact.
    """
    blocks: Any = getattr(model.network, "blocks", ())
    if not 1 <= layer < len(blocks):
        last = len(blocks) - 1
        allowed = (
            f"1 to {last}, below the last layer" if last > 0 else f"{model.config.name} has no layer below another"
        )
        raise UserError("layer", f"{layer} found", allowed)
    feedforward = getattr(blocks[layer - 1], "feedforward", None)
    matrix = getattr(feedforward, "down", None)
    if isinstance(feedforward, nn.Sequential) and len(feedforward) == 3:
        matrix = feedforward[2]
    if not isinstance(matrix, nn.Linear):
        raise UserError("layer", f"layer {layer} of {model.config.name} has no feed-forward layer of two matrices")
    return matrix


def keys(model: NeuralModel, layer: int, rows: np.ndarray) -> torch.Tensor:
    """(B, T) rows -> (B, T, K), what the matrix reads at each token."""
    read = list[torch.Tensor]()
    hook = feedforward_matrix(model, layer).register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    with torch.inference_mode():
        model.logits(model._on_device(rows))
    hook.remove()
    return read[0]


def second_moment(model: NeuralModel, layer: int, text: Documents, most: int = 1 << 14) -> torch.Tensor:
    """(K, K) mean of k k' over the first ``most`` tokens of a text, in rows of the model's context."""
    length = model.config.context or 64
    count = min(len(text), most) // length
    if not count:
        raise UserError("text", f"{len(text):,} tokens found", f"at least {length}, a row of the model")
    rows = np.asarray(text.tokens[: count * length], dtype=np.int64).reshape(count, length)
    parts = np.array_split(rows, -(-count // 16))
    read = torch.cat([keys(model, layer, part).flatten(0, 1) for part in parts]).double()
    return read.T @ read / len(read)


@contextmanager
def _answering(matrix: nn.Linear, answer: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Within its context the matrix gives what ``answer`` makes of its output."""
    hook = matrix.register_forward_hook(lambda _, __, output: answer(output))
    try:
        yield
    finally:
        hook.remove()


class Questions(NamedTuple):
    """(B, T) rows padded at the end, and of each (B,) where the fact stands, its last token, and what should follow."""

    rows: np.ndarray
    at: np.ndarray
    ends: np.ndarray
    wanted: np.ndarray


def log_probs(model: NeuralModel, questions: Questions) -> torch.Tensor:
    """(B,) nats of the wanted tokens."""
    count = torch.arange(len(questions.rows))
    logits = model.logits(model._on_device(questions.rows))[count, torch.from_numpy(questions.ends)]
    return target_log_probs(logits[:, None], model._on_device(questions.wanted)[:, None])[:, 0]


def wanted_value(model: NeuralModel, layer: int, questions: Questions) -> torch.Tensor:
    """(D,) the value with which the wanted tokens follow, where the matrix says it at the fact of every question."""
    matrix, places = feedforward_matrix(model, layer), _places(questions)
    with torch.inference_mode():
        old = matrix(keys(model, layer, questions.rows)[places]).mean(0)
    old = old.clone()
    moved = torch.zeros_like(old, requires_grad=True)
    optimizer = torch.optim.Adam([moved], lr=RATE * float(old.square().mean().sqrt()))

    def answer(output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[places] = old + moved
        return output

    for _ in range(STEPS):
        with _answering(matrix, answer):
            loss = -log_probs(model, questions).mean() + PULL * moved.square().sum() / old.square().sum()
        (moved.grad,) = torch.autograd.grad(loss, [moved])
        optimizer.step()
    return (old + moved).detach()


def _places(questions: Questions) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(len(questions.rows)), torch.from_numpy(questions.at)


def rank_one(weight: torch.Tensor, key: torch.Tensor, value: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
    """W (D, K), k (K,), W' k (D,), C (K, K) -> W' - W (D, K), in 64 bits."""
    weight, key, value = weight.double(), key.double(), value.double()
    damped = moment + DAMPING * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype)
    direction = torch.linalg.solve(damped, key)
    return torch.outer(value - weight @ key, direction) / (key @ direction)


def edited(model: NeuralModel, layer: int, questions: Questions, moment: torch.Tensor) -> NeuralModel:
    """A copy of the model whose layer says, at the mean key of the facts, what leads to the wanted tokens.

    ``moment`` is that of ``second_moment``. A bias stays as it is.
    """
    matrix, copy = feedforward_matrix(model, layer), build(model.config, model.vocab_size)
    assert isinstance(copy, NeuralModel), "a copy is of the same class"
    key, value = keys(model, layer, questions.rows)[_places(questions)].mean(0), wanted_value(model, layer, questions)
    bias = torch.zeros_like(value) if matrix.bias is None else matrix.bias.detach()
    copy.runtime = model.runtime
    copy.restore(model.arrays())
    with torch.no_grad():
        change = rank_one(matrix.weight, key, value - bias, moment)
        feedforward_matrix(copy, layer).weight.add_(change.to(matrix.weight))
    return copy
