"""How a prediction gains from what stands before it: bits per byte by position in the document.

The best model of each family and category has a name; others are pale.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmstages.figures.drawing import INK, bits_axis, canvas, label_ends, logarithmic_between, look
from lmstages.figures.rows import as_floats, counted, listed, names_with_tokenizer, with_score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Bits per byte by position, {corpus}, {split}"
TABLE = "positions"
BY = ("corpus", "split")
COLUMNS = ("tokenizer", "model", "title", "rank", "low", "high", "bytes", "bits_per_byte")
KEY = ["tokenizer", "model"]
ALSO = {"results": ("corpus", "split", *KEY, "family", "category")}
MOST = 8  # lines: those with a name, and of all others the best


def draw(frame: pd.DataFrame, results: pd.DataFrame) -> "Figure | None":
    """The bins of one text -> a line for the best model of each family, others pale; None where no bin has a number."""
    points, leading = best(frame, results)
    if not len(points):
        return None
    figure, axes = canvas(3.6, grid="both")
    logarithmic_between(axes.xaxis, points["position"].min(), points["position"].max(), 0.06)
    scale = bits_axis(axes.yaxis, as_floats(points["bits_per_byte"]))
    ends = []
    for name, line in points.groupby("name", sort=False):
        x, y = line["position"].to_numpy(), as_floats(line["bits_per_byte"])
        if name not in leading:
            axes.plot(x, y, color=INK, linewidth=0.8, alpha=0.25, zorder=1)
            continue
        style = look(int(line["rank"].iloc[0]))
        hollow = {"markerfacecolor": "none", "linestyle": (0, (1, 1.4))} if leading[str(name)] != "static" else {}
        axes.plot(x, y, **{**style, **hollow}, markersize=4)
        ends.append((x[-1], y[-1], str(name), style["color"]))
    axes.set(xlabel="position in the document, in tokens (log scale)", ylabel=f"bits per byte ({scale})")
    label_ends(axes, ends)
    return figure


def best(frame: pd.DataFrame, results: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """The drawn bins up the ladder, and the names of the best model of each family and category, with their category.

    Best is who has the fewest bits in all bins together. The others are those with the fewest bits after them.
    """
    bins = scored(frame)
    mean = means(bins)
    standing = _family_and_category(bins, results).reindex(mean.index)
    first = mean.groupby([*standing.T.to_numpy()]).idxmin()
    leading = {str(name): str(standing.loc[name, "category"]) for name in first}
    others = mean.drop([*leading]).nsmallest(max(0, MOST - len(leading))).index
    chosen = bins[bins["name"].isin([*leading, *others])]
    return chosen.sort_values(["rank", "name", "low"], kind="stable").reset_index(drop=True), leading


def _family_and_category(bins: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """By name, what the model is; static where the results do not say it."""
    models = bins[[*KEY, "name"]].drop_duplicates("name")
    known = results.drop_duplicates(KEY)[[*KEY, "family", "category"]]
    rows = models.merge(known, on=KEY, how="left").set_index("name")[["family", "category"]]
    return rows.astype(object).where(rows.notna(), "static")


def scored(frame: pd.DataFrame) -> pd.DataFrame:
    """The bins of models that have a number, with a name, and a position: the geometric middle, counted from one.

    A model that is infinite in one bin has no mean, and is left out.
    """
    rows = frame[frame["model"] != "oracle"].reset_index(drop=True)
    rows["name"] = names_with_tokenizer(rows)
    bins = with_score(rows[~rows["name"].isin(infinite(rows))])
    first = as_floats(bins["low"]) + 1
    return bins.assign(position=np.sqrt(first * np.maximum(as_floats(bins["high"]), first)))


def best_of(points: pd.DataFrame, leading: Mapping[str, str]) -> str:
    """Of what the first of the leading models is the best; nothing where it is alone."""
    if points["name"].nunique() < 2:
        return ""
    return ", the best static model," if "static" in leading.values() else ", the best of all,"


def infinite(rows: pd.DataFrame) -> list[str]:
    """The names of models that are infinite in a bin."""
    return [*dict.fromkeys(rows.loc[np.isinf(as_floats(rows["bits_per_byte"])), "name"])]


def means(bins: pd.DataFrame) -> pd.Series:
    """Bits per byte of each name over all its bins, weighted by their bytes."""
    size = as_floats(bins["bytes"])
    sums = pd.DataFrame({"name": bins["name"], "bits": as_floats(bins["bits_per_byte"]) * size, "bytes": size})
    sums = sums.groupby("name").sum()
    return sums["bits"] / sums["bytes"].clip(lower=1)


def caption(frame: pd.DataFrame, results: pd.DataFrame) -> str:
    """What a line says, whose lines have names, and the ends of the best one."""
    points, leading = best(frame, results)
    first = [name for name, category in leading.items() if category == "static"] or [*leading]
    name = means(points)[first].idxmin()
    bits = points.loc[points["name"] == name, "bits_per_byte"]
    sentences = ["Each point is the mean over all tokens that stand equally far into their document."]
    if len(leading) > 1:
        apart = " and category" if len({*leading.values()}) > 1 else ""
        dotted = " (dotted: not static)" if {*leading.values()} - {"static"} else ""
        sentences.append(f"Named is the best model of each family{apart}{dotted}.")
    if pale := points["name"].nunique() - len(leading):
        sentences.append(f"Pale: {counted(pale, 'further model')}, the best of all others.")
    if (count := len(means(scored(frame)))) > points["name"].nunique():
        sentences.append(f"Drawn are {points['name'].nunique()} of {count}.")
    if len(bits) > 1:
        sentences.append(
            f"{name}{best_of(points, leading)} goes from {bits.iloc[0]:.2f} at the beginning to {bits.iloc[-1]:.2f} at "
            "the end."
        )
    every = frame[frame["model"] != "oracle"]
    if without := infinite(every.assign(name=names_with_tokenizer(every))):
        sentences.append(f"Not drawn, since infinite at some position: {listed(without)}.")
    return " ".join(sentences)
