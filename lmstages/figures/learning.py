"""How neural models learn, and how a prediction gains from what stands before it.

Over several seeds a line is their mean and the band about it runs from the lowest to the highest.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmstages.figures.drawing import COLOURS, INK, Drawing, canvas, frame, logarithmic, look, numbers, panels, settings
from lmstages.figures.rows import Row, named, scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = "steps of gradient descent"
MARGINS = {"left": 0.08, "right": 0.98, "top": 0.86, "bottom": 0.21, "wspace": 0.24}  # shares of the sheet


def curves(rows: Sequence[Row]) -> Drawing | None:
    """Rows of one corpus and tokenizer -> nats per token over steps, of train and valid; None if none learned so."""
    learned = [row for row in rows if row["curve"]]
    if not learned:
        return None
    title = f"Learning on {rows[0]['corpus']}, tokens: {rows[0]['tokenizer']}"
    with settings():
        figure, axes = canvas(6.2, 3.6, title)
        for place, row in enumerate(learned):
            colour, dash = look(place)["color"], look(place)["linestyle"]
            steps = [point["step"] for point in row["curve"]]
            axes.plot(steps, numbers(row["curve"], "train"), color=colour, linewidth=1, alpha=0.55, linestyle=":")
            axes.plot(steps, numbers(row["curve"], "valid"), color=colour, linestyle=dash, label=named(row))
        axes.plot([], [], color=INK, linewidth=1, alpha=0.55, linestyle=":", label="the same on train")
        axes.set_xlabel(STEPS)
        axes.set_ylabel("nats per token (lower is better)")
        axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
        axes.legend(loc="best", ncols=1 + len(learned) // 5)
        return Drawing(title, _curves_sentence(learned), figure)


def _curves_sentence(learned: Sequence[Row]) -> str:
    whose = f"{learned[0]['title']} learns" if len(learned) == 1 else "each neural model learns"
    return (
        f"How {whose}: solid lines are text it did not learn from, dotted ones text it did. "
        "Where the solid line turns up while the dotted one falls, it has begun to learn by heart."
    )


def curve(row: Row) -> Drawing | None:
    """One row -> its train loss and its perplexity on valid, over steps; None if it did not learn by steps."""
    seeds = [each for each in row.get("curves") or [row["curve"]] if each]
    if not seeds:
        return None
    from matplotlib.ticker import MaxNLocator

    title = f"{named(row)} learns {row['corpus']}, tokens: {row['tokenizer']}"
    with settings():
        figure = panels(6.4, 2.3, layout="none")
        train, valid = figure.subplots(1, 2, gridspec_kw=MARGINS)
        for place, (axes, key, heading) in enumerate(
            ((train, "train", "Train loss, nats per token"), (valid, "valid", "Valid perplexity"))
        ):
            frame(axes, heading)
            axes.title.set_fontsize(9)
            _draw_band(axes, COLOURS[place], [each[: min(map(len, seeds))] for each in seeds], key)
            axes.set_xlabel(STEPS)
            axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        return Drawing(title, _curve_sentence(row, seeds), figure)


def _draw_band(axes: "Axes", colour: str, seeds: Sequence[Sequence[Row]], key: str) -> None:
    """(seeds, points) -> their mean and, where there are several, from the lowest to the highest."""
    values = np.array([numbers(each, key) for each in seeds])
    values = np.exp(np.minimum(values, 700.0)) if key == "valid" else values
    steps = [point["step"] for point in seeds[0]]
    axes.plot(steps, values.mean(axis=0), color=colour)
    if len(seeds) > 1:
        axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.25, linewidth=0)


def _curve_sentence(row: Row, seeds: Sequence[Sequence[Row]]) -> str:
    """Where the perplexity was lowest, and what the band is."""
    found = [(point["valid"], point["step"]) for point in seeds[0] if point.get("valid") is not None]
    lowest = f" Lowest on valid at step {min(found)[1]:,}: {math.exp(min(min(found)[0], 700)):.2f}." if found else ""
    band = f" The band holds all {len(seeds)} seeds." if len(seeds) > 1 else ""
    return f"Left the text it learns from, right text held out from it.{lowest}{band}"


MOST = 8  # lines that can be told apart


def by_position(rows: Sequence[Row]) -> Drawing | None:
    """Rows of one held-out text -> bits per byte over how far into its document a prediction stands."""
    known = sorted((row for row in scored(rows) if row.get("by_position")), key=lambda row: row["bits_per_byte"])[:MOST]
    if not known:
        return None
    title = f"Loss against position, {rows[0]['corpus']}, {rows[0]['split']}"
    with settings():
        figure, axes = canvas(6.6, 3.8, title)
        for place, row in enumerate(sorted(known, key=lambda row: row["rank"])):
            points = [point for point in row["by_position"] if point["bits_per_byte"] is not None]
            axes.plot(
                [_middle(point) for point in points], numbers(points, "bits_per_byte"), **look(place), label=_of(row)
            )
        logarithmic(axes.xaxis)
        axes.set_xlabel("tokens before it in its document (log scale)")
        axes.set_ylabel("bits per byte of text (lower is better)")
        axes.legend(loc="best", fontsize=7)
        return Drawing(title, _position_sentence(known), figure)


def _middle(point: Row) -> float:
    """The geometric middle of a bin, counted from one."""
    return math.sqrt((point["from"] + 1) * max(point["to"], point["from"] + 1))


def _of(row: Row) -> str:
    return f"{named(row)}, {row['tokenizer']}"


def _position_sentence(known: Sequence[Row]) -> str:
    best = known[0]
    first, last = (best["by_position"][place]["bits_per_byte"] for place in (0, -1))
    ends = f", {first:.2f} to {last:.2f} for {best['title']}" if None not in (first, last) else ""
    return f"What is known already helps: follow a line to the right, into the document{ends}. Flat is a short memory."
