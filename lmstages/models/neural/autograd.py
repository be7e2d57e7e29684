"""A network trained by an engine that knows single numbers only: scalar reverse-mode differentiation.

    d loss / d x  =  sum over the y that are made from x of   d loss / d y  *  d y / d x       (the chain rule)

Every sum and product of the network is a ``Value`` that remembers what it was made from and with which
slopes; going back over them in reverse order gives the gradients (Wengert 1964; Linnainmaa 1970; Karpathy
2020, "micrograd"). It adds nothing to the models below but shows what the models above leave to a library. At some
hundred thousand sums and products a second it learns from a few hundred examples.

Fitting runs on Values. Scoring runs the same formula in NumPy on the numbers that were learnt, and a test
holds the two together. Imports no torch.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Union

import numpy as np

from lmstages.config.hyperparameters.neural import Autograd
from lmstages.core.documents import BOUNDARY, Arrays, Curve, Documents, history
from lmstages.core.errors import FitError
from lmstages.core.progress import Progress

ROWS_AT_ONCE = 4096  # of scoring: bounds its memory
VALID_TOKENS = 8192

Number = Union["Value", float]

# ---------------------------------------------------------------- the engine


class Value:
    """A number that knows its parents and the slopes towards them; ``grad`` is filled by ``backward``."""

    __slots__ = ("data", "grad", "parents", "slopes")

    def __init__(self, data: float, parents: tuple["Value", ...] = (), slopes: tuple[float, ...] = ()) -> None:
        self.data, self.grad = data, 0.0
        self.parents, self.slopes = parents, slopes

    def __repr__(self) -> str:
        return f"Value({self.data:.6g})"

    def __add__(self, other: Number) -> "Value":
        if isinstance(other, Value):
            return Value(self.data + other.data, (self, other), (1.0, 1.0))
        return Value(self.data + other, (self,), (1.0,))

    def __mul__(self, other: Number) -> "Value":
        if isinstance(other, Value):
            return Value(self.data * other.data, (self, other), (other.data, self.data))
        return Value(self.data * other, (self,), (other,))

    def __pow__(self, power: float) -> "Value":
        return Value(self.data**power, (self,), (power * self.data ** (power - 1),))

    def exp(self) -> "Value":
        """e to this power."""
        result = math.exp(self.data)
        return Value(result, (self,), (result,))

    def log(self) -> "Value":
        """The natural logarithm."""
        return Value(math.log(self.data), (self,), (1 / self.data,))

    def relu(self) -> "Value":
        """Zero where negative; at zero the slope is zero."""
        negative = self.data <= 0
        return Value(0.0 if negative else self.data, (self,), (0.0 if negative else 1.0,))

    def __neg__(self) -> "Value":
        return self * -1.0

    def __sub__(self, other: Number) -> "Value":
        return self + -other

    def __truediv__(self, other: Number) -> "Value":
        return self * other**-1.0

    def __rsub__(self, other: float) -> "Value":
        return -self + other

    def __rtruediv__(self, other: float) -> "Value":
        return self**-1.0 * other

    __radd__, __rmul__ = __add__, __mul__

    def backward(self) -> None:
        """Add d self / d x to the ``grad`` of every Value x that this one was made from."""
        self.grad = 1.0
        for value in reversed(in_order(self)):
            grad = value.grad
            for parent, slope in zip(value.parents, value.slopes):  # noqa: B905 (a slope for each parent, a million times)
                parent.grad += slope * grad


def in_order(last: Value) -> list[Value]:
    """All made Values that ``last`` was made from, parents first, itself at the end; no recursion, so at any depth.

    What was not made from anything, a parameter or an input, has no slopes to follow and is left out.
    """
    order: list[Value] = []
    seen: set[Value] = set()
    waiting = [(last, False)]
    while waiting:
        value, parents_done = waiting.pop()
        if parents_done:
            order.append(value)
        elif value not in seen:
            seen.add(value)
            waiting.append((value, True))
            waiting.extend([(parent, False) for parent in value.parents if parent.parents and parent not in seen])
    return order


# ---------------------------------------------------------------- layers of Values

Table = list[list[Value]]


def linear(weight: Table, bias: list[Value], x: Sequence[Value]) -> list[Value]:
    """(O, I), (O,), (I,) -> (O,): one neuron a row."""
    return [sum((w * v for w, v in zip(row, x, strict=True)), start) for row, start in zip(weight, bias, strict=True)]


def cross_entropy(logits: list[Value], target: int) -> Value:
    """(V,) -> nats: log of the summed exponentials less the target's logit, the largest taken out beforehand."""
    largest = max(logit.data for logit in logits)
    total = sum(((logit - largest).exp() for logit in logits), Value(0.0))
    return total.log() + largest - logits[target]


class Network:
    """An embedding and linear layers, all of Values, with ReLU between the layers."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.embedding = _values(arrays["embedding"])
        self.layers = [
            (_values(arrays[f"weight{layer}"]), [Value(number) for number in arrays[f"bias{layer}"].tolist()])
            for layer in range(len(arrays) // 2)
        ]

    def logits(self, window: Sequence[int]) -> list[Value]:
        """(window,) tokens -> (V,)."""
        x = [value for token in window for value in self.embedding[token]]
        for weight, bias in self.layers[:-1]:
            x = [value.relu() for value in linear(weight, bias, x)]
        return linear(*self.layers[-1], x)

    def parameters(self) -> Iterator[Value]:
        """Every number that is learnt."""
        for row in self.embedding:
            yield from row
        for weight, bias in self.layers:
            for row in (*weight, bias):
                yield from row

    def arrays(self) -> Arrays:
        """The numbers without their history."""
        arrays = {"embedding": _numbers(self.embedding)}
        for layer, (weight, bias) in enumerate(self.layers):
            arrays |= {f"weight{layer}": _numbers(weight), f"bias{layer}": _numbers([bias])[0]}
        return arrays


def _values(array: np.ndarray) -> Table:
    return [[Value(number) for number in row] for row in array.tolist()]


def _numbers(table: Table) -> np.ndarray:
    return np.array([[value.data for value in row] for row in table])


# ---------------------------------------------------------------- the model


class AutogradModel:
    """A window of embeddings through ReLU layers; its parameters are all their numbers."""

    def __init__(self, config: Autograd, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size
        self._arrays: Arrays = {}

    def initial(self, seed: int) -> Arrays:
        """Embeddings N(0, 0.1), weights N(0, 2 / (inputs + outputs)) (Glorot & Bengio 2010), biases zero."""
        draws = np.random.default_rng([seed, 0])
        config = self.config
        widths = [config.window * config.embedding, *config.hidden, self.vocab_size]
        arrays = {"embedding": draws.normal(0, 0.1, (self.vocab_size, config.embedding))}
        for layer, (inputs, outputs) in enumerate(pairwise(widths)):
            arrays[f"weight{layer}"] = draws.normal(0, (2 / (inputs + outputs)) ** 0.5, (outputs, inputs))
            arrays[f"bias{layer}"] = np.zeros(outputs)
        return arrays

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Example by example, each epoch in another order; the examples are drawn from train once."""
        network, config = Network(self.initial(seed)), self.config
        draws = np.random.default_rng([seed, 1])
        chosen = draws.choice(len(train), min(config.examples, len(train)), replace=False)
        windows, targets = _windows(train, chosen, config.window).tolist(), train.tokens[chosen].tolist()
        order = np.concatenate([draws.permutation(len(chosen)) for _ in range(config.epochs)]).tolist()
        progress, losses = Progress(len(order), "example"), list[float]()
        curve: Curve = []
        for done, example in enumerate(order, start=1):
            losses.append(self._step(network, windows[example], targets[example], done))
            progress.at(done, done, "tokens")
            if done % config.evaluate_every == 0 or done == len(order):
                self._arrays = network.arrays()
                curve.append(self._point(losses, curve[-1]["step"] if curve else 0, valid))
        return curve

    def _step(self, network: Network, window: list[int], target: int, example: int) -> float:
        """One update by one example (stochastic gradient descent, Robbins & Monro 1951); its loss before."""
        loss = cross_entropy(network.logits(window), target)
        if not math.isfinite(loss.data):
            found = f"the training loss is not a number from example {example} on"
            remedy = f"lower learning_rate (now {self.config.learning_rate:g}) or set clip (now {self.config.clip:g})"
            raise FitError(f"models.{self.config.name}", found, "", remedy)
        loss.backward()
        rate, clip = self.config.learning_rate, self.config.clip or math.inf
        for value in network.parameters():
            if value.grad:
                value.data -= rate * max(-clip, min(clip, value.grad))
                value.grad = 0.0
        return loss.data

    def _point(self, losses: list[float], since: float, valid: Documents) -> dict[str, float]:
        """Where the learning curve stands: the mean loss since its last point, and that on valid."""
        places = np.linspace(0, len(valid) - 1, min(len(valid), VALID_TOKENS)).round().astype(np.int64)
        scores = self._scores(_windows(valid, places, self.config.window), valid.tokens[places])
        loss = {"train": float(np.mean(losses[int(since) :])), "valid": -float(scores.sum()) / max(1, len(places))}
        return {"step": len(losses), "tokens": len(losses), **loss, "learning_rate": self.config.learning_rate}

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T)."""
        rows = history(tokens, before, self.config.window)[:, :-1]
        windows = np.lib.stride_tricks.sliding_window_view(rows, self.config.window, axis=1)
        return self._scores(windows.reshape(-1, self.config.window), tokens.reshape(-1)).reshape(tokens.shape)

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V)."""
        return self._log_probs(history(prefix, None, self.config.window)[:, -self.config.window :])

    def _scores(self, windows: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """(N, window), (N,) -> (N,) log p of each target, some thousands at a time."""
        pieces = [slice(start, start + ROWS_AT_ONCE) for start in range(0, len(targets), ROWS_AT_ONCE)]
        scores = [np.take_along_axis(self._log_probs(windows[p]), targets[p, None], 1)[:, 0] for p in pieces]
        return np.concatenate([np.empty(0), *scores])

    def _log_probs(self, windows: np.ndarray) -> np.ndarray:
        """(N, window) -> (N, V): what ``Network.logits`` and ``cross_entropy`` compute, in NumPy."""
        assert self._arrays, "fit or restore comes first"
        x, last = self._arrays["embedding"][windows].reshape(len(windows), -1), len(self.config.hidden)
        for layer in range(last + 1):
            x = x @ self._arrays[f"weight{layer}"].T + self._arrays[f"bias{layer}"]
            x = np.maximum(x, 0) if layer < last else x
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    def arrays(self) -> Arrays:
        """Embedding, weights and biases by layer."""
        return self._arrays

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        self._arrays = dict(arrays)

    def parameters(self) -> int:
        """All numbers, embeddings and biases included."""
        return sum(array.size for array in self._arrays.values())


def _windows(documents: Documents, places: np.ndarray, window: int) -> np.ndarray:
    """(N,) places -> (N, window): the tokens before each, boundaries where its document begins later."""
    earlier = places[:, None] + np.arange(-window, 0)
    first = documents.starts[np.searchsorted(documents.starts, places, side="right") - 1]
    inside = earlier >= first[:, None]
    return np.where(inside, documents.tokens[np.where(inside, earlier, 0)], BOUNDARY).astype(np.int64)
