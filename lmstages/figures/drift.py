"""Whether a text changes as it goes on: bits per byte by tenths of it, and what online evaluation gains in each."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmstages.figures.drawing import INK, bits_axis, fine_grid, label_ends, look, sheet
from lmstages.figures.rows import as_floats, counted, names_with_tokenizer, up_the_ladder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Drift of {corpus}, {split}"
TABLE = "drift"
BY = ("corpus", "split")
A_LINE_A_ROW = True
COLUMNS = (
    *("tokenizer", "model", "title", "rank", "category", "tenth", "bytes", "bits_per_byte"),
    *("twin", "gain", "gain_low", "gain_high"),
)
BEST = 3  # static models that are drawn beside those with a gain and their twins
DOTTED = (0, (1, 1.4))


def draw(frame: pd.DataFrame) -> "Figure | None":
    """The tenths of one text -> a panel of scores and, where a row is online, one of gains; None without rows."""
    rows = drawn(frame)
    if not len(rows):
        return None
    gaining = rows[rows["gain"].notna()]
    figure = sheet(3.4 if not len(gaining) else 5.6)
    panels = figure.subplots(2 if len(gaining) else 1, 1, sharex=True, squeeze=False)[:, 0]
    _draw_lines(panels[0], rows, "bits_per_byte")
    scale = bits_axis(panels[0].yaxis, as_floats(rows["bits_per_byte"]))
    panels[0].set(ylabel=f"bits per byte ({scale})", xticks=range(1, int(rows["tenth"].max()) + 1))
    if len(gaining):
        _draw_lines(panels[1], gaining, "gain")
        panels[1].axhline(0.0, color=INK, linewidth=0.6, alpha=0.6)
        panels[1].set(ylabel="gain in bits per byte")
    panels[-1].set(xlabel="tenth of the held-out text")
    for axes in panels:
        label_ends(axes, _ends(axes))
    return figure


def _draw_lines(axes: "Axes", rows: pd.DataFrame, column: str) -> None:
    """A line for each name, dotted where the row is online; gains with their intervals."""
    fine_grid(axes, "both")
    for name, line in rows.groupby("name", sort=False):
        x, y = line["tenth"].to_numpy(), as_floats(line[column])
        is_oracle, is_online = line["model"].iloc[0] == "oracle", line["category"].iloc[0] == "online"
        style = {"color": INK, "marker": "."} if is_oracle else look(int(line["rank"].iloc[0]))
        hollow = {"markerfacecolor": "none", "linestyle": DOTTED} if is_online else {}
        axes.plot(x, y, **{**style, **hollow}, markersize=4, label=str(name))
        if column == "gain":
            axes.vlines(x, as_floats(line["gain_low"]), as_floats(line["gain_high"]), color=style["color"], linewidth=1)


def _ends(axes: "Axes") -> list[tuple[float, float, str, str]]:
    """Where the named lines of a panel end."""
    labelled = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    points = [np.asarray(line.get_xydata(), dtype=float)[-1].tolist() for line in labelled]
    return [(x, y, str(line.get_label()), str(line.get_color())) for line, (x, y) in zip(labelled, points, strict=True)]


def drawn(frame: pd.DataFrame) -> pd.DataFrame:
    """The oracle, rows with a gain and their twins, and of the other static rows those with the fewest bits."""
    rows = up_the_ladder(frame)
    rows["name"] = names_with_tokenizer(rows)
    gaining = rows[rows["gain"].notna()]
    twins = {*zip(gaining["tokenizer"], gaining["twin"], strict=True)}
    is_twin = np.array([key in twins for key in zip(rows["tokenizer"], rows["model"], strict=True)], dtype=bool)
    kept = is_twin | rows["gain"].notna() | (rows["model"] == "oracle")
    others = means(rows[~kept & (rows["category"] == "static")]).nsmallest(BEST).index
    return rows[kept | rows["name"].isin(others)].reset_index(drop=True)


def means(rows: pd.DataFrame) -> pd.Series:
    """Bits per byte of each name over all tenths, weighted by their bytes."""
    size = as_floats(rows["bytes"])
    sums = pd.DataFrame({"name": rows["name"], "bits": as_floats(rows["bits_per_byte"]) * size, "bytes": size})
    sums = sums.groupby("name").sum()
    return sums["bits"] / sums["bytes"].clip(lower=1)


def caption(frame: pd.DataFrame) -> str:
    """What a tenth is, which lines are drawn, and how each gain begins and ends."""
    rows = drawn(frame)
    sentences = ["Whole blocks of the text in its order, an equal part of its bytes in each tenth."]
    if left_out := frame.groupby(["tokenizer", "model"]).ngroups - rows["name"].nunique():
        sentences.append(f"Not drawn: {counted(left_out, 'further row')} of this text.")
    gaining = rows[rows["gain"].notna()]
    if len(gaining):
        sentences.append(
            "Dotted is online evaluation; its gain is over the same model without it, with 95 % intervals."
        )
    for name, line in gaining.groupby("name", sort=False):
        first, last = as_floats(line["gain"])[[0, -1]]
        sentences.append(f"{name} gains {first:.3f} in the first tenth and {last:.3f} in the last.")
    return " ".join(sentences)
