"""Tokenizers of bytes and of characters.

A character absent from train becomes the escape token, and its bytes are charged at 8 bits each when scored: a valid
code length, since UTF-8 is a prefix code. The vocabulary of bytes is complete.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lmstages.core.documents import BOUNDARY
from lmstages.core.errors import UserError
from lmstages.tokenizers.base import ESCAPE_TEXT, Encoded, boundary_of, decode_bytes, smallest_type
from lmstages.tokenizers.token_lengths import VARIES

POINTS = 0x110000  # code points of Unicode
BLOCK = 1 << 16  # characters looked up at once: their code points fit into the processor's cache
CONTINUES = bytes(range(0x80, 0xC0))  # bytes that do not begin a character


class ByteTokenizer:
    """Byte b is token b + 1; always 257 tokens."""

    vocab_size: int = 257
    escape: int | None = None

    def __init__(self, boundary_text: str = "") -> None:
        self.boundary_text = boundary_text
        self.spelling = [b"", *(bytes([byte]) for byte in range(256))]
        self.lengths = np.array([VARIES, *[1] * 256])

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """One token per byte."""
        arrays = [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) + 1 for text in texts]
        return [(tokens, np.ones(len(tokens), dtype=np.int64)) for tokens in arrays]

    def by_table(self, content: bytes) -> np.ndarray:
        """The same of bytes, in a smaller type."""
        return np.add(np.frombuffer(content, np.uint8), 1, dtype=np.uint16)

    def offsets(self, content: bytes, positions: np.ndarray) -> np.ndarray:
        """Bytes are tokens."""
        return positions

    def sizes(self, content: bytes) -> np.ndarray:
        """1 for every byte."""
        return np.ones(len(content), dtype=np.uint8)

    def refuse(self, text: str) -> None:
        """Every byte is known."""

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
        unknown = self.vocab_size if escape is None else escape
        self._token_of = np.full(POINTS, unknown, dtype=smallest_type(self.vocab_size))
        for token, character in enumerate(self.alphabet):
            if len(character) == 1:
                self._token_of[ord(character)] = token
        self.lengths = np.array([len(character.encode()) for character in self.alphabet])
        self.lengths[[BOUNDARY] if escape is None else [BOUNDARY, escape]] = VARIES

    @classmethod
    def learn(cls, texts: Iterable[str], newline_ends: bool, stream: bool, open_alphabet: bool) -> "CharTokenizer":
        """Learn the characters that occur; ``open_alphabet`` adds an escape for all others."""
        seen: set[str] = set()
        for text in texts:
            seen.update(_new_characters(text, seen))
        boundary = boundary_of(newline_ends, stream, "\n" in seen)
        alphabet = [boundary, *sorted(seen - {boundary})]
        return cls([*alphabet, ESCAPE_TEXT] if open_alphabet else alphabet, len(alphabet) if open_alphabet else None)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Encode all texts by one table look-up; raises UserError for an unknown character without an escape."""
        joined = "".join(texts)
        content = joined.encode()
        tokens = self.by_table(content).astype(np.int64)
        if (tokens == self.vocab_size).any():
            self.refuse(joined)
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)[:-1]
        lengths = np.split(self.sizes(content).astype(np.int64), ends)
        return list(zip(np.split(tokens, ends), lengths, strict=True))[: len(texts)]

    def by_table(self, content: bytes) -> np.ndarray:
        """UTF-8 -> tokens in their smallest type; ``vocab_size`` for an unknown character without an escape."""
        if content.isascii() and self._token_of.itemsize == 1:
            return np.frombuffer(bytearray(content.translate(self._token_of[:256].tobytes())), np.uint8)
        text = content.decode()
        tokens = np.empty(len(text), dtype=self._token_of.dtype)
        for begin in range(0, len(text), BLOCK):
            tokens[begin : begin + BLOCK] = self._token_of[_code_points(text[begin : begin + BLOCK])]
        return tokens

    def offsets(self, content: bytes, positions: np.ndarray) -> np.ndarray:
        """Bytes (D,) -> characters (D,)."""
        if content.isascii():
            return positions
        continuing = np.flatnonzero(np.frombuffer(content, np.uint8) & 0xC0 == 0x80)
        return positions - np.searchsorted(continuing, positions)

    def sizes(self, content: bytes) -> np.ndarray:
        """The bytes of each character."""
        first = np.frombuffer(content.translate(None, CONTINUES), np.uint8)
        return np.uint8(1) + (first >= 0xC0) + (first >= 0xE0) + (first >= 0xF0)

    def refuse(self, text: str) -> None:
        """Raises UserError for a text with a character that it does not know."""
        for character in text:
            if self._token_of[ord(character)] == self.vocab_size:
                problem = f"character {character!r} is not in its alphabet"
                raise UserError("tokenizer", problem, "", "use alphabet: train")

    def decode(self, tokens: Iterable[int]) -> str:
        """The characters joined; an escape is U+FFFD."""
        return "".join("\ufffd" if token == self.escape else self.alphabet[token] for token in tokens)

    def to_json(self) -> dict[str, Any]:
        """The alphabet."""
        return {"kind": "char", "alphabet": self.alphabet, "escape": self.escape}


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def _new_characters(text: str, seen: set[str]) -> set[str]:
    """The characters of a text that are not among those ``seen``; of a long one by table."""
    if text.isascii():
        known = bytes(ord(character) for character in seen if character.isascii())
        return set(text.encode().translate(None, known).decode())
    if len(text) < BLOCK:
        return set(text) - seen
    present = np.zeros(POINTS, dtype=bool)
    for begin in range(0, len(text), BLOCK):
        present[_code_points(text[begin : begin + BLOCK])] = True
    return set(map(chr, np.flatnonzero(present).tolist())) - seen
