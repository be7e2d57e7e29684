"""Which rows of one text differ: every two rows of a category as a square of signs, and each row against the last one.

Rows of different categories are never set side by side. A square is of ``MOST_COMPARED`` rows at most, those with
the fewest bits per byte; the table of differences holds all pairs. Reads the tables ``differences`` and ``results``.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from lmstages.core.visible import all_visible
from lmstages.report.entries import Entry, verdict
from lmstages.results.formatting import DASH, MINUS, decimal, display_name
from lmstages.results.schema import NOT_ON_THE_LADDER, Result
from lmstages.results.selection import MOST_COMPARED, Limit
from lmstages.results.statistics import LEVEL

ALL_PAIRS = "tables/differences.parquet"
KEY = ("corpus", "tokenizer", "model")
CHANCE = "·"
FIELDS = {  # verdict -> class and sign of a field
    "better": ("g", MINUS),
    "worse": ("w", "+"),
    "may be chance": ("c", CHANCE),
}
Key = tuple[str, str, str]
RowKey = tuple[str, str, str, str]  # with the split
Paired = Mapping[tuple[Key, Key], "Pair"]


@dataclass(frozen=True)
class Pair:
    """Row a less row b in bits per byte, the ends of its 95 % interval, and its p-value after Holm's correction."""

    difference: float
    low: float
    high: float
    p: float

    def turned(self) -> "Pair":
        """Row b less row a."""
        return Pair(-self.difference, -self.high, -self.low, self.p)

    @property
    def verdict(self) -> str | None:
        """better, worse or may be chance; None where it was not tested."""
        return None if math.isnan(self.p) else verdict(self.difference, self.p)

    def digits(self) -> str:
        """Difference, both ends and p, separated by spaces; a difference near zero has two digits more."""
        places = 3 if abs(self.difference) >= 0.01 else 5
        numbers = [decimal(number, places) for number in (self.difference, self.low, self.high)]
        return " ".join([*numbers, DASH if math.isnan(self.p) else "<0.001" if self.p < 0.001 else f"{self.p:.3f}"])


@dataclass(frozen=True)
class Member:
    """A row of a square: its short name, and what is said where it is compared, with the config's name of it."""

    name: str
    full: str


@dataclass(frozen=True)
class Square:
    """A category of one text: a line of (class, sign) a member, and the digits of the pairs below the diagonal."""

    category: str
    members: Sequence[Member]
    lines: Sequence[Sequence[tuple[str, str]]]
    digits: str
    pairs: int
    sure: int
    limit: Limit


@dataclass(frozen=True)
class Step:
    """A row against the one before it on the ladder, within its category."""

    entry: Entry
    name: str
    less: str
    verdict: str | None


@dataclass(frozen=True)
class Compared:
    """The rows of a run, their differences, and the keys of the rows that a page shows where it does not show all."""

    rows: Sequence[Result]
    differences: pd.DataFrame
    shown: Collection[RowKey] | None = None

    def squares(self, corpus: str, split: str) -> list[Square]:
        """Of each category that has two rows on this text, static first."""
        frame = self.differences[self.differences["split"] == split]
        own = frame[frame["corpus"] == corpus]
        compared = {key for side in "ab" for key in zip(*(own[name] for name in _names(side)), strict=True)}
        rows = [row for row in self.rows if row.split == split and _key(row) in compared]
        models = [row for row in rows if row.family not in NOT_ON_THE_LADDER]
        models.sort(key=lambda row: (row.rank, row.model))
        categories = sorted({row.category for row in models}, key=lambda name: (name != "static", name))
        members = [[row for row in models if row.category == name] for name in categories]
        return [self._square(same, frame) for same in members if sum(map(self._is_shown, same)) > 1]

    def _is_shown(self, row: Result) -> bool:
        return self.shown is None or row.key in self.shown

    def _square(self, rows: Sequence[Result], frame: pd.DataFrame) -> Square:
        """Of the rows of one category."""
        shown = [row for row in rows if self._is_shown(row)]
        best = {row.key for row in sorted(shown, key=lambda row: row.bits_per_byte or 0.0)[:MOST_COMPARED]}
        shown = [row for row in shown if row.key in best]
        return square(shown, frame, Limit(len(shown), len(rows), ALL_PAIRS))


def square(shown: Sequence[Result], frame: pd.DataFrame, limit: Limit) -> Square:
    """Rows of one category and one text, and the table of differences."""
    keys = [_key(row) for row in shown]
    paired = _paired(frame, keys)
    lines = [[_field(a, b, paired) for b in keys] for a in keys]
    below = [paired.get((a, b)) for index, a in enumerate(keys) for b in keys[:index]]
    return Square(
        all_visible(shown[0].category),
        members(shown),
        lines,
        ";".join("" if pair is None else pair.digits() for pair in below),
        sum(pair is not None for pair in below),
        sum(pair is not None and pair.p < LEVEL for pair in below),
        limit,
    )


def _field(a: Key, b: Key, paired: Paired) -> tuple[str, str]:
    if a == b or (a, b) not in paired:
        return "", ""
    return FIELDS.get(paired[a, b].verdict or "", ("", DASH))


def _paired(frame: pd.DataFrame, keys: Sequence[Key]) -> Paired:
    """Every pair of these rows, both ways round."""
    index = pd.MultiIndex.from_tuples(keys)
    a, b = (index.get_indexer(pd.MultiIndex.from_frame(frame[_names(side)])) for side in "ab")
    kept = (a >= 0) & (b >= 0)
    numbers = frame.loc[kept, ["difference", "low", "high", "p_holm"]].astype(float).itertuples(index=False)
    pairs = {}
    for first, second, row in zip(a[kept].tolist(), b[kept].tolist(), numbers, strict=True):
        pairs[keys[first], keys[second]] = pair = Pair(*row)
        pairs[keys[second], keys[first]] = pair.turned()
    return pairs


def _names(side: str) -> list[str]:
    return [f"{side}_{name}" for name in KEY]


def _key(row: Result) -> Key:
    return row.corpus, row.tokenizer, row.model


def members(rows: Sequence[Result]) -> list[Member]:
    """Names of rows: with the tokenizer where these are several, and the corpus where that does not tell them apart."""
    rows = [all_visible(row) for row in rows]
    several = len({row.tokenizer for row in rows} - {"-"}) > 1
    endings = [[row.tokenizer] if several else [] for row in rows]
    if len({(display_name(row), *ending) for row, ending in zip(rows, endings, strict=True)}) < len(rows):
        endings = [[*ending, row.corpus] for row, ending in zip(rows, endings, strict=True)]
    return [
        Member(_with(display_name(row), ending), _with(f"{row.title} ({row.model})", ending))
        for row, ending in zip(rows, endings, strict=True)
    ]


def _with(name: str, words: Sequence[str]) -> str:
    return ", ".join([name, *words])


def steps(entries: Sequence[Entry], rows: Sequence[Result]) -> list[Step]:
    """The entries of one text that were compared with the row before them; ``rows`` are all of the run."""
    compared = [entry for entry in entries if entry.row.below_difference is not None]
    several = len({entry.row.tokenizer for entry in compared}) > 1
    below = {(row.corpus, row.below_tokenizer, row.below_model, row.split) for row in (entry.row for entry in compared)}
    lower = [all_visible(row) for row in rows if (*_key(row), row.split) in below]
    names = {(*_key(row), row.split): display_name(row) for row in lower}
    return [_step(entry, names, several) for entry in compared]


def _step(entry: Entry, names: Mapping[RowKey, str], several: bool) -> Step:
    row = entry.row
    less = names.get((row.corpus, row.below_tokenizer or "", row.below_model or "", row.split), row.below_model or DASH)
    tokenizers = ([row.tokenizer], [row.below_tokenizer or DASH]) if several else ([], [])
    return Step(entry, _with(entry.name, tokenizers[0]), _with(less, tokenizers[1]), entry.verdict)
