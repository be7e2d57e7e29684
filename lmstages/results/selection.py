"""Which rows of a large run are shown where a person reads: pages and figures. Its tables always hold all of them.

Imports neither pandas nor a template.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import NamedTuple, TypeVar

from lmstages.results.schema import NOT_ON_THE_LADDER, Result, SweepPoint

MOST_ROWS = 100  # that a page shows; the bytes of a page and the seconds to draw it grow with them
MOST_COMPARED = 60  # of a category, each against each; fields grow with the square of them
EVERY_ROW = "results.csv"  # the file beside the page that holds what it does not show
Point = TypeVar("Point", Result, SweepPoint)
Candidate = list[Result]  # the rows of one model over one tokenizer, one a split
Experiment = tuple[str, str, str]  # corpus, tokenizer, model


class Limit(NamedTuple):
    """How many rows are shown of how many, and which file of the results folder holds all of them."""

    shown: int
    total: int
    path: str = EVERY_ROW

    @property
    def is_reached(self) -> bool:
        """Whether some are left out."""
        return self.shown < self.total


def shown_rows(rows: Sequence[Result], most: int = MOST_ROWS) -> list[Result]:
    """All rows where there are no more than ``most``; else, of each corpus, an equal part of that number.

    First the best static model, then oracle and compressors, then of failed rows the first for each reason, then the
    best of each type and category, then those with the fewest bits per byte. All splits of a corpus show the same
    models, and the rows stay in their order.
    """
    if len(rows) <= most:
        return list(rows)
    by_corpus: dict[str, dict[tuple[str, str], Candidate]] = {}
    for row in rows:
        by_corpus.setdefault(row.corpus, {}).setdefault((row.tokenizer, row.model), []).append(row)
    part = max(1, most // len(by_corpus))
    first = (_first(list(candidates.values()), part) for candidates in [*by_corpus.values()][:most])
    shown = {row.key for row in chain.from_iterable(first)}
    return [row for row in rows if row.key in shown]


def experiments(rows: Iterable[Result]) -> set[Experiment]:
    """What rows are of."""
    return {(row.corpus, row.tokenizer, row.model) for row in rows}


def fewest_bits(points: Sequence[Point], most: int = MOST_ROWS) -> list[Point]:
    """The points with the fewest bits per byte, no more than ``most``, in their order."""
    best = {id(point) for point in sorted(points, key=_bits)[:most]}
    return [point for point in points if id(point) in best]


def _first(candidates: Sequence[Candidate], most: int) -> Iterator[Result]:
    """The rows of the first candidates, no more than ``most`` of them, but always those of one."""
    ordered = _by_interest(candidates, most)
    for candidate, count in zip(ordered, accumulate(map(len, ordered)), strict=True):
        if count > most and candidate is not ordered[0]:
            return
        yield from candidate


def _by_interest(candidates: Sequence[Candidate], most: int) -> list[Candidate]:
    beside = [rows for rows in candidates if rows[0].family in NOT_ON_THE_LADDER]
    ranked = sorted((rows for rows in candidates if rows[0].family not in NOT_ON_THE_LADDER), key=_of_first_split)
    reasons = {rows[0].status: rows for rows in reversed(ranked) if rows[0].status != "ok"}
    types = {(rows[0].type, rows[0].category): rows for rows in reversed(ranked)}
    best = [rows for rows in ranked if rows[0].category == "static"][:1]
    chosen = [*best, *beside, *[*reasons.values()][: most // 4], *sorted(types.values(), key=_of_first_split), *ranked]
    return list({id(rows): rows for rows in chosen}.values())


def _of_first_split(rows: Candidate) -> float:
    return _bits(rows[0])


def _bits(row: Result | SweepPoint) -> float:
    bits = row.bits_per_byte
    return math.inf if bits is None or math.isnan(bits) else bits
