"""How often a model finds the grammatical one of two texts likelier: accuracy by contrast."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmstages.figures.drawing import SMALL, WIDTH, room_for, shades, sheet
from lmstages.figures.rows import as_floats, listed, names, up_the_ladder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Minimal pairs decided rightly, in %: {corpus}, tokens: {tokenizer}"
TABLE = "minimal_pairs"
BY = ("corpus", "tokenizer")
A_LINE_A_ROW = True
COLUMNS = ("model", "title", "rank", "contrast", "accuracy", "pairs")
ALL = "all"  # the contrast that holds all others
HALF = 0.5  # accuracy of a model that guesses


def draw(frame: pd.DataFrame) -> "Figure | None":
    """Accuracies -> a field for each model and contrast, with its number; None for no number."""
    values = table(frame)
    if not np.isfinite(values.to_numpy()).any():
        return None
    rows, columns = values.shape
    height = 0.21 * rows
    figure = sheet(height + 0.85, layout="none")
    room = room_for(list(values.index)) * 1.1
    width = min(WIDTH - room - 0.15, 0.85 * columns)
    axes = figure.add_axes((room / WIDTH, 0.1 / (height + 0.85), width / WIDTH, height / (height + 0.85)))
    shades(axes, 2 * (values.to_numpy() - HALF) * 0.8)
    axes.set_aspect("auto")
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        text = "–" if np.isnan(value) else f"{100 * value:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=SMALL)
    axes.set_yticks(range(rows), values.index, fontsize=SMALL + 0.5)
    axes.set_xticks(range(columns), [f"{name}\n({pairs_of(frame, name):,})" for name in values.columns], fontsize=SMALL)
    axes.xaxis.tick_top()
    return figure


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """(models up the ladder, contrasts) -> accuracy; all contrasts together stand last."""
    rows = up_the_ladder(frame)
    rows["name"], rows["accuracy"] = names(rows), as_floats(rows["accuracy"])
    contrasts = sorted(dict.fromkeys(rows["contrast"]), key=lambda name: (name == ALL, name))
    values = rows.pivot_table("accuracy", "name", "contrast", dropna=False)
    return values.reindex(index=list(dict.fromkeys(rows["name"])), columns=contrasts)


def pairs_of(frame: pd.DataFrame, contrast: str) -> int:
    """How many pairs a contrast has."""
    return int(frame.loc[frame["contrast"] == contrast, "pairs"].max())


def caption(frame: pd.DataFrame) -> str:
    """What guessing would give, and who decides most pairs rightly."""
    values = table(frame)
    column = ALL if ALL in values else values.columns[-1]
    pairs = pairs_of(frame, column)
    half_width = 1.96 * np.sqrt(HALF * (1 - HALF) / max(1, pairs))  # normal approximation of the binomial
    guessing = f"{100 * max(0, HALF - half_width):.0f} to {100 * min(1, HALF + half_width):.0f} %"
    sentences = [
        "Percentage of pairs of which the grammatical text is likelier; blue above a half, orange below. In brackets "
        f"the number of pairs: of the {pairs:,} in {column}, guessing would get {guessing} right 95 times in 100."
    ]
    best = values[column].max()
    if len(values) > 1 and np.isfinite(best):
        sentences.append(
            f"Most are decided rightly by {listed(values.index[values[column] == best])}: {100 * best:.0f} %."
        )
    return " ".join(sentences)
