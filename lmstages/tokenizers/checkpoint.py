"""The tokenizer of a checkpoint made elsewhere: its own pieces, and the bytes of the text that each token covers.

A text that its tokens do not spell is refused with the place, since bits per byte refer to the exact text. Knows no
file and no library; paths occur only in error messages.
"""

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from lmstages.core.errors import UserError
from lmstages.tokenizers.base import Encoded

SPACE = "\u2581"  # in place of a space in the pieces of SentencePiece
SPACE_BYTES = [bytes([byte]) for byte in SPACE.encode()]
PROBES = (
    "The 1234 cats\u2019 fur isn't  grey,\tbut\n\nSHE'LL see: na\u00efve caf\u00e9s \U0001f994!",
    " a",
    "a",
    "  \n ",
)


class CheckpointTokenizer:
    """Tokenizes text with a checkpoint's own vocabulary; each token covers some bytes of the text.

    ``spelling``: the bytes of every token. A text that its tokens do not spell byte by byte is refused, so that bits
    per byte refer to the exact text. ``normalizer``: what the vocabulary does to a text before it cuts it.
    """

    def __init__(
        self,
        where: object,
        tokenize: Callable[[str], list[int]],
        spelling: list[bytes],
        begin: int | None,
        end: int | None,
        normalizer: "Normalizer | None" = None,
    ) -> None:
        if begin is None and end is None:
            raise UserError(where, "its vocabulary has neither a begin nor an end of text")
        self.where, self.tokenize, self.spelling, self.normalizer = where, tokenize, spelling, normalizer
        self.begin: int = begin if begin is not None else end  # type: ignore[assignment]  # one of them is a token
        self.end: int = end if end is not None else self.begin
        self.vocab_size = len(spelling)
        space = b"".join(spelling[token] for token in tokenize(" "))
        self.spells_spaces = SPACE.encode() in space  # in bytes, where the vocabulary has no piece for the space

    def encode(self, text: str) -> Encoded:
        """Text -> its tokens (n,) in the checkpoint's numbering and the number of bytes each covers (n,)."""
        tokens, original = np.array(self.tokenize(text), dtype=np.int64), text.encode()
        parts = [self.spelling[token] for token in tokens]
        if self.spells_spaces and b"".join(parts) != original:
            parts = with_spaces(parts)
        decoded, lengths = b"".join(parts), np.array([len(part) for part in parts], dtype=np.int64)
        if decoded == b" " + original and len(lengths):  # SentencePiece puts a space before every text
            lengths[np.argmax(lengths > 0)] -= 1
        elif decoded != original:
            raise self._refusal(text, decoded.decode(errors="replace"))
        return tokens, lengths

    def spells(self, text: str) -> bool:
        """Whether the bytes of its tokens, one after the other, are the text."""
        try:
            self.encode(text)
        except UserError:
            return False
        return True

    def _refusal(self, text: str, decoded: str) -> UserError:
        if self.normalizer is not None and self.normalizer.changes(text):
            problem = f"its normalizer ({self.normalizer.name}) changes the text: {_difference(decoded, text)}"
            remedy = "apply it to the text first, or take a checkpoint that keeps every byte"
            return UserError(self.where, problem, "bits per byte refer to the exact text", remedy)
        return UserError(self.where, f"decoding changes the text: {_difference(decoded, text)}")

    def decode(self, tokens: Iterable[int]) -> str:
        """Tokens in the checkpoint's numbering -> text."""
        text = b"".join(self.spelling[token] for token in tokens).decode(errors="replace")
        return text.replace(SPACE, " ") if self.spells_spaces else text


@dataclass(frozen=True)
class Normalizer:
    """What a vocabulary does to a text before it cuts it, such as NFC or lower case."""

    name: str
    apply: Callable[[str], str]

    def changes(self, text: str) -> bool:
        """Whether more than the signs for spaces and the space before the text is changed."""
        return self.apply(text).replace(SPACE, " ") not in (text, " " + text)


def with_spaces(parts: list[bytes]) -> list[bytes]:
    """Three byte tokens that spell the sign for a space: the first covers the space, the others nothing."""
    parts = list(parts)
    for position in range(len(parts) - 2):
        if parts[position : position + 3] == SPACE_BYTES:
            parts[position : position + 3] = [b" ", b"", b""]
    return parts


def _difference(decoded: str, original: str) -> str:
    """The first 20 characters of two texts from where they differ; code points where both look alike."""
    if not original.startswith(" "):
        decoded = decoded.removeprefix(" ")  # SentencePiece's, which covers no byte
    pairs = zip(decoded, original, strict=False)
    start = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(decoded), len(original)))
    excerpts = [text[start : start + 20] for text in (original, decoded)]
    look_alike = len({unicodedata.normalize("NFKC", excerpt) for excerpt in excerpts}) == 1
    before, after = map(ascii if look_alike else repr, excerpts)
    return f"{before} becomes {after}"
