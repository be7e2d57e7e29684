"""How the neural models of a corpus learn: bits per byte of held-out text over steps of gradient descent."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from lmstages.figures.drawing import bits_axis, canvas, label_points, legend_below, logarithmic_between, look
from lmstages.figures.rows import as_floats, listed, names, up_the_ladder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Learning on {corpus}, tokens: {tokenizer}"
TABLE = "curves"
BY = ("corpus", "tokenizer")
A_LINE_A_ROW = True
COLUMNS = (
    *("model", "title", "rank", "seed", "step", "train", "valid"),
    *("train_bits_per_byte", "valid_bits_per_byte"),
)
STEPS = "steps of gradient descent"
NATS = "How many bytes a token covers is not known here, and so the losses are nats per token."


class Unit(NamedTuple):
    """In what losses are drawn, and the columns that hold them."""

    name: str
    train: str
    valid: str


BITS = Unit("bits per byte", "train_bits_per_byte", "valid_bits_per_byte")
IN_NATS = Unit("nats per token", "train", "valid")


def unit_of(frame: pd.DataFrame) -> Unit:
    """Bits per byte where every loss has them, else nats per token for all."""
    both = ((BITS.train, IN_NATS.train), (BITS.valid, IN_NATS.valid))
    return BITS if all(frame[bits].notna().equals(frame[nats].notna()) for bits, nats in both) else IN_NATS


def draw(frame: pd.DataFrame) -> "Figure | None":
    """The curves of one corpus and tokenizer -> a line of held-out text for each model; None for no number."""
    points, unit = up_the_ladder(frame), unit_of(frame)
    points["name"] = names(points)
    losses = as_floats(points[unit.valid])
    if not np.isfinite(losses).any():
        return None
    figure, axes = canvas(4.0, grid="both")
    drawn = {str(name): _draw_model(axes, curve, unit.valid) for name, curve in points.groupby("name", sort=False)}
    scale = bits_axis(axes.yaxis, losses)
    steps = as_floats(points["step"])
    if (steps > 0).all():
        logarithmic_between(axes.xaxis, steps.min(), steps.max(), 0.1)
    axes.set(xlabel=f"{STEPS} ({axes.get_xscale()} scale)", ylabel=f"held-out {unit.name} ({scale})")
    lines = [(name, line) for name, line in drawn.items() if line is not None]
    ends = [(float(line.get_xdata()[-1]), float(line.get_ydata()[-1]), name) for name, line in lines]
    if not label_points(axes, ends, [line for _, line in lines]):
        for name, line in lines:
            line.set_label(name)
        legend_below(figure, [line for _, line in lines], columns=4)
    return figure


def _draw_model(axes: "Axes", curve: pd.DataFrame, column: str) -> Any:
    """One model's line: the mean over its seeds, and a band from the lowest to the highest; None without a number."""
    every = max(1, curve["step"].nunique() // 5)
    return plot_seeds(axes, curve, column, **look(int(curve["rank"].iloc[0])), markersize=4, markevery=every)


def plot_seeds(axes: "Axes", curve: pd.DataFrame, column: str, **style: Any) -> Any:
    """(seeds, points) -> their mean over the steps that most seeds reached and, of several seeds, their range.

    Returns the line, or None where the column has no number.
    """
    import seaborn

    seeds = curve["seed"].nunique()
    data = curve.assign(value=as_floats(curve[column]), step=as_floats(curve["step"]))[["step", "value"]]
    data = data[np.isfinite(data["value"])]
    reached = data.groupby("step")["value"].transform("size")
    data = data[reached == reached.max()]
    before = len(axes.lines)
    seaborn.lineplot(
        data,
        x="step",
        y="value",
        markeredgewidth=0,
        errorbar=("pi", 100) if seeds > 1 else None,
        err_kws={"linewidth": 0},
        ax=axes,
        legend=False,
        **style,
    )
    return axes.lines[before] if len(axes.lines) > before else None


def caption(frame: pd.DataFrame) -> str:
    """Who is lowest at the end, what bands are, and whose held-out loss rises at the end."""
    points, unit = up_the_ladder(frame), unit_of(frame)
    points["name"] = names(points)
    sentences = ["Text that no model learns from; further down is better. A model's own drawing has its train, too."]
    sentences += [NATS] if unit is IN_NATS else []
    ends = last_means(points, unit)
    if len(ends) > 1:
        sentences.append(f"Of {len(ends)} models {ends.idxmin()} ends lowest, at {ends.min():.2f} {unit.name}.")
    if points.groupby("name")["seed"].nunique().max() > 1:
        sentences.append("Where there are several seeds, a line is their mean and the band holds them all.")
    rising = [str(name) for name, curve in points.groupby("name", sort=False) if overfits(curve)]
    if rising:
        sentences.append(
            f"Held-out loss past its lowest point while train still falls, so learning by heart: {listed(rising)}."
        )
    return " ".join(sentences)


def last_means(points: pd.DataFrame, unit: Unit) -> pd.Series:
    """The held-out loss at the last step of each name, mean over the seeds that reached it."""
    data = points.assign(value=as_floats(points[unit.valid]))
    data = data[np.isfinite(data["value"])]
    reached = data.groupby(["name", "step"], sort=False)["value"].transform("size")
    data = data[reached == reached.groupby(data["name"]).transform("max")]
    means = data.groupby(["name", "step"], sort=False)["value"].mean().reset_index()
    return means.loc[means.groupby("name", sort=False)["step"].idxmax()].set_index("name")["value"]


def overfits(curve: pd.DataFrame) -> bool:
    """Whether the mean held-out loss ends more than 1 % above its lowest point while train's ends at its own lowest."""
    means = curve.assign(valid=as_floats(curve["valid"])).groupby("step")[["train", "valid"]].mean().dropna()
    if len(means) < 2:
        return False
    last, lowest = means.iloc[-1], means.min()
    return bool(last["valid"] > 1.01 * lowest["valid"] and last["train"] <= lowest["train"])
