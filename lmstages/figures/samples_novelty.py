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
A_LINE_A_ROW = True
COPY = "P"  # the marker of copies, which no count of n-grams has
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
    _draw_copies(copied, rows)
    _draw_distinct(distinct, rows)
    copied.set(xlabel="longest copy from train,\ncharacters")
    copied.set_xlim(left=0)
    distinct.set(xlabel=f"different n-grams, fraction\nof all ({listed(sorted({*rows['unit']}))})", xlim=(0, 1.04))
    legend_below(figure, _key(), columns=3)
    return figure


def _draw_copies(axes: "Axes", rows: pd.DataFrame) -> None:
    """The mean over samples, a line to the longest, and the mean of held-out text."""
    colors = [look(rank)["color"] for rank in rows["rank"]]
    mean, longest = (as_floats(rows[f"copy_{name}"]) for name in ("mean", "max"))
    axes.hlines(range(len(rows)), mean, longest, colors=colors, linewidth=0.9, zorder=2)
    axes.scatter(mean, range(len(rows)), s=22, c=colors, marker=COPY, zorder=3)
    axes.plot(as_floats(rows["copy_mean_of_test"]), range(len(rows)), "|", color=INK, markersize=9, zorder=2)


def _draw_distinct(axes: "Axes", rows: pd.DataFrame) -> None:
    """A mark for 1-, 2- and 3-grams, and a stroke for those of held-out text."""
    colors = [look(rank)["color"] for rank in rows["rank"]]
    for marker, name in zip(MARKERS, DISTINCT, strict=False):
        axes.scatter(as_floats(rows[name]), range(len(rows)), s=20, c=colors, marker=marker, zorder=3)
        axes.plot(as_floats(rows[f"{name}_of_test"]), range(len(rows)), "|", color=INK, markersize=9, zorder=2)


def _key() -> list[Any]:
    marks = [sample_of(marker, f"different {n}-grams") for n, marker in enumerate(MARKERS[:3], start=1)]
    return [sample_of(COPY, "mean copy, line to the longest"), *marks, sample_of("|", "held-out text of like length")]


def caption(frame: pd.DataFrame) -> str:
    """What to compare with what, and who copies most and repeats most."""
    rows = up_the_ladder(frame)
    rows["name"] = names(rows)
    sentences = [
        "Samples of each model beside held-out text of like length (strokes; those on the right, "
        "from left to right, are of 1-, 2- and 3-grams). Longer copies than held-out text has are "
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
