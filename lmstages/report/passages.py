"""A passage of held-out text coloured by what a model found surprising in it: nats per character, in six levels.

The nats of a token are spread evenly over its characters. A level is a tint and an underline, so that it is told
neither by colour alone nor by the underline alone; each word says its nats when pointed at.

Knows pieces [text, nats]; never a model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise
from typing import Any

from lmstages.report.shown import decimal, visible

LEVELS = (0.1, 0.5, 1.0, 2.0, 4.0)  # nats per character at which the next level begins
END = "∎"  # stands for a token that covers no text: the end of a document
SIGNS = {"\n": "↵\n", "\t": "→\t", "": END}
IN_LINE = {"\n": "↵", "\t": "→"}
STRIP = 96  # characters of a passage that stand in one line


@dataclass(frozen=True)
class Word:
    """Runs (level, text) that stand together, and what the whole of it cost."""

    runs: Sequence[tuple[int, str]]
    told: str


Character = tuple[str, float | None]


def words(pieces: Iterable[Sequence[Any]]) -> list[Word]:
    """Pieces [text, nats] -> words with their levels, spaces by themselves; newlines and ends have signs."""
    characters = list(_characters(pieces))
    return [_word(list(group)) for _, group in groupby(_numbered(characters), key=lambda each: each[0])]


def strip(pieces: Iterable[Sequence[Any]]) -> list[tuple[int, str]]:
    """The first characters of a passage in one line: runs (level, text)."""
    first = islice(_characters(pieces), STRIP)
    return _runs([(IN_LINE.get(character, character), nats) for character, nats in first])


def legend() -> list[tuple[int, str]]:
    """Each level with its bounds, in nats per character."""
    bounds = ["0", *(f"{bound:g}" for bound in LEVELS)]
    names = [f"{low} to {high}" for low, high in pairwise(bounds)]
    return list(enumerate([*names, f"{bounds[-1]} or more"]))


def level(nats: float | None) -> int:
    """Nats of a character -> 0 for what was expected, to 5; what was impossible is the last too."""
    return len(LEVELS) if nats is None else sum(nats >= bound for bound in LEVELS)


def _characters(pieces: Iterable[Sequence[Any]]) -> Iterable[Character]:
    """Each character with its share; a piece without text is one character of its own, the empty one."""
    for text, nats in pieces:
        for character in text or [""]:
            yield character, None if nats is None else nats / max(1, len(text))


def _numbered(characters: Iterable[Character]) -> Iterable[tuple[tuple[int, bool], Character]]:
    """Characters with the word they belong to."""
    number, before = 0, False
    for character, nats in characters:
        apart = not character or character.isspace()
        number += apart != before
        before = apart
        yield (number, apart), (character, nats)


def _word(group: Sequence[tuple[Any, Character]]) -> Word:
    characters = [character for _, character in group]
    total = None if any(nats is None for _, nats in characters) else sum(nats or 0.0 for _, nats in characters)
    runs = _runs([(SIGNS.get(character, visible(character)), nats) for character, nats in characters])
    return Word(runs, "held to be impossible" if total is None else f"{decimal(total, 2)} nats")


def _runs(characters: Iterable[Character]) -> list[tuple[int, str]]:
    """Neighbours of one level as one."""
    leveled = ((level(nats), visible(character) or END) for character, nats in characters)
    return [(each, "".join(text for _, text in run)) for each, run in groupby(leveled, key=lambda pair: pair[0])]
