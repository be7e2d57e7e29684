"""What the protocols need to know of a model that another library computes, and where a text begins for it.

A row of tokens is read as if token 0 stood before it. For a model of one's own that is how it was trained; a model
trained elsewhere has habits of its own, between which ``bos`` chooses:

    document       the begin-of-text token stands before every document, and the window moves over both
    each_window    it stands before every window, as the model was fed where each text of its training began with it
    none           it is never read: a window holds text alone, and the first token of a document, of which nothing
                   predicts anything, costs the logarithm of the vocabulary's size

Published perplexities of one model differ by tenths between them (lm-evaluation-harness #2382).
"""

from typing import Literal

import numpy as np

from lmstages.config.hyperparameters.base import Width
from lmstages.config.hyperparameters.neural import Neural
from lmstages.core.documents import BOUNDARY
from lmstages.models.base import DecodingState
from lmstages.models.neural.base import NeuralModel
from lmstages.models.neural.decoding import CachedDecodingState, Decoder

Bos = Literal["each_window", "document", "none"]


class Elsewhere(Neural):
    """The shape of a model whose arithmetic is another library's."""

    name, title, after = "pretrained", "Pretrained", None
    source = "its own paper"
    formula = "that of its architecture"
    protocol = "stride"
    architecture: str
    layers: Width | None = None
    width: Width | None = None
    window: Width

    @property
    def context(self) -> int:
        """The window: the longest row that is scored at once."""
        return self.window


class BeginsElsewhere(NeuralModel):
    """A neural model that reads the beginning of a text as ``bos`` says."""

    bos: Bos = "document"

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T), (B,) -> (B, T) nats; ``before`` is token 0 where a document begins."""
        if self.bos == "each_window":
            return self._score_after_bos(tokens)
        if self.bos == "document":
            return super().score(tokens, before)
        begins = np.full(len(tokens), True) if before is None else np.asarray(before) == BOUNDARY
        scores = np.empty(tokens.shape)
        if begins.any():
            scores[begins] = self._score_without_bos(tokens[begins])
        if before is not None and not begins.all():
            scores[~begins] = super().score(tokens[~begins], before[~begins])
        return scores

    def _score_after_bos(self, tokens: np.ndarray) -> np.ndarray:
        """Past the window a token is predicted from the begin of text and the ``window`` - 1 tokens before it."""
        window = self.config.context
        assert window is not None, "a model from elsewhere has a window"
        head = super().score(tokens[:, :window])
        if tokens.shape[1] <= window:
            return head
        parts = np.lib.stride_tricks.sliding_window_view(tokens[:, 1:], window, axis=1)
        rows = parts.reshape(-1, window)
        tail = self._score_rows(np.column_stack([np.full(len(rows), BOUNDARY), rows]), last=True)
        return np.concatenate([head, tail.reshape(len(tokens), -1)], axis=1)

    def _score_without_bos(self, tokens: np.ndarray) -> np.ndarray:
        first = np.full((len(tokens), 1), -np.log(self.vocab_size))
        if tokens.shape[1] <= 1:
            return first[:, : tokens.shape[1]]
        return np.concatenate([first, super().score(tokens[:, 1:], tokens[:, 0])], axis=1)

    def inputs_of(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> the tokens that are read to predict the next one, at most ``window``; none without BOS at first."""
        tokens, window = np.asarray(prefix, dtype=np.int64), self.config.context
        assert window is not None, "a model from elsewhere has a window"
        begin = np.full((len(tokens), 1), BOUNDARY)
        if self.bos == "each_window":
            return np.concatenate([begin, tokens[:, max(0, tokens.shape[1] - window + 1) :]], axis=1)
        rows = tokens if self.bos == "none" else np.concatenate([begin, tokens], axis=1)
        return rows[:, -window:]

    def next_log_probs(self, prefix: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, V) nats; uniform where nothing is read."""
        if self.bos == "none" and not prefix.shape[1]:
            return np.full((len(prefix), self.vocab_size), -np.log(self.vocab_size))
        return super().next_log_probs(prefix)

    def decoding_state_of(self, decoder: Decoder, prefix: np.ndarray) -> DecodingState:
        """(B, T) -> the state of a decoder after this prefix; past the window it moves by halves."""
        if self.bos == "none" and not prefix.shape[1]:
            return UniformFirst(self, decoder, prefix)
        state = BeginsEachWindow if self.bos == "each_window" else CachedDecodingState
        return state(decoder, self.inputs_of(prefix))


class BeginsEachWindow(CachedDecodingState):
    """The begin of text stands before what is left of the window, too."""

    def _drop_older_half(self) -> None:
        super()._drop_older_half()
        self.tokens[:, 0] = BOUNDARY


class UniformFirst:
    """Decodes a model that reads no begin of text: the first token is drawn uniformly."""

    def __init__(self, model: BeginsElsewhere, decoder: Decoder, prefix: np.ndarray) -> None:
        self.model, self.decoder, self.prefix = model, decoder, prefix
        self.state: DecodingState | None = None

    def log_probs(self) -> np.ndarray:
        """(B, V) nats of the next token."""
        return self.state.log_probs() if self.state else self.model.next_log_probs(self.prefix)

    def append(self, tokens: np.ndarray) -> None:
        """(B,): append one token to every text."""
        if self.state:
            self.state.append(tokens)
        else:
            self.state = self.model.decoding_state_of(self.decoder, np.asarray(tokens)[:, None])
