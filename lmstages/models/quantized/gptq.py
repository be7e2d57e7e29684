"""Rounding a matrix in view of its inputs: GPTQ (Frantar et al. 2023), on the grid of Q4_0.

A layer's output W x changes least when (W - Q) H (W - Q)' is small, H = sum of x x' over calibration text. Columns
are rounded one after the other, and what one loses is made up for by those still to come:

    w[:, j+1:] -= (w[:, j] - q[:, j]) / u[j, j]  u[j, j+1:],      u' u = inverse of H, u upper triangular

Layers are rounded from below, so that each sees inputs that the rounded layers before it give. Knows a LLaMA's
network; never a file.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from lmstages.core.documents import BOUNDARY, Arrays
from lmstages.models.quantized.blocks import BLOCK, q4_0_of, q4_0_scales, unpacked

DAMPING = 0.01  # of H's mean diagonal, so that inputs that never occur do not decide (Frantar et al. 2023, section 3.3)
ROWS_AT_ONCE = 32
SAME_INPUTS = (
    ("attention.queries", "attention.keys", "attention.values"),
    ("attention.output",),
    ("feedforward.gate", "feedforward.up"),
    ("feedforward.down",),
)


@torch.no_grad()
def rounded_by_inputs(network: nn.Module, rows: torch.Tensor) -> Arrays:
    """(B, T) calibration tokens -> the blocks of every layer's matrices; the network's own are replaced by them."""
    inputs = torch.cat([torch.full((len(rows), 1), BOUNDARY), rows[:, :-1]], dim=1)
    cos_sin = network.cos_sin[:, : inputs.shape[1]]  # type: ignore[index]
    streams = [network.embedding(part) for part in inputs.split(ROWS_AT_ONCE)]  # type: ignore[operator]
    found: Arrays = {}
    for depth, block in enumerate(network.blocks):  # type: ignore[arg-type]
        for name, blocks in _rounded_block(block, streams, cos_sin):
            found[f"blocks.{depth}.{name}.weight"] = blocks
        streams = [block(x, cos_sin) for x in streams]
    return found


def _rounded_block(
    block: nn.Module, streams: list[torch.Tensor], cos_sin: torch.Tensor
) -> Iterator[tuple[str, np.ndarray]]:
    """Matrices that read the same inputs are rounded together, the first to read first."""
    for group in SAME_INPUTS:
        products = _products(block, group[0], streams, cos_sin)
        for name in group:
            layer: Any = block.get_submodule(name)
            blocks = q4_0_of(*rounded(layer.weight.double(), products))
            layer.weight.data = torch.from_numpy(unpacked(blocks, "q4_0"))
            yield name, blocks


def _products(block: nn.Module, name: str, streams: list[torch.Tensor], cos_sin: torch.Tensor) -> torch.Tensor:
    """(C, C): x x' summed over all inputs of a layer."""
    layer: Any = block.get_submodule(name)
    total = torch.zeros(layer.in_features, layer.in_features, dtype=torch.float64)

    def add(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0].flatten(0, -2).double()
        total.add_(x.T @ x)

    watching = layer.register_forward_pre_hook(add)
    for x in streams:
        block(x, cos_sin)
    watching.remove()
    return total


def rounded(weight: torch.Tensor, products: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(R, C) float64, (C, C) -> (R, C) codes 0 .. 15 and (R, C / 32) scales."""
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
        lost = (weight[:, column] - (code - 8) * scale) / upper[column, column]
        weight[:, column + 1 :] -= lost[:, None] * upper[column, column + 1 :]
    return codes, scales


def _upper(products: torch.Tensor) -> torch.Tensor:
    """(C, C) -> the upper Cholesky factor of its damped inverse."""
    damped = products.clone()
    never = damped.diagonal() == 0
    damped[never, never] = 1.0
    damped.diagonal().add_(DAMPING * damped.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)
