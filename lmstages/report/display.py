"""The results as a frame of words: columns chosen, ordered and formatted once, for every form of the table.

``tables`` turns it into Markdown, LaTeX and lines for the terminal, ``docs/readme.py`` into the tables of the README.
"""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from lmstages.report.entries import Key
from lmstages.results import formatting
from lmstages.results.formatting import count, decimal, display_name, duration, interval
from lmstages.results.schema import PublishedFigure, Result

USUAL = ("static", "oracle", "compressor")  # categories that a table need not name
INTERVAL = "95 % interval"
TEXTS = ("corpus", "split", "tokenizer", "model", "published")  # columns that hold no numbers: aligned to the left


def qualified_name(row: Result) -> str:
    """The model's name, followed by its category where that is not the usual one."""
    name = display_name(row)
    return name if row.category in USUAL or name.endswith(f", {row.category}") else f"{name} [{row.category}]"


CELLS: dict[str, Callable[[Result], str]] = {
    "corpus": lambda row: row.corpus,
    "split": lambda row: row.split,
    "tokenizer": lambda row: row.tokenizer,
    "model": qualified_name,
    "perplexity": lambda row: decimal(row.perplexity, 2),
    "nats/char": lambda row: decimal(row.nats_per_character),
    "bits/byte": lambda row: decimal(row.bits_per_byte),
    "excess": lambda row: decimal(row.excess_bits_per_byte),
    "parameters": lambda row: count(row.parameters),
    INTERVAL: lambda row: interval((row.bits_per_byte_low, row.bits_per_byte_high)),
    "fit time": lambda row: duration(row.fit_seconds),
}
FIGURES = ("perplexity", "nats/char", "bits/byte", "excess", "parameters")
MARKDOWN = ("corpus", "split", "tokenizer", "model", *FIGURES, INTERVAL)
LATEX = ("tokenizer", "model", "bits/byte", INTERVAL, "nats/char", "perplexity", "parameters")
TERMINAL = ("tokenizer", "model", *FIGURES, "fit time")


def display_frame(rows: Sequence[Result], columns: Sequence[str]) -> pd.DataFrame:
    """Rows -> a frame of texts, one line a row; without intervals where no row has one."""
    shown = [name for name in columns if name != INTERVAL or any(row.bits_per_byte_low is not None for row in rows)]
    return pd.DataFrame({name: [CELLS[name](row) for row in rows] for name in shown}, dtype=object)


def published_cells(rows: Sequence[Result], published: Mapping[Key, Sequence[PublishedFigure]]) -> list[str]:
    """What others printed of each row, beside ours."""
    return ["; ".join(map(formatting.published, published.get(row.key, []))) for row in rows]


def published_frame(figures: Sequence[PublishedFigure]) -> pd.DataFrame:
    """All published figures beside ours, as texts."""
    return pd.DataFrame(
        {
            "what": [formatting.published_claim(figure) for figure in figures],
            "set-up": [figure.setup or formatting.DASH for figure in figures],
            "published": [f"{formatting.published_value(figure)} ({figure.source})" for figure in figures],
            "ours": [formatting.our_value(figure) for figure in figures],
            "verdict": [figure.verdict for figure in figures],
            "why": [figure.because or formatting.DASH for figure in figures],
        },
        dtype=object,
    )
