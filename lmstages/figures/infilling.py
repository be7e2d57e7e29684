"""What the hidden middle of a row costs: nats per character by its length, both sides known and the left alone."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmstages.evaluation.facts import CHARACTERS
from lmstages.figures.drawing import INK, canvas, label_ends, linear, look
from lmstages.figures.rows import as_floats, counted, names_with_tokenizer, up_the_ladder, with_score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Filling a gap, nats per hidden character: {corpus}, {split}"
TABLE = "infilling"
BY = ("corpus", "split")
A_LINE_A_ROW = True
COLUMNS = (
    *("tokenizer", "model", "title", "rank", "gap", "length", "side", "method", "places", "context"),
    *("nats_per_character", "exact_match"),
)
BESIDE = {"left": (0, (1, 1.4)), "any length": (0, (5, 2))}  # lines without a name of their own


def draw(frame: pd.DataFrame) -> "Figure | None":
    """A line a model; dotted from the left alone, dashed where no length is told; None where no row has a number."""
    rows = scored(frame)
    if not len(rows):
        return None
    figure, axes = canvas(3.8, grid="both")
    ticks = dict(sorted(zip(as_floats(rows["at"]), rows["label"], strict=True)))
    axes.set_xscale("log", base=2)
    axes.set_xticks([*ticks], [*ticks.values()], minor=False)
    axes.minorticks_off()
    ends = {}
    for (name, side, gap), line in rows.groupby(["name", "side", "gap"], sort=False):
        x, y = as_floats(line["at"]), as_floats(line["nats_per_character"])
        style = {"color": INK, "marker": "."} if line["model"].iloc[0] == "oracle" else look(int(line["rank"].iloc[0]))
        if side in BESIDE:
            axes.plot(x, y, **{**style, "linestyle": BESIDE[side], "markerfacecolor": "none"}, markersize=3, alpha=0.6)
            continue
        axes.plot(x, y, **style, markersize=4)
        if gap == CHARACTERS or name not in ends:
            ends[name] = (x[-1], y[-1], str(name), style["color"])
    linear(axes.yaxis, 0.0, float(rows["nats_per_character"].max()))
    axes.set(xlabel="hidden characters (log scale)", ylabel="nats per hidden character")
    label_ends(axes, [*ends.values()])
    return figure


def scored(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that have a number, up the ladder and by length, with a name."""
    rows = up_the_ladder(with_score(frame, "nats_per_character"))
    rows["name"] = names_with_tokenizer(rows)
    rows = rows.sort_values(["rank", "name", "side", "gap", "length"], kind="stable").reset_index(drop=True)
    is_counted = rows["gap"] == CHARACTERS
    longest = float(rows.loc[is_counted, "length"].max()) if is_counted.any() else 1.0
    beyond = {"word": 2 * longest, "sentence": 4 * longest}  # where whole ones stand, right of all lengths
    rows["at"] = np.where(is_counted, rows["length"], rows["gap"].map(beyond))
    rows["label"] = np.where(is_counted, rows["length"].map("{:g}".format), rows["gap"])
    return rows


def best(rows: pd.DataFrame) -> pd.DataFrame:
    """Of every length the model, and no oracle, that fills it from both sides at the lowest cost."""
    models = rows[(rows["side"] == "both") & (rows["method"] != "oracle") & (rows["gap"] == CHARACTERS)]
    return models.loc[models.groupby("length")["nats_per_character"].idxmin()].reset_index(drop=True)


def caption(frame: pd.DataFrame) -> str:
    """What a line says, who fills the shortest and the longest gap best, and where the oracle is."""
    rows = scored(frame)
    places, context = int(rows["places"].max()), int(rows["context"].max())
    sentences = [
        f"In {counted(places, 'row')} of {context:,} characters the middle was hidden and its length told.",
        "A line is a model that knows both sides; it ends where the model can no longer try every fill.",
    ]
    if (rows["side"] == "left").any():
        sentences.append("The dotted lines are the same models from the left alone.")
    if (rows["side"] == "any length").any():
        sentences.append("Along the dashed lines the length, 1 to 16, is not told; saying it costs nats, too.")
    winners = best(rows)
    ends = winners.iloc[[0, -1]] if len(winners) > 1 else winners
    sentences += [
        f"{row['name']} fills {counted(int(row['length']), 'character')} best, at {row['nats_per_character']:.2f}"
        + ("." if np.isnan(row["exact_match"]) else f", and rightly {100 * row['exact_match']:.0f} times in 100.")
        for _, row in ends.iterrows()
    ]
    if (rows["gap"] != CHARACTERS).any():
        sentences.append("On the right a whole word or sentence was hidden, where it is not too long for a model.")
    if (rows["method"] == "oracle").any():
        sentences.append("The grammar of the text, which reads the whole document, is the least on average.")
    return " ".join(sentences)
