"""Nearest neighbours of a network's states, mixed with the network's predictions (Khandelwal et al. 2020, kNN-LM).

    p(w | h) = (1 - l) p_network(w | h) + l p_knn(w | h)
    p_knn(w | h) = sum over the neighbours i of s(h) with token w of exp(-|s_i - s(h)|^2 / T),  normalised

s(h) is what the network's output layer reads after h. Entries are the states at positions of train and the token that
came next. All entries as near as the last neighbour are neighbours, so that equal states do not depend on their order.

The mixture takes the place of the output layer, so that scoring, prediction and incremental decoding are those of the
network. Search is exact, by matrix products: with 65,536 entries of 64 numbers about a millisecond a token on one core,
so that an index library, whose gain is to approximate, is no dependency. The entries are stored with the model; the
network that they are read from is not changed. ``E`` entries, ``D`` width of a state, ``Q`` queries.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.retrieval import NearestNeighbours
from lmstages.core.documents import Arrays, Curve, Documents, history
from lmstages.core.errors import FitError
from lmstages.models.base import DecodingState, MadeFromBase, OpenRow, build, check_base, record_of_base
from lmstages.models.counts.counting import Rows
from lmstages.models.neural.modern_gpt import soft_capped
from lmstages.training.devices import device_of

DISTANCES_AT_ONCE = 1 << 24  # numbers: 64 MB
GROUP = 32  # entries whose nearest is taken first, since to find many smallest of all numbers takes longest
READ_AT_ONCE = 1 << 12  # tokens
UNLIMITED_WINDOW = 256  # tokens that a network without a longest context reads for an entry, at most
CHOSEN_ON = 1 << 14  # tokens of valid; more do not change two numbers
TIE = 1e-5  # of the largest squared length: what rounding makes of equal distances
PREFIX = "network."  # before the names of the network's arrays


@dataclass(frozen=True)
class States:
    """States (N, D) at positions of a text, the tokens that came next (N,), and the network's log p of these (N,)."""

    states: torch.Tensor
    tokens: torch.Tensor
    log_probs: torch.Tensor


# ---------------------------------------------------------------- search


class Entries:
    """States (E, D) and the tokens (E,) that came next, searched exactly."""

    def __init__(self, states: torch.Tensor, tokens: torch.Tensor, neighbours: int) -> None:
        self.states, self.tokens, self.neighbours = states, tokens, min(neighbours, len(states))
        self.squares = states.square().sum(-1)

    def mean_distance(self) -> float:
        """The mean squared distance of two entries; 1 where all are equal."""
        return 2 * float(self.states.double().var(0, correction=0).sum()) or 1.0

    def nearest(self, queries: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """(Q, D) -> piece by piece: its slice of the queries, squared distances (., K) and tokens (., K).

        K is at least ``neighbours``; a distance is infinite where fewer are as near as the last neighbour.
        """
        step = max(1, DISTANCES_AT_ONCE // len(self.states))
        for first in range(0, len(queries), step):
            piece = queries[first : first + step]
            yield slice(first, first + len(piece)), *self._nearest(piece)

    def _nearest(self, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(Q, D) -> (Q, K), (Q, K); those of the nearest are computed again in 64 bits, since differences cancel."""
        distances = torch.addmm(self.squares, queries, self.states.T, alpha=-2)  # less the query's own square
        tie = TIE * (queries.square().sum(-1, keepdim=True) + self.squares.max())
        values, indices = _up_to(distances, self._bound(distances) + tie)
        limit = values.topk(self.neighbours, largest=False).values[:, -1:] + tie
        exact = (self.states[indices].double() - queries[:, None].double()).square().sum(-1)
        return exact.masked_fill(values > limit, torch.inf), self.tokens[indices]

    def _bound(self, distances: torch.Tensor) -> torch.Tensor:
        """(Q, E) -> (Q, 1), no less than the last neighbour's: that of as many groups' nearest, which is soon found."""
        groups = len(self.states) // GROUP
        if groups < self.neighbours:
            return distances.topk(self.neighbours, largest=False).values[:, -1:]
        nearest = distances[:, : groups * GROUP].unflatten(1, (GROUP, groups)).amin(1)
        return nearest.topk(self.neighbours, largest=False).values[:, -1:]


def _up_to(values: torch.Tensor, limits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(Q, E), (Q, 1) -> the values of each row up to its limit, (Q, K), infinite where there are fewer, and indices."""
    rows, columns = (values <= limits).nonzero(as_tuple=True)
    counts = rows.bincount(minlength=len(values))
    places = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    smallest = values.new_full((len(values), int(counts.max())), torch.inf)
    indices = torch.zeros(smallest.shape, dtype=torch.long, device=rows.device)
    smallest[rows, places], indices[rows, places] = values[rows, columns], columns
    return smallest, indices


class MixedOutput(nn.Module):
    """In place of a network's output layer: states (..., D) -> log p of the mixture (..., V), in place of logits."""

    def __init__(self, output: nn.Module, entries: Entries, temperature: float, weight: float) -> None:
        super().__init__()
        self.output, self.entries, self.temperature, self.weight = output, entries, temperature, weight

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """The logarithm of both shares added."""
        logits = self.output(states)
        network = logits.double().log_softmax(-1).flatten(0, -2) + np.log1p(-self.weight)
        neighbours = torch.zeros_like(network)  # p of each token by the look-up
        for piece, distances, tokens in self.entries.nearest(states.flatten(0, -2)):
            neighbours[piece].scatter_add_(1, tokens, (-distances / self.temperature).softmax(-1))
        mixed = torch.logaddexp(network, neighbours.log() + np.log(self.weight))
        return mixed.view_as(logits).to(logits.dtype)


class TiedOutput(nn.Module):
    """An output layer that multiplies by the embedding."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., V) logits."""
        return functional.linear(states, self.embedding.weight)


class CappedOutput(nn.Module):
    """The modern GPT's output layer with its soft-cap."""

    def __init__(self, output: nn.Module, softcap: float) -> None:
        super().__init__()
        self.output, self.softcap = output, softcap

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., V) logits."""
        return soft_capped(self.output(states), self.softcap)


def output_of(network: Any) -> nn.Module:
    """The output layer of a network of ``WITH_STATES``, as a module of its own, its soft-cap included."""
    output = network.output if network.output is not None else TiedOutput(network.embedding)
    softcap = getattr(network, "softcap", None)
    return output if softcap is None else CappedOutput(output, softcap)


def put_output(network: Any, output: nn.Module) -> None:
    """Put a module in place of the output layer and its soft-cap."""
    network.output = output
    if hasattr(network, "softcap"):
        network.softcap = None


# ---------------------------------------------------------------- reading


class ReadStates(nn.Module):
    """In place of an output layer: gives the states on, and keeps no logits."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Unchanged."""
        return states


def states_after(network: Any, inputs: torch.Tensor) -> torch.Tensor:
    """(B, T) -> (B, T, D): what the output layer reads after each input."""
    output, softcap = network.output, getattr(network, "softcap", None)
    put_output(network, ReadStates())
    try:
        states: torch.Tensor = network(inputs)
    finally:
        network.output = output
        if softcap is not None:
            network.softcap = softcap
    return states


def states_of(model: Any, documents: Documents, most: int, seed: int) -> States:
    """States of a fitted network after ``most`` positions of a text, or all, in windows drawn with a seed.

    A window is as long as the network's context. It gives the states of its second half, a document's first window all.
    """
    rows = Rows.of_documents(documents, padded=False)
    window = model.config.context or UNLIMITED_WINDOW
    begins, skipped, ends = windows_of(rows.begins, documents.lengths, window)
    order = np.random.default_rng(seed).permutation(len(begins))
    enough = np.searchsorted(np.cumsum((ends - begins - skipped)[order]), most) + 1
    parts = [
        _read(model, rows.tokens, begins[chosen], begins[chosen] + skipped[chosen], ends[chosen], window)
        for chosen in np.array_split(order[:enough], -(-len(order[:enough]) * window // READ_AT_ONCE) or 1)
    ]
    return States(*(torch.cat([getattr(part, name) for part in parts])[:most] for name in States.__annotations__))


def windows_of(firsts: np.ndarray, lengths: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents by first input and length -> of each window the begin, how many inputs give no entry, and the end."""
    step = -(-window // 2)
    counts = 1 + np.maximum(0, -(-(lengths - window) // step))
    nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    begins = np.repeat(firsts, counts) + nth * step
    return begins, np.where(nth > 0, window - step, 0), np.minimum(begins + window, np.repeat(firsts + lengths, counts))


@torch.inference_mode()
def _read(
    model: Any, tokens: np.ndarray, begins: np.ndarray, firsts: np.ndarray, ends: np.ndarray, window: int
) -> States:
    """The states of some windows in one pass; positions from ``firsts`` to ``ends`` are kept."""
    positions = begins[:, None] + np.arange(window)
    kept = torch.from_numpy((positions >= firsts[:, None]) & (positions < ends[:, None]))
    inside = torch.from_numpy(np.minimum(positions, len(tokens) - 2))
    stream = torch.from_numpy(np.asarray(tokens, dtype=np.int64))
    device = next(model.network.parameters()).device
    states = states_after(model.network, stream[inside].to(device))[kept.to(device)]
    targets = stream[inside + 1][kept].to(device)
    log_probs = output_of(model.network)(states).double().log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    return States(states, targets, log_probs)


# ---------------------------------------------------------------- the model


class NearestModel(MadeFromBase):
    """The network's arrays, the entries, and two numbers; its parameters are all of them."""

    def __init__(self, config: NearestNeighbours, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.base = build(record_of_base(config, "the network it reads"), vocab_size)
        self.weights: Arrays = {}  # of the network
        self.entries: Entries
        self.temperature, self.weight = 1.0, 0.0

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Fit a network of its own; ``derive`` is the short cut where that is fitted already."""
        base: Any = build(self.base.config, self.vocab_size, self.runtime)
        curve: Curve = base.fit(train, valid, seed)
        self.derive(base, train)
        self.choose(valid)
        return curve

    def derive(self, base: Any, train: Documents) -> None:
        """Store the states of the fitted ``base`` on ``train``. Raises FitError where there are too few."""
        check_base(self.base.config, base.config, self.config.of)
        self.weights = {name: np.array(array) for name, array in base.arrays().items()}
        self.base.restore(self.weights)
        read = states_of(self.base, train, self.config.entries, seed=0)
        if len(read.states) < self.config.neighbours:
            problem = f"train has {len(read.states):,} positions"
            raise FitError(f"neighbours {self.config.neighbours}", problem, "", "lower neighbours, or give more text")
        self.entries = Entries(read.states, read.tokens, self.config.neighbours)
        self._mix(self.config.temperatures[0], self.config.weight or 0.0)

    @torch.inference_mode()
    def choose(self, valid: Documents) -> None:
        """Take the temperature and the weight that predict ``valid`` best. Raises FitError where it is empty."""
        temperatures, fixed = self.config.temperatures, self.config.weight
        if len(temperatures) == 1 and fixed is not None:
            return
        if not len(valid):
            problem = f"temperature {list(temperatures)}, weight {fixed}"
            raise FitError(problem, "valid is empty", "a single value of both needs none")
        self._mix(temperatures[0], 0.0)
        read, scale = states_of(self.base, valid, CHOSEN_ON, seed=1), self.entries.mean_distance()
        neighbours = np.zeros((len(temperatures), len(read.tokens)))
        for piece, distances, tokens in self.entries.nearest(read.states):
            right = tokens == read.tokens[piece, None]
            for row, temperature in enumerate(temperatures):
                shares = (-distances / (temperature * scale)).softmax(-1)
                neighbours[row, piece] = (shares * right).sum(-1).cpu().numpy()
        network = read.log_probs.exp().cpu().numpy()
        weights = [best_weight(network, p) if fixed is None else fixed for p in neighbours]
        losses = [-np.log((1 - w) * network + w * p).mean() for w, p in zip(weights, neighbours, strict=True)]
        best = int(np.argmin(losses))
        self._mix(temperatures[best], weights[best])

    def _mix(self, temperature: float, weight: float) -> None:
        """Set both numbers, of which the first is a fraction of the entries' mean distance."""
        self._install(temperature * self.entries.mean_distance(), weight)

    def _install(self, temperature: float, weight: float) -> None:
        """Put the mixture in place of the output layer; with weight 0 the network stays as it is."""
        self.temperature, self.weight = temperature, weight
        self.base.restore(self.weights)
        if weight > 0:
            network = self.base.network
            put_output(network, MixedOutput(output_of(network), self.entries, temperature, weight))

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T), (B,) -> (B, T) nats."""
        scores: np.ndarray = self.base.score(tokens, before)
        return scores

    @torch.inference_mode()
    def score_wanted(self, tokens: np.ndarray, before: np.ndarray | None, wanted: np.ndarray) -> np.ndarray:
        """As ``score`` where ``wanted`` (B, T) is true, without a search elsewhere; other numbers there."""
        if not self.weight or self.config.context is None or tokens.shape[1] > self.config.context:
            return self.score(tokens, before)
        scores, rows = np.zeros(tokens.shape), history(tokens, before, 1)
        step = max(1, READ_AT_ONCE // tokens.shape[1])
        for top in range(0, len(rows), step):
            some, chosen = torch.from_numpy(rows[top : top + step]), torch.from_numpy(wanted[top : top + step])
            some, chosen = some.to(self.entries.states.device), chosen.to(self.entries.states.device)
            states = states_after(self.base.network, some[:, :-1])[chosen]
            log_probs = self.base.network.output(states).log_softmax(-1)
            nats = log_probs.gather(-1, some[:, 1:][chosen][:, None])[:, 0]
            scores[top : top + step][wanted[top : top + step]] = nats.cpu().double().numpy()
        return scores

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V) nats."""
        log_probs: np.ndarray = self.base.next_log_probs(prefix)
        return log_probs

    def decoding_state(self, prefix: np.ndarray) -> DecodingState:
        """(B, T), T may be 0 -> the network's decoding state after the prefix."""
        state: DecodingState = self.base.decoding_state(prefix)
        return state

    def open_row(self) -> OpenRow:
        """A row that is scored piece by piece, of a recurrent network."""
        row: OpenRow = self.base.open_row()
        return row

    def arrays(self) -> Arrays:
        """The network's arrays, the entries, the temperature and the weight."""
        entries = {"states": self.entries.states, "tokens": self.entries.tokens}
        numbers = {"temperature": np.array(self.temperature), "weight": np.array(self.weight)}
        stored = {name: array.cpu().numpy() for name, array in entries.items()}
        stored["tokens"] = stored["tokens"].astype(np.min_scalar_type(self.vocab_size))
        return {**{PREFIX + name: array for name, array in self.weights.items()}, **stored, **numbers}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        names = [name for name in arrays if name.startswith(PREFIX)]
        self.weights = {name.removeprefix(PREFIX): np.array(arrays[name]) for name in names}
        device = device_of(self.runtime.device)
        states, tokens = (torch.from_numpy(np.array(arrays[name])).to(device) for name in ("states", "tokens"))
        tokens = tokens.long()
        self.entries = Entries(states, tokens, self.config.neighbours)
        self._install(float(arrays["temperature"]), float(arrays["weight"]))

    def parameters(self) -> int:
        """The network's, the numbers of the entries, and two more: all that is stored."""
        parameters: int = self.base.parameters()
        return parameters + self.entries.states.numel() + self.entries.tokens.numel() + 2


def best_weight(first: np.ndarray, second: np.ndarray) -> float:
    """The share of ``second`` in a mixture of two probabilities of each token that has the lowest loss.

    The loss is convex in it: its derivative is halved in on between 0 and 1; 0 where any share would make it worse.
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        rises = ((second - first) / ((1 - middle) * first + middle * second)).mean() > 0
        low, high = (middle, high) if rises else (low, middle)
    return low if low > 1e-6 else 0.0
