"""A neural residual on Kneser-Ney: a network whose logits correct the log-probabilities of a frozen n-gram model.

    log p(. | h) = network(h) + log p_KN(. | h) - log Z(h)

A product of two experts (Hinton 2002), of which one is counted and stays fixed. The network's output starts at zero,
so that before training the model is exactly the n-gram.

On the text that it was counted from an n-gram is overconfident, and a network trained on that would learn to trust it.
So train is cut into folds, and each fold is predicted by an n-gram that was counted without it (cross-fitting, Wolpert
1992): the network then learns to correct errors as they occur on held-out text. Scoring and sampling use the n-gram of
all of train.

In training the network's inputs are a token and its position in train in one number, token + V (1 + position), so that
the n-gram's contexts are looked up once and not at every step; they take 4 bytes per order for each token of train and
valid. For plain tokens, without a position, contexts are looked up at every call.
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
    """A modern GPT on top of Kneser-Ney; its parameters are the network's and the n-gram's."""

    config: Residual

    def __init__(self, config: Residual, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.ngram = InterpolatedModel(KneserNey(order=config.order, discounts=config.discounts), vocab_size)
        self.expert: Expert | None = None

    def build(self) -> nn.Module:
        """The network on top of the current ``expert``."""
        assert self.expert is not None, "the n-gram comes first"
        return ResidualNetwork(self.config, self.vocab_size, self.expert)

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """Counts the n-gram, then trains the network on top of cross-fitted n-grams."""
        self.ngram.fit(train, valid, seed)
        cross_fitted = CrossFitted(self.ngram, train, valid, self.config.folds)
        self.expert = cross_fitted.log_probs
        curve = super().fit(cross_fitted.train, cross_fitted.valid, seed)
        self._freeze()
        assert isinstance(self.network, ResidualNetwork) and self.expert is not None, "both were just made"
        self.network.expert = self.expert
        return curve

    def _freeze(self) -> None:
        """The expert becomes the n-gram of all of train."""
        distributions = Distributions.of(self.ngram)
        self.expert = lambda tokens: _unflattened(distributions.log_probs(_contexts(self.ngram, tokens)), tokens)

    def arrays(self) -> Arrays:
        """The network's and the n-gram's."""
        return {**super().arrays(), **{NGRAM + name: array for name, array in self.ngram.arrays().items()}}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        self.ngram.restore({name.removeprefix(NGRAM): a for name, a in arrays.items() if name.startswith(NGRAM)})
        self._freeze()
        super().restore({name: array for name, array in arrays.items() if not name.startswith(NGRAM)})

    def parameters(self) -> int:
        """All trainable numbers of the network, and the n-gram's parameters."""
        return super().parameters() + self.ngram.parameters()


class ResidualNetwork(Network):
    """(B, T) -> (B, T, V): the network's logits on top of the expert's log-probabilities."""

    expert: Expert

    def __init__(self, config: Residual, vocab_size: int, expert: Expert) -> None:
        super().__init__(config, vocab_size)
        self.vocab_size, self.expert = vocab_size, expert

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # is given no targets
        """Inputs are tokens, with or without their positions."""
        change = super().forward(inputs % self.vocab_size)
        return change + torch.from_numpy(self.expert(inputs.cpu().numpy())).to(change)


@dataclass(frozen=True)
class PositionedDocuments(Documents):
    """Documents whose inputs carry each token's position in the text."""

    tokens_with_positions: np.ndarray

    @property
    def inputs(self) -> np.ndarray:
        """(N,) token + V (1 + position)."""
        return self.tokens_with_positions

    @classmethod
    def of_documents(cls, documents: Documents, first: int, vocab_size: int) -> "PositionedDocuments":
        """``first``: the position of the first token."""
        positions = np.arange(first, first + len(documents))
        inputs = np.asarray(documents.tokens, dtype=np.int64) + vocab_size * (1 + positions)
        return cls(documents.tokens, documents.starts, inputs)


class CrossFitted:
    """Train and valid with positions, and the n-gram's log-probabilities after each, every fold counted without itself.

    Position p is the p-th token of train, or of valid behind train. The boundary in front of a document has no position
    and gets the full model: its context has occurred as often as there are documents, so that one fold hardly matters.
    Every fold keeps the discounts of the whole: a few dozen numbers, which no single fold could determine.
    """

    def __init__(self, model: InterpolatedModel, train: Documents, valid: Documents, folds: int) -> None:
        self.train = PositionedDocuments.of_documents(train, 0, model.vocab_size)
        self.valid = PositionedDocuments.of_documents(valid, len(train), model.vocab_size)
        beginning = contexts_after(model, Rows.of_batch(np.empty((1, 0), dtype=np.int64), None, False))
        parts, tables = [Distributions.of(model)], []
        progress = Progress(len(train), "cross-fitted token")
        for begin, end in pairwise(np.linspace(0, len(train), folds + 1).round().astype(np.int64).tolist()):
            held_out = counted_without(model, train, begin, end)
            offsets = np.sum([part.sizes() for part in parts], axis=0)
            tables.append(_shifted(_contexts_between(held_out, train, begin, end), offsets))
            parts.append(Distributions.of(held_out))
            progress.at(end, end, "tokens")
        tables.append(_contexts_between(model, valid, 0, len(valid)))
        self.contexts = np.concatenate([beginning, *tables])
        self.distributions = Distributions.concatenated(parts)

    def log_probs(self, inputs: np.ndarray) -> np.ndarray:
        """(B, T) tokens with positions -> (B, T, V) nats."""
        contexts = self.contexts[inputs.ravel() // self.distributions.vocab_size]
        return _unflattened(self.distributions.log_probs(contexts), inputs)


def counted_without(model: InterpolatedModel, train: Documents, begin: int, end: int) -> InterpolatedModel:
    """The same model counted on train without tokens begin ... end - 1; a new document starts after the gap."""
    tokens, starts = np.asarray(train.tokens), train.starts
    kept = np.concatenate([tokens[:begin], tokens[end:]])
    left, right = starts[starts < begin], starts[starts >= end] - (end - begin)
    config = model.config.model_copy(update={"discounts": "closed_form"})
    counted = InterpolatedModel(config, model.vocab_size)
    counted.fit(Documents(kept, np.unique(np.concatenate([left, [begin], right]))), Documents.single(kept[:0]), 0)
    counted.constants = model.constants
    return counted


def _contexts_between(model: InterpolatedModel, documents: Documents, begin: int, end: int) -> np.ndarray:
    """(end - begin, order) contexts that end with each of these tokens, each within its document."""
    first = max(0, begin - model.config.context - 1)
    inner = documents.starts[(documents.starts > first) & (documents.starts < end)]
    starts = np.unique(np.concatenate([[first], inner, [end]])) - first
    rows = Rows.of_documents(Documents(np.asarray(documents.tokens[first:end]), starts), padded=False)
    return contexts_after(model, rows)[rows.predicted()][begin - first :]


def _shifted(contexts: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Context numbers of one model -> numbers in the joint table of several models; -1 stays -1."""
    return np.where(contexts >= 0, contexts + offsets.astype(np.int32), contexts)


def _contexts(model: InterpolatedModel, tokens: np.ndarray) -> np.ndarray:
    """(B, T) -> (B T, order) contexts; a row's first token is its beginning, with nothing in front."""
    return contexts_after(model, Rows.of_batch(tokens[:, 1:], tokens[:, 0], False))


def _unflattened(log_probs: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """(B T, V) -> (B, T, V)."""
    return log_probs.reshape(*inputs.shape, -1)
