"""Gaps in held-out text as the models filled them, side by side: what was hidden, coloured by what it cost each.

Of the length in the middle of those that were measured, and of whole words and sentences. A gap's two lines of a model
are with both sides known, and with the left alone. Knows the rows of the table of fills.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lmstages.core.visible import visible
from lmstages.evaluation.facts import CHARACTERS
from lmstages.report import passages
from lmstages.results.frame import groups
from lmstages.results.schema import Fill

AROUND = 28  # characters of either side that are shown
Runs = Sequence[tuple[int, str]]  # level of surprise, text


@dataclass(frozen=True)
class Filled:
    """What one side of knowledge gives: hidden characters by what they cost, the best fill, whether it is so."""

    hidden: Runs
    fill: str
    is_right: bool
    probability: float


@dataclass(frozen=True)
class Line:
    """A model, from both sides and from the left alone; None where it could not."""

    name: str
    model: str
    both: Filled | None
    left: Filled | None


@dataclass(frozen=True)
class Gap:
    """The text around a gap, what is hidden in it, and a line a model."""

    left: str
    middle: str
    right: str
    lines: Sequence[Line]


def gaps(fills: Sequence[Fill], corpus: str, names: Mapping[tuple[str, str], str]) -> list[Gap]:
    """The gaps of a corpus that are shown, of the models that have a name."""
    own = [fill for fill in fills if fill.corpus == corpus and (fill.tokenizer, fill.model) in names]
    lengths = sorted({fill.length for fill in own if fill.gap == CHARACTERS})
    shown = [fill for fill in own if fill.gap == CHARACTERS and fill.length == lengths[(len(lengths) - 1) // 2]]
    shown += [fill for gap in ("word", "sentence") for fill in own if fill.gap == gap]
    return [_gap(same, names) for same in groups(shown, "gap", "place").values()]


def _gap(fills: Sequence[Fill], names: Mapping[tuple[str, str], str]) -> Gap:
    first = fills[0]
    by_model = groups(sorted(fills, key=lambda fill: fill.rank), "tokenizer", "model")
    lines = [_line(same, names) for same in by_model.values()]
    return Gap(in_line(first.left[-AROUND:]), in_line(first.middle), in_line(first.right[:AROUND]), lines)


def _line(fills: Iterable[Fill], names: Mapping[tuple[str, str], str]) -> Line:
    sides = {fill.side: fill for fill in fills}
    one = next(iter(sides.values()))
    both, left = ((_filled(sides[side]) if side in sides else None) for side in ("both", "left"))
    return Line(names[one.tokenizer, one.model], visible(one.model), both, left)


def _filled(fill: Fill) -> Filled:
    pieces = list(zip(fill.middle, json.loads(fill.nats), strict=True))
    return Filled(passages.strip(pieces), in_line(fill.fill), fill.fill == fill.middle, fill.probability)


def in_line(text: str) -> str:
    """Text with signs for line ends and tabs."""
    return "".join(part for _, part in passages.strip([(text, 0.0)])) if text else ""
