"""Bits per byte against the floating-point operations of the fit.

A line joins the static models that no other beats in both; hollow marks are not ranked with them.
"""

from typing import TYPE_CHECKING

import pandas as pd

from lmstages.figures import _front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Bits per byte against compute, {corpus}, {split}"
TABLE = "results"
BY = _front.BY
COLUMNS = (*_front.COLUMNS, "flops")
AXIS = "floating-point operations of the fit"


def draw(frame: pd.DataFrame) -> "Figure | None":
    """One text's rows -> a point each, and the front of the static ones."""
    return _front.front(frame, "flops", AXIS)


def caption(frame: pd.DataFrame) -> str:
    """Who is on the front."""
    return _front.front_caption(frame, "flops", AXIS)
