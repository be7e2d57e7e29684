"""A neural residual on Kneser-Ney: a network that says only by how much a frozen n-gram model is wrong.

    log p(. | h) = network(h) + log p_KN(. | h) - log Z(h)

A product of two experts (Hinton 2002), of which one is counted and stays as it is. The network's output begins at
zero, and with it the whole is exactly the n-gram.

On the text it was counted from an n-gram is far too sure, and a network would learn to trust it. So train is cut
into parts, and each part is predicted by an n-gram that was counted without it (cross-fitting; Wolpert 1992): what
the network corrects is then what it will meet. Scoring and sampling take the n-gram of all of train.

What a network reads while it learns is a token and its place in one number, token + V (1 + place), so that the
n-gram's contexts are looked up once and not at every step; they take 4 bytes an order for each token of train and
valid. Plain tokens say no place: then contexts are looked up as they come.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from lmstages.config.hyperparameters.attention import Residual
from lmstages.config.hyperparameters.counts import KneserNey
from lmstages.core.documents import Arrays, Curve, Documents
from lmstages.core.progress import Progress
from lmstages.models.counts.counting import Rows
from lmstages.models.counts.distributions import Distributions, contexts_after
from lmstages.models.counts.ngram import InterpolatedModel
from lmstages.models.neural.base import NeuralModel
from lmstages.models.neural.modern_gpt import Network

NGRAM = "kneser_ney."  # before the names of the n-gram's arrays
Expert = Callable[[np.ndarray], np.ndarray]  # (B, T) inputs -> (B, T, V) log-probabilities of what comes after each


class ResidualModel(NeuralModel):
    """Its parameters are the network's and the n-gram's."""

    config: Residual

    def __init__(self, config: Residual, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.ngram = InterpolatedModel(KneserNey(order=config.order, discounts=config.discounts), vocab_size)
        self.expert: Expert | None = None

    def build(self) -> nn.Module:
        """The modern GPT over whatever expert there is."""
        assert self.expert is not None, "the n-gram comes first"
        return ResidualNetwork(self.config, self.vocab_size, self.expert)

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """The n-gram, then the network over the n-grams that have not seen what they predict."""
        self.ngram.fit(train, valid, seed)
        learning = CrossFitted(self.ngram, train, valid, self.config.folds)
        self.expert = learning.log_probs
        curve = super().fit(learning.train, learning.valid, seed)
        self._freeze()
        assert isinstance(self.network, ResidualNetwork) and self.expert is not None, "both were just made"
        self.network.expert = self.expert
        return curve

    def _freeze(self) -> None:
        """The n-gram of all of train, wherever it is asked."""
        distributions = Distributions.of(self.ngram)
        self.expert = lambda tokens: _shaped(distributions.log_probs(_contexts(self.ngram, tokens)), tokens)

    def arrays(self) -> Arrays:
        """The network's and the n-gram's."""
        return {**super().arrays(), **{NGRAM + name: array for name, array in self.ngram.arrays().items()}}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        self.ngram.restore({name.removeprefix(NGRAM): a for name, a in arrays.items() if name.startswith(NGRAM)})
        self._freeze()
        super().restore({name: array for name, array in arrays.items() if not name.startswith(NGRAM)})

    def parameters(self) -> int:
        """All trainable numbers, and what the n-gram has counted."""
        return super().parameters() + self.ngram.parameters()


class ResidualNetwork(Network):
    """(B, T) -> (B, T, V): the network's logits on top of the expert's log-probabilities."""

    expert: Expert

    def __init__(self, config: Residual, vocab_size: int, expert: Expert) -> None:
        super().__init__(config, vocab_size)
        self.vocab_size, self.expert = vocab_size, expert

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs are tokens, with or without their places."""
        change = super().forward(inputs % self.vocab_size)
        return change + torch.from_numpy(self.expert(inputs.cpu().numpy())).to(change)


@dataclass(frozen=True)
class Placed(Documents):
    """Documents of which a network reads every token's place too."""

    read: np.ndarray

    @property
    def inputs(self) -> np.ndarray:
        """(N,) token + V (1 + place)."""
        return self.read

    @classmethod
    def of_documents(cls, documents: Documents, first: int, vocab_size: int) -> "Placed":
        """``first``: the place of the first token."""
        places = np.arange(first, first + len(documents))
        read = np.asarray(documents.tokens, dtype=np.int64) + vocab_size * (1 + places)
        return cls(documents.tokens, documents.starts, read)


class CrossFitted:
    """Train and valid with places, and the n-gram's log-probabilities at them, each part of train counted without it.

    Place p is the p-th token of train, or of valid behind it. What begins a document has no place, and the first
    token of all takes the full model: with a context of one boundary it has been seen as often as there are documents.
    The constants of every part are those of the whole: a few dozen numbers that no single part could have told.
    """

    def __init__(self, model: InterpolatedModel, train: Documents, valid: Documents, folds: int) -> None:
        self.train = Placed.of_documents(train, 0, model.vocab_size)
        self.valid = Placed.of_documents(valid, len(train), model.vocab_size)
        beginning = contexts_after(model, Rows.of_batch(np.empty((1, 0), dtype=np.int64), None, False))
        parts, tables = [Distributions.of(model)], []
        progress = Progress(len(train), "cross-fitted token")
        for begin, end in pairwise(np.linspace(0, len(train), folds + 1).round().astype(np.int64).tolist()):
            part = counted_without(model, train, begin, end)
            offsets = np.sum([each.sizes() for each in parts], axis=0)
            tables.append(_shifted(_contexts_between(part, train, begin, end), offsets))
            parts.append(Distributions.of(part))
            progress.at(end, end, "tokens")
        tables.append(_contexts_between(model, valid, 0, len(valid)))
        self.contexts = np.concatenate([beginning, *tables])
        self.distributions = Distributions.beside(parts)

    def log_probs(self, inputs: np.ndarray) -> np.ndarray:
        """(B, T) tokens with places -> (B, T, V)."""
        contexts = self.contexts[inputs.ravel() // self.distributions.vocab_size]
        return _shaped(self.distributions.log_probs(contexts), inputs)


def counted_without(model: InterpolatedModel, train: Documents, begin: int, end: int) -> InterpolatedModel:
    """The same model of train less tokens begin ... end - 1; what comes after them begins a document."""
    tokens, starts = np.asarray(train.tokens), train.starts
    kept = np.concatenate([tokens[:begin], tokens[end:]])
    left, right = starts[starts < begin], starts[starts >= end] - (end - begin)
    config = model.config.model_copy(update={"discounts": "closed_form"})
    counted = InterpolatedModel(config, model.vocab_size)
    counted.fit(Documents(kept, np.unique(np.concatenate([left, [begin], right]))), Documents.single(kept[:0]), 0)
    counted.constants = model.constants
    return counted


def _contexts_between(model: InterpolatedModel, documents: Documents, begin: int, end: int) -> np.ndarray:
    """(end - begin, N) contexts that end with each of these tokens, each with all of its document before it."""
    first = max(0, begin - model.config.context - 1)
    inner = documents.starts[(documents.starts > first) & (documents.starts < end)]
    starts = np.unique(np.concatenate([[first], inner, [end]])) - first
    rows = Rows.of_documents(Documents(np.asarray(documents.tokens[first:end]), starts), padded=False)
    return contexts_after(model, rows)[rows.predicted()][begin - first :]


def _shifted(contexts: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Places of one model among those of several."""
    return np.where(contexts >= 0, contexts + offsets.astype(np.int32), contexts)


def _contexts(model: InterpolatedModel, tokens: np.ndarray) -> np.ndarray:
    """(B, T) -> (B T, N): each row's first token stands before it, and nothing before that."""
    return contexts_after(model, Rows.of_batch(tokens[:, 1:], tokens[:, 0], False))


def _shaped(log_probs: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """(B T, V) -> (B, T, V)."""
    return log_probs.reshape(*inputs.shape, -1)
