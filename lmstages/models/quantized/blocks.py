"""Matrices as blocks of 32 weights with one scale each: llama.cpp's formats, through the project's package ``gguf``.

    q8_0    34 bytes a block:  w = d c,         c = -127 .. 127    8.5 bits per weight
    q4_0    18 bytes a block:  w = d (c - 8),   c = 0 .. 15        4.5 bits per weight

A row is a whole number of blocks and independent of other rows, so that rows can be reordered in packed form. Knows
arrays; no model and no file.
"""

from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

BLOCK = 32
FORMATS = {name: GGMLQuantizationType[name.upper()] for name in ("f32", "q8_0", "q4_0")}


@dataclass(frozen=True)
class PackedTensor:
    """A tensor in one of FORMATS: packed rows (R, bytes) uint8, or the numbers themselves, float32, for f32."""

    rows: np.ndarray
    format: str


def packed(matrix: np.ndarray, format_name: str) -> np.ndarray:
    """(R, C) float32 -> (R, bytes) uint8, rounded to nearest; unchanged for f32."""
    return np.asarray(quantize(np.ascontiguousarray(matrix, dtype=np.float32), FORMATS[format_name]))


def unpacked(rows: np.ndarray, format_name: GGMLQuantizationType | str) -> np.ndarray:
    """(R, bytes) in any of llama.cpp's formats -> (R, C) float32."""
    format_type = FORMATS[format_name] if isinstance(format_name, str) else format_name
    return np.asarray(dequantize(rows, format_type), dtype=np.float32)


def row_bytes(columns: int, format_name: GGMLQuantizationType | str) -> int:
    """The number of bytes of a row of ``columns`` weights."""
    block, size = GGML_QUANT_SIZES[FORMATS[format_name] if isinstance(format_name, str) else format_name]
    assert columns % block == 0, "a row is a whole number of blocks"
    return columns // block * size


def q4_0_of(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(R, C) codes 0 .. 15, (R, C / 32) scales -> (R, bytes): weights i and i + 16 of a block share a byte."""
    rows = len(codes)
    halves = codes.reshape(rows, -1, 2, BLOCK // 2).astype(np.uint8)
    nibbles = halves[:, :, 0] | halves[:, :, 1] << 4
    heads = scales.astype("<f2")[..., None].view(np.uint8)
    return np.concatenate([heads, nibbles], axis=-1).reshape(rows, -1)


def q4_0_scales(matrix: np.ndarray) -> np.ndarray:
    """(R, C) -> (R, C / 32) float32, as float16 holds them: the weight of largest magnitude in a block has code 0."""
    blocks = matrix.reshape(len(matrix), -1, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
    return (largest / -8).astype(np.float16).astype(np.float32)
