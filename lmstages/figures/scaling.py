"""What more text and more computation buy: bits per byte over the size of train and over the operations of the fit."""

from typing import TYPE_CHECKING

import pandas as pd

from lmstages.figures.drawing import bits_axis, fine_grid, legend_below, logarithmic_between, look, sheet
from lmstages.figures.rows import as_floats, listed, names_with_tokenizer, up_the_ladder, with_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "{sweep}, {split}: what more text and more computation buy"
TABLE = "scaling"
BY = ("sweep", "split")
COLUMNS = (
    *("tokenizer", "model", "title", "rank", "bytes", "flops"),
    *("bits_per_byte", "bits_per_byte_low", "bits_per_byte_high"),
)
ALSO = {"crossings": ("sweep", "split", "lower", "upper", "bytes")}
AXES = {"bytes": "bytes of train text", "flops": "floating-point operations of the fit"}


def draw(frame: pd.DataFrame, crossings: pd.DataFrame) -> "Figure | None":
    """The models of a sweep at every size -> a panel over text and, where it was counted, one over computation."""
    points = up_the_ladder(with_score(frame))
    if not len(points):
        return None
    points["name"] = names_with_tokenizer(points)
    axes_of = [axis for axis in AXES if (as_floats(points[axis]) > 0).any()]
    figure = sheet(3.9)
    panels = figure.subplots(1, len(axes_of), sharey=True, squeeze=False)[0]
    scale = ""
    for axes, axis in zip(panels, axes_of, strict=True):
        fine_grid(axes, "both")
        _draw(axes, points[as_floats(points[axis]) > 0], axis)
        scale = bits_axis(axes.yaxis, as_floats(points["bits_per_byte"]))
    panels[0].set_ylabel(f"bits per byte of held-out text\n({scale})")
    legend_below(figure, [handle for axes in panels for handle in axes.get_legend_handles_labels()[0]])
    return figure


def _draw(axes: "Axes", points: pd.DataFrame, axis: str) -> None:
    """A line with its 95 % band for each model."""
    for name, line in points.groupby("name", sort=False):
        line = line.sort_values(axis)
        style, size = look(int(line["rank"].iloc[0])), as_floats(line[axis])
        axes.plot(size, as_floats(line["bits_per_byte"]), label=str(name), **style)
        low, high = (as_floats(line[f"bits_per_byte_{end}"]) for end in ("low", "high"))
        axes.fill_between(size, low, high, color=style["color"], alpha=0.2, linewidth=0)
    sizes = as_floats(points[axis])
    logarithmic_between(axes.xaxis, sizes.min(), sizes.max(), 0.05)
    axes.set_xlabel(f"{AXES[axis]}\n(log scale)")


def caption(frame: pd.DataFrame, crossings: pd.DataFrame) -> str:
    """Where one model overtakes the other."""
    sweep, split = frame["sweep"].iloc[0], frame["split"].iloc[0]
    here = crossings[(crossings["sweep"] == sweep) & (crossings["split"] == split) & crossings["bytes"].notna()]
    changes = [f"{row.upper} and {row.lower} at {row.bytes:,.0f} bytes" for row in here.itertuples()]
    crossed = listed(changes) or "no model and the next one up the ladder do so within these sizes"
    return (
        "The same held-out text, more and more of train. Where two lines cross, one model overtakes the other: "
        f"{crossed}."
    )
