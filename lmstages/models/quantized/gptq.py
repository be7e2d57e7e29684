"""GPTQ (Frantar et al. 2023) on the grid of Q4_0: quantization that minimises the error of each layer's outputs.

The squared error of a layer's outputs W x is the trace of (W - Q) H (W - Q)', H = sum of x x' over calibration text.
Columns are rounded one after the other, and each column's rounding error is compensated in the columns after it:

    w[:, j+1:] -= (w[:, j] - q[:, j]) / u[j, j]  u[j, j+1:],      u' u = inverse of H, u upper triangular

Layers are rounded from the first to the last, each with the inputs that the quantized layers before it compute. Knows a
LLaMA's network; no file.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from lmstages.core.documents import BOUNDARY, Arrays
from lmstages.models.quantized.blocks import BLOCK, q4_0_of, q4_0_scales, unpacked

DAMPING = 0.01  # of the mean diagonal of H, so that rare inputs do not dominate (Frantar et al. 2023, section 3.3)
ROWS_AT_ONCE = 32
SAME_INPUTS = (
    ("attention.queries", "attention.keys", "attention.values"),
    ("attention.output",),
    ("feedforward.gate", "feedforward.up"),
    ("feedforward.down",),
)


@torch.no_grad()
def quantize_layers(network: nn.Module, rows: torch.Tensor) -> Arrays:
    """(B, T) calibration tokens -> blocks of every layer's matrices, which replace those of the network."""
    inputs = torch.cat([torch.full((len(rows), 1), BOUNDARY), rows[:, :-1]], dim=1)
    cos_sin = network.cos_sin[:, : inputs.shape[1]]  # type: ignore[index]
    streams = [network.embedding(part) for part in inputs.split(ROWS_AT_ONCE)]  # type: ignore[operator]
    arrays: Arrays = {}
    for depth, block in enumerate(network.blocks):  # type: ignore[arg-type]
        for name, blocks in _rounded_block(block, streams, cos_sin):
            arrays[f"blocks.{depth}.{name}.weight"] = blocks
        streams = [block(x, cos_sin) for x in streams]
    return arrays


def _rounded_block(
    block: nn.Module, streams: list[torch.Tensor], cos_sin: torch.Tensor
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and blocks of each matrix, in order of computation; matrices with the same inputs share their products."""
    for group in SAME_INPUTS:
        products = _products(block, group[0], streams, cos_sin)
        for name in group:
            layer: Any = block.get_submodule(name)
            blocks = q4_0_of(*quantize_matrix(layer.weight.double(), products))
            layer.weight.data = torch.from_numpy(unpacked(blocks, "q4_0"))
            yield name, blocks


def _products(block: nn.Module, name: str, streams: list[torch.Tensor], cos_sin: torch.Tensor) -> torch.Tensor:
    """(C, C): x x' summed over all inputs of a layer."""
    layer: Any = block.get_submodule(name)
    total = torch.zeros(layer.in_features, layer.in_features, dtype=torch.float64)

    def add(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0].flatten(0, -2).double()
        total.add_(x.T @ x)

    handle = layer.register_forward_pre_hook(add)
    for x in streams:
        block(x, cos_sin)
    handle.remove()
    return total


def quantize_matrix(weight: torch.Tensor, products: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(R, C) float64 weights, (C, C) products -> (R, C) codes 0 .. 15 and (R, C / 32) scales."""
    weight, upper = weight.clone(), _upper(products)
    codes = np.empty(weight.shape, dtype=np.uint8)
    scales = np.empty((len(weight), weight.shape[1] // BLOCK), dtype=np.float32)
    for column in range(weight.shape[1]):
        if column % BLOCK == 0:
            block = q4_0_scales(weight[:, column : column + BLOCK].float().numpy())[:, 0]
            scales[:, column // BLOCK] = block
            scale = torch.from_numpy(block).double()
        steps = torch.where(scale == 0, 0.0, weight[:, column] / torch.where(scale == 0, 1.0, scale))
        code = (steps + 8.5).floor().clamp(0, 15)
        codes[:, column] = code.to(torch.uint8).numpy()
        error = (weight[:, column] - (code - 8) * scale) / upper[column, column]
        weight[:, column + 1 :] -= error[:, None] * upper[column, column + 1 :]
    return codes, scales


def _upper(products: torch.Tensor) -> torch.Tensor:
    """(C, C) -> the upper Cholesky factor of the inverse of the damped products."""
    damped = products.clone()
    constant = damped.diagonal() == 0  # inputs that are always 0
    damped[constant, constant] = 1.0
    damped.diagonal().add_(DAMPING * damped.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)
