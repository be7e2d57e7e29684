"""Whether a model carries over to couples of words that were withheld from train: the gap, with its interval."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmstages.figures.drawing import MARKERS, canvas, legend_below, level, list_models, look, sample_of
from lmstages.figures.rows import as_floats, counted, listed, names_with_tokenizer, up_the_ladder, with_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Withheld couples of words: {corpus}, {split}"
TABLE = "transfer"
BY = ("corpus", "split")
A_LINE_A_ROW = True
COLUMNS = (
    *("tokenizer", "model", "title", "rank", "couples", "withheld", "sees"),
    *("gap_bits", "gap_bits_low", "gap_bits_high", "reference_bits"),
)
BLIND = 0.5  # a model that sees the first word of fewer couples cannot be said to carry over


def draw(frame: pd.DataFrame) -> "Figure | None":
    """The gap of each model -> a dot with its 95 % interval; None for no number."""
    rows = up_the_ladder(with_score(frame, "gap_bits"))
    if not len(rows):
        return None
    figure, axes = canvas(1.7 + 0.19 * len(rows))
    list_models(axes, [*names_with_tokenizer(rows)])
    for y, row in enumerate(rows.to_dict("records")):
        _draw_row(axes, y, row)
    level(axes, 0.0, "no gap", across=True)
    handles = [
        sample_of("o", "sees the first word"),
        sample_of("o", "mostly out of its sight", hollow=True),
        axes.lines[-1],
    ]
    for bits in sorted({*rows["reference_bits"].dropna()}):
        axes.plot([bits, bits], [-0.5, len(rows) - 0.5], linestyle=(0, (1, 2)), color="#7f7f7f", label=reference(bits))
        handles.append(axes.lines[-1])
    axes.set_xlabel("gap, bits per couple (0: withheld couples cost no more)")
    legend_below(figure, handles)
    return figure


def reference(bits: float) -> str:
    """What the dotted line is."""
    return f"counting the couples: {bits:.2f}"


def _draw_row(axes: "Axes", y: int, row: Mapping[Any, Any]) -> None:
    color = look(min(row["rank"], 999))["color"]
    fill = color if row["sees"] >= BLIND else "none"
    ends = [row["gap_bits_low"], row["gap_bits_high"]]
    axes.plot(ends, [y, y], color=color, linewidth=1.1, marker="|", markersize=4, zorder=2)
    axes.plot(row["gap_bits"], y, marker=MARKERS[0], color=color, markerfacecolor=fill, zorder=3)


def caption(frame: pd.DataFrame) -> str:
    """What a gap is, and for whom it is certainly there."""
    rows = up_the_ladder(with_score(frame, "gap_bits"))
    rows["name"] = names_with_tokenizer(rows)
    seeing = rows[as_floats(rows["sees"]) >= BLIND]
    low, high = (as_floats(seeing[f"gap_bits_{end}"]) for end in ("low", "high"))
    sentences = [
        f"{counted(int(rows['couples'].max()), 'couple')} of the text may stand in train, "
        f"{int(rows['withheld'].max()):,} were withheld from it. The gap is what a "
        "withheld couple costs more: near 0 a model expects both alike and so has learned the rule; the further to the "
        "right, the more it has learned the couples themselves."
    ]
    if rows["gap_bits_low"].notna().any():
        sentences.append("Bars are 95 % intervals.")
    if rows["reference_bits"].notna().any():
        sentences.append("The dotted line is a model that counts the couples and knows no rule.")
    if len(without := seeing["name"][(low <= 0) & (high >= 0)]):
        sentences.append(f"Not to be told from no gap: {listed(without)}.")
    if len(blind := rows["name"][as_floats(rows["sees"]) < BLIND]):
        sentences.append(f"Too short a context to see the first word of most couples (hollow): {listed(blind)}.")
    return " ".join(sentences)
