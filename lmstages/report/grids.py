"""Small tables of what was measured besides the scores: overlap, unseen documents, samples, minimal pairs, transfer ...

Each is made from one table of the results. Its columns are few and in a fixed order; unit and explanation are those
that ``results.schema`` declares. What no row has is left out, and what all rows share is said once, in a note.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmstages.core.visible import visible
from lmstages.report.columns import Cell, percent
from lmstages.report.embedded import EmbeddedFigure, Figures
from lmstages.results.formatting import DASH, count, decimal, interval, significant
from lmstages.results.frame import Results, groups
from lmstages.results.schema import TABLES, MinimalPairs, columns
from lmstages.results.selection import EVERY_ROW, Limit


@dataclass(frozen=True)
class Head:
    """The head of a column: unit, explanation, and whether numbers stand below it."""

    text: str
    unit: str = ""
    explanation: str = ""
    number: bool = True


@dataclass(frozen=True)
class Grid:
    """A small table, and what all of its rows share."""

    heads: Sequence[Head]
    lines: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Topic:
    """What was measured of a corpus: a sentence, figures, a table."""

    title: str
    sentence: str
    figures: Sequence[EmbeddedFigure]
    grid: Grid | None
    limit: Limit


@dataclass(frozen=True)
class Field:
    """A column of a results table as a grid shows it; ``ends`` are the columns of its interval."""

    name: str
    head: str
    ends: tuple[str, str] | None = None
    shared: bool = False  # said once where all rows have the same


@dataclass(frozen=True)
class Subject:
    """Which table, which of its columns, which figures belong to it, and which of its rows say something."""

    table: str
    title: str
    sentence: str
    fields: Sequence[Field]
    figures: Sequence[str] = ()
    says_something: Callable[[Any], bool] = lambda row: True


SUBJECTS = (
    Subject(
        "corpora",
        "Overlap of held-out text with train",
        "How much of it stands in train already: as whole documents, as near copies, as windows of characters.",
        (
            Field("overlap_documents", "Same documents"),
            Field("overlap_near", "Near copies"),
            Field("overlap_windows", "Windows"),
            Field("overlap_window", "Length of a window", shared=True),
            Field("overlap_measure", "Near copies are those of", shared=True),
        ),
        says_something=lambda row: row.overlap_documents is not None or row.overlap_near is not None,
    ),
    Subject(
        "results",
        "On documents that train does not hold",
        "The same score without the held-out documents that are documents of train, character for character.",
        (
            Field("bits_per_byte", "All documents"),
            Field("unseen_bits_per_byte", "Unseen documents"),
            Field("unseen_nats_per_character", "Unseen documents"),
            Field("unseen_documents", "Unseen", shared=True),
            Field("unseen_byte_fraction", "Unseen part of the bytes", shared=True),
        ),
        says_something=lambda row: row.unseen_byte_fraction is not None and row.unseen_byte_fraction < 1,
    ),
    Subject(
        "novelty",
        "What is new in the samples",
        "How many samples are copies of train or of held-out text, how long their longest copied stretch is, and how "
        "varied they are, beside held-out text of the same size.",
        (
            Field("new", "New", shared=True),
            Field("in_train", "Copies of train", shared=True),
            Field("recalled", "Held-out documents found", shared=True),
            Field("ended", "Ended by themselves"),
            Field("copy_mean", "Longest copy, mean"),
            Field("copy_mean_of_test", "The same of held-out text", shared=True),
            Field("distinct_2", "Different 2-grams"),
            Field("distinct_2_of_test", "The same of held-out text", shared=True),
            Field("accepted", "Grammatical"),
            Field("code_length", "Under the grammar"),
            Field("samples", "Samples", shared=True),
            Field("unit", "N-grams are counted of", shared=True),
        ),
        ("novelty", "samples_novelty"),
    ),
    Subject("minimal_pairs", "Minimal pairs", "", (), ("minimal_pairs",)),
    Subject(
        "neighbours",
        "Nearest neighbours in the embedding",
        "How often the token whose embedding is nearest by cosine is of the same category: vowel, consonant, sign ...",
        (
            Field("fraction", "Same category"),
            Field("chance", "By chance", shared=True),
            Field("tokens", "Tokens with a category", shared=True),
        ),
    ),
    Subject(
        "transfer",
        "Near transfer",
        "Couples of words: the code length of the second where train holds such couples (seen) and where they were "
        "withheld (unseen). A gap near 0 of a model that sees the first word means that it has learnt the category of "
        "words, not the couple. A model whose context does not reach the first word says nothing here.",
        (
            Field("sees", "Sees the first word"),
            Field("seen", "Seen"),
            Field("unseen", "Unseen"),
            Field("gap_bits", "Gap", ("gap_bits_low", "gap_bits_high")),
            Field("gap_closed", "Gap closed", ("gap_closed_low", "gap_closed_high")),
            Field("reference_bits", "Gap of counting couples", shared=True),
            Field("couples", "Couples", shared=True),
            Field("withheld", "Withheld", shared=True),
        ),
        ("transfer",),
    ),
    Subject(
        "induction",
        "Induction",
        "Random tokens said twice. Score: the mean attention weight of the best head, from a token of the second copy "
        "to the one after it in the first; 100 % for a head that does nothing else. Drop: how much cheaper the second "
        "copy is.",
        (
            Field("score", "Score"),
            Field("by_chance", "By chance", shared=True),
            Field("layer", "Layer"),
            Field("head", "Head"),
            Field("nats_first", "First copy"),
            Field("nats_second", "Second copy"),
            Field("drop", "Drop"),
            Field("period", "Length of a copy", shared=True),
        ),
    ),
)
PAIRS = (
    "Two texts that differ in one position, one of which the grammar refuses: how often a model finds the other "
    "likelier, in percent; 50 is guessing."
)
IDENTITY = {"model": "Model", "tokenizer": "Tokens", "split": "Split"}
Names = Mapping[tuple[str, str], str]  # tokenizer, model -> what pages call it


def measured(results: Results) -> dict[str, list[Any]]:
    """The rows of every table that a grid is made from."""
    names = [subject.table for subject in SUBJECTS]
    return {name: results.rows if name == "results" else results.records(name) for name in names}


def topics(
    tables: Mapping[str, Sequence[Any]], corpus: str, names: Names, figures: Figures, limit: Limit
) -> list[Topic]:
    """Everything that was measured of a corpus besides scores, in a fixed order; ``names`` of the rows to show."""
    kept = names if limit.is_reached else None
    every = (_topic(subject, tables[subject.table], corpus, names, kept, figures) for subject in SUBJECTS)
    return [topic for topic in every if topic.grid or topic.figures]


def _topic(
    subject: Subject, records: Sequence[Any], corpus: str, names: Names, kept: Names | None, figures: Figures
) -> Topic:
    every = [row for row in records if row.corpus == corpus and subject.says_something(row)]
    rows = every if kept is None else [row for row in every if _model(row) in kept or not hasattr(row, "model")]
    rows = sorted(rows, key=lambda row: (row.split if hasattr(row, "split") else "", getattr(row, "rank", 0)))
    limit = Limit(len(rows), len(every), EVERY_ROW if subject.table == "results" else f"tables/{subject.table}.parquet")
    drawn = figures.of(*subject.figures, corpus=corpus)
    if subject.table == "minimal_pairs":
        return Topic(subject.title, PAIRS, drawn, pairs_grid(rows, names) if rows else None, limit)
    return Topic(subject.title, subject.sentence, drawn, grid(subject, rows, names) if rows else None, limit)


def _model(row: Any) -> tuple[str, str]:
    return getattr(row, "tokenizer", ""), getattr(row, "model", "")


def grid(subject: Subject, rows: Sequence[Any], names: Names) -> Grid:
    """Rows of one table -> a line each; columns that no row fills are left out."""
    declared = {column.name: column for column in columns(TABLES[subject.table])}
    filled = [field for field in subject.fields if any(getattr(row, field.name) is not None for row in rows)]
    shared = [field for field in filled if field.shared and len({getattr(row, field.name) for row in rows}) == 1]
    units = {field.name: declared[field.name].unit for field in filled}
    shown = [field for field in filled if field not in shared]
    heads = [
        Head(
            field.head, shown_unit(units[field.name]), declared[field.name].text, declared[field.name].dtype != "string"
        )
        for field in shown
    ]
    lines = [[cell(row, field, units[field.name]) for field in shown] for row in rows]
    identity, leading = _identity(rows, names)
    note = "; ".join(_in_note(field, getattr(rows[0], field.name), units[field.name]) for field in shared)
    return Grid([*identity, *heads], [[*lead, *line] for lead, line in zip(leading, lines, strict=True)], note)


def _identity(rows: Sequence[Any], names: Names) -> tuple[list[Head], list[list[Cell]]]:
    """The columns that say of what a line is: always the model, tokenizer and split where there are several."""
    keys = [key for key in IDENTITY if hasattr(rows[0], key)]
    keys = [
        key for key in keys if key == "model" or "model" not in keys or len({getattr(r, key) for r in rows} - {"-"}) > 1
    ]
    texts = [[_name(row, names) if key == "model" else visible(getattr(row, key)) for key in keys] for row in rows]
    heads = [Head(IDENTITY[key], number=False) for key in keys]
    return heads, [[Cell(None, text) for text in line] for line in texts]


def _name(row: Any, names: Names) -> str:
    return names.get((row.tokenizer, row.model), visible(getattr(row, "title", row.model)))


def cell(row: Any, field: Field, unit: str) -> Cell:
    """A figure in the digits of its unit, and its interval."""
    value = getattr(row, field.name)
    bounds = [getattr(row, end) for end in field.ends or ()]
    small = "" if not bounds or None in bounds else _bounds(bounds, unit)
    return Cell(value if isinstance(value, int | float) else None, in_unit(value, unit), small)


def _bounds(bounds: Sequence[float], unit: str) -> str:
    return f"[{in_unit(bounds[0], unit)}, {in_unit(bounds[1], unit)}]" if unit == "fraction" else interval(bounds)


def in_unit(value: Any, unit: str) -> str:
    """Fractions in percent, code lengths with three decimals, lengths with one, counts whole, else three digits."""
    if value is None or isinstance(value, str):
        return DASH if value is None else visible(value)
    if unit == "fraction":
        return percent(value)
    if isinstance(value, int):
        return count(value)
    if unit == "characters":
        return decimal(value, 1)
    return decimal(value) if unit.startswith(("bits/", "nats/")) else significant(value)


def shown_unit(unit: str) -> str:
    """The unit as it stands in a head: fractions are shown in percent."""
    return "%" if unit == "fraction" else unit


def _in_note(field: Field, value: Any, unit: str) -> str:
    text = in_unit(value, unit)
    return f"{field.head}: {text} {shown_unit(unit)}".rstrip()


def pairs_grid(rows: Sequence[MinimalPairs], names: Names) -> Grid:
    """A line a model, a column a contrast, all together last; the number of pairs under each contrast."""
    contrasts = sorted({row.contrast for row in rows}, key=lambda contrast: (contrast == "all", contrast))
    explanation = {column.name: column.text for column in columns(MinimalPairs)}["accuracy"]
    pairs = {contrast: max(row.pairs for row in rows if row.contrast == contrast) for contrast in contrasts}
    heads = [Head(visible(name), f"% of {count(pairs[name])} pairs", explanation) for name in contrasts]
    models = list(groups(rows, "tokenizer", "model").values())
    identity, leading = _identity([same[0] for same in models], names)
    lines = []
    for lead, same in zip(leading, models, strict=True):
        accuracy = {row.contrast: row.accuracy for row in same}
        lines.append([*lead, *(Cell(accuracy.get(name), percent(accuracy.get(name))) for name in contrasts)])
    return Grid([*identity, *heads], lines)
