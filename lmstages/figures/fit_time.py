"""Bits per byte against the seconds of the fit.

A line joins the static models that no other beats in both; hollow marks are not ranked with them.
"""

from typing import TYPE_CHECKING

import pandas as pd

from lmstages.figures import _front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Bits per byte against the time of the fit, {corpus}, {split}"
TABLE = "results"
BY = _front.BY
COLUMNS = (*_front.COLUMNS, "fit_seconds")
AXIS = "seconds of the fit"


def draw(frame: pd.DataFrame) -> "Figure | None":
    """One text's rows -> a point each, and the front of the static ones."""
    return _front.front(frame, "fit_seconds", AXIS)


def caption(frame: pd.DataFrame) -> str:
    """Who is on the front."""
    return _front.front_caption(frame, "fit_seconds", AXIS)
