"""The table of all rows: its columns, sensible ones first, and where each figure comes from.

A column that no row of the run fills is left out. Knows rows; never a template.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmstages.figures.rows import Row, best_of, grouped, named, told
from lmstages.report.shown import DASH, count, decimal, duration, interval, published


@dataclass(frozen=True)
class Cell:
    """What sorts, what is read, and a small line under it."""

    value: Any
    shown: str
    small: str = ""


@dataclass(frozen=True)
class Column:
    """One column: ``more`` where it is a click away; ``origin`` says how its figures come about."""

    key: str
    head: str
    small: str
    cell: Callable[[Row], Cell]
    origin: str
    number: bool = True
    more: bool = False


def _number(key: str, write: Callable[[Any], str]) -> Callable[[Row], Cell]:
    return lambda row: Cell(row.get(key), write(row.get(key)))


def _word(key: str) -> Callable[[Row], Cell]:
    return lambda row: Cell(None, DASH if row.get(key) in (None, "-", "") else told(row[key]))


def _bits(row: Row) -> Cell:
    spread = row.get("bits_per_byte_std")
    return Cell(row["bits_per_byte"], decimal(row["bits_per_byte"]), "" if spread is None else f"± {decimal(spread)}")


def _interval(row: Row) -> Cell:
    bounds = row.get("interval")
    return Cell(bounds[0] if bounds else None, interval(bounds))


def _step(row: Row) -> Cell:
    """The difference from the model below, and whether it is one."""
    below = row.get("below")
    if not below or below.get("difference") is None:
        return Cell(None, DASH)
    verdict = {True: "differs", False: "may be chance", None: ""}[below.get("differs")]
    return Cell(below["difference"], decimal(below["difference"]), verdict)


def _fit(row: Row) -> Cell:
    threads = row.get("threads")
    where = [str(row["device"])] if row.get("device") is not None else []
    where += [f"{threads} thread{'' if threads == 1 else 's'}"] if threads is not None else []
    return Cell(row["fit_seconds"], duration(row["fit_seconds"]), ", ".join(where))


def _published(row: Row) -> Cell:
    return Cell(None, "; ".join(map(published, row["published"])) or DASH)


def _seeds(row: Row) -> Cell:
    return Cell(len(row["seeds"]), ", ".join(map(str, row["seeds"])) or DASH)


def _power(value: float | None) -> str:
    return DASH if value is None else f"{value:.2e}" if value >= 1e6 else f"{value:,.0f}"


SUM = "− Σ log p over the scored tokens of the score files"
COLUMNS = (
    Column("corpus", "Corpus", "", _word("corpus"), "the config", number=False),
    Column("split", "Split", "", _word("split"), "the config", number=False),
    Column("tokenizer", "Tokens", "", _word("tokenizer"), "the config", number=False),
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
    Column("family", "Kind", "", _word("family"), "the ladder", number=False, more=True),
    Column("category", "Class", "", _word("category"), "the ladder", number=False, more=True),
    Column("protocol", "Protocol", "history given", _word("protocol"), "the score file", number=False, more=True),
    Column("seeds", "Seeds", "", _seeds, "the config", more=True),
    Column("tokens_seen", "Tokens seen", "in the fit", _number("tokens_seen", count), "fit.json", more=True),
    Column("flops", "Compute", "operations", _number("flops", _power), "fit.json", more=True),
    Column("score_seconds", "Score time", "", _number("score_seconds", duration), "evaluation.json", more=True),
    Column("published", "Published", "", _published, "the config, beside ours", number=False, more=True),
)
ALWAYS = ("corpus", "tokenizer", "bits_per_byte")


@dataclass(frozen=True)
class Line:
    """One row of the table; ``mark`` best, oracle or failed; ``numbers`` is how many columns a failure spans."""

    row: Row
    name: str
    mark: str
    cells: Sequence[Cell]
    digits: Sequence[tuple[Column, str]]
    files: Sequence[str]
    share: str


@dataclass(frozen=True)
class Table:
    """Columns that some row fills, rows, and the choices of each filter."""

    columns: Sequence[Column]
    lines: Sequence[Line]
    filters: Mapping[str, Sequence[str]]


FILTERS = {"corpus": "Corpus", "tokenizer": "Tokens", "category": "Class", "family": "Kind"}


def table(run: str, rows: Sequence[Row]) -> Table:
    """All rows of a run."""
    columns = [column for column in COLUMNS if column.key in ALWAYS or _filled(column, rows)]
    best = {id(found) for same in _texts(rows) if (found := best_of(same))}
    top = max((row["bits_per_byte"] for row in rows if row["bits_per_byte"] is not None), default=1.0) or 1.0
    choices = {key: sorted({row[key] for row in rows if row[key] != "-"}) for key in FILTERS}
    return Table(columns, [_line(run, row, columns, id(row) in best, top) for row in rows], choices)


def _texts(rows: Sequence[Row]) -> list[list[Row]]:
    return list(grouped(rows, lambda row: (row["corpus"], row["split"])).values())


def _filled(column: Column, rows: Sequence[Row]) -> bool:
    """Whether any row has something there; one split for all needs no column."""
    if column.key == "split":
        return len({row["split"] for row in rows}) > 1
    return any(column.cell(row).shown != DASH for row in rows)


def _line(run: str, row: Row, columns: Sequence[Column], best: bool, top: float) -> Line:
    besides = row["family"] if row["family"] in ("oracle", "compressor") else ""
    mark = "failed" if row["status"] != "ok" else "best" if best else besides
    cells = [column.cell(row) for column in columns]
    digits = [(column, _digits(cell)) for column, cell in zip(columns, cells, strict=True) if cell.shown != DASH]
    share = "" if row["bits_per_byte"] is None else f"{100 * row['bits_per_byte'] / top:.2f}"
    return Line(row, named(row), mark, cells, digits, files(run, row), share)


def _digits(cell: Cell) -> str:
    """All digits of a number, and what stands under it."""
    whole = repr(cell.value) if isinstance(cell.value, float) else cell.shown
    return f"{whole} ({cell.small})" if cell.small else whole


def files(run: str, row: Row) -> list[str]:
    """The files that a row's figures were read from; each has its sha256 and making beside it."""
    root = f"results/{run}/{row['corpus']}"
    if row["family"] == "oracle":
        return [f"{root}/oracle/scores.safetensors"]
    if row["family"] == "compressor":
        return [f"{root}/compressors.json"]
    model = row.get("ensemble_of") or row["model"]
    folders = [f"{root}/{row['tokenizer']}/{model}/seed{seed}" for seed in row["seeds"]]
    return [f"{folder}/{name}" for folder in folders for name in ("fit.json", "scores.safetensors", "evaluation.json")]
