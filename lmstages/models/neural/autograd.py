"""An MLP trained by scalar reverse-mode automatic differentiation, in plain Python.

    d loss / d x  =  sum over all y computed from x of   d loss / d y  *  d y / d x       (the chain rule)

Every sum and product of the network is a ``Value`` that stores its operands and its derivatives by them; one pass over
all Values in reverse order gives the gradients (Wengert 1964; Linnainmaa 1970; Karpathy 2020, "micrograd"). The network
is that of the MLP; what is new is that nothing is left to a library. At some hundred thousand sums and products per
second it learns from a few hundred examples.

Fitting runs on Values. Scoring computes the same formula in NumPy from the fitted numbers; a test compares the two.
Imports no torch.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Union

import numpy as np

from lmstages.config.hyperparameters.neural import Autograd
from lmstages.core.documents import BOUNDARY, Arrays, Curve, Documents, history
from lmstages.core.errors import FitError
from lmstages.core.progress import LOGGER, Progress, clock

ROWS_AT_ONCE = 4096  # windows scored together: bounds the memory of scoring
VALID_TOKENS = 8192  # of valid at most, for a point of the learning curve

LONG_FIT = 120  # seconds, from which on they are said before the fit begins

Number = Union["Value", float]

# ---------------------------------------------------------------- automatic differentiation


class Value:
    """A number with its operands (``parents``) and its derivatives by them; ``backward`` fills ``grad``."""

    __slots__ = ("data", "grad", "local_gradients", "parents")

    def __init__(self, data: float, parents: tuple["Value", ...] = (), local_gradients: tuple[float, ...] = ()) -> None:
        self.data, self.grad = data, 0.0
        self.parents, self.local_gradients = parents, local_gradients

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
        """max(0, x); its derivative at zero is zero."""
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
        """Add d self / d x to the ``grad`` of every Value x that this one was computed from."""
        self.grad = 1.0
        for value in reversed(in_order(self)):
            grad = value.grad
            for parent, local in zip(value.parents, value.local_gradients):  # noqa: B905 (equal lengths; a hot loop)
                parent.grad += local * grad


def in_order(last: Value) -> list[Value]:
    """Topological order of the Values that ``last`` was computed from, parents first, ``last`` at the end.

    Leaves, which are parameters and inputs, are left out: they have no operands. Without recursion, so that the depth
    of the graph is not limited.
    """
    order: list[Value] = []
    seen: set[Value] = set()
    stack = [(last, False)]
    while stack:
        value, parents_done = stack.pop()
        if parents_done:
            order.append(value)
        elif value not in seen:
            seen.add(value)
            stack.append((value, True))
            stack.extend([(parent, False) for parent in value.parents if parent.parents and parent not in seen])
    return order


# ---------------------------------------------------------------- layers of Values

Table = list[list[Value]]


def linear(weight: Table, bias: list[Value], x: Sequence[Value]) -> list[Value]:
    """(O, I), (O,), (I,) -> (O,): one neuron per row."""
    return [sum((w * v for w, v in zip(row, x, strict=True)), start) for row, start in zip(weight, bias, strict=True)]


def cross_entropy(logits: list[Value], target: int) -> Value:
    """(V,) -> nats: log-sum-exp of the logits minus the target's; the largest is subtracted first against overflow."""
    largest = max(logit.data for logit in logits)
    total = sum(((logit - largest).exp() for logit in logits), Value(0.0))
    return total.log() + largest - logits[target]


class Network:
    """An embedding and linear layers of Values, with ReLU between the layers."""

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
        """Every trainable number."""
        for row in self.embedding:
            yield from row
        for weight, bias in self.layers:
            for row in (*weight, bias):
                yield from row

    def arrays(self) -> Arrays:
        """The parameters as NumPy arrays."""
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
    """The embeddings of a window of tokens through ReLU layers; parameters are all embeddings, weights and biases."""

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
        """Trains example by example, each epoch in a new order; the examples are drawn once from train."""
        config = self.config
        if (seconds := config.seconds(self.vocab_size, len(train))) > LONG_FIT:
            remedy = "fewer examples or a smaller vocabulary make it shorter"
            LOGGER.warning("about %s at a vocabulary of %s; %s", clock(seconds), f"{self.vocab_size:,}", remedy)
        network = Network(self.initial(seed))
        draws = np.random.default_rng([seed, 1])
        examples = draws.choice(len(train), min(config.examples, len(train)), replace=False)
        windows, targets = _windows(train, examples, config.window).tolist(), train.tokens[examples].tolist()
        order = np.concatenate([draws.permutation(len(examples)) for _ in range(config.epochs)]).tolist()
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
        """A step of stochastic gradient descent (Robbins & Monro 1951) on one example; returns the loss before it."""
        loss = cross_entropy(network.logits(window), target)
        if not math.isfinite(loss.data):
            problem = f"the training loss is not a number from example {example} on"
            remedy = f"lower learning_rate (now {self.config.learning_rate:g}) or set clip (now {self.config.clip:g})"
            raise FitError(f"models.{self.config.name}", problem, "", remedy)
        loss.backward()
        rate, clip = self.config.learning_rate, self.config.clip or math.inf
        for value in network.parameters():
            if value.grad:
                value.data -= rate * max(-clip, min(clip, value.grad))
                value.grad = 0.0
        return loss.data

    def _point(self, losses: list[float], since: float, valid: Documents) -> dict[str, float]:
        """A point of the learning curve: mean loss on train since step ``since``, and on valid."""
        positions = np.linspace(0, len(valid) - 1, min(len(valid), VALID_TOKENS)).round().astype(np.int64)
        scores = self._scores(_windows(valid, positions, self.config.window), valid.tokens[positions])
        loss = {"train": float(np.mean(losses[int(since) :])), "valid": -float(scores.sum()) / max(1, len(positions))}
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
        """(N, window), (N,) -> (N,) log p of each target, ``ROWS_AT_ONCE`` windows at a time."""
        pieces = [slice(start, start + ROWS_AT_ONCE) for start in range(0, len(targets), ROWS_AT_ONCE)]
        scores = [
            np.take_along_axis(self._log_probs(windows[piece]), targets[piece, None], 1)[:, 0] for piece in pieces
        ]
        return np.concatenate([np.empty(0), *scores])

    def _log_probs(self, windows: np.ndarray) -> np.ndarray:
        """(N, window) -> (N, V) nats: the formula of ``Network.logits`` and ``cross_entropy`` in NumPy."""
        assert self._arrays, "fit or restore comes first"
        x, last = self._arrays["embedding"][windows].reshape(len(windows), -1), len(self.config.hidden)
        for layer in range(last + 1):
            x = x @ self._arrays[f"weight{layer}"].T + self._arrays[f"bias{layer}"]
            x = np.maximum(x, 0) if layer < last else x
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    def arrays(self) -> Arrays:
        """The embedding, and weights and biases by layer."""
        return self._arrays

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        self._arrays = dict(arrays)

    def parameters(self) -> int:
        """All numbers, embeddings and biases included."""
        return sum(array.size for array in self._arrays.values())


def _windows(documents: Documents, positions: np.ndarray, window: int) -> np.ndarray:
    """(N,) positions -> (N, window): the tokens before each, boundaries where they belong to an earlier document."""
    earlier = positions[:, None] + np.arange(-window, 0)
    first = documents.starts[np.searchsorted(documents.starts, positions, side="right") - 1]
    inside = earlier >= first[:, None]
    return np.where(inside, documents.tokens[np.where(inside, earlier, 0)], BOUNDARY).astype(np.int64)
