"""Tokens of any tokenizer as words without white space, for programs that read words: ``%20the``, ``%E2%80``.

A token is spelled by its bytes, percent-encoded as in URLs (RFC 3986) where they are no visible character: white space,
control characters, parts of a character, and the signs ``%`` and ``<``, so that no token looks like ``<s>``. Token 0 is
the sentence boundary of those programs, the escape their ``<unk>``. ``urllib.parse.unquote_to_bytes`` is the inverse.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from lmstages.core.documents import BOUNDARY
from lmstages.core.errors import UserError
from lmstages.tokenizers.base import Encoded, TextTokenizer

ENCODED = "%<"
BOUNDARY_WORD, UNKNOWN_WORD = "</s>", "<unk>"


def spelled(content: bytes) -> str:
    """A token's bytes as a word; invalid UTF-8 is encoded byte by byte."""
    characters = content.decode(errors="surrogateescape")
    return "".join(character if _is_plain(character) else _encoded(character) for character in characters)


def _is_plain(character: str) -> bool:
    return character.isprintable() and not character.isspace() and character not in ENCODED


def _encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogateescape"))


def words_of(tokenizer: TextTokenizer) -> list[str]:
    """The word of every token; raises UserError where two tokens have one spelling."""
    contents: Sequence[bytes] = getattr(tokenizer, "spelling", [])
    contents = contents or [tokenizer.decode([token]).encode() for token in range(tokenizer.vocab_size)]
    words = [UNKNOWN_WORD if token == tokenizer.escape else spelled(content) for token, content in enumerate(contents)]
    words[BOUNDARY] = BOUNDARY_WORD
    if len(set(words)) < len(words):
        word = next(word for word in words if words.count(word) > 1)
        raise UserError("tokenizer", f"two tokens are spelled {word}", "as words they would be one", "use kind byte")
    return words


class SpelledTokens:
    """A tokenizer of ours, numbered as words of a closed list, the last of which stands for all that are not on it."""

    def __init__(self, own: TextTokenizer, words: Sequence[bytes]) -> None:
        self.own, self.vocab_size = own, len(words)
        self.escape: int | None = self.vocab_size - 1
        numbers = {word: number for number, word in enumerate(words)}
        spelling = [word.encode() for word in words_of(own)]
        self.theirs = np.array([numbers.get(word, self.vocab_size - 1) for word in spelling])
        self.theirs[BOUNDARY] = BOUNDARY
        self.ours = np.full(self.vocab_size, -1)
        self.ours[self.theirs] = np.arange(len(spelling))

    def unlisted(self) -> int:
        """How many tokens have no word of their own."""
        return int((self.theirs == self.escape).sum())

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """The tokenizer's own tokens, under the numbers of their words."""
        return [(self.theirs[tokens], lengths) for tokens, lengths in self.own.encode(texts)]

    def decode(self, tokens: Iterable[int]) -> str:
        """The inverse of ``encode``; of words that are no token, and of several without a word, U+FFFD."""
        parts = [(token, int(self.ours[token])) for token in tokens]
        known = [our for token, our in parts if our >= 0 and (token != self.escape or self.unlisted() == 1)]
        if len(known) == len(parts):
            return self.own.decode(known)
        return "".join("\ufffd" if our < 0 or token == self.escape else self.own.decode([our]) for token, our in parts)

    def to_json(self) -> dict[str, str]:
        """Only the kind: nothing was learnt."""
        return {"kind": "spelled"}
