"""A fitted LLaMA with its matrices rounded to 8 or 4 bits a weight (llama.cpp's Q8_0 and Q4_0).

Fitted are the blocks as a GGUF file holds them, in our order of rows; the network computes with the 32-bit numbers
they stand for. Norms, a thousandth of the weights, stay as they are.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.hyperparameters.quantized import LlamaQ4, QuantizedLlama
from lmstages.core.documents import Arrays, Documents
from lmstages.models.external.gguf_file import Stored
from lmstages.models.external.llama_tensors import names, shapes
from lmstages.models.neural.base import NeuralModel
from lmstages.models.neural.llama import LlamaModel, Network
from lmstages.models.quantized.blocks import BLOCK, packed, unpacked
from lmstages.models.quantized.derived import DerivedModel, of_record
from lmstages.models.quantized.gptq import rounded_by_inputs


class QuantizedModel(DerivedModel, LlamaModel):
    """Sees what its LLaMA sees; its parameters are those of the LLaMA, each in fewer bits."""

    config: QuantizedLlama  # type: ignore[assignment]

    def build(self) -> nn.Module:
        """The network of its LLaMA."""
        return Network(self.config.bottom, self.vocab_size)

    def kind(self, name: str) -> str:
        """The format of a tensor: norms stay, the matrix of logits has its own."""
        if len(shapes(self.config.bottom, self.vocab_size)[name]) == 1:
            return "f32"
        makes_logits = "embedding.weight" if self.config.bottom.tied_output else "output.weight"
        return self.config.output if name == makes_logits else self.config.format

    def derive(self, base: NeuralModel, train: Documents) -> None:
        """Round every matrix of ``base``."""
        of_record(self.config.bottom, base.config, self.config.of)
        weights = base.arrays()
        arrays = {name: packed(weights[name], self.kind(name)) for name in names(self.config.bottom)}
        self.restore(arrays)
        if self.config.rounding == "gptq":
            self.restore(arrays | self._better_rounded(weights, train))

    def _better_rounded(self, weights: Arrays, train: Documents) -> Arrays:
        """The matrices of the layers again, in view of what they are multiplied with."""
        assert isinstance(self.config, LlamaQ4), "the record allows gptq for four bits alone"
        network = self.build()
        network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
        embedding = unpacked(self._blocks["embedding.weight"], self.kind("embedding.weight"))
        looked_up: Any = network.embedding
        looked_up.weight.data = torch.from_numpy(embedding)
        return rounded_by_inputs(network, calibration(train, self.config.calibration, self.config.window))

    def arrays(self) -> Arrays:
        """Blocks and norms."""
        return dict(self._blocks)

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        self._blocks = {name: np.array(array) for name, array in arrays.items()}
        dense = {name: unpacked(array, self.kind(name)) for name, array in self._blocks.items()}
        self.network = self.build()
        self.network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in dense.items()})
        self.network.eval()
        if self.config.activations == "q8_0":
            _compute_as_llama_cpp(self.network, self.config.bottom)

    def stored(self) -> dict[str, Stored]:
        """As fitted."""
        return {name: Stored(array, self.kind(name)) for name, array in self._blocks.items()}


def _compute_as_llama_cpp(network: nn.Module, config: Llama) -> None:
    """Whatever a rounded matrix is multiplied with is rounded too, as llama.cpp does it for speed.

    A number that lies between two codes falls to either side by its last bit, so that what else differs is kept small:
    products, which llama.cpp sums as whole numbers, are summed in 64 bits, and angles are its own.
    """
    network.cos_sin = rotation_in_32_bits(config.window, config.width // config.heads, config.rope_base)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.double()
            module.register_forward_pre_hook(lambda _, inputs: (rounded_to_8_bits(inputs[0]).double(),))
            module.register_forward_hook(lambda _, inputs, sums: sums.float())
    if network.output is None:
        network.norm.register_forward_hook(lambda _, inputs, x: rounded_to_8_bits(x))


def rotation_in_32_bits(length: int, width: int, base: float) -> torch.Tensor:
    """(2, T, W) as ``rotary_cos_sin``, each pair's angle the last one's times one factor, as llama.cpp does."""
    factor = np.float32(base) ** np.float32(-2 / width)
    angles = [np.arange(length, dtype=np.float32)]
    for _ in range(width // 2 - 1):
        angles.append(angles[-1] * factor)
    turns = torch.from_numpy(np.stack(angles, axis=1)).repeat(1, 2)
    return torch.stack([turns.cos(), turns.sin()])


def rounded_to_8_bits(x: torch.Tensor) -> torch.Tensor:
    """(..., C) -> (..., C): blocks of 32 numbers, each a whole multiple of a 127th of the largest, in 16 bits."""
    blocks = x.unflatten(-1, (-1, BLOCK))
    largest = blocks.abs().amax(-1, keepdim=True)
    codes = torch.where(largest > 0, blocks * (127 / largest), 0.0).round()
    return (codes * (largest / 127).half().float()).flatten(-2)


def calibration(train: Documents, count: int, length: int) -> torch.Tensor:
    """At most ``count`` rows of ``length`` tokens, evenly spaced over train, (B, T)."""
    length = min(length, len(train))
    begins = np.unique(np.linspace(0, len(train) - length, count).astype(np.int64))
    return torch.from_numpy(train.tokens[begins[:, None] + np.arange(length)].astype(np.int64))
