"""Quantization error: how far the predictions of a derived model are from those of the model it is derived from.

    divergence    sum over v of p(v) (log p(v) - log q(v))      p of the base model, q of the derived one; nats
    agreement     1 where both have the same most likely token, 0 elsewhere

Both are means over the first tokens of each held-out split, of the distribution of the next token, in windows of the
base model's length with half of each window as history.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lmstages.core import artifacts
from lmstages.core.documents import Documents, history
from lmstages.core.files import scratch
from lmstages.evaluation import scoring
from lmstages.evaluation.experiment import facts_of_fit, load_fitted
from lmstages.models.external import gguf_file
from lmstages.models.neural.base import LOGITS_AT_ONCE, NeuralModel
from lmstages.models.quantized.derived import DerivedModel
from lmstages.tokenizers import streams
from lmstages.tokenizers.vocabularies import of_tokenizer

TOKENS = 1 << 15  # of a split: enough for a divergence with a relative error of one percent


def quantization_error(model: Path, base: Path, tokens: Path, splits: list[str]) -> dict[str, Any]:
    """{split: {of, bits_per_weight, file_bytes, kl, top1}} of a derived model; {} where its fit failed.

    ``kl`` is the mean divergence from ``base`` in nats, ``top1`` the mean agreement with it.
    """
    if facts_of_fit(model, tokens)["status"] != "ok":
        return {}
    artifacts.must_be_made_from(model, base)
    derived: Any = load_fitted(model, tokens)[0]
    fitted: Any = load_fitted(base, tokens)[0]
    size = {"of": base.parts[-3], "bits_per_weight": derived.bits_per_weight()}
    size["file_bytes"] = _file_bytes(derived, tokens)
    return {split: {**size, **_error(derived, fitted, tokens, split)} for split in splits}


def _file_bytes(model: DerivedModel, tokens: Path) -> int:
    """The size of its GGUF file, vocabulary included."""
    vocabulary = of_tokenizer(streams.read_tokenizer(tokens).to_json())
    with scratch(tokens) as file:
        gguf_file.write_model(Path(file.name), model, vocabulary)
        return Path(file.name).stat().st_size


def _error(model: DerivedModel, base: NeuralModel, tokens: Path, split: str) -> dict[str, float]:
    documents = _first_tokens(streams.read_documents(tokens, split))
    window = model.config.context
    assert window is not None, "a LLaMA has a window"
    windows = scoring.windows_of(documents.starts, "stride", window, -(-window // 2), 0)
    measures = {"kl": divergence, "top1": agreement}
    scorers: dict[str, Any] = {key: PairScorer(model, base, measure) for key, measure in measures.items()}
    return {key: float(np.nanmean(scoring.score(scorer, documents, windows))) for key, scorer in scorers.items()}


def _first_tokens(documents: Documents) -> Documents:
    """The first TOKENS tokens; the last document is cut short."""
    starts = documents.starts[documents.starts < TOKENS]
    end = min(TOKENS, len(documents.tokens))
    return Documents(documents.tokens[:end], np.append(starts[starts < end], end))


def divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """(B, T, V) logits of both models -> (B, T) nats (Kullback & Leibler 1951)."""
    p, q = p.double().log_softmax(-1), q.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def agreement(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """(B, T, V) logits of both models -> (B, T) of 0 and 1."""
    return (p.argmax(-1) == q.argmax(-1)).double()


class PairScorer:
    """Scores a pair of models as ``scoring.score`` scores one: a measure of their logits at every position."""

    def __init__(
        self, model: NeuralModel, base: NeuralModel, measure: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> None:
        self.model, self.base, self.measure = model, base, measure

    def score(self, tokens: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
        """(B, T) -> (B, T), T at most the window."""
        return np.concatenate([values.numpy() for values in self._in_batches(history(tokens, before, 1)[:, :-1])])

    def _in_batches(self, inputs: np.ndarray) -> Iterator[torch.Tensor]:
        size = max(1, LOGITS_AT_ONCE // (self.model.vocab_size * inputs.shape[1]))
        with torch.inference_mode():
            for first in range(0, len(inputs), size):
                rows = torch.from_numpy(np.ascontiguousarray(inputs[first : first + size]))
                yield self.measure(self.base.logits(rows), self.model.logits(rows))
