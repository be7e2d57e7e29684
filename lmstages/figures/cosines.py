"""Which tokens are alike in an embedding: the cosine of every two of its vectors."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmstages.figures.drawing import WIDTH, label_fields, shades, sheet
from lmstages.figures.rows import as_floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Which tokens are alike: {title}, {corpus}, tokens: {tokenizer}"
TABLE = "cosines"
BY = ("corpus", "tokenizer", "model")
COLUMNS = ("title", "width", "first", "second", "cosine")


def draw(frame: pd.DataFrame) -> "Figure | None":
    """One embedding -> a matrix of cosines; None where there is none."""
    values = matrix(frame)
    if not values.size:
        return None
    figure = sheet(5.75, layout="none")
    axes = figure.add_axes((0.6 / WIDTH, 0.42 / 5.75, 4.9 / WIDTH, 4.9 / 5.75), anchor="W")
    shades(axes, values.to_numpy())
    label_fields(axes, list(values.columns), list(values.index))
    axes.set(xlabel="token", ylabel="token")
    return figure


def matrix(frame: pd.DataFrame) -> pd.DataFrame:
    """(first, second) -> cosine, tokens in the order of the table."""
    tokens = list(dict.fromkeys(frame["first"]))
    cosines = frame.assign(cosine=as_floats(frame["cosine"]))
    return cosines.pivot_table("cosine", "first", "second").reindex(index=tokens, columns=tokens).fillna(0.0)


def caption(frame: pd.DataFrame) -> str:
    """What the colours are, and which two tokens are most alike."""
    values = matrix(frame)
    scale = (
        f"Cosine of the {frame['width'].iloc[0]} numbers that stand for each token after training: blue above 0, "
        "orange below, the fuller the further from 0."
    )
    if len(values) < 2:
        return scale
    off_diagonal = values.to_numpy().copy()
    np.fill_diagonal(off_diagonal, -2)
    first, second = (int(index) for index in np.unravel_index(off_diagonal.argmax(), off_diagonal.shape))
    pair = f"{values.index[first]} and {values.columns[second]}, {off_diagonal[first, second]:.2f}"
    return f"{scale} Most alike are {pair}: the network treats them in the most similar way."
