"""The protocol of a tokenizer, and functions shared by several.

Token 0 is the boundary that ends a document. It is a number only and never text that a corpus could contain, with one
exception: where documents end in a newline, and in a single stream, which has no ends, the newline *is* token 0, so
that a character vocabulary contains the text's characters and nothing else.

Knows no single tokenizer, no model and no file.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from lmstages.core.documents import BOUNDARY

LONGEST_PIECE = 1024  # bytes of a token; its length is stored in two bytes
ESCAPE_TEXT = "\ufffd\ufffd"  # two characters, so that it differs from every character
Encoded = tuple[np.ndarray, np.ndarray]  # tokens (n,), bytes each covers (n,)


class TextTokenizer(Protocol):
    """What the other stages use of a tokenizer; ``escape`` is the token of unknown text, None where there is none."""

    vocab_size: int
    escape: int | None

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """For each text its tokens (n,) and the number of UTF-8 bytes each covers (n,)."""

    def decode(self, tokens: Iterable[int]) -> str:
        """Tokens -> text; the boundary as its own text (may be empty), an escape as U+FFFD."""

    def to_json(self) -> dict[str, Any]:
        """Everything that was learnt, for ``from_json``."""


def needs_whole_words(tokenizer: TextTokenizer) -> bool:
    """Whether a stream that it reads in pieces must be cut between words."""
    return hasattr(tokenizer, "after")


def after(tokenizer: TextTokenizer, text: str) -> TextTokenizer:
    """The tokenizer of what continues ``text``, the piece of a stream before it."""
    continued: TextTokenizer = tokenizer.after(text) if hasattr(tokenizer, "after") else tokenizer
    return continued


def lengths_of(tokenizer: TextTokenizer) -> np.ndarray:
    """(V,) the bytes that each token covers wherever it stands, VARIES for others; (0,) where all may vary."""
    return np.asarray(getattr(tokenizer, "lengths", []), dtype=np.int64)


def encoded_together(tokenizer: TextTokenizer, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts (D,) -> their tokens end to end (n,), the bytes that each covers (n,), and where each text ends (D,)."""
    if hasattr(tokenizer, "encode_together"):
        tokens, ends = tokenizer.encode_together(texts)
        return tokens, lengths_of(tokenizer)[tokens], ends
    encoded = tokenizer.encode(texts)
    ends = np.cumsum([len(tokens) for tokens, _ in encoded], dtype=np.int64)
    tokens, lengths = (np.concatenate(parts) for parts in zip(*encoded, strict=True))
    return tokens, lengths, ends


def boundary_of(newline_ends: bool, stream: bool, has_newline: bool) -> str:
    """The text of token 0 in a vocabulary of characters or words: a newline, which then has no other token, or none."""
    return "\n" if newline_ends or (stream and has_newline) else ""


def with_boundaries(encoded: Encoded, terminator: int) -> Encoded:
    """A document's tokens and lengths with the boundary appended, which covers ``terminator`` bytes."""
    tokens, lengths = encoded
    return np.append(tokens, BOUNDARY), np.append(lengths, terminator)


def smallest_type(largest: int) -> np.dtype:
    """The smallest unsigned type that holds ``largest``: 1, 2 or 4 bytes."""
    return np.min_scalar_type(largest)


def decode_bytes(spelling: Sequence[bytes], tokens: Iterable[int], boundary_text: str) -> str:
    """Tokens -> text, ``spelling`` being the bytes of every token; invalid UTF-8 becomes U+FFFD."""
    boundary = boundary_text.encode()
    return b"".join(boundary if token == BOUNDARY else spelling[token] for token in tokens).decode(errors="replace")
