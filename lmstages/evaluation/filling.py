"""Fills a gap between two texts with an opened model: the likeliest fills of a length, or of the likeliest lengths.

    p(length | both sides) ~ p(right side | left side and a gap of that length)

with every length from 1 to ``LONGEST`` as probable as any other beforehand. A length that is not told is found for
models with states alone, since only they add up all fills of every length.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lmstages.core.errors import UserError, shortened
from lmstages.evaluation.fillers import MOST_ROWS, Candidate, Filler, LatticeFiller
from lmstages.evaluation.infilling import filler_for
from lmstages.evaluation.opening import OpenedModel

SIDE = 30  # characters of either side that a line shows
LONGEST = 16  # characters of a gap whose length is not told
METHODS = {
    "lattice": "exact, over the states of the model",
    "bayes": "exact, every fill tried",
    "own": "by the model itself, the likeliest of a beam",
}


class GapText(NamedTuple):
    """A fill as text, with the probability of its length, 1 where that is told, and its own, given the length.

    ``nats`` of each of its tokens, given the earlier ones.
    """

    text: str
    of_length: float
    probability: float
    nats: list[float]


def fills(
    model: OpenedModel, left: str, right: str, length: int | None, most: int, prefix: str = "--"
) -> tuple[str, list[GapText]]:
    """How the gap was filled, and its likeliest fills, best first; raises UserError, whose names begin with ``prefix``.

    With a length: the ``most`` likeliest fills of it. Without: the likeliest fill of each of the ``most`` likeliest.
    """
    filler = filler_for(model.model, model.tokenizer, int(model.layout.documents != "stream"), MOST_ROWS)
    sides = _encoded(model, f"{prefix}left", left), _encoded(model, f"{prefix}right", right)
    if length is None:
        return METHODS[filler.method], _of_any_length(model, filler, sides, most, f"{prefix}length")
    candidates = filler.candidates(sides[0], sides[1], length, most)
    return METHODS[filler.method], [_text(model, fill, 0.0) for fill in candidates]


def _encoded(model: OpenedModel, name: str, text: str) -> np.ndarray:
    """A side as tokens; a character that the model does not know is refused, since it says nothing of a gap."""
    [(tokens, _)] = model.tokenizer.encode([text])
    if model.tokenizer.escape in tokens.tolist():
        unknown = text[tokens.tolist().index(model.tokenizer.escape)]
        raise UserError(name, f"character {shortened(unknown)} is not in the model's vocabulary", "", "leave it out")
    return tokens


def _of_any_length(
    model: OpenedModel, filler: Filler, sides: tuple[np.ndarray, np.ndarray], most: int, name: str
) -> list[GapText]:
    if not isinstance(filler, LatticeFiller):
        problem = "needed by this model, which cannot add up all fills of every length"
        raise UserError(name, problem, "n-gram models find the length themselves", "give the number of characters")
    lengths = range(1, LONGEST + 1)
    evidence = np.array([filler.messages(*sides, length).evidence for length in lengths])
    posterior = evidence - np.logaddexp.reduce(evidence)
    gap_texts = []
    for index in np.argsort(-posterior, kind="stable")[:most].tolist():
        [best] = filler.candidates(*sides, lengths[index], 1)
        gap_texts.append(_text(model, best, float(posterior[index])))
    return gap_texts


def _text(model: OpenedModel, fill: Candidate, length_log_prob: float) -> GapText:
    text = model.tokenizer.decode(fill.tokens.tolist())
    return GapText(text, float(np.exp(length_log_prob)), float(np.exp(fill.log_prob)), (-fill.log_probs).tolist())


def lines(method: str, gap_texts: Sequence[GapText], left: str, right: str, length_told: bool) -> str:
    """Fills as a terminal shows them: the probability, that of the length where it was found, and the text."""
    end, begin = left[-SIDE:], right[:SIDE]
    head = ["probability", *([] if length_told else ["length", "of length"]), "text"]
    rows = [
        [
            f"{fill.probability:.4f}",
            *([] if length_told else [str(len(fill.text)), f"{fill.of_length:.4f}"]),
            f"{end}[{fill.text}]{begin}",
        ]
        for fill in gap_texts
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head) - 1)]
    numbers = [[cell.rjust(width) for cell, width in zip(row, widths, strict=False)] for row in [head, *rows]]
    table = ["  ".join([*cells, row[-1]]) for cells, row in zip(numbers, [head, *rows], strict=True)]
    return "\n".join([*table, f"({method})"])
