"""Models whose logits llama.cpp computes, in a process of its own that receives tokens: ``llama_cpp_client``.

Knows a GGUF file; no text.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lmstages.config.hyperparameters.quantized import LlamaCpp
from lmstages.core.documents import Arrays, Documents
from lmstages.core.errors import UserError
from lmstages.models.base import check_base
from lmstages.models.external.gguf_file import write_model
from lmstages.models.external.llama_cpp_client import Client
from lmstages.models.neural.base import NeuralModel
from lmstages.models.quantized.blocks import PackedTensor
from lmstages.models.quantized.derived import DerivedModel, float32_tensors
from lmstages.models.quantized.model import QuantizedModel
from lmstages.tokenizers.vocabularies import NO_VOCABULARY


class Engine(nn.Module):
    """(B, T) tokens -> (B, T, V) logits, rows computed one after the other; T is at most ``window``."""

    def __init__(self, path: Path, vocab_size: int, window: int) -> None:
        super().__init__()
        self.on_cpu = nn.Parameter(torch.empty(0), requires_grad=False)  # its device is taken for the network's
        self.client, self.vocab_size = Client(path, window), vocab_size
        if (tokens := self.client.vocab_size) != vocab_size:
            raise UserError(path, f"llama.cpp counts {tokens:,} tokens in it, not {vocab_size:,}")

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, V) logits of the token after each input."""
        logits = np.empty((*tokens.shape, self.vocab_size), dtype=np.float32)
        for row, out in zip(tokens.numpy(), logits, strict=True):
            self.client.logits(row, out)
        return torch.from_numpy(logits)


class LlamaCppModel(DerivedModel):
    """The arrays of the model that it is derived from; only the engine that computes with them differs."""

    config: LlamaCpp

    def _below(self) -> NeuralModel:
        """The model that ``config.of`` names, unfitted."""
        return QuantizedModel(self.config.weights, self.vocab_size) if self.config.weights else self.bottom()

    def derive(self, base: NeuralModel, train: Documents) -> None:
        """Take over the arrays of ``base``; a LLaMA is quantized first where ``config.of`` names a quantized model."""
        expected = self.config.weights or self.config.bottom
        if base.config == self.config.bottom and self.config.weights:
            quantized = QuantizedModel(self.config.weights, self.vocab_size)
            quantized.derive(base, train)
            base = quantized
        check_base(expected, base.config, self.config.of)
        self.restore(base.arrays())

    def arrays(self) -> Arrays:
        """Those of the model below."""
        return self.below.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the model to a temporary GGUF file and start llama.cpp with it."""
        self.below = self._below()
        self.below.restore(arrays)
        self.folder = tempfile.TemporaryDirectory(prefix="lmstages-")
        path = Path(self.folder.name, "model.gguf")
        write_model(path, self, NO_VOCABULARY)
        self.network = Engine(path, self.vocab_size, self.config.window)

    def packed_tensors(self) -> Mapping[str, PackedTensor]:
        """Those of the model below."""
        return self.below.packed_tensors() if isinstance(self.below, DerivedModel) else float32_tensors(self.below)

    def parameters(self) -> int:
        """Those of the model below."""
        return self.below.parameters()
