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
    logarithmic,
    look,
    sample_of,
)
from lmstages.figures.rows import as_floats, floor, listed, models_of, names_with_tokenizer, with_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BY = ("corpus", "split")
COLUMNS = ("tokenizer", "model", "title", "family", "category", "rank", "bits_per_byte", "made_of")
MOST_NAMES = 100  # points that are named, with a key below where there is no room; of more those on the front
FAMILIES = ("counts", "neural", "mixture", "pretrained")


def front(frame: pd.DataFrame, cost: str, axis: str) -> "Figure | None":
    """One text's rows -> bits per byte over a cost; None where fewer than two rows have both."""
    rows = priced(frame, cost)
    if len(rows) < 2:
        return None
    figure, axes = canvas(4.4, grid="both")
    lowest = floor(frame)
    scale = _set_limits(axes, rows, cost, [lowest.bits] if lowest else [])
    handles = [_draw_family(axes, rows, cost, family) for family in families(rows) if family in {*rows["family"]}]
    if (rows["category"] != "static").any():
        handles.append(sample_of("o", "hollow: not static", hollow=True))
    handles += _draw_front(axes, on_front(rows, cost), cost)
    if lowest:
        level(axes, lowest.bits, f"{lowest.name}, {lowest.bits:.2f}")
        handles.append(axes.lines[-1])
    axes.set(xlabel=f"{axis} (log scale)", ylabel=f"bits per byte ({scale})")
    legend_below(figure, handles, columns=4)
    _label(axes, rows, cost, handles)
    return figure


def priced(frame: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The models with a finite score and a cost above zero, with a name each.

    What was made from a fitted model has its parameters, but not the cost of that fit, and is left out elsewhere.
    """
    rows = models_of(frame)
    rows["name"] = names_with_tokenizer(rows)
    rows = with_score(with_score(rows), cost)
    own = (cost == "parameters") | rows["made_of"].isna()
    return rows[(as_floats(rows[cost]) > 0) & own].reset_index(drop=True)


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


def families(rows: pd.DataFrame) -> list[str]:
    """All families, so that each has the same marker in every drawing."""
    return [*dict.fromkeys([*FAMILIES, *sorted({*rows["family"]})])]


def _set_limits(axes: "Axes", rows: pd.DataFrame, cost: str, levels: Sequence[float]) -> str:
    """Both axes from the data, with room for labels."""
    costs, bits = as_floats(rows[cost]), [*as_floats(rows["bits_per_byte"]), *levels]
    logarithmic(axes.xaxis, (1,) if costs.max() > 100 * costs.min() else (1, 2, 5))
    room = (costs.max() / costs.min()) ** 0.08 * 1.3
    axes.set_xlim(costs.min() / room, costs.max() * room)
    return bits_axis(axes.yaxis, bits)


def _draw_family(axes: "Axes", rows: pd.DataFrame, cost: str, family: str) -> Any:
    marker = MARKERS[families(rows).index(family) % len(MARKERS)]
    for row in rows[rows["family"] == family].to_dict("records"):
        colour = look(row["rank"])["color"]
        fill = colour if row["category"] == "static" else "none"
        point = {"marker": marker, "color": colour, "markerfacecolor": fill, "linestyle": "", "zorder": 3}
        axes.plot(row[cost], row["bits_per_byte"], **point)
    return sample_of(marker, family)


def _draw_front(axes: "Axes", line: pd.DataFrame, cost: str) -> Sequence[Any]:
    if not len(line):
        return []
    style: Any = {"where": "post", "color": INK, "linewidth": 1, "alpha": 0.6, "label": "Pareto front", "zorder": 1}
    return axes.step(as_floats(line[cost]), as_floats(line["bits_per_byte"]), **style)


def _label(axes: "Axes", rows: pd.DataFrame, cost: str, handles: list[Any]) -> None:
    """A name beside each point; where there is no room for all names, numbers with a key below."""
    named = rows if len(rows) <= MOST_NAMES else on_front(rows, cost)
    points = [(float(row[cost]), float(row["bits_per_byte"]), row["name"]) for row in named.to_dict("records")]
    if label_points(axes, points, axes.lines[-2:]):
        return
    key = [sample_of("", f"{number} {name}") for number, (_, _, name) in enumerate(points, start=1)]
    axes.figure.legends.clear()
    axes.figure.set_figheight(axes.figure.get_figheight() + 0.16 * len(key) / 3)  # type: ignore[union-attr]
    legend_below(axes.figure, [*handles, *key], columns=3)
    label_points(axes, [(x, y, str(number)) for number, (x, y, _) in enumerate(points, start=1)], axes.lines[-2:])


def front_caption(frame: pd.DataFrame, cost: str, axis: str) -> str:
    """Who is on the front, and who cannot be drawn."""
    rows = priced(frame, cost)
    line, static = on_front(rows, cost), rows[rows["category"] == "static"]
    sentences = [f"On the line nobody is better for less: {listed(line['name'], 12)}."] if len(line) else []
    if len(line) < len(static):
        sentences.append("Above it something cheaper predicts as well.")
    if len(rows) > MOST_NAMES:
        sentences.append("Only marks on the line have names.")
    if len(static) < len(rows):
        sentences.append("Hollow marks are not ranked with it.")
    return " ".join([*sentences, *_absent(frame, rows, axis)])


def _absent(frame: pd.DataFrame, drawn: pd.DataFrame, axis: str) -> Iterator[str]:
    """Which models are not drawn, and why."""
    every = models_of(frame)
    every["name"] = names_with_tokenizer(every)
    left = every[~every["name"].isin(drawn["name"])]
    made, other = (left.loc[left["made_of"].notna() == made, "name"] for made in (True, False))
    if len(made):
        yield f"Made from a fitted model, whose cost it does not bear, and so not drawn: {listed(made)}."
    if len(other):
        yield f"Without a finite score or {axis}, and so not drawn: {listed(other, 12)}."
