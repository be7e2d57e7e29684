"""One text under several tokenizers: bits per byte of the same models, on the one axis that all tokenizers share."""

from typing import TYPE_CHECKING

import pandas as pd

from lmstages.figures.drawing import INK, MARKERS, bits_axis, canvas, legend_below, list_models, look, sample_of
from lmstages.figures.rows import as_floats, counted, listed, names, up_the_ladder, with_score
from lmstages.results.schema import NOT_ON_THE_LADDER
from lmstages.results.statistics import LEVEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "One text under several tokenizers: {corpus}, {split}"
TABLE = "differences"
BY = ("corpus", "split")
A_LINE_A_ROW = True
COLUMNS = (
    *("a_corpus", "a_tokenizer", "a_model", "b_corpus", "b_tokenizer", "b_model"),
    *("difference", "p_holm"),
)
KEY = ["corpus", "tokenizer", "model"]
ALSO = {"results": (*KEY, "split", "title", "family", "category", "rank", "bits_per_byte")}


def draw(frame: pd.DataFrame, results: pd.DataFrame) -> "Figure | None":
    """The pairs of one text -> a dot for each tokenizer and model; None where no model has two tokenizers.

    Rows are compared with each other, and so occur in ``differences``, where they are scored on the same bytes.
    """
    rows = shared(frame, results)
    if not len(rows):
        return None
    lines, tokenizers = list(dict.fromkeys(rows["name"])), sorted({*rows["tokenizer"]})
    figure, axes = canvas(1.5 + 0.24 * len(lines))
    list_models(axes, lines)
    for name, line in rows.groupby("name", sort=False):
        y, bits, color = (
            lines.index(str(name)),
            as_floats(line["bits_per_byte"]),
            look(int(line["rank"].iloc[0]))["color"],
        )
        axes.plot([bits.min(), bits.max()], [y, y], color=INK, linewidth=0.9, alpha=0.6, zorder=1)
        for value, tokenizer in zip(bits, line["tokenizer"], strict=True):
            axes.plot(value, y, MARKERS[tokenizers.index(tokenizer) % len(MARKERS)], color=color, zorder=3)
    axes.set_xlabel(f"bits per byte of text ({bits_axis(axes.xaxis, as_floats(rows['bits_per_byte']))})")
    legend_below(figure, [sample_of(MARKERS[i % len(MARKERS)], f"tokens: {name}") for i, name in enumerate(tokenizers)])
    return figure


def shared(frame: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """The rows of the text whose model has a finite score under more than one tokenizer, with a name each."""
    sides = [frame[[f"{side}_{name}" for name in KEY]].set_axis(KEY, axis="columns") for side in "ab"]
    rows = results[results["split"] == frame["split"].iloc[0]].merge(pd.concat(sides).drop_duplicates(), on=KEY)
    rows = up_the_ladder(with_score(rows[~rows["family"].isin(NOT_ON_THE_LADDER)]))
    rows["name"] = names(rows)
    return rows[rows.groupby("name")["tokenizer"].transform("nunique") > 1].reset_index(drop=True)


def caption(frame: pd.DataFrame, results: pd.DataFrame) -> str:
    """Which tokenizer each model needs fewer bits under."""
    rows = shared(frame, results)
    best = rows.loc[rows.groupby("name")["bits_per_byte"].idxmin()]
    counts = [f"{counted(len(models), 'model')} under {tokenizer}" for tokenizer, models in best.groupby("tokenizer")]
    same = frame[(frame["a_model"] == frame["b_model"]) & (frame["a_tokenizer"] != frame["b_tokenizer"])]
    same = same[same["a_model"].isin(rows["model"])]
    certain = int((as_floats(same["p_holm"]) < LEVEL).sum())
    return (
        "The same held-out bytes and the same models, only the tokens differ; perplexities could not be compared here, "
        f"bits per byte can. Fewest bits: {listed(counts)}. Of {counted(len(same), 'pair')} of tokenizers under one "
        f"model {certain} {'differs' if certain == 1 else 'differ'} significantly (5 %, Holm)."
    )
