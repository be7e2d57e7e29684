"""Fills a gap between two texts with an opened model: the likeliest fills of a length, or where none is told.

A length that is not told is found by models with states, which add up all fills of every length, and by those that end
a gap themselves.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lmstages.core.errors import UserError, shortened
from lmstages.evaluation.any_length import AnyLength, any_length
from lmstages.evaluation.fillers import MOST_ROWS, Candidate
from lmstages.evaluation.infilling import filler_for
from lmstages.evaluation.opening import OpenedModel

SIDE = 30  # characters of either side that a line shows
METHODS = {
    "lattice": "exact, over the states of the model",
    "bayes": "exact, every fill tried",
    "own": "by the model itself, the likeliest of a beam",
}


class GapText(NamedTuple):
    """A fill as text, with the probability of its length, 1 where that is told, and its own, given the length.

    Where ``of_length`` is None, ``probability`` is that of the fill and of its length together. ``nats`` of each of its
    tokens, given the earlier ones.
    """

    text: str
    of_length: float | None
    probability: float
    nats: list[float]


def fills(
    model: OpenedModel, left: str, right: str, length: int | None, most: int, prefix: str = "--"
) -> tuple[str, list[GapText]]:
    """How the gap was filled, and its likeliest fills, best first; raises UserError, whose names begin with ``prefix``.

    With a length: the ``most`` likeliest fills of it. Without: a model with states gives the likeliest fill of each of
    the ``most`` likeliest lengths, one that ends gaps itself the ``most`` likeliest fills.
    """
    filler = filler_for(model.model, model.tokenizer, int(model.layout.documents != "stream"), MOST_ROWS)
    sides = _encoded(model, f"{prefix}left", left), _encoded(model, f"{prefix}right", right)
    if length is not None:
        candidates = filler.candidates(*sides, length, most)
        return METHODS[filler.method], [_text(model, fill, 0.0) for fill in candidates]
    finds_length = _must_find_lengths(any_length(filler, model.model), f"{prefix}length")
    return METHODS[filler.method], [_text(model, *fill) for fill in finds_length.candidates(*sides, most)]


def _must_find_lengths(finds_length: AnyLength | None, name: str) -> AnyLength:
    if finds_length is None:
        problem = "needed by this model, which cannot add up all fills of every length"
        able = "n-gram models and fim find the length themselves"
        raise UserError(name, problem, able, "give the number of characters")
    return finds_length


def _encoded(model: OpenedModel, name: str, text: str) -> np.ndarray:
    """A side as tokens; a character that the model does not know is refused, since it says nothing of a gap."""
    [(tokens, _)] = model.tokenizer.encode([text])
    if model.tokenizer.escape in tokens.tolist():
        unknown = text[tokens.tolist().index(model.tokenizer.escape)]
        raise UserError(name, f"character {shortened(unknown)} is not in the model's vocabulary", "", "leave it out")
    return tokens


def _text(model: OpenedModel, fill: Candidate, length_log_prob: float | None) -> GapText:
    text = model.tokenizer.decode(fill.tokens.tolist())
    of_length = None if length_log_prob is None else float(np.exp(length_log_prob))
    return GapText(text, of_length, float(np.exp(fill.log_prob)), (-fill.log_probs).tolist())


def lines(method: str, gap_texts: Sequence[GapText], left: str, right: str, length_told: bool) -> str:
    """Fills as a terminal shows them: the probability, that of the length where it was found, and the text."""
    end, begin = left[-SIDE:], right[:SIDE]
    head = ["probability", *([] if length_told else ["length", "of length"]), "text"]
    rows = [
        [
            f"{fill.probability:.4f}",
            *([] if length_told else [str(len(fill.text)), "–" if fill.of_length is None else f"{fill.of_length:.4f}"]),
            f"{end}[{fill.text}]{begin}",
        ]
        for fill in gap_texts
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head) - 1)]
    numbers = [[cell.rjust(width) for cell, width in zip(row, widths, strict=False)] for row in [head, *rows]]
    table = ["  ".join([*cells, row[-1]]) for cells, row in zip(numbers, [head, *rows], strict=True)]
    return "\n".join([*table, f"({method})"])
