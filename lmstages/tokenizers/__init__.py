"""Text to tokens and back: bytes, characters, words, BPE, unigram; each with the bytes every token covers.

One file a family; here they are chosen by the config's name. ``base`` says what token 0 is. What a closed
vocabulary does not hold becomes its escape and pays for its bytes: an honest code length.

Knows no model; ``vocabularies`` alone reads files.
"""

import json
from collections.abc import Iterable
from typing import Any

from lmstages.tokenizers.base import BOUNDARY, Encoded, TextTokenizer, smallest_type, with_boundaries
from lmstages.tokenizers.subwords import BPETokenizer, SubwordTokenizer, UnigramTokenizer
from lmstages.tokenizers.symbols import ByteTokenizer, CharTokenizer
from lmstages.tokenizers.words import WordTokenizer

__all__ = [
    "BOUNDARY",
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "Encoded",
    "TextTokenizer",
    "UnigramTokenizer",
    "WordTokenizer",
    "from_json",
    "learn",
    "smallest_type",
    "with_boundaries",
]
SUBWORDS: dict[str, type[SubwordTokenizer]] = {kind.kind: kind for kind in (BPETokenizer, UnigramTokenizer)}


def learn(
    kind: str, vocab_size: int | None, texts: Iterable[str], newline_ends: bool, stream: bool, closed: bool
) -> TextTokenizer:
    """A tokenizer of the config from train's texts (or, ``closed``, from all).

    ``newline_ends``: documents are lines; ``stream``: one document without end.
    """
    boundary_text = "\n" if newline_ends else ""
    if kind == "byte":
        return ByteTokenizer(boundary_text)
    if kind == "char":
        return CharTokenizer.learn(texts, newline_ends, stream, open_alphabet=not closed)
    assert vocab_size is not None, "the config asks every other kind for a vocab_size"
    if kind == "word":
        return WordTokenizer.learn(texts, vocab_size, newline_ends, stream)
    return SUBWORDS[kind].learn(texts, vocab_size, boundary_text)


def from_json(saved: dict[str, Any]) -> TextTokenizer:
    """The inverse of ``to_json``."""
    if saved["kind"] == "byte":
        return ByteTokenizer(saved["boundary_text"])
    if saved["kind"] == "char":
        return CharTokenizer(saved["alphabet"], saved["escape"])
    if saved["kind"] == "word":
        return WordTokenizer(saved["vocabulary"])
    definition = json.dumps(saved["definition"], ensure_ascii=False)
    return SUBWORDS[saved["kind"]](definition, saved["boundary_text"])
