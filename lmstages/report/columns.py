"""The table of all rows on the page: its columns, the most read first, and where each figure comes from.

A column that no row of the run fills is left out. Knows rows; never a template.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from lmstages.report.entries import Entry, best_static, by_text
from lmstages.results import formatting
from lmstages.results.formatting import DASH, chance, count, decimal, duration, interval, signed, significant
from lmstages.results.frame import groups
from lmstages.results.schema import NOT_ON_THE_LADDER, Result


@dataclass(frozen=True)
class Cell:
    """What a column is sorted by, what is read, a small line under it, and what a click shows instead of the text."""

    value: float | None
    text: str
    small: str = ""
    digits: str = ""


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


def digits(value: float | None) -> str:
    """A number for who wants to know it well: whole where it is whole, else with four digits beyond the point.

    Numbers below 0.1 and those of a million and more have four significant digits; the CSV file has all.
    """
    if value is None or not math.isfinite(value):
        return decimal(value)
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 1e6:
        return f"{value:.3e}"
    return decimal(value, 4) if abs(value) >= 0.1 or not value else significant(value, 4)


def _whole(value: float | None) -> str:
    return decimal(value, 0)


def seconds(value: float | None) -> str:
    """Seconds with their unit, also where the table has minutes."""
    return DASH if value is None else f"{digits(value)} s"


def _number(
    key: str, write: Callable[[float | None], str], more: Callable[[float | None], str] = digits
) -> Callable[[Entry], Cell]:
    """A column of the results as it is written, and as it is written with ``more`` digits."""

    def cell(entry: Entry) -> Cell:
        value = getattr(entry.row, key)
        return Cell(value, write(value), digits=more(value))

    return cell


def _text(key: str) -> Callable[[Entry], Cell]:
    return lambda entry: Cell(None, DASH if getattr(entry.row, key) in (None, "-", "") else getattr(entry.row, key))


def _bits(entry: Entry) -> Cell:
    row = entry.row
    small = "" if row.bits_per_byte_std is None else f"± {decimal(row.bits_per_byte_std)}"
    if row.bound_error:
        small += f"{', ' if small else ''}Monte Carlo ± {decimal(row.bound_error, 4)}"
    return Cell(row.bits_per_byte, decimal(row.bits_per_byte), small, _with_spread(row, row.bits_per_byte_std))


def _with_spread(row: Result, spread: float | None) -> str:
    return digits(row.bits_per_byte) + ("" if spread is None else f" ± {digits(spread)}")


def _interval(entry: Entry) -> Cell:
    low, high = entry.row.bits_per_byte_low, entry.row.bits_per_byte_high
    return Cell(low, interval((low, high)), digits=f"{digits(low)} to {digits(high)}")


def _step(entry: Entry) -> Cell:
    """The difference from the one before it on the ladder, and whether it is better, worse or may be chance."""
    row = entry.row
    verdict = "" if row.below_difference is None else entry.verdict or ""
    ends = f", interval {digits(row.below_low)} to {digits(row.below_high)}, p {chance(row.below_p_holm)} (Holm)"
    more = f"{signed(row.below_difference, 4)}{ends}: {verdict}" if verdict else ""
    return Cell(row.below_difference, signed(row.below_difference), verdict, more)


def machine(row: Result) -> str:
    """Where a row was fitted: ``cpu, 1 thread``."""
    threads = "" if row.threads is None else f"{row.threads} thread{'' if row.threads == 1 else 's'}"
    return ", ".join(filter(None, [row.device, threads]))


def _fit(entry: Entry) -> Cell:
    row = entry.row
    on = machine(row)
    return Cell(row.fit_seconds, duration(row.fit_seconds), on, seconds(row.fit_seconds) + (f" ({on})" if on else ""))


def _published(entry: Entry) -> Cell:
    return Cell(None, "; ".join(map(formatting.published, entry.published)) or DASH)


def _seeds(entry: Entry) -> Cell:
    seeds = entry.row.seeds.split()
    which = f"{len(seeds)} (seed{'' if len(seeds) == 1 else 's'} {', '.join(seeds)})"
    return Cell(len(seeds), str(len(seeds)) if seeds else DASH, digits=which)


def _unseen(entry: Entry) -> Cell:
    """Says nothing where all documents are unseen: the figure is that of the whole text."""
    row = entry.row
    some = row.unseen_byte_fraction is not None and row.unseen_byte_fraction < 1
    bits = row.unseen_bits_per_byte if some else None
    small = "" if bits is None else f"{percent(row.unseen_byte_fraction)} % of the bytes"
    return Cell(bits, decimal(bits), small, f"{digits(bits)} ({small})")


def _agreement(entry: Entry) -> Cell:
    fraction = entry.row.top1_agreement
    return Cell(None if fraction is None else 100 * fraction, percent(fraction))


def percent(fraction: float | None) -> str:
    """A fraction as a number of hundredths with one decimal; two significant digits where that would be zero."""
    if fraction is None or fraction == 0 or abs(fraction) >= 0.0005:
        return decimal(None if fraction is None else 100 * fraction, 1)
    return significant(100 * fraction, 2)


SUM = "− Σ log p over the scored tokens of the score files"
FLOPS = "fit.json: 3 × the matrix products of a token forwards × tokens seen"
ALL_FITS = "of a row made from other fits, of all of them"
COLUMNS = (
    Column("corpus", "Corpus", "", _text("corpus"), "the config", number=False),
    Column("split", "Split", "", _text("split"), "the config", number=False),
    Column("tokenizer", "Tokens", "", _text("tokenizer"), "the config", number=False),
    Column("bits_per_byte", "Bits/byte", "", _bits, f"{SUM}, by bytes × ln 2; mean and deviation over seeds"),
    Column("interval", "Interval", "95 %", _interval, "block bootstrap over the held-out text"),
    Column(
        "excess_bits_per_byte", "Excess", "over oracle", _number("excess_bits_per_byte", decimal), "less the oracle"
    ),
    Column("below", "Step", "from the one before", _step, "paired differences on the same text, Holm-corrected"),
    Column("nats_per_character", "Nats/char", "", _number("nats_per_character", decimal), f"{SUM}, by characters"),
    Column(
        "perplexity", "Perplexity", "per token", _number("perplexity", lambda x: decimal(x, 2)), "exp of nats a token"
    ),
    Column("parameters", "Parameters", "", _number("parameters", count), "fit.json: free numbers fitted"),
    Column("fit_seconds", "Fit time", "", _fit, f"fit.json: wall time, mean over seeds; {ALL_FITS}"),
    Column("family", "Family", "", _text("family"), "the ladder", number=False, more=True),
    Column("category", "Category", "", _text("category"), "the ladder", number=False, more=True),
    Column("protocol", "Protocol", "history given", _text("protocol"), "the score file", number=False, more=True),
    Column("seeds", "Seeds", "", _seeds, "the config", more=True),
    Column(
        "tokens_seen",
        "Tokens seen",
        "in the fit",
        _number("tokens_seen", count),
        f"fit.json: of train; {ALL_FITS}",
        more=True,
    ),
    Column("flops", "Compute", "operations", _number("flops", count), f"{FLOPS}; {ALL_FITS}", more=True),
    Column(
        "score_seconds", "Score time", "", _number("score_seconds", duration, seconds), "evaluation.json", more=True
    ),
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
    Column(
        "bound_error",
        "Monte Carlo error",
        "of the bound, bits/byte",
        _number("bound_error", lambda x: decimal(x, 4)),
        "the score file: from the difference of two halves of the samples",
    ),
    Column("made_of", "Made of", "without training", _text("made_of"), "the config", number=False),
    Column("file_bytes", "File", "bytes", _number("file_bytes", count, _whole), "size of the GGUF file"),
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
GROUP = ("corpus", "split", "category")  # rows that may be ranked together
Group = tuple[str, ...]
ALWAYS = ("corpus", "tokenizer", "bits_per_byte")


@dataclass(frozen=True)
class Line:
    """One row of the table; ``mark`` best, oracle, compressor, failed or nothing; ``bar`` the length of its bar.

    ``protocol`` is said under the name where the rows of its text and category have several, and else empty.
    """

    entry: Entry
    mark: str
    cells: Sequence[Cell]
    digits: Sequence[tuple[Column, str]]
    command: str
    files: Sequence[str]
    bar: str
    protocol: str


@dataclass(frozen=True)
class Table:
    """Columns that some row fills, rows, choices of the filters, protocols of the models, machine of all."""

    columns: Sequence[Column]
    lines: Sequence[Line]
    filters: Mapping[str, Sequence[str]]
    protocols: Sequence[str]
    machine: str


FILTERS = {"corpus": "Corpus", "split": "Split", "tokenizer": "Tokens", "category": "Category", "family": "Family"}
FILTERS |= {"protocol": "Protocol"}


def table(run: str, entries: Sequence[Entry]) -> Table:
    """All rows of a run."""
    columns = [column for column in COLUMNS if column.key in ALWAYS or _filled(column, entries)]
    rows = [entry.row for entry in entries]
    best = {row.key for text in by_text(rows) if (row := best_static(text))}
    longest = max((bits for row in rows if _is_finite(bits := row.bits_per_byte)), default=1.0) or 1.0
    choices = {key: sorted({getattr(row, key) for row in rows} - {"-"}) for key in FILTERS}
    mixed = mixed_protocols(rows)
    lines = [_line(run, entry, columns, entry.row.key in best, longest, mixed) for entry in entries]
    protocols = sorted({row.protocol for row in rows if row.family not in NOT_ON_THE_LADDER})
    filters = {key: names for key, names in choices.items() if len(names) > 1}
    machines = {machine(row) for row in rows if row.fit_seconds is not None}
    return Table(columns, lines, filters, protocols, machines.pop() if len(machines) == 1 else "")


def mixed_protocols(rows: Sequence[Result]) -> set[Group]:
    """The categories of texts whose models were not all scored under one protocol."""
    models = [row for row in rows if row.family not in NOT_ON_THE_LADDER]
    return {key for key, same in groups(models, *GROUP).items() if len({row.protocol for row in same}) > 1}


HISTORIES = (
    (r"stream", "all earlier tokens of its document, as far as the model looks back"),
    (r"whole", "all earlier tokens of the text, those of other documents too"),
    (r"stride (\d+) of (\d+)", "windows of {1} tokens that begin {0} apart, each of which scores its last {0}"),
    (r"disjoint (\d+)", "windows of {0} tokens side by side, and the tokens before it in its window"),
)
BEGINS = r"(, (?:no )?BOS .*)?"  # of a model trained elsewhere: where the begin of text stands


def history(protocol: str) -> str:
    """What a prediction is given under a protocol, in words; nothing for one that is not known."""
    matches = ((re.fullmatch(f"{pattern}{BEGINS}", protocol), words) for pattern, words in HISTORIES)
    return next((words.format(*match.groups()) + (match.groups()[-1] or "") for match, words in matches if match), "")


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _filled(column: Column, entries: Sequence[Entry]) -> bool:
    """Whether any row has something there; one split for all needs no column."""
    if column.key == "split":
        return len({entry.row.split for entry in entries}) > 1
    return any(column.cell(entry).text != DASH for entry in entries)


def _line(
    run: str, entry: Entry, columns: Sequence[Column], best: bool, longest: float, mixed: Collection[Group]
) -> Line:
    row = entry.row
    mark = "failed" if row.status != "ok" else "best" if best else "" if entry.is_model else row.family
    cells = [column.cell(entry) for column in columns]
    facts = [*zip(columns, cells, strict=True), *((column, column.cell(entry)) for column in FACTS)]
    known = [(column, _digits(cell)) for column, cell in facts if cell.text != DASH]
    bar = f"{100 * bits / longest:.2f}" if _is_finite(bits := row.bits_per_byte) else ""
    folders = experiments(run, row)
    command = f"python -m lmstages explain {folders[0]}" if folders else ""
    protocol = row.protocol if entry.is_model and (row.corpus, row.split, row.category) in mixed else ""
    return Line(entry, mark, cells, known, command, files(run, row), bar, protocol)


def _digits(cell: Cell) -> str:
    """What a click shows of a figure, with the small line under it."""
    return cell.digits or (f"{cell.text} ({cell.small})" if cell.small else cell.text)


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
