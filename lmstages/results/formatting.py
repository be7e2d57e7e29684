"""Results in words: numbers written for people, names of rows, values of a config.

None is a dash, an infinite number is ∞. Knows rows of ``schema``; imports neither pandas nor a template.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lmstages.core.visible import visible
from lmstages.results.schema import NOT_ON_THE_LADDER, PublishedFigure, Result

DASH = "–"
MINUS = "−"
INFINITY = "∞"
LARGE = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))
ONLINE = "_online"  # end of a model's name in the configs of this project where it is evaluated online
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # first characters of a text that a spreadsheet would run


# Numbers


def decimal(value: float | None, places: int = 3) -> str:
    """``1,234.500``; powers of ten above a million."""
    if (special := _no_digits(value)) is not None:
        return special
    assert value is not None, "None is no number"
    text = f"{value:,.{places}f}" if abs(value) < 1e6 else f"{value:.2e}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.removeprefix("-")


def signed(value: float | None, places: int = 3) -> str:
    """A difference with its sign, ``+0.012``."""
    return ("+" if value is not None and value > 0 else "") + decimal(value, places)


def _no_digits(value: float | None) -> str | None:
    """A dash for no number, ∞ for an infinite one; None for a number that has digits."""
    if value is None or math.isnan(value):
        return DASH
    return (MINUS if value < 0 else "") + INFINITY if math.isinf(value) else None


def significant(value: float | None, digits: int = 3) -> str:
    """``0.0123``, ``12.3``, ``1,234``: so many significant digits, whole numbers whole."""
    if (special := _no_digits(value)) is not None:
        return special
    assert value is not None, "None is no number"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}".replace("-", MINUS)
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return decimal(value, places) if places <= digits + 2 else f"{value:.{digits - 1}e}".replace("-", MINUS)


def count(value: float | None) -> str:
    """``812,345``, then ``1.24 M``, ``3.50 G``, ``1.60 T``, ``2.00 P``, ``3.00 E``; powers of ten beyond."""
    if (special := _no_digits(value)) is not None:
        return special
    assert value is not None, "None is no number"
    if value < 1e6:
        return f"{value:,.0f}"
    if value >= 1e21:
        return f"{value:.2e}"
    size, unit = next((size, unit) for size, unit in LARGE if value >= size)
    return f"{value / size:.2f} {unit}"


def duration(seconds: float | None) -> str:
    """``0.02 s``, ``12.3 s``, ``5 min 12 s``, ``3 h 05 min``."""
    if (special := _no_digits(seconds)) is not None:
        return special
    assert seconds is not None, "None is no duration"
    if seconds < 59.95:
        return f"{seconds:.{1 if seconds >= 1 else 2}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def interval(bounds: Sequence[float | None] | None, places: int = 3) -> str:
    """``[1.234, 1.301]``; a dash where an end is missing."""
    if not bounds or None in bounds:
        return DASH
    return f"[{decimal(bounds[0], places)}, {decimal(bounds[1], places)}]"


def chance(p: float | None) -> str:
    """A p-value: ``0.042``, ``< 0.001``."""
    return DASH if p is None or math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


# Rows and values


def display_name(row: Result) -> str:
    """The model's title: ``PPM-D``, ``PPM-D, online``, and with the model's own name where it has one."""
    if row.model == row.type + ONLINE and row.category == "online":
        return f"{row.title}, online"
    plain = row.model == row.type or row.family in NOT_ON_THE_LADDER
    return row.title if plain else f"{row.title} ({row.model})"


def in_words(value: Any) -> str:
    """A value of a config: ``yes``, ``none``, ``0.001``, ``128, 128``, ``kind: char``."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {in_words(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def spreadsheet_text(value: Any) -> Any:
    """A cell of a CSV file on one line: text that a spreadsheet would run gets an apostrophe before it; numbers stay.

    Names never get one, since they begin with a letter or digit; neither does a dash alone, which no program computes.
    """
    if not isinstance(value, str):
        return value
    line = visible(value).replace("\n", "\\n").replace("\t", "\\t")
    return ("'" if value.startswith(FORMULA) and value != "-" else "") + line


def markdown_cell(text: str) -> str:
    """Text that is nothing but text inside a Markdown table, which pandas does not see to."""
    flat = " ".join(visible(text).split())
    for command in "\\|`*[]<":
        flat = flat.replace(command, "\\" + command)
    return flat


# Published figures


def published(figure: PublishedFigure) -> str:
    """``perplexity 11.95 in 003, ours 11.953: reproduced``."""
    measure = (figure.measure or "").replace("_", " ")
    return f"{measure} {published_value(figure)} in {figure.source}, ours {our_value(figure)}: {figure.verdict}"


def published_value(figure: PublishedFigure) -> str:
    """What was printed, in six digits; parameters whole, a dash for nothing."""
    return _as_measured(figure.measure, figure.value)


def our_value(figure: PublishedFigure) -> str:
    """What came out here, written alike."""
    return _as_measured(figure.measure, figure.ours)


def _as_measured(measure: str | None, value: float | None) -> str:
    if (special := _no_digits(value)) is not None:
        return special
    return f"{value:,.0f}" if measure == "parameters" else f"{value:g}"


def published_claim(figure: PublishedFigure, title: str | None = None) -> str:
    """What was printed: the claim in words, or the measure and of what it was taken; ``title`` of the model."""
    if figure.claim is not None or figure.model is None:
        return str(figure.claim)
    subject = ", ".join(str(name) for name in (title or figure.model, figure.corpus, figure.split))
    return f"{(figure.measure or '').replace('_', ' ')} of {subject}"
