"""Tokenizer of words split at white space, as Penn Treebank and WikiText are tokenized: the line end is a word too.

A word covers the one space before it, a line end what stands before it: ``" = Title = \n"`` is four tokens. Which space
begins a line and which ends it is learnt from train, by majority. Text that is spaced otherwise is covered byte by byte
as well: a piece of it that train has is a type of its own, spelled with its white space; any other is an unknown word.

With an open vocabulary an unknown word becomes the escape token, and its bytes and those of the white space before it
are charged at 8 bits each when scored. That is a valid code length although no mark ends a word: control characters
count as white space, so that the sum of 256 ** -bytes over all possible pieces is below 1 (Kraft 1949; a test computes
it over all of Unicode). A closed vocabulary has no escape and refuses unknown words: published work put ``<unk>`` into
the text in their place.
"""

import copy
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmstages.core.errors import UserError, shortened
from lmstages.tokenizers.base import BOUNDARY, ESCAPE_TEXT, Encoded, boundary_of

SPACES = r"\x00-\x09\x0b-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # no newline
PIECE = re.compile(
    rf"[{SPACES}]{{0,55}}(?:[^{SPACES}\n]{{1,200}}|\n)|[{SPACES}]{{1,55}}"
)  # at most LONGEST_PIECE bytes
WORD = re.compile(rf"[^{SPACES}\n]+")
GLUED = "\n"  # stands before a word that has no space before it where one is expected; no piece begins so
SHOWN = 30  # characters of text before an unknown word, in a message


@dataclass(frozen=True)
class Spacing:
    """What stands before the first word of a line, and before its end: a space or nothing."""

    lead: str = ""
    tail: str = ""

    def entry(self, piece: str, begins_line: bool) -> str:
        """The vocabulary's entry of a piece of text: the bare word where it is spaced as expected."""
        before = self.lead if begins_line else " "
        bare = piece[len(before) :]
        if WORD.match(bare) and piece.startswith(before):
            return bare
        return GLUED + piece if WORD.match(piece) else piece

    def text(self, entry: str, begins_line: bool) -> str:
        """The inverse of ``entry``."""
        if WORD.match(entry):
            return (self.lead if begins_line else " ") + entry
        return entry[1:] if entry != GLUED and entry.startswith(GLUED) else entry

    @classmethod
    def of(cls, first: Counter[str], later: Counter[str]) -> "Spacing":
        """The spacing of most lines, whose pieces are counted: the first ones of lines, and all others."""
        leads = Counter[str]()
        for piece, count in first.items():
            leads[piece[: len(piece) - len(piece.lstrip(" "))]] += count if piece.strip() else 0
        tails = {end: first[end + "\n"] + later[end + "\n"] for end in ("", " ")}
        return cls(" " if leads[" "] > leads[""] else "", " " if tails[" "] > tails[""] else "")


class WhitespaceTokenizer:
    """Token 0 is the boundary, then words by descending frequency; the last token of an open vocabulary is the escape.

    The line end of a single stream, and of documents that are lines, is token 0; elsewhere it is a token of its own.
    ``begins_line``: whether a text that it reads or writes begins a line, as all do but parts of a stream.
    """

    begins_line = True

    def __init__(self, vocabulary: Sequence[str], spacing: Spacing, is_open: bool) -> None:
        self.vocabulary, self.spacing = list(vocabulary), spacing
        self.vocab_size = len(self.vocabulary)
        self.escape: int | None = self.vocab_size - 1 if is_open else None
        known = [(token, entry) for token, entry in enumerate(self.vocabulary) if entry and token != self.escape]
        self._tokens, self._first_tokens = self._table(known, False), self._table(known, True)

    def _table(self, known: Sequence[tuple[int, str]], begins_line: bool) -> dict[str, int]:
        """Pieces of text at a position -> tokens; an entry that is spelled otherwise there has its other token."""
        pieces = ((self.spacing.text(entry, begins_line), entry, token) for token, entry in known)
        return {piece: token for piece, entry, token in pieces if self.spacing.entry(piece, begins_line) == entry}

    @classmethod
    def learn(
        cls, texts: Iterable[str], vocab_size: int | None, newline_ends: bool, stream: bool, is_open: bool
    ) -> "WhitespaceTokenizer":
        """Learn the most frequent words, ties by code point, at most ``vocab_size`` tokens; all of them without it.

        Raises UserError where a closed vocabulary would need more, since it leaves no word out.
        """
        by_position: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        begins = True
        for text in texts:
            pieces = PIECE.findall(text)
            first = Counter(pieces[index] for index in _line_starts(pieces, begins))
            by_position[True].update(first)
            by_position[False].update(Counter(pieces) - first)
            begins = not stream or text.endswith("\n")
        spacing, counts = Spacing.of(by_position[True], by_position[False]), Counter[str]()
        for begins_line, counted in zip((False, True), by_position, strict=True):
            for piece, count in counted.items():
                counts[spacing.entry(piece, begins_line)] += count
        line_end = spacing.tail + "\n"
        boundary = line_end if boundary_of(newline_ends, stream, line_end in counts) else ""
        del counts[boundary]
        ranked = sorted(counts, key=lambda entry: (-counts[entry], entry))
        if not is_open:
            _must_hold_all(len(ranked) + 1, vocab_size)
            return cls([boundary, *ranked], spacing, is_open)
        kept = ranked if vocab_size is None else ranked[: vocab_size - 2]
        return cls([boundary, *kept, ESCAPE_TEXT], spacing, is_open)

    @classmethod
    def restored(cls, saved: dict[str, Any]) -> "WhitespaceTokenizer":
        """The inverse of ``to_json``."""
        return cls(saved["vocabulary"], Spacing(saved["lead"], saved["tail"]), saved["open"])

    def after(self, text: str) -> "WhitespaceTokenizer":
        """The same tokenizer for a text that continues another."""
        continued = copy.copy(self)
        continued.begins_line = text.endswith("\n")
        return continued

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Each piece is one token; raises UserError for a word that a closed vocabulary lacks."""
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> Encoded:
        unknown = -1 if self.escape is None else self.escape
        pieces = PIECE.findall(text)
        tokens = [self._tokens.get(piece, unknown) for piece in pieces]
        for index in _line_starts(pieces, self.begins_line):
            tokens[index] = self._first_tokens.get(pieces[index], unknown)
        if -1 in tokens:
            raise _not_in_vocabulary(text, tokens.index(-1))
        lengths = [len(piece.encode()) for piece in pieces]
        return np.array(tokens, dtype=np.int64), np.array(lengths, dtype=np.int64)

    def decode(self, tokens: Iterable[int]) -> str:
        """The words with their spaces; an escape is one U+FFFD."""
        parts, begins_line = [], self.begins_line
        for token in tokens:
            entry = "\ufffd" if token == self.escape else self.vocabulary[token]
            parts.append(self.spacing.text(entry, begins_line))
            begins_line = entry.endswith("\n") or token == BOUNDARY
        return "".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The vocabulary in the order of its tokens, and how lines are spaced."""
        spacing = {"lead": self.spacing.lead, "tail": self.spacing.tail}
        return {"kind": "whitespace", "vocabulary": self.vocabulary, **spacing, "open": self.escape is not None}

    @property
    def probe(self) -> str:
        """A text that every saved tokenizer of this vocabulary can write and read: its first words."""
        words = [token for token, entry in enumerate(self.vocabulary) if WORD.match(entry) and token != self.escape]
        return self.decode(words[:20])


def _line_starts(pieces: Sequence[str], begins_line: bool) -> list[int]:
    """The indices of the pieces that are the first of their line; ``begins_line``: whether the first piece is."""
    after = [index + 1 for index, piece in enumerate(pieces[:-1]) if piece[-1] == "\n"]
    return [0, *after] if begins_line and pieces else after


def _must_hold_all(size: int, vocab_size: int | None) -> None:
    if vocab_size is not None and size > vocab_size:
        problem = f"the closed vocabulary of the text has {size:,} tokens, at most {vocab_size:,} were asked for"
        raise UserError("tokenizers: vocab_size", problem, "", "leave vocab_size out, or closed: true")


def _not_in_vocabulary(text: str, index: int) -> UserError:
    """The refusal of the piece at an index, with the text before it."""
    match = next(match for number, match in enumerate(PIECE.finditer(text)) if number == index)
    before = text[max(0, match.start() - SHOWN) : match.start()]
    problem = f"{shortened(match[0])} after {before!r} is no word of its closed vocabulary"
    return UserError("tokenizer", problem, "", "leave closed: true out, or set alphabet: corpus")
