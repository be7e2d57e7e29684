"""How a prediction gains from what stands before it: bits per byte by position in the document."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmstages.figures.drawing import bits_axis, canvas, label_ends, logarithmic, look
from lmstages.figures.rows import as_floats, names_with_tokenizer, with_score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Bits per byte by position, {corpus}, {split}"
TABLE = "positions"
BY = ("corpus", "split")
COLUMNS = ("tokenizer", "model", "title", "rank", "low", "high", "bytes", "bits_per_byte")
MOST = 8  # lines that can be told apart


def draw(frame: pd.DataFrame) -> "Figure | None":
    """The bins of one text -> a line for each of the best models; None where no bin has a number."""
    points = best(frame)
    if not len(points):
        return None
    figure, axes = canvas(3.6, grid="both")
    logarithmic(axes.xaxis)
    scale = bits_axis(axes.yaxis, as_floats(points["bits_per_byte"]))
    ends = []
    for name, line in points.groupby("name", sort=False):
        style = look(int(line["rank"].iloc[0]))
        x, y = line["position"].to_numpy(), as_floats(line["bits_per_byte"])
        axes.plot(x, y, **style, markersize=4)
        ends.append((x[-1], y[-1], str(name), style["color"]))
    axes.set(xlabel="tokens before it in its document (log scale)", ylabel=f"bits per byte ({scale})")
    label_ends(axes, ends)
    return figure


def best(frame: pd.DataFrame) -> pd.DataFrame:
    """The bins of the models with the fewest bits in all bins together, up the ladder."""
    bins = scored(frame)
    chosen = bins[bins["name"].isin(means(bins).nsmallest(MOST).index)]
    return chosen.sort_values(["rank", "name", "low"], kind="stable").reset_index(drop=True)


def scored(frame: pd.DataFrame) -> pd.DataFrame:
    """The bins of models that have a number, with a name, and a position: the geometric middle, counted from one."""
    bins = with_score(frame[frame["model"] != "oracle"])
    first = as_floats(bins["low"]) + 1
    position = np.sqrt(first * np.maximum(as_floats(bins["high"]), first))
    return bins.assign(name=names_with_tokenizer(bins), position=position)


def means(bins: pd.DataFrame) -> pd.Series:
    """Bits per byte of each name over all its bins, weighted by their bytes."""
    size = as_floats(bins["bytes"])
    sums = pd.DataFrame({"name": bins["name"], "bits": as_floats(bins["bits_per_byte"]) * size, "bytes": size})
    sums = sums.groupby("name").sum()
    return sums["bits"] / sums["bytes"].clip(lower=1)


def caption(frame: pd.DataFrame) -> str:
    """What a line says, with the ends of the best one."""
    points = best(frame)
    name = means(points).idxmin()
    bits = points.loc[points["name"] == name, "bits_per_byte"]
    ends = (
        f" {name} goes from {bits.iloc[0]:.2f} at the beginning to {bits.iloc[-1]:.2f} at the end."
        if len(bits) > 1
        else ""
    )
    left = f" Drawn are the best {MOST} of {count}." if (count := len(means(scored(frame)))) > MOST else ""
    return (
        f"Further to the right more of the document is known. A line that goes on falling is a long memory.{ends}{left}"
    )
