"""How often each token occurs in train: all that a unigram knows."""

from typing import TYPE_CHECKING

import pandas as pd

from lmstages.figures.drawing import POSITIVE, SMALL, canvas
from lmstages.figures.rows import as_floats, listed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "How often each token occurs: {corpus}, tokens: {tokenizer}"
TABLE = "frequencies"
BY = ("corpus", "tokenizer")
COLUMNS = ("token", "count")
MOST = 48  # bars


def draw(frame: pd.DataFrame) -> "Figure | None":
    """Tokens and counts -> bars, the most frequent token first; None where nothing was counted."""
    ranked = by_percentage(frame)[:MOST]
    if not len(ranked):
        return None
    figure, axes = canvas(2.7)
    axes.bar(range(len(ranked)), ranked["percentage"], color=POSITIVE, width=0.78)
    axes.set_xticks(range(len(ranked)), ranked["token"], fontsize=SMALL)
    axes.tick_params(axis="x", labelrotation=90 if ranked["token"].str.len().max() > 1 else 0, pad=2)
    axes.set_xlim(-0.7, len(ranked) - 0.3)
    axes.set(xlabel="token, the most frequent first (␣ space, ↵ end of line)", ylabel="% of all counted tokens")
    return figure


def by_percentage(frame: pd.DataFrame) -> pd.DataFrame:
    """Tokens by falling frequency, with their percentage of all counted ones."""
    total = as_floats(frame["count"]).sum()
    if not total:
        return frame[:0]
    ranked = frame.assign(percentage=100 * as_floats(frame["count"]) / total)
    return ranked.sort_values("percentage", ascending=False, kind="stable").reset_index(drop=True)


def caption(frame: pd.DataFrame) -> str:
    """Which tokens are the likeliest."""
    ranked = by_percentage(frame)
    first = listed([f"{row.token} ({row.percentage:.1f} %)" for row in ranked[:2].itertuples()])
    left = f" Drawn are {MOST} of {len(ranked)} frequent tokens." if len(ranked) > MOST else ""
    return f"This is all that a unigram knows. Most frequent, whatever came before: {first}.{left}"
