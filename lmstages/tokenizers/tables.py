"""Tokens by table, for tokenizers whose tokens are bytes or characters: many documents at once, without a loop.

A part of a split becomes tokens as if it were one text; then each separator gives way to one boundary. Knows no file.
"""

from typing import NamedTuple, Protocol, TypeGuard

import numpy as np

from lmstages.core.documents import BOUNDARY
from lmstages.corpora.splits import Part
from lmstages.tokenizers.base import TextTokenizer


class ByTable(Protocol):
    """A tokenizer that has a token for every byte, or for every character."""

    vocab_size: int
    escape: int | None

    def by_table(self, content: bytes) -> np.ndarray:
        """UTF-8 -> tokens (n,), in a type that holds ``vocab_size``: what stands for a character it does not know."""

    def offsets(self, content: bytes, positions: np.ndarray) -> np.ndarray:
        """Positions in bytes (D,) -> in tokens (D,)."""

    def sizes(self, content: bytes) -> np.ndarray:
        """The bytes that each token covers (n,)."""

    def refuse(self, text: str) -> None:
        """Raises UserError for a text with a character that it does not know."""


class Tokens(NamedTuple):
    """Tokens of a part (n,), where documents end among them (D,), and the lengths of those that vary (m,), in order."""

    tokens: np.ndarray
    ends: np.ndarray
    varying: np.ndarray


def is_by_table(tokenizer: TextTokenizer) -> TypeGuard[ByTable]:
    """Whether tokens of a tokenizer are looked up in a table."""
    return hasattr(tokenizer, "by_table")


def text_of(part: Part) -> str:
    """The texts of the documents of a part, end to end, without separators."""
    if not part.terminators.any():
        return part.content.decode()
    separators = _within(part.ends - part.terminators, part.ends, len(part.content))
    return np.frombuffer(part.content, np.uint8)[~separators].tobytes().decode()


def tokens_of(tokenizer: ByTable, part: Part) -> Tokens:
    """A part of a split -> its tokens, with a boundary after each document."""
    tokens, ends = _with_boundaries(tokenizer, part, tokenizer.by_table(part.content), np.zeros_like(part.ends))
    if (tokens == tokenizer.vocab_size).any():
        tokenizer.refuse(text_of(part))
    alone = tokens == BOUNDARY
    if tokenizer.escape is not None:
        alone |= tokens == tokenizer.escape
    if np.count_nonzero(alone) == len(ends):  # boundaries of documents and nothing else
        return Tokens(tokens, ends, part.terminators)
    sizes = tokenizer.sizes(part.content).astype(np.int64)
    return Tokens(tokens, ends, _with_boundaries(tokenizer, part, sizes, part.terminators)[0][alone])


def _with_boundaries(
    tokenizer: ByTable, part: Part, values: np.ndarray, at_boundaries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values of tokens (n,), separators among them -> of documents with one boundary each, and their ends (D,)."""
    ends = tokenizer.offsets(part.content, part.ends)
    if (part.terminators == 1).all():  # as in lines: a separator is one token already
        values[ends - 1] = at_boundaries
        return values, ends
    texts_end = tokenizer.offsets(part.content, part.ends - part.terminators)
    kept = values[~_within(texts_end, ends, len(values))]
    texts_end -= np.cumsum(ends - texts_end) - (ends - texts_end)
    return np.insert(kept, texts_end, at_boundaries), texts_end + np.arange(1, len(ends) + 1)


def _within(begins: np.ndarray, ends: np.ndarray, length: int) -> np.ndarray:
    """(n,) whether a position lies in one of the spans [begin, end), which do not overlap."""
    changes = np.zeros(length + 1, dtype=np.int8)
    filled = ends > begins
    changes[begins[filled]] += 1
    changes[ends[filled]] -= 1
    return np.cumsum(changes[:-1], dtype=np.int8) > 0
