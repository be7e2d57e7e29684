"""Bits per byte with one or two keys of the config at several values, all else as it is."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmstages.core.visible import visible
from lmstages.figures.drawing import bits_axis, canvas, legend_below, look
from lmstages.figures.ladder import arms
from lmstages.figures.rows import as_floats, with_score
from lmstages.results.formatting import in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Sweep of {sweep}: bits per byte over its first key"
TABLE = "sweeps"
BY = ("sweep",)
COLUMNS = (
    *("section", "keys", "values", "corpus", "split", "tokenizer", "model"),
    *("bits_per_byte", "bits_per_byte_low", "bits_per_byte_high", "bits_per_byte_std"),
)
MOST_LINES = MOST_TICKS = 40  # that can be told apart
SWEPT = {  # the column that varies with the keys
    **{"corpora": "corpus", "tokenizers": "tokenizer"},
    **{"models": "model", "pretrained": "model"},
}


def draw(frame: pd.DataFrame) -> "Figure | None":
    """A sweep -> bits per byte over its first key, a line for all else that varies; None for no number."""
    rows = with_score(frame)
    if not len(rows):
        return None
    key, values = keys_of(rows)[0], _values(rows)
    figure, axes = canvas(3.6)
    positions, ordered = _value_axis(axes, [row[key] for row in values])
    lines = lowest_lines(_lines(rows, values), rows)
    for index, (label, members) in enumerate(lines.items()):
        places = [positions[written(values[member][key])] for member in members]
        _draw_line(axes, index, label, places, rows.loc[members], ordered)
    ends = rows[["bits_per_byte", "bits_per_byte_low", "bits_per_byte_high"]].to_numpy(
        dtype=float, na_value=float("nan")
    )
    axes.set(xlabel=visible(key.replace("_", " ")), ylabel=f"bits per byte ({bits_axis(axes.yaxis, ends.ravel())})")
    if len(lines) > 1:
        legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def keys_of(rows: pd.DataFrame) -> list[str]:
    """The swept keys, in order."""
    keys: list[str] = json.loads(rows["keys"].iloc[0])
    return keys


def _values(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The value of each swept key in every row."""
    return [dict(zip(keys_of(rows), json.loads(values), strict=True)) for values in rows["values"]]


def _lines(rows: pd.DataFrame, values: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Row numbers by everything that varies besides the first key; a line joins one model under the same other keys."""
    swept = SWEPT[rows["section"].iloc[0]]
    others = [name for name in ("corpus", "split", "tokenizer", "model") if name != swept]
    varying = [name for name in others if rows[name].nunique() > 1]
    lines: dict[str, list[int]] = {}
    for index, row in enumerate(rows.to_dict("records")):
        parts = [row[name] for name in varying]
        parts += [f"{key.replace('_', ' ')} {written(values[index][key])}" for key in keys_of(rows)[1:]]
        lines.setdefault(visible(", ".join(parts)), []).append(index)
    return lines


def lowest_lines(lines: Mapping[str, list[int]], rows: pd.DataFrame) -> dict[str, list[int]]:
    """Those with the lowest points, no more than can be told apart, in their order."""
    bits = as_floats(rows["bits_per_byte"])
    lowest = sorted(lines, key=lambda label: bits[lines[label]].min())[:MOST_LINES]
    return {label: members for label, members in lines.items() if label in lowest}


def _value_axis(axes: "Axes", values: Sequence[Any]) -> tuple[dict[str, float], bool]:
    """The position of each value, and whether values have an order: numbers stand by size, words side by side.

    The axis is logarithmic where numbers span more than a decade.
    """
    ordered = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    once = {written(value): value for value in values}
    if ordered and min(values) > 0 and max(values) > 10 * min(values):
        axes.set_xscale("log")
    positions = {word: float(value if ordered else index) for index, (word, value) in enumerate(once.items())}
    ticks = dict([*positions.items()][:: -(-len(positions) // MOST_TICKS)])
    axes.set_xticks(list(ticks.values()), list(ticks))
    axes.set_xticks([], minor=True)
    axes.margins(x=0.06)
    return positions, ordered


def _draw_line(axes: "Axes", index: int, label: str, places: Sequence[float], rows: pd.DataFrame, joined: bool) -> None:
    """One line with its bars; values that have no order are not joined."""
    style = look(index) if joined else {**look(index), "linestyle": ""}
    bits, bars = as_floats(rows["bits_per_byte"]), [arms(row) for row in rows.itertuples()]
    axes.plot(places, bits, label=label, **style)
    bar = {"color": style["color"], "capsize": 2.5, "linewidth": 1.1, "linestyle": ""}
    axes.errorbar(places, bits, yerr=list(zip(*bars, strict=True)), **bar)


def written(value: Any) -> str:
    """A value of a config in words."""
    return visible(in_words(value))


def caption(frame: pd.DataFrame) -> str:
    """Where the lowest and the highest point are."""
    rows = with_score(frame)
    best, worst = (getattr(rows["bits_per_byte"], pick)() for pick in ("idxmin", "idxmax"))
    values, row = _values(rows)[best], rows.loc[best]
    where = " and ".join(f"{key.replace('_', ' ')} {written(value)}" for key, value in values.items())
    lowest = f"the lowest point is {row['bits_per_byte']:.3f} at {visible(where)}"
    text = ", ".join(row[name] for name in ("corpus", "tokenizer", "split"))
    ends = f", the highest is {rows.loc[worst, 'bits_per_byte']:.3f}" if len(rows) > 1 else ""
    count = len(_lines(rows, _values(rows)))
    left = f" Drawn are the {MOST_LINES} lines of {count:,} with the lowest points." if count > MOST_LINES else ""
    return (
        f"The same entry of the config, one key changed at a time: {lowest} ({text}){ends}. "
        f"The vertical axis begins near the lowest point, not at zero.{left}"
    )
