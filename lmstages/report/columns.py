"""The table of all rows on the page: its columns, the most read first, and where each figure comes from.

A column that no row of the run fills is left out. Knows rows; never a template.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from lmstages.report.entries import Entry, best_static, by_text, differs_from_below
from lmstages.results import formatting
from lmstages.results.formatting import DASH, count, decimal, duration, interval, significant
from lmstages.results.schema import Result


@dataclass(frozen=True)
class Cell:
    """What a column is sorted by, what is read, and a small line under it."""

    value: float | None
    text: str
    small: str = ""


@dataclass(frozen=True)
class Column:
    """One column: ``more`` where it is a click away; ``origin`` says where its figures come from."""

    key: str
    head: str
    small: str
    cell: Callable[[Entry], Cell]
    origin: str
    number: bool = True
    more: bool = False


def _number(key: str, write: Callable[[float | None], str]) -> Callable[[Entry], Cell]:
    return lambda entry: Cell(getattr(entry.row, key), write(getattr(entry.row, key)))


def _text(key: str) -> Callable[[Entry], Cell]:
    return lambda entry: Cell(None, DASH if getattr(entry.row, key) in (None, "-", "") else getattr(entry.row, key))


def _bits(entry: Entry) -> Cell:
    spread = entry.row.bits_per_byte_std
    small = "" if spread is None else f"± {decimal(spread)}"
    return Cell(entry.row.bits_per_byte, decimal(entry.row.bits_per_byte), small)


def _interval(entry: Entry) -> Cell:
    bounds = entry.row.bits_per_byte_low, entry.row.bits_per_byte_high
    return Cell(bounds[0], interval(bounds))


def _step(entry: Entry) -> Cell:
    """The difference from the model below, and whether it is one."""
    row = entry.row
    verdict = {True: "differs", False: "may be chance", None: ""}[differs_from_below(row)]
    return Cell(row.below_difference, decimal(row.below_difference), "" if row.below_difference is None else verdict)


def _fit(entry: Entry) -> Cell:
    row = entry.row
    machine = [] if row.device is None else [row.device]
    machine += [] if row.threads is None else [f"{row.threads} thread{'' if row.threads == 1 else 's'}"]
    return Cell(row.fit_seconds, duration(row.fit_seconds), ", ".join(machine))


def _published(entry: Entry) -> Cell:
    return Cell(None, "; ".join(map(formatting.published, entry.published)) or DASH)


def _seeds(entry: Entry) -> Cell:
    seeds = entry.row.seeds.split()
    return Cell(len(seeds), ", ".join(seeds) or DASH)


def _unseen(entry: Entry) -> Cell:
    """Says nothing where all documents are unseen: the figure is that of the whole text."""
    row = entry.row
    some = row.unseen_byte_fraction is not None and row.unseen_byte_fraction < 1
    bits = row.unseen_bits_per_byte if some else None
    return Cell(bits, decimal(bits), "" if bits is None else f"{percent(row.unseen_byte_fraction)} % of the bytes")


def _agreement(entry: Entry) -> Cell:
    fraction = entry.row.top1_agreement
    return Cell(None if fraction is None else 100 * fraction, percent(fraction))


def percent(fraction: float | None) -> str:
    """A fraction as a number of hundredths with one decimal; two significant digits where that would be zero."""
    if fraction is None or fraction == 0 or abs(fraction) >= 0.0005:
        return decimal(None if fraction is None else 100 * fraction, 1)
    return significant(100 * fraction, 2)


def _power(value: float | None) -> str:
    return f"{value:.2e}" if value is not None and 1e6 <= value < math.inf else decimal(value, 0)


SUM = "− Σ log p over the scored tokens of the score files"
COLUMNS = (
    Column("corpus", "Corpus", "", _text("corpus"), "the config", number=False),
    Column("split", "Split", "", _text("split"), "the config", number=False),
    Column("tokenizer", "Tokens", "", _text("tokenizer"), "the config", number=False),
    Column("bits_per_byte", "Bits/byte", "", _bits, f"{SUM}, by bytes × ln 2; mean and deviation over seeds"),
    Column("interval", "Interval", "95 %", _interval, "block bootstrap over the held-out text"),
    Column(
        "excess_bits_per_byte", "Excess", "over oracle", _number("excess_bits_per_byte", decimal), "less the oracle"
    ),
    Column("below", "Step", "from the model below", _step, "paired differences on the same text, Holm-corrected"),
    Column("nats_per_character", "Nats/char", "", _number("nats_per_character", decimal), f"{SUM}, by characters"),
    Column(
        "perplexity", "Perplexity", "per token", _number("perplexity", lambda x: decimal(x, 2)), "exp of nats a token"
    ),
    Column("parameters", "Parameters", "", _number("parameters", count), "fit.json: free numbers fitted"),
    Column("fit_seconds", "Fit time", "", _fit, "fit.json: wall time of the fit, mean over seeds"),
    Column("family", "Family", "", _text("family"), "the ladder", number=False, more=True),
    Column("category", "Category", "", _text("category"), "the ladder", number=False, more=True),
    Column("protocol", "Protocol", "history given", _text("protocol"), "the score file", number=False, more=True),
    Column("seeds", "Seeds", "", _seeds, "the config", more=True),
    Column("tokens_seen", "Tokens seen", "in the fit", _number("tokens_seen", count), "fit.json", more=True),
    Column("flops", "Compute", "operations", _number("flops", _power), "fit.json", more=True),
    Column("score_seconds", "Score time", "", _number("score_seconds", duration), "evaluation.json", more=True),
    Column("published", "Published", "", _published, "the config, beside ours", number=False, more=True),
)
FACTS = (  # what few rows have: it stands in what a click on a row shows, not in the table
    Column(
        "unseen_bits_per_byte",
        "Bits/byte",
        "of documents that train lacks",
        _unseen,
        "the same sum over held-out documents that are no document of train",
    ),
    Column("made_of", "Made of", "without training", _text("made_of"), "the config", number=False),
    Column("file_bytes", "File", "bytes", _number("file_bytes", count), "size of the GGUF file"),
    Column("bits_per_weight", "Bits/weight", "", _number("bits_per_weight", lambda x: decimal(x, 2)), "the file"),
    Column(
        "divergence",
        "KL",
        "nats/token",
        _number("divergence", significant),
        "against the model it was made from",
    ),
    Column(
        "top1_agreement",
        "Top-1 agreement",
        "%",
        _agreement,
        "both find the same next token likeliest",
    ),
    Column(
        "tokens_per_second",
        "Speed",
        "tokens/s",
        _number("tokens_per_second", lambda x: decimal(x, 0)),
        "wall time of scoring",
    ),
)
ALWAYS = ("corpus", "tokenizer", "bits_per_byte")


@dataclass(frozen=True)
class Line:
    """One row of the table; ``mark`` best, oracle, compressor, failed or nothing; ``bar`` the length of its bar."""

    entry: Entry
    mark: str
    cells: Sequence[Cell]
    digits: Sequence[tuple[Column, str]]
    command: str
    files: Sequence[str]
    bar: str


@dataclass(frozen=True)
class Table:
    """Columns that some row fills, rows, and the choices of each filter."""

    columns: Sequence[Column]
    lines: Sequence[Line]
    filters: Mapping[str, Sequence[str]]


FILTERS = {"corpus": "Corpus", "tokenizer": "Tokens", "category": "Category", "family": "Family"}


def table(run: str, entries: Sequence[Entry]) -> Table:
    """All rows of a run."""
    columns = [column for column in COLUMNS if column.key in ALWAYS or _filled(column, entries)]
    rows = [entry.row for entry in entries]
    best = {row.key for text in by_text(rows) if (row := best_static(text))}
    longest = max((bits for row in rows if _is_finite(bits := row.bits_per_byte)), default=1.0) or 1.0
    choices = {key: sorted({getattr(row, key) for row in rows} - {"-"}) for key in FILTERS}
    return Table(columns, [_line(run, entry, columns, entry.row.key in best, longest) for entry in entries], choices)


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _filled(column: Column, entries: Sequence[Entry]) -> bool:
    """Whether any row has something there; one split for all needs no column."""
    if column.key == "split":
        return len({entry.row.split for entry in entries}) > 1
    return any(column.cell(entry).text != DASH for entry in entries)


def _line(run: str, entry: Entry, columns: Sequence[Column], best: bool, longest: float) -> Line:
    row = entry.row
    mark = "failed" if row.status != "ok" else "best" if best else "" if entry.is_model else row.family
    cells = [column.cell(entry) for column in columns]
    facts = [*zip(columns, cells, strict=True), *((column, column.cell(entry)) for column in FACTS)]
    digits = [(column, _digits(cell)) for column, cell in facts if cell.text != DASH]
    bar = f"{100 * bits / longest:.2f}" if _is_finite(bits := row.bits_per_byte) else ""
    folders = experiments(run, row)
    command = f"python -m lmstages explain {folders[0]}" if folders else ""
    return Line(entry, mark, cells, digits, command, files(run, row), bar)


def _digits(cell: Cell) -> str:
    """All digits of a number, an interval as the table has it, and the small line under it."""
    rounded = isinstance(cell.value, float) and math.isfinite(cell.value) and not cell.text.startswith("[")
    number = repr(cell.value) if rounded else cell.text
    return f"{number} ({cell.small})" if cell.small else number


def experiments(run: str, row: Result) -> list[str]:
    """The folders of the experiments that a row was made of, one a seed."""
    model = row.ensemble_of or row.model
    return [f"results/{run}/{row.corpus}/{row.tokenizer}/{model}/seed{seed}" for seed in row.seeds.split()]


def files(run: str, row: Result) -> list[str]:
    """The files that a row's figures were read from; each has its sha256 and making beside it."""
    root = f"results/{run}/{row.corpus}"
    if row.family == "oracle":
        return [f"{root}/oracle/scores.safetensors"]
    if row.family == "compressor":
        return [f"{root}/compressors.json"]
    if row.family == "reported":
        return [f"{root}/reported/{row.model}/{name}" for name in ("reported.json", "scores.safetensors")]
    names = ("fit.json", "scores.safetensors", "evaluation.json")
    return [f"{folder}/{name}" for folder in experiments(run, row) for name in names]
