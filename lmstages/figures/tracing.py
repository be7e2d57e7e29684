"""What holds a fact: how much of its worth comes back when one state of a network is restored, by layer and place."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmstages.figures.drawing import SMALL, label_fields, shades, sheet
from lmstages.figures.rows import as_floats, counted, listed, names, up_the_ladder, with_score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "What holds a fact: {corpus}, tokens: {tokenizer}"
TABLE = "restored"
BY = ("corpus", "tokenizer")
A_LINE_A_ROW = True
COLUMNS = ("model", "title", "rank", "layer", "part", "position", "recovered")
ALSO = {"recalled": ("corpus", "tokenizer", "model", "kind", "facts", "worth", "worth_low")}
LABELS = {
    "first": "fact:\nfirst",
    "middle": "fact:\nmiddle",
    "last": "fact:\nlast",
    "next": "next\ntoken",
    "halfway": "halfway",
    "recall": "recall",
}


def draw(frame: pd.DataFrame, recalled: pd.DataFrame) -> "Figure | None":
    """A panel for each network that recalls facts, layers upwards, positions to the right; None where none does."""
    rows = held(frame)
    if not len(rows):
        return None
    maps = {str(name): by_place(same) for name, same in rows.groupby("name", sort=False)}
    heights = [len(values) for values in maps.values()]
    figure = sheet(0.8 + 0.24 * sum(heights) + 0.42 * len(maps))
    panels = figure.subplots(len(maps), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (name, values) in zip(panels, maps.items(), strict=True):
        shades(axes, values.to_numpy())
        axes.set_aspect("auto")
        label_fields(axes, [LABELS.get(role, role) for role in values.columns], list(values.index))
        axes.set_title(name, loc="left", fontsize=9)
        for (row, column), value in np.ndenumerate(values.to_numpy()):
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=SMALL)
    panels[-1].tick_params(axis="x", labelrotation=0)
    return figure


def held(frame: pd.DataFrame) -> pd.DataFrame:
    """The restored states of networks that recall facts for certain, up the ladder, with a name."""
    rows = up_the_ladder(with_score(frame, "recovered"))
    return rows.assign(name=names(rows))


def by_place(rows: pd.DataFrame) -> pd.DataFrame:
    """One network's rows -> its layers from the top down, by position in the order of the table."""
    parts = rows["part"].where(rows["part"] != "state", "")
    labels = ("layer " + rows["layer"].astype(str) + " " + parts).str.strip().where(rows["layer"] > 0, "embedding")
    marked = rows.assign(place=labels, recovered=as_floats(rows["recovered"]))
    order = [list(dict.fromkeys(marked["place"]))[::-1], list(dict.fromkeys(marked["position"]))]
    return marked.pivot_table("recovered", "place", "position").reindex(index=order[0], columns=order[1])


def caption(frame: pd.DataFrame, recalled: pd.DataFrame) -> str:
    """What is restored, what a number is, and who recalls nothing."""
    rows = held(frame)
    worth = recalled[recalled["kind"].isna()].merge(frame[["corpus", "tokenizer"]][:1], on=["corpus", "tokenizer"])
    sentences = [
        f"Held-out stories recall {counted(int(worth['facts'].max()), 'fact')} that they said before; then they are "
        "told with another word for it, and one state is set to what it was.",
        "Numbers are percent of the fact's worth that comes back: 100, the state holds all that the answer takes of "
        "the fact; 0, nothing; orange, the answer becomes less likely still.",
    ]
    silent = [name for name in dict.fromkeys(up_the_ladder(frame)["title"]) if name not in {*rows["title"]}]
    if silent:
        sentences.append(f"Not drawn, since not known to recall any fact: {listed(silent)}.")
    return " ".join(sentences)
