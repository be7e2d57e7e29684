"""Recurrent networks: a hidden state that is updated at every token (Elman 1990; Mikolov et al. 2010).

    rnn    s[t] = tanh(W e(x[t]) + U s[t - 1] + b)
    gru    s[t] = z * s[t - 1] + (1 - z) * n, update gate z, new state n, unit by unit (Cho et al. 2014)
    lstm   a second state c[t] = f * c[t - 1] + i * g, forget gate f, input gate i (Hochreiter & Schmidhuber 1997)
    logits = V s[t] + c

Unlike a window, the state has no fixed length of history. In training a row starts from a state of zeros, wherever in
a document it begins; in scoring the state is carried from the start of the document to its end.
"""

import numpy as np
import torch
from torch import nn

from lmstages.config.hyperparameters.neural import Recurrent
from lmstages.core.documents import BOUNDARY, history
from lmstages.models.neural.base import NeuralModel

CELLS: dict[str, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentModel(NeuralModel):
    """Scores a row piece by piece, carrying the state, so that memory does not grow with the length of a document."""

    config: Recurrent
    piece = 4096  # tokens

    def build(self) -> nn.Module:
        """The network with torch's own initialisation."""
        return RecurrentNetwork(self.config, self.vocab_size)

    def _score_rows(self, rows: np.ndarray, last: bool = False) -> np.ndarray:
        """(B, 1 + T) tokens -> (B, T), the state carried from piece to piece."""
        scores, length = [], rows.shape[1] - 1
        for top, bottom in self._bands(len(rows), min(length, self.piece)):
            band, state = self._on_device(rows[top:bottom]), None
            parts = [np.empty((bottom - top, 0))]
            for left in range(0, length, self.piece):
                part = band[:, left : left + self.piece + 1]
                log_probs, state = self._score_on(part, state)
                parts.append(log_probs)
            scores.append(np.concatenate(parts, axis=1))
        return np.concatenate(scores)

    def _score_on(self, tokens: torch.Tensor, state: "State") -> tuple[np.ndarray, "State"]:
        """(B, 1 + T) tokens, the state before them -> (B, T) scores and the state after them."""
        network = self._network
        assert isinstance(network, StatefulNetwork), "build returns no other"
        with torch.inference_mode():
            logits, state = network.read(tokens[:, :-1], state)
            scores = logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
            return scores.cpu().double().numpy(), state

    def open_row(self) -> "RecurrentRow":
        """A row that is scored piece by piece."""
        return RecurrentRow(self)

    def decoding_state(self, prefix: np.ndarray) -> "RecurrentDecodingState":
        """(B, T), T may be 0 -> the decoding state after the prefix."""
        return RecurrentDecodingState(self, prefix)


class RecurrentRow:
    """A row that is scored piece by piece, from the network's state after what was read."""

    def __init__(self, model: RecurrentModel) -> None:
        self.model, self.before = model, np.array([BOUNDARY])
        self.state: State = None

    def advance(self, tokens: np.ndarray) -> np.ndarray:
        """(T,) the next tokens of the row -> (T,) nats."""
        row, scores = np.concatenate([self.before, tokens]), [np.empty((1, 0))]
        for left in range(0, len(tokens), self.model.piece):
            part = self.model._on_device(row[None, left : left + self.model.piece + 1])
            log_probs, self.state = self.model._score_on(part, self.state)
            scores.append(log_probs)
        self.before = row[-1:]
        return np.concatenate(scores, axis=1)[0]


class RecurrentDecodingState:
    """Incremental decoding from the network's own state, whose size does not grow with the text."""

    def __init__(self, model: RecurrentModel, prefix: np.ndarray) -> None:
        network = model._network
        assert isinstance(network, StatefulNetwork), "build returns no other"
        self.network = network
        self.state: State = None
        self._read(model._on_device(history(np.asarray(prefix, dtype=np.int64), None, 1)))

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the next token."""
        return self.logits.log_softmax(-1).cpu().double().numpy()

    def append(self, tokens: np.ndarray) -> None:
        """(B,): one more token for every row."""
        self._read(torch.from_numpy(np.asarray(tokens, dtype=np.int64)).to(self.logits.device)[:, None])

    def _read(self, tokens: torch.Tensor) -> None:
        with torch.inference_mode():
            logits, self.state = self.network.read(tokens, self.state)
            self.logits = logits[:, -1]


State = torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None


class StatefulNetwork(nn.Module):
    """(B, T) -> (B, T, V), reading on from a state."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of the token after each input, from a state of zeros."""
        return self.read(tokens, None)[0]

    def read(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """(B, T) tokens, the state before them -> logits (B, T, V) and the state after them."""
        raise NotImplementedError


class RecurrentNetwork(StatefulNetwork):
    """The cells of torch between an embedding and an output layer."""

    def __init__(self, config: Recurrent, vocab_size: int) -> None:
        super().__init__()
        between = config.dropout if config.layers > 1 else 0.0
        self.embedding = nn.Embedding(vocab_size, config.embedding)
        self.cells = CELLS[config.name](
            config.embedding, config.hidden, config.layers, batch_first=True, dropout=between
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden, vocab_size)

    def read(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """(B, T) tokens, the state before them -> logits (B, T, V) and the state after them."""
        outputs, state = self.cells(self.dropout(self.embedding(tokens)), state)
        return self.output(self.dropout(outputs)), state
