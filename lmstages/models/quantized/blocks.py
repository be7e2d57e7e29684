"""Matrices as blocks of 32 numbers with one scale each: llama.cpp's formats, through its project's own package.

    q8_0    34 bytes a block:  w = d c,         c = -127 .. 127    8.5 bits a weight
    q4_0    18 bytes a block:  w = d (c - 8),   c = 0 .. 15        4.5 bits a weight

A row is a whole number of blocks and knows nothing of other rows, so that rows may be reordered as they are. Knows
numbers; never a model or a file.
"""

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

BLOCK = 32
KINDS = {name: GGMLQuantizationType[name.upper()] for name in ("f32", "q8_0", "q4_0")}


def packed(matrix: np.ndarray, kind: str) -> np.ndarray:
    """(R, C) float32 -> (R, bytes) uint8, rounded to nearest; as it is for f32."""
    return np.asarray(quantize(np.ascontiguousarray(matrix, dtype=np.float32), KINDS[kind]))


def unpacked(rows: np.ndarray, kind: GGMLQuantizationType | str) -> np.ndarray:
    """(R, bytes) of any of llama.cpp's formats -> (R, C) float32."""
    known = KINDS[kind] if isinstance(kind, str) else kind
    return np.asarray(dequantize(rows, known), dtype=np.float32)


def row_bytes(columns: int, kind: GGMLQuantizationType | str) -> int:
    """How many bytes a row of so many numbers takes."""
    block, size = GGML_QUANT_SIZES[KINDS[kind] if isinstance(kind, str) else kind]
    assert columns % block == 0, "a row is a whole number of blocks"
    return columns // block * size


def q4_0_of(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(R, C) codes 0 .. 15, (R, C / 32) scales -> (R, bytes): numbers i and i + 16 of a block share a byte."""
    rows = len(codes)
    halves = codes.reshape(rows, -1, 2, BLOCK // 2).astype(np.uint8)
    nibbles = halves[:, :, 0] | halves[:, :, 1] << 4
    heads = scales.astype("<f2")[..., None].view(np.uint8)
    return np.concatenate([heads, nibbles], axis=-1).reshape(rows, -1)


def q4_0_scales(matrix: np.ndarray) -> np.ndarray:
    """(R, C) -> (R, C / 32) float32 as the file will hold them: a block's largest number, with its sign, is code 0."""
    blocks = matrix.reshape(len(matrix), -1, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
    return (largest / -8).astype(np.float16).astype(np.float32)
