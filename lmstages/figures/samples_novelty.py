"""How new samples are: the longest piece copied from train, and how varied their n-grams are, beside held-out text."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lmstages.figures.drawing import INK, MARKERS, legend_below, list_models, look, sample_of, sheet
from lmstages.figures.rows import as_floats, listed, names, up_the_ladder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "How new samples are: {corpus}, tokens: {tokenizer}"
TABLE = "novelty"
BY = ("corpus", "tokenizer")
DISTINCT = ("distinct_1", "distinct_2", "distinct_3")
COLUMNS = (
    *("model", "title", "rank", "samples", "unit", "copy_mean", "copy_max", "copy_mean_of_test"),
    *DISTINCT,
    *(f"{name}_of_test" for name in DISTINCT),
)


def draw(frame: pd.DataFrame) -> "Figure | None":
    """The samples of each model -> copied length on the left, distinct n-grams on the right; None for no number."""
    rows = up_the_ladder(frame)
    if not np.isfinite(rows[["copy_mean", *DISTINCT]].to_numpy(dtype=float, na_value=np.nan)).any():
        return None
    lines = [*names(rows)]
    figure = sheet(1.75 + 0.19 * len(lines))
    copied, distinct = figure.subplots(1, 2, sharey=True)
    list_models(distinct, lines)
    list_models(copied, lines)
    for y, row in enumerate(rows.to_dict("records")):
        _draw_copies(copied, y, row)
        _draw_distinct(distinct, y, row)
    copied.set(xlabel="longest piece copied\nfrom train, characters")
    copied.set_xlim(left=0)
    distinct.set(xlabel=f"fraction of n-grams that differ,\n{listed(sorted({*rows['unit']}))}", xlim=(-0.03, 1.03))
    legend_below(figure, _key(), columns=3)
    return figure


def _draw_copies(axes: "Axes", y: int, row: dict[str, Any]) -> None:
    """The mean over samples, a line to the longest, and the mean of held-out text."""
    style = look(row["rank"])["color"]
    axes.plot([row["copy_mean"], row["copy_max"]], [y, y], color=style, linewidth=0.9, marker="", zorder=2)
    axes.plot(row["copy_mean"], y, "o", color=style, zorder=3)
    axes.plot(row["copy_mean_of_test"], y, "|", color=INK, markersize=9, zorder=2)


def _draw_distinct(axes: "Axes", y: int, row: dict[str, Any]) -> None:
    """A mark for 1-, 2- and 3-grams, and a stroke for those of held-out text."""
    color = look(row["rank"])["color"]
    for marker, name in zip(MARKERS, DISTINCT, strict=False):
        axes.plot(row[name], y, marker, color=color, markersize=4.5, zorder=3)
        axes.plot(row[f"{name}_of_test"], y, "|", color=INK, markersize=9, zorder=2)


def _key() -> list[Any]:
    marks = [sample_of(marker, f"different {n}-grams") for n, marker in enumerate(MARKERS[:3], start=1)]
    return [sample_of("o", "mean copy, line to the longest"), *marks, sample_of("|", "held-out text of like length")]


def caption(frame: pd.DataFrame) -> str:
    """What to compare with what, and who copies most and repeats most."""
    rows = up_the_ladder(frame)
    rows["name"] = names(rows)
    sentences = [
        "Samples of each model beside held-out text of like length (strokes). Longer copies than held-out text has are "
        "learning by heart; fewer different n-grams are repetition."
    ]
    more = rows["name"][as_floats(rows["copy_mean"]) > as_floats(rows["copy_mean_of_test"])]
    if len(more):
        sentences.append(f"Copying more than held-out text does: {listed(more)}.")
    copies = as_floats(rows["copy_mean"])
    if len(rows) > 1 and np.isfinite(copies).any():
        most = int(np.nanargmax(copies))
        sentences.append(
            f"The longest copies on average are those of {rows['name'].iloc[most]}, {copies[most]:.0f} characters."
        )
    return " ".join(sentences)
