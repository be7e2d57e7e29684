"""How one model learns: its loss on train, and beside it its perplexity on held-out text."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmstages.figures.drawing import COLOURS, fine_grid, sheet
from lmstages.figures.learning import STEPS, plot_seeds
from lmstages.figures.rows import as_floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "{title} learns {corpus}, tokens: {tokenizer}"
TABLE = "curves"
BY = ("corpus", "tokenizer", "model")
COLUMNS = ("title", "seed", "step", "train", "valid")
MARGINS = {"left": 0.075, "right": 0.985, "top": 0.78, "bottom": 0.2, "wspace": 0.2}  # fractions of the sheet
LARGEST = 700.0  # nats; exp of more is no float


def draw(frame: pd.DataFrame) -> "Figure | None":
    """One model's curve -> train loss and valid perplexity over steps; None for no number."""
    from matplotlib.ticker import MaxNLocator

    points = frame.assign(valid=np.exp(np.minimum(as_floats(frame["valid"]), LARGEST)))
    if not np.isfinite(as_floats(points["train"])).any():
        return None
    figure = sheet(2.2, layout="none")
    panels = figure.subplots(1, 2, gridspec_kw=MARGINS)
    headings = (("train", "Train loss, nats per token"), ("valid", "Perplexity on held-out text"))
    for index, (axes, (column, heading)) in enumerate(zip(panels, headings, strict=True)):
        fine_grid(axes, heading=heading)
        plot_seeds(axes, points, column, color=COLOURS[index], marker="os"[index], markersize=3)
        axes.set(xlabel=STEPS, ylabel="")
        axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def caption(frame: pd.DataFrame) -> str:
    """Where the held-out perplexity was lowest, and what the band is."""
    sentences = ["Left the text it learns from, right text held out from it."]
    means = frame.assign(valid=as_floats(frame["valid"])).groupby("step")["valid"].mean().dropna()
    if len(means):
        lowest = np.exp(min(float(means.min()), LARGEST))
        sentences.append(f"The perplexity is lowest at step {means.idxmin():,}: {lowest:.2f}.")
    if (seeds := frame["seed"].nunique()) > 1:
        sentences.append(f"The line is the mean of {seeds} seeds, the band holds them all.")
    return " ".join(sentences)
