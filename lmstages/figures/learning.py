"""How the neural models of a corpus learn: loss on held-out text and on train, over steps of gradient descent."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lmstages.figures.drawing import INK, bits_axis, canvas, legend_below, logarithmic, look
from lmstages.figures.rows import as_floats, listed, names, up_the_ladder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Learning on {corpus}, tokens: {tokenizer}"
TABLE = "curves"
BY = ("corpus", "tokenizer")
A_LINE_A_ROW = True
COLUMNS = ("model", "title", "rank", "seed", "step", "train", "valid")
STEPS = "steps of gradient descent"


def draw(frame: pd.DataFrame) -> "Figure | None":
    """The curves of one corpus and tokenizer -> nats per token, valid solid and train dotted; None for no number."""
    points = up_the_ladder(frame)
    points["name"] = names(points)
    losses = np.concatenate([as_floats(points["valid"]), as_floats(points["train"])])
    if not np.isfinite(losses).any():
        return None
    figure, axes = canvas(4.0, grid="both")
    scale = bits_axis(axes.yaxis, losses)
    handles = [_draw_model(axes, str(name), curve) for name, curve in points.groupby("name", sort=False)]
    handles += axes.plot([], [], color=INK, linewidth=1, alpha=0.7, linestyle=(0, (1, 1.4)), label="the same on train")
    if (as_floats(points["step"]) > 0).any():
        logarithmic(axes.xaxis, (1, 2, 5))
    axes.set(xlabel=f"{STEPS} ({axes.get_xscale()} scale)", ylabel=f"nats per token ({scale})")
    legend_below(figure, handles, columns=4)
    return figure


def _draw_model(axes: "Axes", name: str, curve: pd.DataFrame) -> Any:
    """One model's lines: the mean over its seeds, and a band from the lowest to the highest."""
    style = look(int(curve["rank"].iloc[0]))
    color = {"color": style["color"]}
    plot_seeds(axes, curve, "train", **color, linewidth=0.9, alpha=0.7, linestyle=(0, (1, 1.4)))
    every = max(1, curve["step"].nunique() // 5)
    return plot_seeds(axes, curve, "valid", **style, markersize=4, markevery=every, label=name)


def plot_seeds(axes: "Axes", curve: pd.DataFrame, column: str, **style: Any) -> Any:
    """(seeds, points) -> their mean over the steps that most seeds reached and, of several seeds, their range."""
    import seaborn

    seeds = curve["seed"].nunique()
    data = curve.assign(value=as_floats(curve[column]), step=as_floats(curve["step"]))[["step", "value"]].dropna()
    reached = data.groupby("step")["value"].transform("size")
    data = data[reached == reached.max()]
    band = ("pi", 100) if seeds > 1 else None
    before = len(axes.lines)
    seaborn.lineplot(
        data,
        x="step",
        y="value",
        markeredgewidth=0,
        errorbar=band,
        err_kws={"linewidth": 0},
        ax=axes,
        legend=False,
        **style,
    )
    return axes.lines[before] if len(axes.lines) > before else axes.plot([], [], **style)[0]


def caption(frame: pd.DataFrame) -> str:
    """What solid and dotted lines are, and whose held-out loss rises at the end."""
    points = up_the_ladder(frame)
    points["name"] = names(points)
    sentences = ["Solid lines are text that is not learned from, dotted ones text that is."]
    if points.groupby("name")["seed"].nunique().max() > 1:
        sentences.append("Where there are several seeds, a line is their mean and the band holds them all.")
    rising = [str(name) for name, curve in points.groupby("name", sort=False) if overfits(curve)]
    if rising:
        sentences.append(
            f"Held-out loss past its lowest point while train still falls, so learning by heart: {listed(rising)}."
        )
    return " ".join(sentences)


def overfits(curve: pd.DataFrame) -> bool:
    """Whether the mean held-out loss ends more than 1 % above its lowest point while train's ends at its own lowest."""
    means = curve.assign(valid=as_floats(curve["valid"])).groupby("step")[["train", "valid"]].mean().dropna()
    if len(means) < 2:
        return False
    last, lowest = means.iloc[-1], means.min()
    return bool(last["valid"] > 1.01 * lowest["valid"] and last["train"] <= lowest["train"])
