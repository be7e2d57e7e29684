"""What decoding in parallel costs: code length, and what the grammar says of texts, against the time of a sampler."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lmstages.figures.drawing import INK, fine_grid, legend_below, linear, logarithmic_between, look, sample_of, sheet
from lmstages.figures.rows import as_floats, counted, listed, names, up_the_ladder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "What fewer steps cost: {corpus}, tokens: {tokenizer}"
TABLE = "generated"
BY = ("corpus", "tokenizer")
A_LINE_A_ROW = True
COLUMNS = (
    *("model", "title", "rank", "sampler", "steps", "measure", "texts", "length"),
    *("bits_per_byte", "seconds", "is_best", "than_next", "accepted"),
)
LINES = {"next token": "none", "random": "-", "certain": "--", "denoising": "-", "mending": "-"}
PANELS = {"bits_per_byte": "bits per byte of held-out rows", "accepted": "grammatical texts, %"}


def draw(frame: pd.DataFrame) -> "Figure | None":
    """A line a model and order, a mark a number of steps; the front ringed. None where nothing was timed."""
    rows = timed(frame)
    panels = [name for name in PANELS if np.isfinite(as_floats(rows[name])).any()]
    if not panels:
        return None
    handles = _key(rows)
    figure = sheet(3.5 + 0.17 * -(-len(handles) // 2))
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        shown = rows[np.isfinite(as_floats(rows[name]))]
        fine_grid(axes, "both")
        _set_limits(axes, as_floats(shown["seconds"]), as_floats(shown[name]), name)
        for _, line in shown.groupby(["name", "sampler"], sort=False):
            _draw_line(axes, line, name)
    legend_below(figure, handles, columns=2)
    return figure


def timed(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with a time, up the ladder and by steps, with a name."""
    rows = up_the_ladder(frame[as_floats(frame["seconds"]) > 0])
    rows["name"] = names(rows)
    order = [*LINES].index
    rows = rows.assign(order=[order(name) for name in rows["sampler"]])
    return rows.sort_values(["rank", "name", "order", "steps"], kind="stable").reset_index(drop=True)


def _set_limits(axes: "Axes", seconds: np.ndarray, values: np.ndarray, name: str) -> None:
    """Fractions in percent from 0 on."""
    logarithmic_between(axes.xaxis, float(seconds.min()), float(seconds.max()), 0.1)
    low, high = (0.0, max(1.0, 100 * values.max())) if name == "accepted" else (values.min(), values.max())
    linear(axes.yaxis, float(low), float(high))
    axes.set(xlabel="seconds for 1,000 characters\n(log scale)", ylabel=PANELS[name])


def _draw_line(axes: "Axes", line: pd.DataFrame, name: str) -> None:
    x, y = as_floats(line["seconds"]), as_floats(line[name]) * (100 if name == "accepted" else 1)
    sampler = line["sampler"].iloc[0]
    style = {**look(int(line["rank"].iloc[0])), "linestyle": LINES[sampler]}
    style |= {"markerfacecolor": "none"} if sampler == "certain" else {}
    axes.plot(x, y, **style, markersize=7 if sampler == "next token" else 4)
    steps = as_floats(line["steps"])
    for index in {0, len(line) - 1} if np.isfinite(steps).all() else ():
        axes.annotate(f"{steps[index]:g}", (x[index], y[index]), (3, 3), textcoords="offset points", fontsize=7)
    if name == "bits_per_byte" and (on_front := line["is_best"].to_numpy(dtype=bool)).any():
        axes.plot(x[on_front], y[on_front], "o", color=INK, markerfacecolor="none", markersize=11, markeredgewidth=0.9)


def _key(rows: pd.DataFrame) -> list[Any]:
    """A sample of each line, and of the ring."""
    kinds = rows.drop_duplicates(["name", "sampler"])
    handles = []
    for name, sampler, rank in zip(kinds["name"], kinds["sampler"], kinds["rank"], strict=True):
        style = look(int(rank))
        handles.append(sample_of(style["marker"], f"{name}, {sampler}", style["color"], hollow=sampler == "certain"))
    return [*handles, *([sample_of("o", "Pareto front", INK, hollow=True)] if rows["is_best"].any() else [])]


def caption(frame: pd.DataFrame) -> str:
    """How much was drawn, what is on the front, and which number of steps costs most."""
    rows = timed(frame)
    sentences = [
        f"Every sampler drew {counted(int(rows['texts'].max()), 'text')} of up to {int(rows['length'].max()):,} tokens "
        "at once, on one thread; the numbers beside marks are steps."
    ]
    if (rows["measure"] == "bound").any():
        sentences.append("Code lengths are exact, but those of denoising are upper bounds.")
    front = rows[rows["is_best"].to_numpy(dtype=bool)]
    if len(front):
        sentences.append(f"Ringed, since none is as fast and as good: {listed(_said(front))}.")
    costs = as_floats(rows["than_next"])
    if np.isfinite(costs).any():
        [dearest] = _said(rows.iloc[[int(np.nanargmax(costs))]])
        sentences.append(
            f"Of a model's samplers {dearest} costs most beside token by token: {np.nanmax(costs):+.2f} bits per byte."
        )
    return " ".join(sentences)


def _said(rows: pd.DataFrame) -> list[str]:
    """Each sampler with its model and steps."""
    steps = as_floats(rows["steps"])
    suffixes = ["" if np.isnan(count) else f" in {count:g}" for count in steps]
    return [
        f"{name} ({sampler}{end})" for name, sampler, end in zip(rows["name"], rows["sampler"], suffixes, strict=True)
    ]
