"""How one model learns: bits per byte of the text it learns from, and of text held out from it."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmstages.figures.drawing import canvas, legend_below, linear, look
from lmstages.figures.learning import IN_NATS, NATS, STEPS, plot_seeds, unit_of
from lmstages.figures.rows import as_floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "{title} learns {corpus}, tokens: {tokenizer}"
TABLE = "curves"
BY = ("corpus", "tokenizer", "model")
COLUMNS = (
    *("title", "rank", "seed", "step", "train", "valid"),
    *("train_bits_per_byte", "valid_bits_per_byte"),
)
DOTTED = (0, (1, 1.4))


def draw(frame: pd.DataFrame) -> "Figure | None":
    """One model's curve -> train dotted, held-out text solid, over steps; None for no number of train."""
    from matplotlib.ticker import MaxNLocator

    unit = unit_of(frame)
    losses = np.concatenate([as_floats(frame[unit.train]), as_floats(frame[unit.valid])])
    if not np.isfinite(as_floats(frame[unit.train])).any():
        return None
    figure, axes = canvas(2.3, grid="both")
    style = look(int(frame["rank"].iloc[0]))
    train = plot_seeds(axes, frame, unit.train, color=style["color"], linestyle=DOTTED, label="train")
    style |= {"linestyle": "-", "markersize": 3.5, "label": "held-out text"}
    lines = [plot_seeds(axes, frame, unit.valid, **style), train]
    finite = losses[np.isfinite(losses)]
    linear(axes.yaxis, float(finite.min()), float(finite.max()))
    axes.set(xlabel=STEPS, ylabel=f"{unit.name}\n(lower is better)")
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend_below(figure, [line for line in lines if line is not None])
    return figure


def caption(frame: pd.DataFrame) -> str:
    """Where held-out text was lowest, and what the band is."""
    unit = unit_of(frame)
    sentences = [NATS] if unit is IN_NATS else []
    means = frame.assign(valid=as_floats(frame[unit.valid])).groupby("step")["valid"].mean().dropna()
    if len(means):
        sentences.append(f"Held-out text is lowest at step {means.idxmin():,}: {means.min():.2f} {unit.name}.")
    else:
        sentences.append(f"Only the text that the model learns from was measured, in {unit.name}.")
    if (seeds := frame["seed"].nunique()) > 1:
        sentences.append(f"A line is the mean of {seeds} seeds, its band holds them all.")
    return " ".join(sentences)
