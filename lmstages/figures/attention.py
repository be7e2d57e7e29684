"""Where a network looks: how much every token takes from those before it, a map for each head of each layer."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmstages.figures.drawing import SMALL, shades, sheet
from lmstages.figures.rows import as_floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Where it looks: {title}, {corpus}, tokens: {tokenizer}"
TABLE = "attention"
BY = ("corpus", "tokenizer", "model")
COLUMNS = ("title", "layer", "head", "query", "key", "key_token", "weight")
ALSO = {"induction": ("corpus", "tokenizer", "model", "score", "by_chance", "layer", "head", "drop")}
STEP = 8  # positions from one tick to the next
COPIES = 0.05  # nats per token less the second time: from here on a network is said to copy


def draw(frame: pd.DataFrame, induction: pd.DataFrame) -> "Figure | None":
    """One model's weights -> heads side by side, layers one below the other; None where there are none."""
    if not len(frame):
        return None
    layers, heads = (sorted(frame[name].unique()) for name in ("layer", "head"))
    width = 4.6 / len(heads)
    figure = sheet(1.25 + (width + 0.1) * len(layers))
    panels = figure.subplots(len(layers), len(heads), sharex=True, sharey=True, squeeze=False)
    for (row, column), axes in np.ndenumerate(panels):
        shades(axes, np.sqrt(weights(frame, layers[row], heads[column])))
        axes.tick_params(labelsize=SMALL, pad=1)
        if row == 0:
            axes.set_title(f"head {heads[column]}", fontsize=8)
        if column == 0:
            axes.set_ylabel(f"layer {layers[row]}", fontsize=8)
    ticks = range(0, int(frame["query"].max()) + 1, STEP)
    panels[0, 0].set(xticks=ticks, yticks=ticks)
    figure.supxlabel(f"position of the token that is looked at\n{text_of(frame)}", fontsize=8)
    figure.supylabel("position of the token that looks", fontsize=8)
    return figure


def weights(frame: pd.DataFrame, layer: int, head: int) -> np.ndarray:
    """(queries, keys) weights of one head."""
    rows = frame[(frame["layer"] == layer) & (frame["head"] == head)]
    count = int(max(frame["query"].max(), frame["key"].max())) + 1
    values = np.zeros((count, count))
    values[rows["query"].to_numpy(dtype=int), rows["key"].to_numpy(dtype=int)] = as_floats(rows["weight"])
    return values


def text_of(frame: pd.DataFrame) -> str:
    """The tokens in their order, the position of the first written before every eighth: ``0 ↵Susan␣l  8 ived␣in␣``."""
    tokens = frame.drop_duplicates("key").sort_values("key")["key_token"].tolist()
    between = "·" if max(map(len, tokens)) > 1 else ""
    pieces = [f"{start}: {between.join(tokens[start : start + STEP])}" for start in range(0, len(tokens), STEP)]
    per_line = max(1, 66 // (2 + max(map(len, pieces))))
    lines = [pieces[start : start + per_line] for start in range(0, len(pieces), per_line)]
    return "\n".join("   ".join(line) for line in lines)


def caption(frame: pd.DataFrame, induction: pd.DataFrame) -> str:
    """What the maps show, and whether the model copies what it has seen before."""
    scale = (
        "The beginning of held-out text, one map a head; the shade is the root of the weight, so that small ones show."
    )
    key = ["corpus", "tokenizer", "model"]
    measured = induction.merge(frame[key][:1], on=key)
    if not len(measured):
        return scale
    row = measured.iloc[0]
    score = (
        f"Induction score {row['score']:.2f} (layer {row['layer']}, head {row['head']}; {row['by_chance']:.2f} if all "
        "positions counted alike): how much a head looks from a token that occurred before to what followed it then, "
        "on random tokens that are repeated."
    )
    if row["drop"] < COPIES:
        return f"{scale} {score} The repetition is not predicted better: it has not learnt to copy."
    return f"{scale} {score} The repetition costs {row['drop']:.2f} nats per token less: it copies."
