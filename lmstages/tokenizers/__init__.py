"""Tokenizers: bytes, characters, words, BPE, unigram. Text to tokens, with the bytes each token covers, and back.

One file per family; ``learn`` and ``from_json`` choose by the config's ``kind``. ``base`` defines token 0. Text outside
a vocabulary becomes its escape token, whose bytes are charged in full, so that code lengths stay valid.

Knows no model; only ``vocabularies`` and ``pretrained`` read files.
"""

import json
from collections.abc import Iterable
from typing import Any

from lmstages.tokenizers.base import Encoded, TextTokenizer, smallest_type, with_boundaries
from lmstages.tokenizers.pretrained import PretrainedTokenizer
from lmstages.tokenizers.subwords import BPETokenizer, SubwordTokenizer, UnigramTokenizer
from lmstages.tokenizers.symbols import ByteTokenizer, CharTokenizer
from lmstages.tokenizers.whitespace import WhitespaceTokenizer
from lmstages.tokenizers.words import WordTokenizer

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "Encoded",
    "PretrainedTokenizer",
    "TextTokenizer",
    "UnigramTokenizer",
    "WhitespaceTokenizer",
    "WordTokenizer",
    "from_json",
    "learn",
    "smallest_type",
    "with_boundaries",
]
SUBWORDS: dict[str, type[SubwordTokenizer]] = {"bpe": BPETokenizer, "unigram": UnigramTokenizer}


def learn(
    kind: str,
    vocab_size: int | None,
    texts: Iterable[str],
    newline_ends: bool,
    stream: bool,
    closed: bool,
    has_escape: bool = True,
) -> TextTokenizer:
    """Learn the tokenizer of a ``kind`` from ``texts``: those of train or, with ``closed``, of all splits.

    ``newline_ends``: documents are lines; ``stream``: the text is one document without end. ``has_escape``: of
    words at white space, whether others than those of ``texts`` are spelled, or refused.
    """
    boundary_text = "\n" if newline_ends else ""
    if kind == "byte":
        return ByteTokenizer(boundary_text)
    if kind == "char":
        return CharTokenizer.learn(texts, newline_ends, stream, open_alphabet=not closed)
    if kind == "whitespace":
        return WhitespaceTokenizer.learn(texts, vocab_size, newline_ends, stream, has_escape)
    assert vocab_size is not None, "the config requires vocab_size for every other kind"
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
    if saved["kind"] == "whitespace":
        return WhitespaceTokenizer.restored(saved)
    if saved["kind"] == "pretrained":
        return PretrainedTokenizer.restored(saved)
    definition = json.dumps(saved["definition"], ensure_ascii=False)
    return SUBWORDS[saved["kind"]](definition, saved["boundary_text"])
