"""Which models differ on one text: the paired difference of every two rows of a category, and whether it is chance."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmstages.figures.drawing import INK, SMALL, WIDTH, label_fields, room_for, shades, sheet
from lmstages.figures.rows import as_floats, counted, names_with_tokenizer, up_the_ladder
from lmstages.results.schema import NOT_ON_THE_LADDER
from lmstages.results.selection import MOST_COMPARED as MOST
from lmstages.results.statistics import LEVEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Which models differ, {corpus}, {split}"
TABLE = "differences"
BY = ("corpus", "split")
COLUMNS = (
    *("a_corpus", "a_tokenizer", "a_model", "b_corpus", "b_tokenizer", "b_model"),
    *("difference", "p_holm"),
)
KEY = ["corpus", "tokenizer", "model"]
ALSO = {"results": (*KEY, "split", "title", "family", "category", "rank", "bits_per_byte")}


def draw(frame: pd.DataFrame, results: pd.DataFrame) -> "Figure | None":
    """The pairs of one text -> for each category a triangle, row less column; None where no category has two rows."""
    groups = by_category(frame, results)
    if not groups:
        return None
    most = max(float(np.nanmax(np.abs(values))) for _, values, _ in groups.values()) or 1.0
    labels = [label for members, _, _ in groups.values() for label in members]
    room, longest = room_for(labels), max(len(members) for members, _, _ in groups.values())
    field = min(0.26, (WIDTH - room - 0.2) / longest)
    below = {category: 0.35 + room_for(members) for category, (members, _, _) in groups.items()}
    figure = sheet(
        0.4 + sum(field * len(members) + below[name] for name, (members, _, _) in groups.items()), layout="none"
    )
    high, top = figure.get_figheight(), figure.get_figheight() - 0.65
    for category, (members, values, p) in groups.items():
        size = field * len(members)
        axes = figure.add_axes((room / WIDTH, (top - size) / high, size / WIDTH, size / high))
        _draw(axes, members, values / most, p)
        axes.set_title(category, loc="left", fontsize=9)
        top -= size + below[category]
    _draw_key(figure, most)
    return figure


def _draw(axes: "Axes", labels: list[str], values: np.ndarray, p: np.ndarray) -> None:
    """Fields as full as the root of the difference; a dot where it is significant."""
    shades(axes, -np.sign(values) * np.sqrt(np.abs(values)))
    rows, columns = np.nonzero(p < LEVEL)
    axes.plot(columns, rows, linestyle="", marker=".", markersize=2.5, color=INK)
    label_fields(axes, labels, labels)
    axes.tick_params(axis="x", labelrotation=90)
    for side in axes.spines.values():
        side.set_visible(False)


def _draw_key(figure: "Figure", most: float) -> None:
    """The scale of colours, in the empty corner above the first triangle."""
    high = figure.get_figheight()
    axes = figure.add_axes((3.75 / WIDTH, (high - 0.95) / high, 1.6 / WIDTH, 0.14 / high))
    shades(axes, np.linspace(1, -1, 64)[None])
    axes.set_aspect("auto")
    steps = np.array([-1, -0.25, 0, 0.25, 1])
    ticks = 31.5 + 31.5 * np.sign(steps) * np.sqrt(np.abs(steps))
    axes.set_xticks(ticks, [f"{most * step:.2g}" for step in steps], fontsize=SMALL)
    axes.set_yticks([])
    axes.set_title("row less column, bits per byte", fontsize=SMALL, loc="left", pad=3)


def by_category(
    frame: pd.DataFrame, results: pd.DataFrame, most: int = MOST
) -> dict[str, tuple[list[str], np.ndarray, np.ndarray]]:
    """(K labels, (K, K) differences, (K, K) p-values) of each category with two rows or more, static first.

    Only what lies below the diagonal is filled; all else is NaN. K is no more than ``most``: the best rows.
    """
    rows = _rows(frame, results)
    groups = {}
    for category in sorted({*rows["category"]}, key=lambda category: (category != "static", category)):
        members = rows[rows["category"] == category]
        best = members.assign(bits=as_floats(members["bits_per_byte"])).nsmallest(most, "bits").index
        members = members[members.index.isin(best)].reset_index(drop=True)
        values, p = _matrices(frame, members)
        if np.isfinite(values).any():
            groups[str(category)] = ([*names_with_tokenizer(members)], values, p)
    return groups


def _rows(frame: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """The rows of the results that occur in the pairs, up the ladder."""
    sides = [frame[[f"{side}_{name}" for name in KEY]].set_axis(KEY, axis="columns") for side in "ab"]
    keys = pd.concat(sides).drop_duplicates()
    rows = results[results["split"] == frame["split"].iloc[0]].merge(keys, on=KEY)
    return up_the_ladder(rows[~rows["family"].isin(NOT_ON_THE_LADDER)])


def _matrices(frame: pd.DataFrame, members: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    members_index = pd.MultiIndex.from_frame(members[KEY])
    sides = (frame[[f"{side}_{name}" for name in KEY]] for side in "ab")
    a, b = (members_index.get_indexer(pd.MultiIndex.from_frame(side)) for side in sides)
    drawn = (a >= 0) & (b >= 0)
    a, b, sign = a[drawn], b[drawn], np.where(a > b, 1, -1)[drawn]
    values, p = np.full((2, len(members), len(members)), np.nan)
    below_diagonal = np.maximum(a, b), np.minimum(a, b)
    values[below_diagonal] = sign * as_floats(frame["difference"])[drawn]
    p[below_diagonal] = as_floats(frame["p_holm"])[drawn]
    return values, p


def caption(frame: pd.DataFrame, results: pd.DataFrame) -> str:
    """What colours and dots are, and how many pairs differ."""
    groups = by_category(frame, results, len(results)).values()
    pairs = sum(int(np.isfinite(values).sum()) for _, values, _ in groups)
    different = sum(int((p < LEVEL).sum()) for _, _, p in groups)
    largest = _rows(frame, results)["category"].value_counts().max()
    left = f" Drawn are the best {MOST} rows of each category." if largest > MOST else ""
    whole = sum(len(labels) * (len(labels) - 1) // 2 for labels, _, _ in groups)
    if whole > pairs:
        left += f" Without a finite difference in this table, and so empty: {counted(whole - pairs, 'field')}."
    return (
        "Bits per byte of the row less those of the column, over the same blocks of text: blue where the row is "
        "better, orange where the column is. A dot marks a difference that is significant at 5 % after Holm's "
        f"correction for all pairs of the text: {different:,} of {counted(pairs, 'pair')}.{left}"
    )
