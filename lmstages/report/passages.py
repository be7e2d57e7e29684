"""A passage of held-out text highlighted by a model's surprise: nats per character, in six levels.

The nats of a token are spread evenly over its characters. A level is a tint and an underline, so that neither colour
alone nor the underline alone carries it; a word's nats are shown when it is pointed at. Knows pieces (text, nats).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise

from lmstages.core.visible import visible
from lmstages.report.entries import Piece
from lmstages.results.formatting import decimal

LEVELS = (0.1, 0.5, 1.0, 2.0, 4.0)  # nats per character at which the next level begins
END = "∎"  # stands for a token that covers no text: the end of a document
SIGNS = {"\n": "↵\n", "\t": "→\t", "": END}
IN_LINE = {"\n": "↵", "\t": "→"}
STRIP = 96  # characters of a passage that stand in one line


@dataclass(frozen=True)
class Word:
    """Runs (level, text) that stand together, and the code length of the whole."""

    runs: Sequence[tuple[int, str]]
    nats: str

    @property
    def is_plain(self) -> bool:
        """White space that was expected: there is nothing to say of it."""
        return all(number == 0 and text.isspace() for number, text in self.runs)


Character = tuple[str, float | None]


def words(pieces: Iterable[Piece]) -> list[Word]:
    """Pieces -> words with their levels, white space by itself; newlines and ends of documents have signs."""
    numbered = _numbered(_characters(pieces))
    return [_word([character for _, character in word]) for _, word in groupby(numbered, key=lambda item: item[0])]


def strip(pieces: Iterable[Piece]) -> list[tuple[int, str]]:
    """The first characters of a passage in one line: runs (level, text)."""
    first = islice(_characters(pieces), STRIP)
    return _runs([(IN_LINE.get(character, character), nats) for character, nats in first])


def legend() -> list[tuple[int, str]]:
    """Each level with its bounds, in nats per character."""
    bounds = ["0", *(f"{bound:g}" for bound in LEVELS)]
    names = [f"{low} to {high}" for low, high in pairwise(bounds)]
    return list(enumerate([*names, f"{bounds[-1]} or more"]))


def level(nats: float | None) -> int:
    """Nats of a character -> 0 for what was expected, to 5; what the model held to be impossible is 5 too."""
    return len(LEVELS) if nats is None else sum(nats >= bound for bound in LEVELS)


def _characters(pieces: Iterable[Piece]) -> Iterable[Character]:
    """Each character with its part of the nats; a piece without text is one character of its own, the empty one."""
    for text, nats in pieces:
        for character in text or [""]:
            yield character, None if nats is None else nats / max(1, len(text))


def _numbered(characters: Iterable[Character]) -> Iterable[tuple[tuple[int, bool], Character]]:
    """Characters with (number of the word they belong to, whether it is white space)."""
    number, was_space = 0, False
    for character, nats in characters:
        is_space = not character or character.isspace()
        number += is_space != was_space
        was_space = is_space
        yield (number, is_space), (character, nats)


def _word(characters: Sequence[Character]) -> Word:
    total = None if any(nats is None for _, nats in characters) else sum(nats or 0.0 for _, nats in characters)
    runs = _runs([(SIGNS.get(character, visible(character)), nats) for character, nats in characters])
    return Word(runs, "held to be impossible" if total is None else f"{decimal(total, 2)} nats")


def _runs(characters: Iterable[Character]) -> list[tuple[int, str]]:
    """Neighbouring characters of one level as one text."""
    leveled = ((level(nats), visible(character) or END) for character, nats in characters)
    return [(number, "".join(text for _, text in run)) for number, run in groupby(leveled, key=lambda pair: pair[0])]
