"""The ladder at a glance: bits per byte of every model, one dot a row, from guessing down to the last model.

The axis covers the better rows, so that their intervals can be seen; an arrow at the edge stands for what lies beyond.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from lmstages.figures.drawing import (
    INK,
    MARKERS,
    beyond,
    canvas,
    legend_below,
    level,
    linear,
    list_models,
    look,
    sample_of,
)
from lmstages.figures.rows import (
    Floor,
    as_floats,
    counted,
    floor,
    listed,
    models_of,
    names,
    names_with_tokenizer,
    with_score,
)

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
REACH = 2.5  # the axis goes so many times as far above the best row as the middle one is
GAP = 0.6  # of the span of the rows: a floor further below the best one is beyond the axis
ORDER = "The models stand in the order of the ladder; further to the left is better."


def draw(frame: pd.DataFrame, published: pd.DataFrame) -> "Figure | None":
    """One text's rows -> the drawing; None where no row has a number."""
    return draw_rows(models_of(frame), published, floor(frame))


def draw_rows(rows: pd.DataFrame, published: pd.DataFrame, lowest: Floor | None) -> "Figure | None":
    """Rows from the top down -> a dot each, with its interval; None where no row has a number."""
    if not np.isfinite(as_floats(rows["bits_per_byte"])).any():
        return None
    rows = rows.assign(name=names(rows))
    window = Window.of(rows, lowest)
    lines = list(dict.fromkeys(rows["name"]))
    edge = [lowest.name] if lowest and not window.holds_floor else []
    figure, axes = canvas(1.5 + 0.19 * len([*lines, *edge]))
    list_models(axes, [*lines, *edge])
    rows["y"] = _heights(rows, lines)
    markers = _markers(rows)
    for row in _records(rows):
        _draw_row(axes, row, markers[row.tokenizer, row.category], window)
    handles = [sample_of(mark, _label(*pair), hollow=pair[1] != "static") for pair, mark in markers.items()]
    linear(axes.xaxis, window.low, window.high)
    handles += _draw_published(axes, rows, published)
    handles += _draw_floor(axes, lowest, window, len(lines))
    if edge or window.beyond(rows).any():
        handles.append(sample_of(">", "beyond the axis, its number beside it"))
    axes.set_xlabel("bits per byte of text (lower is better)")
    legend_below(figure, handles)
    return figure


class Window(NamedTuple):
    """The bits per byte that the axis covers."""

    low: float
    high: float
    holds_floor: bool

    @classmethod
    def of(cls, rows: pd.DataFrame, lowest: Floor | None) -> "Window":
        """From the best row to a few times as far as the middle one, with their intervals; the floor if it is near."""
        bits = as_floats(with_score(rows)["bits_per_byte"])
        reach = bits.min() + REACH * (np.median(bits) - bits.min())
        near = with_score(rows)[bits <= reach]
        sides = [arms(row) for row in _records(near)]
        below, above = (np.nan_to_num([side[index] for side in sides]) for index in (0, 1))
        low = float((as_floats(near["bits_per_byte"]) - below).min())
        high = float((as_floats(near["bits_per_byte"]) + above).max())
        if lowest is None:
            return cls(low, high, False)
        close = high == low or low - lowest.bits <= GAP * (high - low)
        return cls(min(low, lowest.bits), max(high, lowest.bits), True) if close else cls(low, high, False)

    def beyond(self, rows: pd.DataFrame) -> np.ndarray:
        """Which rows have a finite number above the axis."""
        bits = as_floats(rows["bits_per_byte"])
        return np.isfinite(bits) & (bits > self.high)


def _draw_floor(axes: "Axes", lowest: Floor | None, window: Window, line: int) -> list[Any]:
    """A dashed line at the floor, or an arrow on a line of its own where it lies beyond the axis."""
    if lowest is None:
        return []
    if not window.holds_floor:
        beyond(axes, line, f"{lowest.bits:.2f}", on_left=True, color=INK)
        return []
    level(axes, lowest.bits, f"{lowest.name}, {lowest.bits:.2f}", across=True)
    return [axes.lines[-1]]


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


def _draw_row(axes: "Axes", row: Any, marker: str, window: Window) -> None:
    """The dot with its bar; an arrow beyond the axis; words at the edge where there is no finite number."""
    bits = math.nan if pd.isna(row.bits_per_byte) else float(row.bits_per_byte)
    if not math.isfinite(bits):
        note: Any = {"ha": "right", "va": "center", "fontsize": 8}
        text = "no score" if math.isnan(bits) else "∞"
        axes.text(0.995, row.y, text, transform=axes.get_yaxis_transform(), **note)
        return
    colour = look(row.rank)["color"]
    fill = colour if row.category == "static" else "none"
    if bits > window.high:
        beyond(axes, row.y, f"{bits:.2f}", color=colour, markerfacecolor=fill)
        return
    below, above = arms(row)
    if math.isfinite(below + above):
        style: Any = {"color": colour, "capsize": 3.2, "linewidth": 1.1, "linestyle": "", "zorder": 2}
        axes.errorbar(bits, row.y, xerr=[[below], [above]], **style)
    point: Any = {"marker": marker, "markersize": 3.6, "color": colour, "markerfacecolor": fill, "zorder": 3}
    axes.plot(bits, row.y, linestyle="", **point)


def arms(row: Any) -> tuple[float, float]:
    """How far the bar goes below and above: the interval where there is one, else the spread over seeds, else NaN."""
    bits, low, high, spread = row.bits_per_byte, row.bits_per_byte_low, row.bits_per_byte_high, row.bits_per_byte_std
    if not (pd.isna(low) or pd.isna(high)):
        return max(0.0, bits - low), max(0.0, high - bits)
    return (math.nan, math.nan) if pd.isna(spread) else (float(spread), float(spread))


def _draw_published(axes: "Axes", rows: pd.DataFrame, published: pd.DataFrame) -> list[Any]:
    """A cross for every figure that somebody printed and that lies on this axis."""
    low, high = axes.get_xlim()
    marks = [(bits, y) for bits, y in _printed(rows, published) if low <= bits <= high]
    for bits, height in marks:
        axes.plot(bits, height, "x", color=INK, markersize=6, markeredgewidth=1.2, zorder=4)
    return [sample_of("x", "published")] if marks else []


def _printed(rows: pd.DataFrame, published: pd.DataFrame) -> list[tuple[float, float]]:
    """Bits per byte that somebody printed of a row, and the row's height."""
    both = rows.merge(published, on=["corpus", "split", "tokenizer", "model"], how="inner")
    return [(bits, row.y) for row in _records(both) if (bits := in_bits_per_byte(row)) is not None]


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
    """Who is best and worst, what bars and the dashed line are, what lies beyond the axis, and what has no number."""
    return caption_of(models_of(frame), floor(frame), ORDER)


def caption_of(rows: pd.DataFrame, lowest: Floor | None, order: str) -> str:
    """The sentences of one drawing; ``order`` says in which order its rows stand."""
    rows = rows.assign(name=names_with_tokenizer(rows))
    window, bits = Window.of(rows, lowest), as_floats(rows["bits_per_byte"])
    far = window.beyond(rows)
    sentences = [order, _range(with_score(rows)), _bars(rows[np.isfinite(bits) & ~far]), _categories(rows)]
    if lowest and window.holds_floor:
        sentences.append(f"The dashed line at {lowest.bits:.2f} is {lowest.meaning}.")
    elif lowest:
        sentences.append(f"Beyond the left edge, at {lowest.bits:.2f}, is {lowest.meaning}.")
    if far.any():
        sentences.append(f"Beyond the right edge, with an arrow and a number: {listed(rows['name'][far])}.")
    if np.isinf(bits).any():
        infinite = listed(rows["name"][np.isinf(bits)])
        sentences.append(f"Infinite, since something in the text had probability 0: {infinite}.")
    if np.isnan(bits).any():
        sentences.append(f"Without a score: {listed(rows['name'][np.isnan(bits)])}.")
    return " ".join(filter(None, sentences))


def _range(rows: pd.DataFrame) -> str:
    static = rows[rows["category"] == "static"]
    if len(static) < 2:
        return ""
    best, worst = (static.loc[getattr(static["bits_per_byte"], pick)()] for pick in ("idxmin", "idxmax"))
    fewest, most = (
        f"{row['name']} needs the {word}, {row['bits_per_byte']:.2f}"
        for row, word in ((best, "fewest"), (worst, "most"))
    )
    return f"Of {counted(len(static), 'static row')} {fewest}, and {most}."


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
