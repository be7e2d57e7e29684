"""What is made of a fitted LLaMA and not trained again: how it is derived, and how far it is from what it came from.

    divergence    sum over v of p(v) (log p(v) - log q(v))      p of the model it came from, q its own; nats
    agreement     1 where both find the same token likeliest, 0 elsewhere

A derived model that is fitted alone fits a LLaMA of its own first: that is its definition, and ``derive`` the short
cut past it. Knows networks and tokens; never how weights are rounded or which engine reads them.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.quantized import DerivedLlama
from lmstages.core.documents import Curve, Documents, history
from lmstages.core.errors import UserError
from lmstages.models.external.gguf_file import Stored, write
from lmstages.models.neural.base import LOGITS_AT_ONCE, NeuralModel
from lmstages.models.neural.llama import LlamaModel
from lmstages.tokenizers.vocabularies import Vocabulary


class DerivedModel(NeuralModel):
    """A LLaMA by its shape, another model by its weights or its engine."""

    config: DerivedLlama  # type: ignore[assignment]

    def __init__(self, config: DerivedLlama, vocab_size: int) -> None:
        if config.base is None:
            raise UserError(f"model {config.name}", "its section lacks base, the record of the LLaMA it is made of")
        super().__init__(config, vocab_size)  # type: ignore[arg-type]

    def bottom(self) -> LlamaModel:
        """An unfitted LLaMA of the record it is made of."""
        return LlamaModel(self.config.bottom, self.vocab_size)

    def fit(self, train: Documents, valid: Documents, seed: int) -> Curve:
        """A LLaMA of its own, then what is made of it."""
        base = self.bottom()
        base.runtime = self.runtime
        curve = base.fit(train, valid, seed)
        self.derive(base, train)
        return curve

    def derive(self, base: NeuralModel, train: Documents) -> None:
        """Take over ``base``, which is the model that ``model.of`` names or the LLaMA below that."""
        raise NotImplementedError

    def stored(self) -> Mapping[str, Stored]:
        """Every tensor as a GGUF file holds it, under our names."""
        raise NotImplementedError

    def bits_per_weight(self) -> float:
        """Of all tensors, norms and scales included."""
        size = sum(tensor.rows.nbytes for tensor in self.stored().values())
        return 8 * size / self.parameters()

    def export(self, path: Path, vocabulary: Vocabulary) -> None:
        """Write the GGUF file that holds it."""
        write(path, self.config.bottom, self.vocab_size, self.stored(), vocabulary)

    def against(self, base: NeuralModel) -> tuple["Comparison", "Comparison"]:
        """Two things to be scored like a model: divergence from ``base``, and agreement with it."""
        return Comparison(self, base, divergence), Comparison(self, base, agreement)


def divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """(B, T, V) logits of each -> (B, T) nats (Kullback & Leibler 1951)."""
    p, q = p.double().log_softmax(-1), q.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def agreement(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """(B, T, V) logits of each -> (B, T) of 0 and 1."""
    return (p.argmax(-1) == q.argmax(-1)).double()


class Comparison:
    """Two models side by side, under the verb ``score``."""

    def __init__(
        self, model: NeuralModel, base: NeuralModel, measure: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> None:
        self.model, self.base, self.measure = model, base, measure

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T), T at most the window."""
        return np.concatenate([each.numpy() for each in self._bands(history(tokens, before, 1)[:, :-1])])

    def _bands(self, inputs: np.ndarray) -> Iterator[torch.Tensor]:
        step = max(1, LOGITS_AT_ONCE // (self.model.vocab_size * inputs.shape[1]))
        with torch.inference_mode():
            for top in range(0, len(inputs), step):
                rows = torch.from_numpy(np.ascontiguousarray(inputs[top : top + step]))
                yield self.measure(self.base.logits(rows), self.model.logits(rows))


def as_stored(model: NeuralModel) -> dict[str, Stored]:
    """A LLaMA's own weights, 32 bits each."""
    return {name: Stored(array, "f32") for name, array in model.arrays().items()}


def of_record(config: ModelConfig, found: ModelConfig, of: str) -> None:
    """The fitted model must be the one the config names."""
    if config != found:
        raise UserError(f"--base {of}", "was fitted with other hyperparameters", "", "run snakemake to fit it again")
