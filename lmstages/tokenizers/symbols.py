"""Text in its smallest parts: bytes, and characters.

A character that train does not hold becomes the escape token, and its bytes are charged at 8 bits each
when scored: an honest code length, since UTF-8 says by itself where a character ends. Bytes are all known.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lmstages.core.errors import UserError
from lmstages.tokenizers.base import ESCAPE_TEXT, Encoded, boundary_of, spelled


class ByteTokenizer:
    """Byte b is token b + 1; 257 tokens whatever the text."""

    vocab_size: int = 257
    escape: int | None = None

    def __init__(self, boundary_text: str = "") -> None:
        self.boundary_text = boundary_text

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """One token a byte."""
        arrays = [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) + 1 for text in texts]
        return [(tokens, np.ones(len(tokens), dtype=np.int64)) for tokens in arrays]

    def decode(self, tokens: Iterable[int]) -> str:
        """Bytes that are no UTF-8 become U+FFFD."""
        return spelled([b""] + [bytes([b]) for b in range(256)], tokens, self.boundary_text)

    def to_json(self) -> dict[str, Any]:
        """Only how the boundary is spelled."""
        return {"kind": "byte", "boundary_text": self.boundary_text}


class CharTokenizer:
    """One token a character, in code-point order; ``alphabet[0]`` spells the boundary, '' where nothing does."""

    def __init__(self, alphabet: Sequence[str], escape: int | None) -> None:
        self.alphabet, self.escape = list(alphabet), escape
        self.vocab_size = len(self.alphabet)
        self._token_of = np.full(0x110000, -1 if escape is None else escape, dtype=np.int32)
        known = [(ord(character), token) for token, character in enumerate(self.alphabet) if len(character) == 1]
        self._token_of[[point for point, _ in known]] = [token for _, token in known]

    @classmethod
    def learn(cls, texts: Iterable[str], newline_ends: bool, stream: bool, open_alphabet: bool) -> "CharTokenizer":
        """The characters that occur; ``open_alphabet`` adds an escape for those that do not."""
        seen: set[str] = set()
        for text in texts:
            seen.update(text)
        boundary = boundary_of(newline_ends, stream, "\n" in seen)
        alphabet = [boundary, *sorted(seen - {boundary})]
        return cls([*alphabet, ESCAPE_TEXT] if open_alphabet else alphabet, len(alphabet) if open_alphabet else None)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """All texts through one table look-up."""
        points = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32)
        tokens = self._token_of[points].astype(np.int64)
        if self.escape is None and (tokens < 0).any():
            unknown = chr(points[int(np.argmax(tokens < 0))])
            raise UserError("tokenizer", f"character {unknown!r} is not in its alphabet", "", "use alphabet: train")
        lengths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)[:-1]
        return list(zip(np.split(tokens, ends), np.split(lengths.astype(np.int64), ends), strict=True))[: len(texts)]

    def decode(self, tokens: Iterable[int]) -> str:
        """Characters side by side."""
        return "".join("\ufffd" if token == self.escape else self.alphabet[token] for token in tokens)

    def to_json(self) -> dict[str, Any]:
        """The alphabet."""
        return {"kind": "char", "alphabet": self.alphabet, "escape": self.escape}
