"""Which token follows which: counted in train, and beside it what a network that sees one token expects."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmstages.config.ladder import MODEL_TYPES
from lmstages.figures.drawing import WIDTH, label_fields, shades, sheet
from lmstages.figures.rows import as_floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Which token follows which: {corpus}, tokens: {tokenizer}"
TABLE = "pairs"
BY = ("corpus", "tokenizer")
A_LINE_A_ROW = True
COLUMNS = ("model", "first", "second", "count")
PANEL = 5.65  # inches of height of a matrix with its labels
COUNTED = ""  # the model of the rows that were counted in train


def draw(frame: pd.DataFrame) -> "Figure | None":
    """Counts of pairs -> a matrix of the counted ones, and one below it for each network; None where none occur."""
    matrices = by_model(frame)
    most = max((float(np.log1p(values.to_numpy()).max()) for values in matrices.values()), default=0.0)
    if not most:
        return None
    figure = sheet(0.4 + PANEL * len(matrices), layout="none")
    high = figure.get_figheight()
    for index, (model, values) in enumerate(matrices.items()):
        bottom = high - 0.4 - PANEL * (index + 1) + 0.5
        axes = figure.add_axes((0.6 / WIDTH, bottom / high, 4.85 / WIDTH, 4.85 / high), anchor="W")
        shades(axes, np.log1p(values.to_numpy()) / most)
        label_fields(axes, list(values.columns), list(values.index))
        axes.set_title(
            "counted in train" if model == COUNTED else f"expected by {title_of(model)}", loc="left", fontsize=9
        )
        axes.set(xlabel="next token", ylabel="token")
    return figure


def by_model(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The (first, second) matrix of each model, tokens in the order of the table; the counted one comes first."""
    tokens = list(dict.fromkeys(frame["first"]))
    counts = frame.assign(count=as_floats(frame["count"]))
    tables = {
        str(model): rows.pivot_table("count", "first", "second", "sum") for model, rows in counts.groupby("model")
    }
    return {
        model: table.reindex(index=tokens, columns=tokens, fill_value=0.0).fillna(0.0)
        for model, table in tables.items()
    }


def caption(frame: pd.DataFrame) -> str:
    """The most frequent pair, and how far each network is from the counts."""
    matrices = by_model(frame)
    sentences = [
        "A row is a token, a column what follows it; the fuller the colour, the more often, on a logarithmic scale."
    ]
    counts = matrices.pop(COUNTED, None)
    if counts is not None:
        row, column = (int(index) for index in np.unravel_index(counts.to_numpy().argmax(), counts.shape))
        pair = f"{counts.index[row]} then {counts.columns[column]}"
        sentences.append(f"Most frequent: {pair}, {counts.to_numpy()[row, column]:,.0f} times.")
        sentences.append("An empty field never occurred, and without smoothing would have probability 0.")
        sentences += [_distance(model, values, counts) for model, values in matrices.items()]
    return " ".join(sentences)


def _distance(model: str, values: pd.DataFrame, counts: pd.DataFrame) -> str:
    """How many pairs would have to be others for the network's expectation to be the counts."""
    total = float(counts.to_numpy().sum())
    moved = float(np.abs(counts.to_numpy() - values.to_numpy()).sum()) / 2
    percentage = f"{100 * moved / total:.1f} % of all pairs" if total else "nothing"
    return f"{title_of(model)} was fitted by gradient descent and never saw the table; it differs in {percentage}."


def title_of(model: str) -> str:
    """The title of a type of the ladder; any other name as it is."""
    return MODEL_TYPES[model].title if model in MODEL_TYPES else model
