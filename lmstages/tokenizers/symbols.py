"""Tokenizers of bytes and of characters.

A character absent from train becomes the escape token, and its bytes are charged at 8 bits each when scored: a valid
code length, since UTF-8 is a prefix code. The vocabulary of bytes is complete.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lmstages.core.errors import UserError
from lmstages.tokenizers.base import ESCAPE_TEXT, Encoded, boundary_of, decode_bytes


class ByteTokenizer:
    """Byte b is token b + 1; always 257 tokens."""

    vocab_size: int = 257
    escape: int | None = None

    def __init__(self, boundary_text: str = "") -> None:
        self.boundary_text = boundary_text
        self.spelling = [b"", *(bytes([byte]) for byte in range(256))]

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """One token per byte."""
        arrays = [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) + 1 for text in texts]
        return [(tokens, np.ones(len(tokens), dtype=np.int64)) for tokens in arrays]

    def decode(self, tokens: Iterable[int]) -> str:
        """Invalid UTF-8 becomes U+FFFD."""
        return decode_bytes(self.spelling, tokens, self.boundary_text)

    def to_json(self) -> dict[str, Any]:
        """Only the text of the boundary."""
        return {"kind": "byte", "boundary_text": self.boundary_text}


class CharTokenizer:
    """One token per character, in code-point order; ``alphabet[0]`` is the boundary's text, which may be empty."""

    def __init__(self, alphabet: Sequence[str], escape: int | None) -> None:
        self.alphabet, self.escape = list(alphabet), escape
        self.vocab_size = len(self.alphabet)
        self._token_of = np.full(0x110000, -1 if escape is None else escape, dtype=np.int32)
        pairs = [(ord(character), token) for token, character in enumerate(self.alphabet) if len(character) == 1]
        self._token_of[[point for point, _ in pairs]] = [token for _, token in pairs]

    @classmethod
    def learn(cls, texts: Iterable[str], newline_ends: bool, stream: bool, open_alphabet: bool) -> "CharTokenizer":
        """Learn the characters that occur; ``open_alphabet`` adds an escape for all others."""
        seen: set[str] = set()
        for text in texts:
            seen.update(text)
        boundary = boundary_of(newline_ends, stream, "\n" in seen)
        alphabet = [boundary, *sorted(seen - {boundary})]
        return cls([*alphabet, ESCAPE_TEXT] if open_alphabet else alphabet, len(alphabet) if open_alphabet else None)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Encode all texts by one table look-up; raises UserError for an unknown character without an escape."""
        points = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32)
        tokens = self._token_of[points].astype(np.int64)
        if self.escape is None and (tokens < 0).any():
            unknown = chr(points[int(np.argmax(tokens < 0))])
            raise UserError("tokenizer", f"character {unknown!r} is not in its alphabet", "", "use alphabet: train")
        lengths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)[:-1]
        return list(zip(np.split(tokens, ends), np.split(lengths.astype(np.int64), ends), strict=True))[: len(texts)]

    def decode(self, tokens: Iterable[int]) -> str:
        """The characters joined; an escape is U+FFFD."""
        return "".join("\ufffd" if token == self.escape else self.alphabet[token] for token in tokens)

    def to_json(self) -> dict[str, Any]:
        """The alphabet."""
        return {"kind": "char", "alphabet": self.alphabet, "escape": self.escape}
