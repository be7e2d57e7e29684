"""The tokenizer of a GGUF file as llama.cpp has it, for any pre-tokenization rule; each token covers some bytes.

The bytes of a token are those of its piece. They must be the text's own, in order, each once. Two exceptions follow
from how SentencePiece's vocabularies are read: the space that is put before a text, and after every token that the file
defines for itself (type USER), covers nothing; so do two of the three byte tokens that spell the sign for a space.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lmstages.core.errors import UserError
from lmstages.models.external.llama_cpp_client import Client
from lmstages.tokenizers.base import Encoded
from lmstages.tokenizers.checkpoint import CheckpointTokenizer, with_spaces

UNKNOWN, CONTROL, USER = 1, 8, 16  # llama.cpp's attributes of tokens (llama.h)


class LlamaCppTokenizer(CheckpointTokenizer):
    """Tokenizes by llama.cpp in its own process."""

    def __init__(self, where: Path, client: Client) -> None:
        spelling, self.attributes = client.pieces()
        ends = (client.facts["begin"], client.facts["end"])
        begin, end = (token if 0 <= token < len(spelling) else None for token in ends)
        super().__init__(where, client.tokenize, spelling, begin, end)
        self.adds_spaces = b"".join(spelling[token] for token in client.tokenize("a")) == b" a"

    def encode(self, text: str) -> Encoded:
        """Text -> its tokens (n,) in the checkpoint's numbering and the number of bytes each covers (n,)."""
        tokens, original = np.array(self.tokenize(text), dtype=np.int64), text.encode()
        self._must_be_text(tokens, text)
        parts = self._without_added_spaces(tokens, original)
        decoded = b"".join(parts)
        if decoded != original:
            raise self._refusal(text, decoded.decode(errors="replace"))
        return tokens, np.array([len(part) for part in parts], dtype=np.int64)

    def decode(self, tokens: Iterable[int]) -> str:
        """Tokens in the checkpoint's numbering -> text; a space before the whole text stays."""
        numbers = np.fromiter(tokens, dtype=np.int64)
        parts = self._without_added_spaces(numbers, None)
        if self.adds_spaces and len(numbers) and self._begins_text(numbers)[0]:
            parts[0] = self._parts(numbers)[0]
        return b"".join(parts).decode(errors="replace")

    def _must_be_text(self, tokens: np.ndarray, text: str) -> None:
        special = tokens[(self.attributes[tokens] & (UNKNOWN | CONTROL)) != 0]
        if len(special):
            piece = self.spelling[special[0]].decode(errors="replace")
            problem = f"its tokenizer reads {text[:40]!r} as the special token {piece!r}"
            raise UserError(self.where, problem, "bits per byte refer to the exact text")

    def _parts(self, tokens: np.ndarray) -> list[bytes]:
        parts = [self.spelling[token] for token in tokens]
        return with_spaces(parts) if self.spells_spaces else parts

    def _without_added_spaces(self, tokens: np.ndarray, original: bytes | None) -> list[bytes]:
        parts = self._parts(tokens)
        if self.adds_spaces and b"".join(parts) != original:
            for position in np.flatnonzero(self._begins_text(tokens)):
                parts[position] = parts[position].removeprefix(b" ")
        return parts

    def _begins_text(self, tokens: np.ndarray) -> np.ndarray:
        """(n,) whether a token is the first of a text or of what follows a token that the file defines for itself."""
        own = (self.attributes[tokens] & USER) != 0
        return ~own & np.concatenate([[True], own[:-1]])
