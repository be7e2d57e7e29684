"""Small tables of what was measured besides the scores: overlap, unseen documents, samples, minimal pairs, transfer ...

Each is made from one table of the results. Its columns are few and in a fixed order; unit and explanation are those
that ``results.schema`` declares. What no row has is left out, and what all rows share is said once, in a note.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmstages.core.visible import visible
from lmstages.evaluation.facts import CHARACTERS
from lmstages.report.columns import Cell, percent
from lmstages.report.embedded import EmbeddedFigure, Figures
from lmstages.results.formatting import DASH, count, decimal, interval, significant
from lmstages.results.frame import Results, groups
from lmstages.results.schema import TABLES, Declared, Infilling, MinimalPairs, columns
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
    """A small table, what all of its rows share, and which rows are left out."""

    heads: Sequence[Head]
    lines: Sequence[Sequence[Cell]]
    note: str = ""
    without: str = ""  # rows that say nothing, and why


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
    """A column of a results table as a grid shows it.

    ``ends`` are the columns of its interval; ``beside`` has the same of as much held-out text, which is a line of its
    own, and is said under the figure where it is another, as samples of another length have it.
    """

    name: str
    head: str
    ends: tuple[str, str] | None = None
    shared: bool = False  # said once where all rows have the same
    beside: str | None = None
    needs: str | None = None  # a column without which this one says nothing
    unit: str | None = None  # where the schema's own says nothing to a reader


@dataclass(frozen=True)
class Subject:
    """Which table, which of its columns, which figures belong to it, and which of its rows say something.

    ``silent`` is why the others are left out; without it they are left out in silence.
    """

    table: str
    title: str
    sentence: str
    fields: Sequence[Field]
    figures: Sequence[str] = ()
    says_something: Callable[[Any], bool] = lambda row: True
    silent: str = ""


HELD_OUT = "Held-out text"  # the line of what its own text would have
LEAST_SEEN = 0.5  # fraction of couples whose first word a model must see to say something of them
SUBJECTS = (
    Subject(
        "corpora",
        "Overlap of held-out text with train",
        "How much of valid and test stands in train already. What a model has read before is no test of it, and where "
        "valid holds more of it than test, valid chooses models that know train by heart.",
        (
            Field("overlap_documents", "Same documents"),
            Field("overlap_near", "Near copies"),
            Field("overlap_windows", "Same windows"),
            Field("overlap_window", "Length of a window", shared=True, needs="overlap_windows"),
            Field("overlap_measure", "Near copies are those of", shared=True, needs="overlap_near"),
            Field("overlap_near_of_train", "Near copies were looked for in a sample of train's documents", shared=True),
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
            Field("unseen_documents", "Unseen", shared=True),
            Field("unseen_byte_fraction", "Unseen part of the bytes", shared=True),
        ),
        says_something=lambda row: row.unseen_byte_fraction is not None and row.unseen_byte_fraction < 1,
    ),
    Subject(
        "novelty",
        "What is new in the samples",
        "Whether samples are grammatical, copies of train or of held-out text, and how varied they are, beside "
        "held-out text of the same size.",
        (
            Field("accepted", "Grammatical", shared=True),
            Field("accepted_characters", "Grammatical up to"),
            Field("new", "New", shared=True),
            Field("in_train", "Copies of train", shared=True),
            Field("recalled", "Held-out documents found", shared=True),
            Field("copy_mean", "Longest copy, mean", beside="copy_mean_of_test"),
            Field("distinct_2", "Different pairs", beside="distinct_2_of_test"),
            Field("ended", "Ended by themselves", shared=True),
            Field("samples", "Samples", shared=True),
            Field("unit", "Pairs are of", shared=True),
            Field("searched", "Copies were looked for in a part of train", shared=True),
        ),
        ("novelty", "samples_novelty"),
    ),
    Subject("minimal_pairs", "Minimal pairs", "", (), ("minimal_pairs",)),
    Subject("infilling", "Filling a gap", "", (), ("infilling",)),
    Subject(
        "generated",
        "Drawing text in few steps",
        "Every way to draw text from a model: what held-out rows cost under it, each read by itself, and how long it "
        "takes. Of the samplers of one model those with fewer steps predict more tokens at once, as if each knew "
        "nothing of the others; what that costs is the difference from drawing token by token.",
        (
            Field("sampler", "Sampler"),
            Field("steps", "Steps"),
            Field("passes", "Passes"),
            Field("bits_per_byte", "Code length", ("low", "high")),
            Field("measure", "Which is", needs="bits_per_byte"),
            Field("than_next", "Than token by token", ("than_next_low", "than_next_high")),
            Field("seconds", "1,000 characters"),
            Field("accepted", "Grammatical"),
            Field("new_1", "New words", beside="new_1_of_test"),
            Field("new_3", "New triples", beside="new_3_of_test"),
            Field("distinct_2", "Different pairs", beside="distinct_2_of_test"),
            Field("ended", "Ended by themselves", shared=True),
            Field("texts", "Texts", shared=True, unit=""),
            Field("length", "Length", shared=True),
            Field("unit", "Triples and pairs are of", shared=True),
        ),
        ("generation",),
    ),
    Subject(
        "neighbours",
        "Nearest neighbours in the embedding",
        "How often the token whose embedding is nearest by cosine is of the same category: vowel, consonant, sign ...",
        (
            Field("fraction", "Same category"),
            Field("chance", "By chance", shared=True),
            Field("tokens", "Tokens with a category", shared=True, unit=""),
        ),
    ),
    Subject(
        "transfer",
        "Near transfer",
        "Couples of words: what the second word costs where train holds such couples, and where they were withheld "
        "from it. A gap near 0 means that a model has learned the category of words, not the couples.",
        (
            Field("gap_bits", "Gap", ("gap_bits_low", "gap_bits_high")),
            Field("gap_closed", "Gap closed", ("gap_closed_low", "gap_closed_high")),
            Field("unseen", "Withheld couples"),
            Field("seen", "Couples of train"),
            Field("sees", "Sees the first word", shared=True),
            Field("reference_bits", "Gap of counting couples", shared=True),
            Field("couples", "Couples in the text", shared=True, unit=""),
            Field("withheld", "Withheld from train", shared=True, unit=""),
        ),
        ("transfer",),
        says_something=lambda row: row.sees >= LEAST_SEEN,
        silent="since their context is too short to see the first word of most couples",
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
            Field("drop", "Drop"),
            Field("nats_first", "First copy"),
            Field("nats_second", "Second copy"),
            Field("layer", "Layer"),
            Field("head", "Head"),
            Field("period", "Length of a copy", shared=True),
        ),
    ),
    Subject(
        "recalled",
        "What holds a fact",
        "Held-out stories say a fact, as a name, a thing or a number, and recall it later. Worth: what the answer "
        "costs a network less than where the story said another word; near 0 it does not recall. The states that hold "
        "the fact are those that bring its worth back when only they are restored.",
        (
            Field("worth", "Worth", ("worth_low", "worth_high")),
            Field("clean", "As it is"),
            Field("corrupted", "With another word"),
            Field("facts", "Facts", shared=True, unit=""),
        ),
        ("tracing",),
        says_something=lambda row: row.kind is None,
    ),
)
PAIRS = (
    "Two texts that differ in one position, one of which the grammar refuses: how often a model finds the other "
    "likelier, in percent; 50 is guessing."
)
GAPS = (
    "The middle of a row of held-out text is hidden and its length told. Nats per hidden character where both sides "
    "are known, by the exact method that a model allows; below it the same model from the left alone, from both sides "
    "where the length is not told (1 to 16 characters), and how often the best fill is what was hidden."
)
CONTRASTS = {  # head and explanation of a column; a contrast that is not here is called as its table calls it
    "agreement": ("Verb agrees", "The verb in the number of its subject, or in the other: the foxes like, likes."),
    "name": ("Hero's name", "The hero under his own name, or under that of the hero of another text."),
    "quotes": ("Closing quote", "A quotation mark that closes speech in its place, or left out or one too many."),
    "all": ("All together", "All pairs of all contrasts."),
}
IDENTITY = {
    "model": ("Model", "What the report calls the model; in brackets its name in the config, where that is another."),
    "tokenizer": ("Tokens", "The tokenizer that the model reads with."),
    "split": ("Split", "The part of the corpus: valid chose models, test was never read before it was scored."),
}
Names = Mapping[tuple[str, str], str]  # tokenizer, model -> what pages call it


def measured(results: Results) -> dict[str, list[Any]]:
    """The rows of every table that a grid is made from."""
    names = ["fills", "drafts", *(subject.table for subject in SUBJECTS)]
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
    own = [row for row in records if row.corpus == corpus and getattr(row, "split", "") != "train"]
    every = [row for row in own if subject.says_something(row)]
    rows = every if kept is None else [row for row in every if _model(row) in kept or not hasattr(row, "model")]
    rows = sorted(rows, key=lambda row: (row.split if hasattr(row, "split") else "", getattr(row, "rank", 0)))
    silent = [row for row in own if subject.silent and not subject.says_something(row)]
    limit = Limit(len(rows), len(every), EVERY_ROW if subject.table == "results" else f"tables/{subject.table}.parquet")
    drawn = figures.of(*subject.figures, corpus=corpus)
    if subject.table == "minimal_pairs":
        return Topic(subject.title, PAIRS, drawn, pairs_grid(rows, names) if rows else None, limit)
    if subject.table == "infilling":
        return Topic(subject.title, GAPS, drawn, gaps_grid(rows, names) if rows else None, limit)
    table = grid(subject, rows, names) if rows else None
    return Topic(subject.title, subject.sentence, drawn, table and _without(table, subject, silent, names), limit)


def _without(grid: Grid, subject: Subject, silent: Sequence[Any], names: Names) -> Grid:
    """The grid, and who was left out of it for which reason."""
    left_out = dict.fromkeys(_name(row, names) for row in silent)
    return replace(grid, without=f"{subject.silent}: {'; '.join(left_out)}" if left_out else "")


def _model(row: Any) -> tuple[str, str]:
    return getattr(row, "tokenizer", ""), getattr(row, "model", "")


def grid(subject: Subject, rows: Sequence[Any], names: Names) -> Grid:
    """Rows of one table -> a line each; columns that no row fills are left out."""
    declared = {column.name: column for column in columns(TABLES[subject.table])}
    filled = [field for field in subject.fields if _is_filled(field.name, rows) and _is_filled(field.needs, rows)]
    shared = [field for field in filled if field.shared and len({getattr(row, field.name) for row in rows}) == 1]
    units = {field.name: declared[field.name].unit if field.unit is None else field.unit for field in filled}
    shown = [field for field in filled if field not in shared]
    heads = [_head(field, declared, units[field.name]) for field in shown]
    usual = {field.name: _usual(rows, field.beside) for field in shown if field.beside}
    lines = [[cell(row, field, units[field.name], usual.get(field.name)) for field in shown] for row in rows]
    identity, leading = _identity(rows, names)
    if any(value is not None for value in usual.values()):
        leading.append([Cell(None, HELD_OUT), *[Cell(None, DASH)] * (len(identity) - 1)])
        lines.append([_reference(usual.get(field.name), units[field.name]) for field in shown])
    note = "; ".join(_in_note(field, getattr(rows[0], field.name), units[field.name]) for field in shared)
    return Grid([*identity, *heads], [[*lead, *line] for lead, line in zip(leading, lines, strict=True)], note)


def _usual(rows: Sequence[Any], column: str) -> float | None:
    """The most frequent figure of held-out text, the first of those; None where there is none."""
    values = [value for row in rows if (value := getattr(row, column)) is not None]
    return Counter(values).most_common(1)[0][0] if values else None


def _reference(value: float | None, unit: str) -> Cell:
    return Cell(value, in_unit(value, unit))


def _is_filled(column: str | None, rows: Sequence[Any]) -> bool:
    return column is None or any(getattr(row, column) is not None for row in rows)


def _head(field: Field, declared: Mapping[str, Declared], unit: str) -> Head:
    column = declared[field.name]
    return Head(field.head, shown_unit(unit), column.text, column.dtype != "string")


def _identity(rows: Sequence[Any], names: Names) -> tuple[list[Head], list[list[Cell]]]:
    """The columns that say of what a line is: always the model, tokenizer and split where there are several."""
    keys = [key for key in IDENTITY if hasattr(rows[0], key)]
    keys = [
        key for key in keys if key == "model" or "model" not in keys or len({getattr(r, key) for r in rows} - {"-"}) > 1
    ]
    texts = [[_name(row, names) if key == "model" else visible(getattr(row, key)) for key in keys] for row in rows]
    heads = [Head(IDENTITY[key][0], explanation=IDENTITY[key][1], number=False) for key in keys]
    return heads, [[Cell(None, text) for text in line] for line in texts]


def _name(row: Any, names: Names) -> str:
    return names.get((row.tokenizer, row.model), visible(getattr(row, "title", row.model)))


def cell(row: Any, field: Field, unit: str, usual: float | None = None) -> Cell:
    """A figure in the digits of its unit or of its interval; below it the interval, or what held-out text has."""
    value = getattr(row, field.name)
    bounds = [getattr(row, end) for end in field.ends or ()]
    number = value if isinstance(value, int | float) else None
    if bounds and None not in bounds and number is not None:
        return Cell(number, *_with_interval(number, bounds, unit))
    beside = getattr(row, field.beside) if field.beside else None
    small = "" if beside in (None, usual) else f"held-out {in_unit(beside, unit)}"
    return Cell(number, in_unit(value, unit), small)


def _with_interval(value: float, bounds: Sequence[float], unit: str) -> tuple[str, str]:
    """A figure and its interval, no digit beyond the second of the interval's half-width: ``-0.27``, ``[-0.52, 0.02]``.

    A figure that is nothing beside that interval is 0.
    """
    factor = 100 if unit == "fraction" else 1
    low, high = (factor * end for end in bounds)
    half_width = (high - low) / 2
    first = math.floor(math.log10(half_width)) if 0 < half_width < math.inf else -3
    places = min(3, max(0, 1 - first))
    return decimal(factor * value, places), interval((low, high), places)


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


def _contrast(name: str, pairs: int, explanation: str) -> Head:
    head, meaning = CONTRASTS.get(name, (visible(name), ""))
    return Head(head, f"% of {count(pairs)} pairs", f"{meaning} {explanation}".strip())


def pairs_grid(rows: Sequence[MinimalPairs], names: Names) -> Grid:
    """A line a model, a column a contrast, all together last; the number of pairs under each contrast."""
    contrasts = sorted({row.contrast for row in rows}, key=lambda contrast: (contrast == "all", contrast))
    explanation = {column.name: column.text for column in columns(MinimalPairs)}["accuracy"]
    pairs = {contrast: max(row.pairs for row in rows if row.contrast == contrast) for contrast in contrasts}
    heads = [_contrast(name, pairs[name], explanation) for name in contrasts]
    models = list(groups(rows, "tokenizer", "model").values())
    identity, leading = _identity([same[0] for same in models], names)
    lines = []
    for lead, same in zip(leading, models, strict=True):
        accuracy = {row.contrast: row.accuracy for row in same}
        lines.append([*lead, *(Cell(accuracy.get(name), percent(accuracy.get(name))) for name in contrasts)])
    return Grid([*identity, *heads], lines)


def gaps_grid(rows: Sequence[Infilling], names: Names) -> Grid:
    """A line a model, a column a length: both sides known; below it the left alone, and the best fills that are so."""
    gaps = list(dict.fromkeys(map(_gap_of, sorted(rows, key=lambda row: (row.gap, row.length)))))
    explanation = {column.name: column.text for column in columns(Infilling)}["nats_per_character"]
    heads = [Head(f"{gap} hidden", "nats/character", explanation) for gap in gaps]
    models = list(groups(rows, "tokenizer", "model").values())
    identity, leading = _identity([same[0] for same in models], names)
    lines = []
    for lead, same in zip(leading, models, strict=True):
        sides = {(row.side, _gap_of(row)): row for row in same}
        lines.append([*lead, *(_gap_cell(sides, gap) for gap in gaps)])
    some = max(rows, key=lambda row: row.places)
    note = f"Length of a row: {count(some.context)} characters; Rows: {count(some.places)}"
    return Grid([*identity, *heads], lines, f"{note}; Documents too short for one: {count(some.too_short)}")


def _gap_of(row: Infilling) -> str:
    return count(int(row.length)) if row.gap == CHARACTERS else row.gap


def _gap_cell(sides: Mapping[tuple[str, str], Infilling], gap: str) -> Cell:
    both, left, any_length = (sides.get((side, gap)) for side in ("both", "left", "any length"))
    value, alone, untold = (row.nats_per_character if row else None for row in (both, left, any_length))
    right = "" if both is None or both.exact_match is None else f", {percent(both.exact_match)} % right"
    few = f", {count(both.places)} rows" if both is not None and both.skipped and value is not None else ""
    length = "" if untold is None else f", any length {decimal(untold)}"
    return Cell(value, decimal(value), f"left {decimal(alone)}{length}{right}{few}")
