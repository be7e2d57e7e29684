"""How many bytes each token of a split covers, on disk: what its vocabulary says once, the rest token by token.

``{split}.bytes.npy`` holds, in this order, the number L of tokens whose length is listed; for each of them 1 + its
length, or 0 where it is not the same everywhere (the boundary, an escape); and the length of every occurrence of such a
token and of those from L on. A number is one byte, and one byte more, 255, for every 255 it holds. Knows no tokenizer.
"""

from pathlib import Path

import numpy as np

from lmstages.core import artifacts
from lmstages.core.errors import UserError

VARIES = -1  # in place of a token's length
MOST = 255  # in a byte: more follows


def listed(vocabulary: np.ndarray) -> np.ndarray:
    """Lengths of the first L tokens, VARIES among them, (L,) -> the numbers with which a file begins (1 + L,)."""
    return np.append(len(vocabulary), vocabulary + 1)


def varying(vocabulary: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """(N,) whether the length of each token is kept by itself."""
    if not len(vocabulary):
        return np.ones(len(tokens), dtype=bool)
    inside = tokens < len(vocabulary)
    return np.where(inside, vocabulary[np.where(inside, tokens, 0)] == VARIES, True)


def to_bytes(numbers: np.ndarray) -> np.ndarray:
    """Numbers from 0 on -> bytes."""
    if not len(numbers) or numbers.max() < MOST:
        return numbers.astype(np.uint8)
    last = np.cumsum(numbers // MOST + 1) - 1
    content = np.full(int(last[-1]) + 1, MOST, dtype=np.uint8)
    content[last] = numbers % MOST
    return content


def from_bytes(content: np.ndarray) -> np.ndarray:
    """The inverse of ``to_bytes``."""
    last = np.flatnonzero(content != MOST)
    if len(last) == len(content):
        return content
    return np.diff(np.cumsum(content, dtype=np.int64)[last], prepend=0)


def lengths_of(path: Path, tokens: np.ndarray) -> np.ndarray:
    """The bytes that each token of a split covers (N,), by its file; a UserError where they do not fit one another."""
    content = artifacts.load_array(path)
    if content.dtype != np.uint8:  # of words for KenLM: the length of every token
        _must_be_of(path, tokens, len(content), len(tokens))
        return content
    numbers = from_bytes(content)
    size = int(numbers[0]) if len(numbers) else 0
    vocabulary, rest = numbers[1 : 1 + size].astype(np.int64) - 1, numbers[1 + size :]
    alone = varying(vocabulary, tokens)
    _must_be_of(path, tokens, len(rest), int(np.count_nonzero(alone)))
    most = max(int(vocabulary.max(initial=0)), int(rest.max(initial=0)))
    lengths = np.empty(len(tokens), dtype=np.uint16 if most < 1 << 16 else np.uint32)
    lengths[~alone] = vocabulary[tokens[~alone]]
    lengths[alone] = rest
    return lengths


def _must_be_of(path: Path, tokens: np.ndarray, found: int, needed: int) -> None:
    if found != needed:
        problem = f"lengths of {found:,} tokens, not of {needed:,} among the {len(tokens):,} of the split"
        raise UserError(path, problem, "every token has its length in bytes", artifacts.make_again(path))
