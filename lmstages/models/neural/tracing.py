"""Causal tracing: which state of a network carries a fact to the place where it is asked for (Meng et al. 2022).

    clean       a row of tokens is read, and log p(answer) after its end is noted
    corrupted   the same, the fact's tokens replaced by those of another word
    restored    the corrupted row is read, one state being set to what it was in the clean row

A state of a network of blocks is what enters the first block (layer 0), or leaves a block (the block's number), at one
position. A recurrent network's are the embedding of a token (layer 0) and what a layer hands to the layer above and to
the next token: its ``hidden`` numbers, an LSTM's ``cell``, or the whole ``state``. The network is left as it is.

Shapes: ``F`` facts, ``T`` tokens of a row, ``S`` sites, each a layer and part at some positions of one row.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from lmstages.models.neural.base import NeuralModel, log_softmax
from lmstages.models.neural.recurrent import RecurrentNetwork

WHOLE = "state"
ROWS = 64  # that are read together; activations of more do not fit a processor's caches
PARTS = {WHOLE: (True, True), "hidden": (True, False), "cell": (False, True)}  # of an LSTM's two vectors
STEPS: dict[type[nn.Module], Callable[..., Any]] = {
    nn.RNN: torch.rnn_tanh_cell,
    nn.GRU: torch.gru_cell,
    nn.LSTM: torch.lstm_cell,
}
Place = tuple[int, str]  # layer and part
Vectors = tuple[torch.Tensor, ...]  # of a layer at one token: (B, H), or hidden and cell (B, H) of an LSTM
Visit = Callable[[int, int, Vectors], Vectors]  # token, layer, vectors -> the vectors to go on with


class Sites(NamedTuple):
    """S states to restore: the fact of each (S,), its layer and part, and at which positions of the row (S, T)."""

    facts: np.ndarray
    places: Sequence[Place]
    positions: np.ndarray


def is_traced(model: Any) -> bool:
    """Whether the model is a network of blocks, or one that reads token by token."""
    network = model.network if isinstance(model, NeuralModel) else None
    return isinstance(network, RecurrentNetwork) or hasattr(network, "blocks")


def places(model: NeuralModel) -> list[Place]:
    """Every layer and part of the network that can be restored, from the embedding up."""
    network: Any = model.network
    if not isinstance(network, RecurrentNetwork):
        return [(layer, WHOLE) for layer in range(len(network.blocks) + 1)]
    parts = tuple(PARTS) if isinstance(network.cells, nn.LSTM) else (WHOLE,)
    return [(0, WHOLE), *((layer, part) for layer in range(1, network.cells.num_layers + 1) for part in parts)]


def answered(model: NeuralModel, rows: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """(F, T) rows without a boundary in front, (F,) -> (F,) nats of each answer after its row."""
    with torch.inference_mode():
        return _nats(model.logits(model._on_device(rows))[:, -1], answers)


def restored(
    model: NeuralModel, clean: np.ndarray, corrupted: np.ndarray, answers: np.ndarray, sites: Sites
) -> np.ndarray:
    """(F, T) clean and corrupted rows, (F,) answers -> (S,) nats of the answer of each site's fact."""
    nats, network = np.empty(len(sites.facts)), model.network
    reader: Any = RecurrentReader if isinstance(network, RecurrentNetwork) else BlockReader
    with torch.inference_mode():
        read = reader(network, model._on_device(clean), model._on_device(corrupted))
        order = np.argsort(sites.positions.argmax(1), kind="stable")  # those that are restored late are read from there
        for top in range(0, len(order), ROWS):
            some = order[top : top + ROWS]
            facts, positions = (model._on_device(array[some]) for array in (sites.facts, sites.positions))
            logits = read(facts, [sites.places[site] for site in some], positions)
            nats[some] = _nats(logits, answers[sites.facts[some]])
    return nats


def _nats(logits: torch.Tensor, answers: np.ndarray) -> np.ndarray:
    """(B, V), (B,) -> (B,)."""
    log_probs = log_softmax(logits).cpu().double().numpy()
    return np.asarray(np.take_along_axis(log_probs, answers[:, None], 1)[:, 0])


class BlockReader:
    """Reads corrupted rows through a network of blocks, with states of the clean ones."""

    def __init__(self, network: Any, clean: torch.Tensor, corrupted: torch.Tensor) -> None:
        self.network, self.corrupted = network, corrupted
        self.states = list[torch.Tensor]()  # of the clean rows, by layer (F, T, D)
        with at_every_layer(network, lambda _, x: self.states.append(x)):
            network(clean)

    def __call__(self, facts: torch.Tensor, places: Sequence[Place], positions: torch.Tensor) -> torch.Tensor:
        """(S,) facts, (S, T) -> (S, V) logits after the row."""
        layers = torch.tensor([layer for layer, _ in places], device=facts.device)

        def restore(layer: int, x: torch.Tensor) -> torch.Tensor:
            here = positions & (layers == layer)[:, None]
            return torch.where(here[..., None], self.states[layer][facts], x) if here.any() else x

        with at_every_layer(self.network, restore):
            logits: torch.Tensor = self.network(self.corrupted[facts])
        return logits[:, -1]


@contextmanager
def at_every_layer(network: Any, visit: Callable[[int, torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
    """Within its context ``visit`` gets the states (B, T, D) of every layer, and may return others in their place."""

    def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x = visit(0, inputs[0])
        return None if x is None else (x, *inputs[1:])

    hooks = [network.blocks[0].register_forward_pre_hook(before)]
    for layer, block in enumerate(network.blocks, start=1):
        hooks.append(block.register_forward_hook(lambda _, __, x, layer=layer: visit(layer, x)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class RecurrentReader:
    """Reads corrupted rows token by token from the first one that is restored, with states of the clean ones."""

    def __init__(self, network: RecurrentNetwork, clean: torch.Tensor, corrupted: torch.Tensor) -> None:
        self.network, self.corrupted = network, corrupted
        self.clean, self.before = self._recorded(clean), self._recorded(corrupted)

    def _recorded(self, rows: torch.Tensor) -> dict[tuple[int, int], Vectors]:
        """(F, T) -> the vectors of every token and layer."""
        recorded = dict[tuple[int, int], Vectors]()

        def visit(token: int, layer: int, vectors: Vectors) -> Vectors:
            recorded[token, layer] = vectors
            return vectors

        self._read(rows, 0, self._blank(len(rows)), visit)
        return recorded

    def _blank(self, rows: int) -> list[Vectors]:
        """The state before any token."""
        cells = self.network.cells
        zeros = self.network.output.weight.new_zeros(rows, cells.hidden_size)
        return [(zeros, zeros) if isinstance(cells, nn.LSTM) else (zeros,)] * cells.num_layers

    def _read(self, rows: torch.Tensor, first: int, states: list[Vectors], visit: Visit) -> torch.Tensor:
        """(B, T) from token ``first`` on, the state of every layer before it -> (B, V) logits after the last."""
        cells, x = self.network.cells, torch.empty(0)
        step, embedded = STEPS[type(cells)], self.network.embedding(rows)
        for token in range(first, rows.shape[1]):
            (x,) = visit(token, 0, (embedded[:, token],))
            for layer, weights in enumerate(cells.all_weights):
                before = states[layer] if isinstance(cells, nn.LSTM) else states[layer][0]
                after = step(x, before, *weights)
                states[layer] = visit(token, layer + 1, after if isinstance(after, tuple) else (after,))
                x = states[layer][0]
        return self.network.output(x)

    def __call__(self, facts: torch.Tensor, places: Sequence[Place], positions: torch.Tensor) -> torch.Tensor:
        """(S,) facts, (S, T) -> (S, V) logits after the row."""
        layers = torch.tensor([layer for layer, _ in places], device=facts.device)
        parts = torch.tensor([PARTS[part] for _, part in places], device=facts.device)  # (S, 2)
        first = int(positions.any(0).float().argmax())
        states = self._blank(len(facts))
        if first:
            known = (self.before[first - 1, layer] for layer in range(1, len(states) + 1))
            states = [tuple(vector[facts] for vector in vectors) for vectors in known]

        def restore(token: int, layer: int, vectors: Vectors) -> Vectors:
            here = (positions[:, token] & (layers == layer))[:, None] & parts
            if not here.any():
                return vectors
            pairs = zip(self.clean[token, layer], vectors, here.unbind(1), strict=False)
            return tuple(torch.where(mask[:, None], clean[facts], vector) for clean, vector, mask in pairs)

        return self._read(self.corrupted[facts], first, states, restore)
