"""The page corpus by corpus: what the text is, and of each held-out split its scores as figures and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmstages.core.visible import all_visible
from lmstages.corpora.splits import NAMES
from lmstages.report import drafts, gaps, pairs, passages
from lmstages.report.embedded import EmbeddedFigure, Figures
from lmstages.report.entries import Entry, best_static
from lmstages.report.grids import SUBJECTS, Topic, measured, topics
from lmstages.results.frame import Results, groups
from lmstages.results.schema import Corpora, Result
from lmstages.results.selection import Limit

Tables = Mapping[str, Sequence[Any]]
LADDERS = ("ladder", "ladder_by_bits")  # the same rows in two orders, of which a reader sees one at a time
COSTS = ("parameters", "compute", "fit_time")
COUNTS = ("frequencies", "pairs")
NOT_SHOWN = "differences"  # a figure for papers: the page has the same pairs as a square that answers
PLACED = (
    *(*LADDERS, *COSTS, NOT_SHOWN, "tokenizers", "positions", "drift", "learning", *COUNTS),
    *(name for subject in SUBJECTS for name in subject.figures),
)  # figures with a place of their own; all others of a corpus close its chapter


@dataclass(frozen=True)
class Strip:
    """The first line of the passage as one model read it."""

    name: str
    model: str
    tokenizer: str
    bits: float | None
    runs: Sequence[tuple[int, str]]


@dataclass(frozen=True)
class Split:
    """One held-out text of a corpus: its best model, and what is drawn and tested of it."""

    name: str
    best: Result | None
    ladder: Sequence[EmbeddedFigure]
    costs: Sequence[EmbeddedFigure]
    positions: Sequence[EmbeddedFigure]
    drift: Sequence[EmbeddedFigure]
    tokenizers: Sequence[EmbeddedFigure]
    squares: Sequence[pairs.Square]
    steps: Sequence[pairs.Step]
    strips: Sequence[Strip]


@dataclass(frozen=True)
class Chapter:
    """Everything the page says of one corpus; ``sizes`` has a row for each of its splits."""

    name: str
    sizes: Sequence[Corpora]
    splits: Sequence[Split]
    curves: Sequence[EmbeddedFigure]
    counts: Sequence[EmbeddedFigure]
    topics: Sequence[Topic]
    gaps: Sequence[gaps.Gap]
    drafts: Sequence[drafts.Drafts]
    others: Sequence[EmbeddedFigure]


def chapters(results: Results, entries: Sequence[Entry], figures: Figures, limit: Limit) -> list[Chapter]:
    """One for each corpus of the run, also where no row has a score; of too many corpora those with rows to show."""
    corpora: Mapping[str, list[Corpora]]
    corpora = {name: same for (name,), same in groups(results.records("corpora"), "corpus").items()}
    rows = {entry.row.corpus for entry in entries}
    assert rows <= {*corpora}, f"every row's corpus is described; not so: {sorted(rows - {*corpora})}"
    tables = measured(results)
    shown = [sizes for name, sizes in corpora.items() if name in rows or not limit.is_reached]
    ordered = [sorted(sizes, key=lambda size: NAMES.index(size.split)) for sizes in shown]
    kept = {entry.row.key for entry in entries} if limit.is_reached else None
    compared = pairs.Compared(results.rows, results.table("differences"), kept)
    return [_chapter(compared, tables, sizes, entries, figures, limit) for sizes in ordered]


def _chapter(
    compared: pairs.Compared,
    tables: Tables,
    sizes: Sequence[Corpora],
    entries: Sequence[Entry],
    figures: Figures,
    limit: Limit,
) -> Chapter:
    corpus = sizes[0].corpus
    own = [entry for entry in entries if entry.row.corpus == corpus]
    splits = dict.fromkeys(entry.row.split for entry in own)
    names = {(entry.row.tokenizer, entry.row.model): entry.name for entry in own}
    others = [figure for figure in figures.besides(PLACED, corpus=corpus) if not {"model", "sweep"} & {*figure.group}]
    return Chapter(
        corpus,
        [all_visible(size) for size in sizes],
        [_split(compared, [entry for entry in own if entry.row.split == name], figures) for name in splits],
        figures.of("learning", corpus=corpus),
        [figure for figure in figures.of(*COUNTS, corpus=corpus) if "model" not in figure.group],
        topics(tables, corpus, names, figures, limit),
        gaps.gaps(tables["fills"], corpus, names),
        drafts.drafts(tables["drafts"], corpus, names),
        others,
    )


def _split(compared: pairs.Compared, entries: Sequence[Entry], figures: Figures) -> Split:
    corpus, name = entries[0].row.corpus, entries[0].row.split
    return Split(
        name,
        best_static(entry.row for entry in entries),
        figures.of(*LADDERS, corpus=corpus, split=name),
        figures.of(*COSTS, corpus=corpus, split=name),
        figures.of("positions", corpus=corpus, split=name),
        figures.of("drift", corpus=corpus, split=name),
        figures.of("tokenizers", corpus=corpus, split=name),
        compared.squares(corpus, name),
        pairs.steps(entries, compared.rows),
        [_strip(entry) for entry in entries if entry.passage],
    )


def _strip(entry: Entry) -> Strip:
    row = entry.row
    return Strip(entry.name, row.model, row.tokenizer, row.bits_per_byte, passages.strip(entry.passage))
