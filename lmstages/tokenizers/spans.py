"""Tokenizers whose pieces do not spell a text byte by byte, but whose library gives its text back.

The library says which characters each token was made of; these spans, joined so that every byte lies in one of them,
are the bytes that the tokens cover. A text that decoding changes is refused: two texts would have the same tokens, and
their probabilities would be no code length of either. Knows no file.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lmstages.tokenizers.base import Encoded
from lmstages.tokenizers.checkpoint import PROBES, CheckpointTokenizer


class SpanTokenizer(CheckpointTokenizer):
    """A checkpoint's tokenizer that covers a text by the spans of its library and decodes by its library."""

    def __init__(self, own: CheckpointTokenizer, library: Any) -> None:
        super().__init__(own.where, own.tokenize, own.spelling, own.begin, own.end, own.normalizer)
        self.library = library

    def encode(self, text: str) -> Encoded:
        """Text -> its tokens (n,) in the checkpoint's numbering and the number of bytes each covers (n,)."""
        encoded = self.library.encode(text, add_special_tokens=False)
        tokens = np.array(encoded.ids, dtype=np.int64)
        if (decoded := self.decode(encoded.ids)) not in (text, f" {text}"):
            raise self._refusal(text, decoded)
        return tokens, byte_lengths(text, encoded.offsets)

    def decode(self, tokens: Iterable[int]) -> str:
        """Tokens in the checkpoint's numbering -> text."""
        return str(self.library.decode(list(tokens), skip_special_tokens=False))


def byte_lengths(text: str, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Characters [begin, end) of n tokens -> the bytes that each covers (n,), in order, without gaps, once each.

    What lies before a token and in no other, such as a space that its span leaves out, belongs to it. Of tokens that
    share a character the first covers it. What follows the last token belongs to that.
    """
    sizes = np.array([0, *(len(character.encode()) for character in text)])
    before = np.cumsum(sizes)  # bytes before each character
    ends = np.maximum.accumulate([0, *(end for _, end in spans)])
    if spans:
        ends[-1] = len(text)
    return np.diff(before[ends])


def by_spans(own: CheckpointTokenizer, library: Any) -> CheckpointTokenizer:
    """``own``, or its spans where only the library gives texts back."""
    spelled = [own.spells(probe) for probe in PROBES]
    if all(spelled):
        return own
    spans = SpanTokenizer(own, library)
    restored = [spans.decode(library.encode(probe, add_special_tokens=False).ids) == probe for probe in PROBES]
    return spans if sum(restored) > sum(spelled) else own
