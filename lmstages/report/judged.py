"""What ``lmstages judge`` prints: the figures of scores made elsewhere, and the ladder beside them."""

from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from lmstages.core.visible import visible
from lmstages.report.tables import TERMINAL_WIDTH
from lmstages.results.formatting import chance, decimal, display_name, interval, signed
from lmstages.results.frame import Results, hyperparameters
from lmstages.results.schema import Corpora, Difference, Result

NO_INTERVAL = "no interval: the text has too few blocks of 1,000 characters, or documents, to resample"
COLUMNS = ("", "bits/byte", "95 % interval", "yours − it", "95 % interval", "p", "p (Holm)")


class Compared(NamedTuple):
    """How the scores differ from a row: bits per byte less those of the row, and the ends of the interval."""

    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def judged(results: Results, text: Path) -> str:
    """The figures, and a table where there is anything to compare with."""
    rows = results.rows
    own = next(row for row in rows if row.family == "reported")
    [size] = [size for size in results.records("corpora") if size.split == own.split]
    lines = [*_figures(own, size, text), *([f"note: {own.flag}"] if own.flag else [])]
    if len(rows) == 1:
        return "\n".join(lines)
    return "\n".join([*lines, "", _table(own, rows, results.records("differences"))])


def _figures(row: Result, size: Corpora, text: Path) -> Iterator[str]:
    unit = hyperparameters(row)["unit"]
    documents = f"{size.documents:,} document{'' if size.documents == 1 else 's'}"
    yield f"{row.title}: {row.tokens:,} tokens, {row.bytes:,} bytes of {text.name}, {documents}; unit {unit}"
    for name, value, low, high, places in (
        ("bits per byte", row.bits_per_byte, row.bits_per_byte_low, row.bits_per_byte_high, 4),
        ("perplexity per token", row.perplexity, row.perplexity_low, row.perplexity_high, 3),
        ("nats per character", row.nats_per_character, row.nats_per_character_low, row.nats_per_character_high, 4),
    ):
        ends = f"  {interval((low, high), places)}" if low is not None and high is not None else ""
        yield f"  {name:<22}{decimal(value, places):>10}{ends}"
    if row.bits_per_byte_low is None and not row.flag:
        yield f"  {NO_INTERVAL}"


def _table(own: Result, rows: Sequence[Result], differences: Sequence[Difference]) -> str:
    """All rows, the best first, each with its difference from the scores."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    by_key = dict(_comparisons(own, differences))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name else "left", no_wrap=bool(name), overflow="fold")
    for row in sorted(rows, key=lambda row: (row.bits_per_byte is None, row.bits_per_byte)):
        name = display_name(row) if row is not own else f"{own.title} (yours)"
        table.add_row(*(Text(visible(cell).replace("\n", " ")) for cell in (name, *_cells(row, by_key))))
    out = StringIO()
    console = Console(file=out, width=TERMINAL_WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(table)
    for row in rows:
        if row.status != "ok":
            console.print(Text(visible(f"{row.model}: {row.status}")))
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines()).strip("\n")


def _cells(row: Result, by_key: dict[tuple[str, str], Compared]) -> Iterator[str]:
    yield decimal(row.bits_per_byte)
    yield interval((row.bits_per_byte_low, row.bits_per_byte_high))
    compared = by_key.get((row.tokenizer, row.model))
    if compared is None:
        yield from ("", "", "", "")
        return
    yield signed(compared.difference)
    yield interval((compared.low, compared.high))
    yield from (chance(compared.p), chance(compared.p_holm))


def _comparisons(own: Result, differences: Sequence[Difference]) -> Iterator[tuple[tuple[str, str], Compared]]:
    """(tokenizer, model) of each other row -> the scores less that row."""
    for pair in differences:
        if (pair.a_tokenizer, pair.a_model) == (own.tokenizer, own.model):
            compared = Compared(pair.difference, pair.low, pair.high, pair.p, pair.p_holm)
            yield (pair.b_tokenizer, pair.b_model), compared
        elif (pair.b_tokenizer, pair.b_model) == (own.tokenizer, own.model):
            compared = Compared(-pair.difference, -pair.high, -pair.low, pair.p, pair.p_holm)
            yield (pair.a_tokenizer, pair.a_model), compared
