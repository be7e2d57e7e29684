"""Fitting, scoring, prediction and storage of every neural model, around one network.

A model of this family writes only its network, ``(B, window + T - 1) -> (B, T, V)``: logits of the token after each
input. ``window`` is the number of inputs that one prediction reads side by side: more than 1 for networks over a fixed
window (MLP, WaveNet), 1 for networks that see earlier inputs by recurrence or attention. This module puts the boundary
in front of every row and cuts rows that are longer than the context.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from lmstages.config.hyperparameters.neural import Neural
from lmstages.core.documents import Arrays, Curve, Documents, history
from lmstages.core.runtime import Runtime
from lmstages.training.devices import device_of
from lmstages.training.loop import train as train_network
from lmstages.training.objectives import NEXT_TOKEN, NextToken, Objective

LOGITS_AT_ONCE = 1 << 23  # numbers; bounds the memory of scoring: 32 MB of float32
LARGE_VOCABULARY = 1 << 13  # tokens; sums of so many probabilities in 32 bits miss 1 by more than 1e-6
PIECE = 1 << 12  # tokens scored together; activations of more do not fit a processor's caches


class NeuralModel:
    """A network under the contract of ``models.base``; its parameters are all its trainable numbers."""

    window = 1  # inputs that the network needs for one prediction
    takes_targets = False  # True: the network, given targets too, returns their summed cross-entropy
    windowed = False  # True: a prediction depends on its window and on nothing before it

    def __init__(self, config: Neural, vocab_size: int) -> None:
        self.config, self.vocab_size = config, vocab_size
        self.network: nn.Module | None = None
        self.runtime = Runtime()

    def build(self) -> nn.Module:
        """A new network with random weights from torch's global generator, which the caller has seeded."""
        raise NotImplementedError

    def rebuild(self) -> nn.Module:
        """A new network whose weights will be replaced: drawing them moves no global generator."""
        with torch.random.fork_rng(devices=[]):
            return self.build()

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Train a new network by ``training.loop`` on rows of ``train``; returns the learning curve."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = self.build()
            documents, rest = (train, valid), (self.window, seed, self.runtime, self.objective)
            self.network, curve = train_network(self.network, self.config, documents, *rest)
            return curve

    def initial(self, seed: int) -> Arrays:
        """The arrays from which a fit with this seed starts."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return {name: weight.numpy() for name, weight in self.build().state_dict().items()}

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T), (B,) -> (B, T) nats; past the context every token is predicted from the last ``context`` inputs."""
        rows = history(tokens, before, self.window)
        if self.windowed or self.config.context is None or tokens.shape[1] <= self.config.context:
            return self._score_rows(rows)
        context = self.config.context
        head = self._score_rows(rows[:, : context + 1])
        windows = np.lib.stride_tricks.sliding_window_view(rows[:, 1:], context + 1, axis=1)
        tail = self._score_rows(windows.reshape(-1, context + 1), last=True)
        return np.concatenate([head, tail.reshape(len(rows), -1)], axis=1)

    def _score_rows(self, rows: np.ndarray, last: bool = False) -> np.ndarray:
        """(B, window + T) tokens -> (B, T) log-probabilities of all but the first ``window``, or (B, 1) of the last."""
        length = rows.shape[1] - self.window
        parts = [
            [
                self._score_piece(rows[top:bottom, left : right + self.window], last)
                for left, right in self._spans(length)
            ]
            for top, bottom in self._bands(len(rows), length)
        ]
        return np.concatenate([np.concatenate(band, axis=1) for band in parts], axis=0)

    def _score_piece(self, rows: np.ndarray, last: bool) -> np.ndarray:
        """As ``_score_rows``, in one pass of the network."""
        with torch.inference_mode():
            tokens = self._on_device(rows)
            logits, targets = self._network(tokens[:, :-1]), tokens[:, self.window :]
            if last:
                logits, targets = logits[:, -1:], targets[:, -1:]
            return target_log_probs(logits, targets).cpu().double().numpy()

    def _spans(self, length: int) -> list[tuple[int, int]]:
        """Columns scored together: a windowed network takes any part of a row, every other network the whole row."""
        step = self._tokens_at_once() if self.windowed else max(length, 1)
        return [(left, min(left + step, length)) for left in range(0, max(length, 1), step)]

    def _bands(self, rows: int, length: int) -> list[tuple[int, int]]:
        """Rows scored together."""
        step = max(1, self._tokens_at_once() // max(length, 1))
        return [(top, min(top + step, rows)) for top in range(0, rows, step)]

    def _tokens_at_once(self) -> int:
        """At most ``PIECE``, fewer with a large vocabulary."""
        return max(1, min(PIECE, LOGITS_AT_ONCE // self.vocab_size))

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, V): the network's logits after each input, without a boundary in front."""
        logits: torch.Tensor = self._network(inputs)
        return logits

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V) nats, from the last ``context`` tokens of the prefix."""
        with torch.inference_mode():
            logits = self._network(self._on_device(self.inputs_of(prefix)))[:, -1]
            return log_softmax(logits).cpu().double().numpy()

    def inputs_of(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> the inputs of the network that predict the next token: the last ``context`` tokens at most."""
        rows = history(prefix, None, self.window)
        if self.config.context is not None:
            rows = rows[:, -max(self.window, self.config.context) :]
        return rows

    def arrays(self) -> Arrays:
        """Every weight and buffer under its torch name."""
        return {name: weight.cpu().numpy() for name, weight in self._network.state_dict().items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        self.network = self.rebuild()
        self.network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        self.network.to(device_of(self.runtime.device)).eval()

    def parameters(self) -> int:
        """All trainable numbers, embeddings and positions included."""
        return sum(weight.numel() for weight in self._network.parameters())

    def _on_device(self, tokens: np.ndarray) -> torch.Tensor:
        """(B, T) as a tensor on the network's device."""
        return torch.from_numpy(np.require(tokens, requirements=("C", "W"))).to(next(self._network.parameters()).device)

    @property
    def objective(self) -> Objective:
        """What the network is trained on: the next token, unless a model has another."""
        return NextToken(self.vocab_size) if self.takes_targets else NEXT_TOKEN

    def training_pass(self, network: nn.Module, tokens: torch.Tensor) -> None:
        """What a step of training computes forwards of (B, window + T - 1) tokens; their values do not matter."""
        network(tokens)

    @property
    def _network(self) -> nn.Module:
        assert self.network is not None, "fit or restore comes first"
        return self.network


def log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """(..., V) -> (..., V) nats, in 64 bits for a vocabulary of ``LARGE_VOCABULARY`` tokens and more."""
    if logits.shape[-1] < LARGE_VOCABULARY:
        return logits.log_softmax(-1)
    logits = logits.cpu() if logits.device.type == "mps" else logits  # an Apple GPU has no 64 bits
    return logits.double().log_softmax(-1)


def target_log_probs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(B, T, V), (B, T) -> (B, T) nats of the targets; a large vocabulary is normalised a few positions at a time."""
    whole = logits.shape[-1] < LARGE_VOCABULARY
    step = targets.shape[1] if whole else max(1, LOGITS_AT_ONCE // (len(targets) * logits.shape[-1]))
    parts = zip(logits.split(max(step, 1), 1), targets.split(max(step, 1), 1), strict=True)
    log_probs = ((log_softmax(some), wanted) for some, wanted in parts)
    return torch.cat([nats.gather(-1, wanted.to(nats.device)[..., None])[..., 0] for nats, wanted in log_probs], 1)
