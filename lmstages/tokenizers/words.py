"""Tokenizer of words with the space before them, runs of punctuation, and single characters of other white space.

A piece that is not among the most frequent of train becomes the escape token, and its bytes are charged at 8 bits each
when scored. That is a valid code length although no mark ends a word: the possible pieces are so few among all byte
strings that the sum of 256 ** -bytes over them is below 1 (Kraft 1949; a test computes it over all of Unicode).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lmstages.core.documents import BOUNDARY
from lmstages.core.errors import UserError
from lmstages.tokenizers.base import ESCAPE_TEXT, Encoded, boundary_of
from lmstages.tokenizers.token_lengths import VARIES

PIECE = re.compile(r" ?\w{1,255}| ?[^\w\s]{1,255}|\s")  # at most LONGEST_PIECE bytes; they partition every text


class WordTokenizer:
    """Token 0 is the boundary, then words by descending frequency; the last token is the escape."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = list(vocabulary)
        self.vocab_size = len(self.vocabulary)
        self.escape: int | None = self.vocab_size - 1
        self.lengths = np.array([len(word.encode()) for word in self.vocabulary])
        self.lengths[[BOUNDARY, -1]] = VARIES
        self._token_of = {word: token for token, word in enumerate(self.vocabulary[:-1]) if word}

    @classmethod
    def learn(cls, texts: Iterable[str], vocab_size: int, newline_ends: bool, stream: bool) -> "WordTokenizer":
        """Learn the most frequent words, ties by code point; ``vocab_size`` includes boundary and escape."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(PIECE.findall(text))
        boundary = boundary_of(newline_ends, stream, "\n" in counts)
        counts.pop(boundary, None)
        if len(counts) + 2 < vocab_size:
            problem = f"the train text has words for {len(counts) + 2:,} tokens only, {vocab_size:,} were asked for"
            raise UserError("tokenizers: vocab_size", problem, "", "lower vocab_size or give more text")
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls([boundary, *ranked[: vocab_size - 2], ESCAPE_TEXT])

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Each piece is one token."""
        return [self._encode(PIECE.findall(text)) for text in texts]

    def _encode(self, pieces: list[str]) -> Encoded:
        tokens = [self._token_of.get(piece, self.vocab_size - 1) for piece in pieces]
        lengths = [len(piece.encode()) for piece in pieces]
        return np.array(tokens, dtype=np.int64), np.array(lengths, dtype=np.int64)

    def decode(self, tokens: Iterable[int]) -> str:
        """The words joined; an escape is one U+FFFD."""
        return "".join("\ufffd" if token == self.escape else self.vocabulary[token] for token in tokens)

    def to_json(self) -> dict[str, Any]:
        """The vocabulary in the order of its tokens."""
        return {"kind": "word", "vocabulary": self.vocabulary}
