"""A LLaMA with memory-mapped weights: a layer converts its matrix to float32 at each call and does not keep it.

Memory: that of the file, which the operating system may drop from its cache, and one matrix in 32 bits. Cost: one
conversion of every matrix per batch of rows. Knows the source of the matrices only as ``Matrix``.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lmstages.config.hyperparameters.attention import Llama
from lmstages.core.documents import BOUNDARY
from lmstages.models.base import DecodingState
from lmstages.models.external.elsewhere import BeginsElsewhere, Bos, Elsewhere
from lmstages.models.neural.attention import rotary_cos_sin
from lmstages.models.neural.decoding import LlamaDecoder
from lmstages.models.neural.llama import LlamaModel, Network


class Matrix(Protocol):
    """A matrix (R, C) or a vector (n,) in any format."""

    def all(self) -> np.ndarray:
        """All of it as float32."""

    def at(self, rows: np.ndarray) -> np.ndarray:
        """(n,) row numbers -> (n, C) float32."""


class MappedLinear(nn.Module):
    """y = x W', W converted to float32 at each call."""

    def __init__(self, matrix: Matrix) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., C) -> (..., R)."""
        return functional.linear(x, torch.from_numpy(self.matrix.all()))


class MappedEmbedding(nn.Module):
    """Rows of a matrix, by token; ``weight`` is the whole matrix, for a tied output."""

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
    """A network that holds only the weights of its norms; all other matrices are read at each call."""
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
    """A network with its own token numbers, translated to ours: token 0 is read as ``begin``, predicted as ``end``.

    Their token 0 has the number ``end`` here; all other tokens have the same number in both.
    """

    theirs: torch.Tensor
    inputs: torch.Tensor

    def __init__(self, network: nn.Module, vocab_size: int, begin: int, end: int) -> None:
        super().__init__()
        self.network = network
        theirs = renumbered(vocab_size, end)
        inputs = theirs.clone()
        inputs[BOUNDARY] = begin
        self.register_buffer("theirs", theirs, persistent=False)  # moves with the network to its device
        self.register_buffer("inputs", inputs, persistent=False)

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
        return super().logits(self.numbering.inputs[tokens])[:, -1][..., self.numbering.theirs]

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, V)."""
        return super().logits(self.numbering.inputs[tokens])[..., self.numbering.theirs]


def renumbered(vocab_size: int, end: int) -> torch.Tensor:
    """(V,) their number of each of our tokens; the permutation is its own inverse."""
    numbers = torch.arange(vocab_size)
    numbers[BOUNDARY], numbers[end] = end, BOUNDARY
    return numbers


class FittedElsewhere(BeginsElsewhere):
    """A network that was trained elsewhere, under the contract of ``models.base``; it is neither fitted nor saved."""

    config: Llama | Elsewhere

    def __init__(
        self, config: Llama | Elsewhere, vocab_size: int, network: nn.Module, parameters: int, bos: Bos = "document"
    ) -> None:
        super().__init__(config, vocab_size)
        self.network, self._parameters, self.bos = network, parameters, bos

    def parameters(self) -> int:
        """The number of weights in the checkpoint, norms included."""
        return self._parameters


class PretrainedModel(FittedElsewhere, LlamaModel):
    """A LLaMA that decodes incrementally from cached keys and values; another engine recomputes at every token."""

    config: Llama

    def decoding_state(self, prefix: np.ndarray) -> DecodingState:  # type: ignore[override]  # of either class
        """(B, T), T may be 0 -> the decoding state after the prefix, of which it reads the last ``window`` tokens."""
        network = self._network
        assert isinstance(network, TheirTokens), "its tokens are numbered as the checkpoint numbers them"
        return self.decoding_state_of(TheirTokensDecoder(network, len(prefix), self.config.window), prefix)
