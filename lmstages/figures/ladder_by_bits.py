"""The ladder sorted by value: bits per byte of every model, one dot a row, the fewest at the top.

The axis covers the better rows, so that their intervals can be seen; an arrow at the edge stands for what lies beyond.
"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmstages.figures import ladder
from lmstages.figures.rows import as_floats, floor, models_of, names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Bits per byte on {corpus}, {split}, the fewest first"
TABLE, BY, COLUMNS, ALSO = ladder.TABLE, ladder.BY, ladder.COLUMNS, ladder.ALSO
A_LINE_A_ROW = True
ORDER = "The models stand in the order of their bits per byte, the fewest at the top; further to the left is better."


def draw(frame: pd.DataFrame, published: pd.DataFrame) -> "Figure | None":
    """One text's rows -> the drawing; None where there are not two rows with a number, and so nothing to sort."""
    rows = by_bits(frame)
    if np.isfinite(as_floats(rows["bits_per_byte"])).sum() < 2:
        return None
    return ladder.draw_rows(rows, published, floor(frame))


def by_bits(frame: pd.DataFrame) -> pd.DataFrame:
    """The models by rising bits per byte, a model of several tokenizers by its best row; without a score they close."""
    rows = models_of(frame)
    bits = pd.Series(as_floats(rows["bits_per_byte"]), index=rows.index)
    rows["best"] = bits.groupby(names(rows)).transform("min").fillna(np.inf)
    rows["scored"] = bits.isna()
    rows = rows.sort_values(["best", "scored", "rank", "model", "tokenizer"], kind="stable")
    return rows.drop(columns=["best", "scored"]).reset_index(drop=True)


def caption(frame: pd.DataFrame, published: pd.DataFrame) -> str:
    """The same as under the drawing in the order of the ladder."""
    return ladder.caption_of(by_bits(frame), floor(frame), ORDER)
