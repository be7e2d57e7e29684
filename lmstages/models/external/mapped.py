"""A LLaMA whose weights stay in their file: a layer makes numbers of its matrix when it is called, and forgets them.

So a model takes the memory of its file, which the operating system keeps or drops, and of one matrix in 32 bits. What
that costs is the unpacking, once for every batch of rows. Knows where matrices come from only as ``Matrix``.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.attention import Llama
from lmstages.core.documents import BOUNDARY
from lmstages.models.neural.attention import rotary_cos_sin
from lmstages.models.neural.base import NeuralModel
from lmstages.models.neural.decoding import LlamaDecoder
from lmstages.models.neural.llama import LlamaModel, Network


class Matrix(Protocol):
    """(R, C) numbers in some format, or (n,) of them."""

    def all(self) -> np.ndarray:
        """As float32."""

    def at(self, rows: np.ndarray) -> np.ndarray:
        """(n,) -> (n, C) float32."""


class MappedLinear(nn.Module):
    """y = x W', W read when it is needed."""

    def __init__(self, matrix: Matrix) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., C) -> (..., R)."""
        return functional.linear(x, torch.from_numpy(self.matrix.all()))


class MappedEmbedding(nn.Module):
    """Rows of a matrix by number; the whole matrix where it makes the logits too."""

    def __init__(self, matrix: Matrix) -> None:
        super().__init__()
        self.matrix = matrix

    @property
    def weight(self) -> torch.Tensor:
        """(V, D)."""
        return torch.from_numpy(self.matrix.all())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, D)."""
        rows = torch.from_numpy(self.matrix.at(tokens.flatten().numpy()))
        return rows.unflatten(0, tokens.shape)


def mapped(config: Llama, vocab_size: int, matrices: Mapping[str, Matrix]) -> Network:
    """A network without weights of its own but the norms'."""
    with torch.device("meta"):
        network = Network(config, vocab_size)
    network.cos_sin = rotary_cos_sin(config.window, config.width // config.heads, config.rope_base)
    for name, matrix in matrices.items():
        parent, _, leaf = name.removesuffix(".weight").rpartition(".")
        module = network.get_submodule(parent)
        if name == "embedding.weight":
            setattr(module, leaf, MappedEmbedding(matrix))
        elif name.endswith("norm.weight"):
            weight = torch.from_numpy(np.array(matrix.all(), dtype=np.float32))
            module.get_submodule(leaf).weight = nn.Parameter(weight, requires_grad=False)
        else:
            setattr(module, leaf, MappedLinear(matrix))
    return network.eval()


class TheirTokens(nn.Module):
    """A network with a numbering of its own, under ours: token 0 is read as ``begin`` and predicted as ``end``.

    The token that has number 0 there has the number of ``end`` here; all others keep theirs.
    """

    def __init__(self, network: nn.Module, vocab_size: int, begin: int, end: int) -> None:
        super().__init__()
        self.network = network
        self.theirs = renumbered(vocab_size, end)
        self.inputs = self.theirs.clone()
        self.inputs[BOUNDARY] = begin

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of the token after each input, in our numbering."""
        logits: torch.Tensor = self.network(self.inputs[tokens])
        return logits[..., self.theirs]


class TheirTokensDecoder(LlamaDecoder):
    """Decodes the LLaMA within ``TheirTokens``, tokens and logits in our numbering."""

    def __init__(self, network: TheirTokens, rows: int, window: int) -> None:
        super().__init__(network.network, rows, window)
        self.numbering = network

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, V)."""
        return super().read(self.numbering.inputs[tokens])[..., self.numbering.theirs]


def renumbered(vocab_size: int, end: int) -> torch.Tensor:
    """(V,) their number of each of our tokens, and its own inverse."""
    numbers = torch.arange(vocab_size)
    numbers[BOUNDARY], numbers[end] = end, BOUNDARY
    return numbers


class FittedElsewhere(NeuralModel):
    """A network at hand under the contract of ``base``; nothing here fits or saves it."""

    config: Llama

    def __init__(self, config: Llama, vocab_size: int, network: nn.Module, parameters: int) -> None:
        super().__init__(config, vocab_size)
        self.network, self._parameters = network, parameters

    def parameters(self) -> int:
        """All numbers of the checkpoint's matrices and norms."""
        return self._parameters


class PretrainedModel(FittedElsewhere, LlamaModel):  # type: ignore[misc]  # the same record, told twice
    """A LLaMA that reads on by keys and values it keeps; another engine's network is read again at every token."""

    decoder = TheirTokensDecoder
