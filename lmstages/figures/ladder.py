"""The ladder at a glance: bits per byte of every model, one dot a row, read downwards from guessing."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lmstages.figures.drawing import INK, MARKERS, bits_axis, canvas, legend_below, level, list_models, look, sample_of
from lmstages.figures.rows import as_floats, counted, floor, listed, models_of, names, with_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Bits per byte on {corpus}, {split}"
TABLE = "results"
BY = ("corpus", "split")
A_LINE_A_ROW = True
COLUMNS = (
    *("tokenizer", "model", "title", "family", "category", "rank", "tokens", "bytes", "characters"),
    *("bits_per_byte", "bits_per_byte_low", "bits_per_byte_high", "bits_per_byte_std"),
)
ALSO = {"published": ("corpus", "split", "tokenizer", "model", "measure", "value")}


def draw(frame: pd.DataFrame, published: pd.DataFrame) -> "Figure | None":
    """One text's rows -> the drawing; None where no row has a number."""
    rows = models_of(frame)
    if not np.isfinite(as_floats(rows["bits_per_byte"])).any():
        return None
    rows["name"] = names(rows)
    lines = list(dict.fromkeys(rows["name"]))
    figure, axes = canvas(1.5 + 0.19 * len(lines))
    list_models(axes, lines)
    rows["y"] = _heights(rows, lines)
    markers = _markers(rows)
    for row in _records(rows):
        _draw_row(axes, row, markers[row.tokenizer, row.category])
    handles = [sample_of(mark, _label(*pair), hollow=pair[1] != "static") for pair, mark in markers.items()]
    handles += _draw_published(axes, rows, published)
    if lowest := floor(frame):
        level(axes, lowest.bits, f"{lowest.name}, {lowest.bits:.2f}", across=True)
        handles.append(axes.lines[-1])
    axes.set_xlabel(f"bits per byte of text ({bits_axis(axes.xaxis, _drawn(axes))})")
    legend_below(figure, handles)
    return figure


def _drawn(axes: "Axes") -> list[float]:
    """Bits per byte of all that stands in the panel."""
    bars: Any = axes.collections
    ends = [x for bar in bars for piece in bar.get_segments() for x in piece[:, 0]]
    return [*ends, *(float(x) for line in axes.lines for x in np.asarray(line.get_xdata()))]


def _records(rows: pd.DataFrame) -> Iterator[Any]:
    """Rows one by one, their columns as attributes."""
    return iter(rows.itertuples())


def _heights(rows: pd.DataFrame, lines: list[str]) -> pd.Series:
    """The line of each row's model; rows of one model stand side by side about it."""
    count = rows.groupby("name")["name"].transform("size")
    return rows["name"].map(lines.index) + (rows.groupby("name").cumcount() - (count - 1) / 2) * 0.6 / count


def _markers(rows: pd.DataFrame) -> dict[tuple[str, str], str]:
    """A marker for each tokenizer and category that occur together."""
    pairs = sorted({*zip(rows["tokenizer"], rows["category"], strict=True)}, key=lambda pair: (pair[1], pair[0]))
    return {pair: MARKERS[index % len(MARKERS)] for index, pair in enumerate(sorted(pairs, key=_static_first))}


def _static_first(pair: tuple[str, str]) -> bool:
    return pair[1] != "static"


def _label(tokenizer: str, category: str) -> str:
    return f"tokens: {tokenizer}" if category == "static" else f"tokens: {tokenizer}, {category}"


def _draw_row(axes: "Axes", row: Any, marker: str) -> None:
    """The dot with its bar; words at the edge where there is no finite number."""
    bits = math.nan if pd.isna(row.bits_per_byte) else float(row.bits_per_byte)
    if not math.isfinite(bits):
        note: Any = {"ha": "right", "va": "center", "fontsize": 8}
        text = "no score" if math.isnan(bits) else "∞"
        axes.text(0.995, row.y, text, transform=axes.get_yaxis_transform(), **note)
        return
    colour = look(row.rank)["color"]
    fill = colour if row.category == "static" else "none"
    below, above = arms(row)
    if math.isfinite(below + above):
        style: Any = {"color": colour, "capsize": 2, "linewidth": 1.1, "linestyle": "", "zorder": 2}
        axes.errorbar(bits, row.y, xerr=[[below], [above]], **style)
    axes.plot(bits, row.y, linestyle="", marker=marker, color=colour, markerfacecolor=fill, zorder=3)


def arms(row: Any) -> tuple[float, float]:
    """How far the bar goes below and above: the interval where there is one, else the spread over seeds, else NaN."""
    bits, low, high, spread = row.bits_per_byte, row.bits_per_byte_low, row.bits_per_byte_high, row.bits_per_byte_std
    if not (pd.isna(low) or pd.isna(high)):
        return max(0.0, bits - low), max(0.0, high - bits)
    return (math.nan, math.nan) if pd.isna(spread) else (float(spread), float(spread))


def _draw_published(axes: "Axes", rows: pd.DataFrame, published: pd.DataFrame) -> list[Any]:
    """A cross for every figure that somebody printed and that can be put on this axis."""
    key = ["corpus", "split", "tokenizer", "model"]
    printed = rows.merge(published, on=key, how="inner")
    marks = [(bits, row.y) for row in _records(printed) if (bits := in_bits_per_byte(row)) is not None]
    for bits, height in marks:
        axes.plot(bits, height, "x", color=INK, markersize=6, markeredgewidth=1.2, zorder=4)
    return [sample_of("x", "published")] if marks else []


def in_bits_per_byte(row: Any) -> float | None:
    """A published ``value`` of a ``measure`` beside its row -> bits per byte; None where it has no place on that axis.

    A perplexity and nats per token are of the row's own tokens, nats per character of its characters.
    """
    value, unit = row.value, {"nats_per_character": row.characters, "bits_per_byte": row.bytes}.get(row.measure)
    if row.measure in ("perplexity", "nats_per_token"):
        unit = row.tokens
    if pd.isna(value) or unit is None or pd.isna(unit) or pd.isna(row.bytes) or not row.bytes:
        return None
    if row.measure == "perplexity":
        value = math.log(value) if value > 0 else math.nan
    bits = value if row.measure == "bits_per_byte" else value * unit / row.bytes / math.log(2)
    return float(bits) if math.isfinite(bits) else None


def caption(frame: pd.DataFrame, published: pd.DataFrame) -> str:
    """Who is best and worst, what bars and the dashed line are, and what has no number."""
    rows = models_of(frame)
    rows["name"] = names(rows)
    sentences = [_range(with_score(rows)), _bars(rows), _categories(rows)]
    if lowest := floor(frame):
        sentences.append(f"The dashed line at {lowest.bits:.2f} is {lowest.meaning}.")
    bits = as_floats(rows["bits_per_byte"])
    if np.isinf(bits).any():
        sentences.append(
            f"Infinite, since something in the text had probability 0: {listed(rows['name'][np.isinf(bits)])}."
        )
    if np.isnan(bits).any():
        sentences.append(f"Without a score: {listed(rows['name'][np.isnan(bits)])}.")
    return " ".join(filter(None, sentences))


def _range(rows: pd.DataFrame) -> str:
    static = rows[rows["category"] == "static"]
    order = "The models stand in the order of the ladder; further to the left is better."
    if len(static) < 2:
        return order
    best, worst = (static.loc[getattr(static["bits_per_byte"], pick)()] for pick in ("idxmin", "idxmax"))
    fewest, most = (
        f"{row['name']} needs the {word}, {row['bits_per_byte']:.2f}"
        for row, word in ((best, "fewest"), (worst, "most"))
    )
    return f"{order} Of {counted(len(static), 'static row')} {fewest}, and {most}."


def _bars(rows: pd.DataFrame) -> str:
    intervals = rows["bits_per_byte_low"].notna() & rows["bits_per_byte_high"].notna()
    spreads = ~intervals & rows["bits_per_byte_std"].notna()
    if intervals.any() and spreads.any():
        return "Bars are 95 % intervals, or one standard deviation over seeds where there is no interval."
    if intervals.any():
        return "Bars are 95 % intervals."
    return "Bars are one standard deviation over seeds." if spreads.any() else ""


def _categories(rows: pd.DataFrame) -> str:
    others = sorted({*rows["category"]} - {"static"})
    return f"Hollow marks ({listed(others)}) are not to be ranked with the full ones." if others else ""
