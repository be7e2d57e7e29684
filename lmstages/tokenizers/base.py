"""The contract every tokenizer keeps, and what several of them share.

Token 0 is the boundary that ends a document. It exists as a number only, never as text that a corpus
could contain, with one exception that is no accident: where the newline is what ends a document, and
in a single stream, which has nothing to end, the newline *is* token 0, so that a character vocabulary
holds the text's characters and nothing else.

Knows no kind of tokenizer, no model and no file.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

BOUNDARY = 0
LONGEST_PIECE = 1024  # bytes; how many a token covers is kept in two bytes
ESCAPE_TEXT = "\ufffd\ufffd"  # two characters, so that no single one is mistaken for it
Encoded = tuple[np.ndarray, np.ndarray]


class TextTokenizer(Protocol):
    """What the other stages know of a tokenizer."""

    vocab_size: int
    escape: int | None

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Each text -> its tokens (n,) and how many UTF-8 bytes each covers (n,)."""

    def decode(self, tokens: Iterable[int]) -> str:
        """Tokens -> text; the boundary as the text that spells it, an escape as U+FFFD."""

    def to_json(self) -> dict[str, Any]:
        """Everything that was learnt."""


def boundary_of(newline_ends: bool, stream: bool, has_newline: bool) -> str:
    """The text that token 0 spells in a vocabulary of characters or words, which then needs no newline besides."""
    return "\n" if newline_ends or (stream and has_newline) else ""


def with_boundaries(encoded: Encoded, terminator: int) -> Encoded:
    """A document's tokens and lengths, closed by the boundary, which covers the ``terminator`` bytes."""
    tokens, lengths = encoded
    return np.append(tokens, BOUNDARY), np.append(lengths, terminator)


def smallest_type(largest: int) -> np.dtype:
    """The narrowest unsigned type that holds ``largest``: 1, 2 or 4 bytes."""
    return np.min_scalar_type(largest)


def spelled(spelling: Sequence[bytes], tokens: Iterable[int], boundary_text: str) -> str:
    """Tokens -> text, from the bytes of each; bytes that are no UTF-8 become U+FFFD."""
    boundary = boundary_text.encode()
    return b"".join(boundary if token == BOUNDARY else spelling[token] for token in tokens).decode(errors="replace")
