"""A fitted LLaMA with its matrices quantized to 8 or 4 bits per weight (llama.cpp's Q8_0 and Q4_0).

The fitted arrays are blocks as in a GGUF file, but in our order of rows; the network computes with the 32-bit numbers
that they represent. Norms, about a thousandth of the weights, stay in 32 bits.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from lmstages.config.hyperparameters.attention import Llama
from lmstages.config.hyperparameters.quantized import LlamaQ4, QuantizedLlama
from lmstages.core.documents import Arrays, Documents
from lmstages.models.base import check_base
from lmstages.models.neural.base import NeuralModel
from lmstages.models.neural.llama import LlamaModel, Network
from lmstages.models.quantized.blocks import BLOCK, PackedTensor, packed, unpacked
from lmstages.models.quantized.derived import DerivedModel
from lmstages.models.quantized.gptq import quantize_layers


class QuantizedModel(DerivedModel, LlamaModel):
    """Has its LLaMA's context and parameters, each parameter in fewer bits."""

    config: QuantizedLlama  # type: ignore[assignment]

    def build(self) -> nn.Module:
        """The network of its LLaMA, uninitialised."""
        return Network(self.config.bottom, self.vocab_size)

    def format_of(self, name: str) -> str:
        """The format of a tensor: f32 for norms, ``config.output`` for the output matrix, else ``config.format``."""
        if name.endswith("norm.weight"):
            return "f32"
        output = "embedding.weight" if self.config.bottom.tied_output else "output.weight"
        return self.config.output if name == output else self.config.format

    def derive(self, base: NeuralModel, train: Documents) -> None:
        """Quantize every matrix of ``base``."""
        check_base(self.config.bottom, base.config, self.config.of)
        weights = base.arrays()
        arrays = {name: packed(array, self.format_of(name)) for name, array in weights.items()}
        self.restore(arrays)
        if self.config.rounding == "gptq":
            self.restore(arrays | self._rounded_by_gptq(weights, train))

    def _rounded_by_gptq(self, weights: Arrays, train: Documents) -> Arrays:
        """The matrices of the layers, rounded with calibration windows of train."""
        assert isinstance(self.config, LlamaQ4), "the record allows gptq for four bits alone"
        network = self.rebuild()
        network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
        embedding: Any = network.embedding
        dense = unpacked(self._blocks["embedding.weight"], self.format_of("embedding.weight"))
        embedding.weight.data = torch.from_numpy(dense)
        return quantize_layers(network, calibration(train, self.config.calibration, self.config.window))

    def arrays(self) -> Arrays:
        """The blocks of every matrix, and the norms."""
        return dict(self._blocks)

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``arrays``."""
        self._blocks = {name: np.array(array) for name, array in arrays.items()}
        dense = {name: unpacked(array, self.format_of(name)) for name, array in self._blocks.items()}
        self.network = self.rebuild()
        self.network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in dense.items()})
        self.network.eval()
        if self.config.activations == "q8_0":
            _compute_as_llama_cpp(self.network, self.config.bottom)

    def packed_tensors(self) -> dict[str, PackedTensor]:
        """The fitted arrays with their formats."""
        return {name: PackedTensor(array, self.format_of(name)) for name, array in self._blocks.items()}


def _compute_as_llama_cpp(network: nn.Module, config: Llama) -> None:
    """Round the inputs of quantized matrices to 8 bits too, as llama.cpp does for speed.

    The last bit of a number halfway between two codes decides its rounding, so that other differences are kept small:
    products, which llama.cpp sums as integers, are summed in 64 bits, and angles are computed as llama.cpp does.
    """
    network.cos_sin = rotation_in_32_bits(config.window, config.width // config.heads, config.rope_base)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.double()
            module.register_forward_pre_hook(lambda _, inputs: (round_to_8_bits(inputs[0]).double(),))
            module.register_forward_hook(lambda _, inputs, sums: sums.float())
    if network.output is None:
        network.norm.register_forward_hook(lambda _, inputs, x: round_to_8_bits(x))


def rotation_in_32_bits(length: int, width: int, base: float) -> torch.Tensor:
    """(2, T, W) as ``rotary_cos_sin``, but each angle is the previous pair's times a factor, as in llama.cpp."""
    factor = np.float32(base) ** np.float32(-2 / width)
    angles = [np.arange(length, dtype=np.float32)]
    for _ in range(width // 2 - 1):
        angles.append(angles[-1] * factor)
    repeated = torch.from_numpy(np.stack(angles, axis=1)).repeat(1, 2)
    return torch.stack([repeated.cos(), repeated.sin()])


def round_to_8_bits(x: torch.Tensor) -> torch.Tensor:
    """(..., C) -> (..., C): in blocks of 32, integer multiples of a 16-bit scale, the largest magnitude / 127."""
    blocks = x.unflatten(-1, (-1, BLOCK))
    largest = blocks.abs().amax(-1, keepdim=True)
    codes = torch.where(largest > 0, blocks * (127 / largest), 0.0).round()
    return (codes * (largest / 127).half().float()).flatten(-2)


def calibration(train: Documents, count: int, length: int) -> torch.Tensor:
    """(B, T): at most ``count`` rows of ``length`` tokens, evenly spaced over train."""
    length = min(length, len(train))
    begins = np.unique(np.linspace(0, len(train) - length, count).astype(np.int64))
    return torch.from_numpy(train.tokens[begins[:, None] + np.arange(length)].astype(np.int64))
