"""Bits per byte against a cost, with the Pareto front: what ``parameters``, ``compute`` and ``fit_time`` share."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmstages.figures.drawing import (
    INK,
    MARKERS,
    bits_axis,
    canvas,
    label_points,
    legend_below,
    level,
    logarithmic_between,
    look,
    sample_of,
)
from lmstages.figures.rows import Floor, as_floats, floor, listed, models_of, names_with_tokenizer, with_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BY = ("corpus", "split")
COLUMNS = ("tokenizer", "model", "title", "family", "category", "rank", "bits_per_byte", "made_of")
MOST_NAMES = 100  # points that are named, with a key below where there is no room; of more those on the front
FAMILIES = ("counts", "neural", "mixture", "pretrained")
OTHERS = "DPX*hdp"  # hollow marks of the categories that are not static, in the order of CATEGORIES
CATEGORIES = ("online", "bound", "pretrained", "reported")
NEAR = 0.35  # of the span of the rows, on a log scale: a floor further below the best one is not drawn


def front(frame: pd.DataFrame, cost: str, axis: str) -> "Figure | None":
    """One text's rows -> bits per byte over a cost; None where fewer than two rows have both."""
    rows = priced(frame, cost)
    if len(rows) < 2:
        return None
    figure, axes = canvas(4.4, grid="both")
    lowest = near_floor(frame, rows)
    scale = _set_limits(axes, rows, cost, [lowest.bits] if lowest else [])
    handles = [handle for mark in marks(rows) if (handle := _draw_mark(axes, rows, cost, *mark))]
    handles += _draw_front(axes, on_front(rows, cost), cost)
    if lowest:
        level(axes, lowest.bits, f"{lowest.name}, {lowest.bits:.2f}")
        handles.append(axes.lines[-1])
    axes.set(xlabel=f"{axis} (log scale)", ylabel=f"bits per byte ({scale})")
    legend_below(figure, handles, columns=4)
    _label(axes, rows, cost, handles)
    return figure


def near_floor(frame: pd.DataFrame, rows: pd.DataFrame) -> Floor | None:
    """The floor, where it is so near to the best row that it does not press all rows into one half of the panel."""
    lowest, bits = floor(frame), as_floats(rows["bits_per_byte"])
    if lowest is None or lowest.bits <= 0 or bits.min() <= 0:
        return None
    near = bits.max() == bits.min() or (bits.min() / lowest.bits) <= (bits.max() / bits.min()) ** NEAR
    return lowest if near else None


def priced(frame: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The models with a finite score and a cost above zero, with a name each.

    What was made from fitted models bears the cost of their fits.
    """
    rows = models_of(frame)
    rows["name"] = names_with_tokenizer(rows)
    rows = with_score(with_score(rows), cost)
    return rows[as_floats(rows[cost]) > 0].reset_index(drop=True)


def on_front(rows: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The static rows that no other static row beats in both, by rising cost."""
    static = rows[rows["category"] == "static"]
    points = [*zip(as_floats(static[cost]), as_floats(static["bits_per_byte"]), strict=True)]
    return static.iloc[pareto(points)]


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """(cost, bits) -> indices of the points that no other point beats in both, by rising cost."""
    indices: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: points[index]):
        if not indices or points[index][1] < points[indices[-1]][1]:
            indices.append(index)
    return indices


def marks(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(family, category, marker) of what occurs: static rows by their family, all others by their category."""
    families = [*dict.fromkeys([*FAMILIES, *sorted({*rows["family"]})])]
    categories = [*dict.fromkeys([*CATEGORIES, *sorted({*rows["category"]} - {"static"})])]
    static = [(family, "static", MARKERS[index % len(MARKERS)]) for index, family in enumerate(families)]
    others = [("", category, OTHERS[index % len(OTHERS)]) for index, category in enumerate(categories)]
    return [*static, *others]


def _set_limits(axes: "Axes", rows: pd.DataFrame, cost: str, levels: Sequence[float]) -> str:
    """Both axes from the data, with room for labels."""
    costs, bits = as_floats(rows[cost]), [*as_floats(rows["bits_per_byte"]), *levels]
    logarithmic_between(axes.xaxis, float(costs.min()), float(costs.max()), 0.1)
    return bits_axis(axes.yaxis, bits)


def _draw_mark(axes: "Axes", rows: pd.DataFrame, cost: str, family: str, category: str, marker: str) -> Any:
    """The points of one mark -> its entry of the legend; None where there are none."""
    members = rows[(rows["category"] == category) & ((rows["family"] == family) | (family == ""))]
    for row in members.to_dict("records"):
        colour = look(row["rank"])["color"]
        fill = colour if category == "static" else "none"
        size = 5 if category == "static" else 6.5  # to be seen around a full mark at the same place
        point = {"marker": marker, "markersize": size, "color": colour, "markerfacecolor": fill, "zorder": 3}
        axes.plot(row[cost], row["bits_per_byte"], linestyle="", **point)
    return sample_of(marker, family or category, hollow=category != "static") if len(members) else None


def _draw_front(axes: "Axes", line: pd.DataFrame, cost: str) -> Sequence[Any]:
    if len(line) < 2:
        return []
    style: Any = {"where": "post", "color": INK, "linewidth": 1, "alpha": 0.6, "label": "Pareto front", "zorder": 1}
    return axes.step(as_floats(line[cost]), as_floats(line["bits_per_byte"]), **style)


def _label(axes: "Axes", rows: pd.DataFrame, cost: str, handles: list[Any]) -> None:
    """A name beside each point; where there is no room for all names, numbers with a key below."""
    labelled = rows if len(rows) <= MOST_NAMES else on_front(rows, cost)
    points = [(float(row[cost]), float(row["bits_per_byte"]), row["name"]) for row in labelled.to_dict("records")]
    if label_points(axes, points, _lines(axes)):
        return
    key = [sample_of("", f"{number} {name}") for number, (_, _, name) in enumerate(points, start=1)]
    axes.figure.legends.clear()
    axes.figure.set_figheight(axes.figure.get_figheight() + 0.16 * len(key) / 3)  # type: ignore[union-attr]
    legend_below(axes.figure, [*handles, *key], columns=3)
    label_points(axes, [(x, y, str(number)) for number, (x, y, _) in enumerate(points, start=1)], _lines(axes))


def _lines(axes: "Axes") -> list[Any]:
    """The front and the level, on which no label may lie."""
    return [line for line in axes.lines if line.get_linestyle() != "None"]


def front_caption(frame: pd.DataFrame, cost: str, axis: str) -> str:
    """Who is on the front, what the dashed line is, and who cannot be drawn."""
    rows = priced(frame, cost)
    line, static = on_front(rows, cost), rows[rows["category"] == "static"]
    sentences = [*_about_front(line, static, axis)]
    if len(rows) > MOST_NAMES:
        sentences.append("Only marks that no other beats have names.")
    if others := sorted({*rows["category"]} - {"static"}):
        sentences.append(f"Hollow marks ({listed(others)}) are not ranked with the full ones.")
    if lowest := floor(frame):
        drawn = near_floor(frame, rows) is not None
        where = f"The dashed line at {lowest.bits:.2f}" if drawn else f"Below the panel, at {lowest.bits:.2f},"
        sentences.append(f"{where} is {lowest.meaning}.")
    if len(made := rows.loc[rows["made_of"].notna(), "name"]) and cost != "parameters":
        sentences.append(f"Made of a fitted model, whose cost it bears: {listed(made)}.")
    return " ".join([*sentences, *_absent(frame, rows, axis)])


def _about_front(line: pd.DataFrame, static: pd.DataFrame, axis: str) -> Iterator[str]:
    """What follows from the front of the static rows; nothing where there are not two of them."""
    if len(static) < 2:
        return
    if len(line) < 2:
        yield f"No static model has fewer bits per byte than {line['name'].iloc[0]}, and none fewer {axis}."
        return
    names = listed(line["name"], 12)
    yield f"The line joins the static models that no other beats with fewer bits at no more {axis}: {names}."
    if len(line) < len(static):
        yield "For every full mark above it, one on it is as good or better at no more cost."


def _absent(frame: pd.DataFrame, drawn: pd.DataFrame, axis: str) -> Iterator[str]:
    """Which models are not drawn, and why."""
    every = models_of(frame)
    every["name"] = names_with_tokenizer(every)
    left = every[~every["name"].isin(drawn["name"])]
    scored = with_score(left)["name"]
    if len(scored):
        yield f"Not drawn, since no {axis} are counted for them: {listed(scored, 12)}."
    if len(unscored := left.loc[~left["name"].isin(scored), "name"]):
        yield f"Not drawn, without a finite score: {listed(unscored, 12)}."
