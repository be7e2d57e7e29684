"""What a network with a window reads of the two sides of a gap. ``B`` rows, L and R tokens left and right of it."""

from typing import NamedTuple

import numpy as np

from lmstages.core.documents import BOUNDARY
from lmstages.models.base import TooLongError


class Sides(NamedTuple):
    """The token before the left side (B,), the left side (B, L) and the right side (B, R)."""

    before: np.ndarray
    left: np.ndarray
    right: np.ndarray


def sides_within(window: int, hidden: int, left: np.ndarray, right: np.ndarray) -> Sides:
    """The nearest tokens of both sides that fit into the window beside a gap of ``hidden`` tokens.

    Each side has half of the room, and what the other leaves. Raises TooLongError for a gap longer than the window.
    """
    if (room := window - hidden) < 0:
        remedy = "hide fewer, or fit a model with a longer window"
        raise TooLongError(f"a gap of {hidden} tokens", f"the model reads {window} tokens", "", remedy)
    of_right = min(right.shape[1], max(room // 2, room - left.shape[1]))
    first = max(0, left.shape[1] - (room - of_right))
    before = left[:, first - 1] if first else np.full(len(left), BOUNDARY)
    return Sides(before, left[:, first:], right[:, :of_right])
