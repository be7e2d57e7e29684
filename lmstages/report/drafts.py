"""Texts on the way, draft by draft: what a sampler knows after 1, 2, 4 ... steps, what is new in it, what is hidden.

Knows the rows of the table of drafts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmstages.core.visible import visible
from lmstages.report.gaps import in_line
from lmstages.results.frame import groups
from lmstages.results.schema import Draft

METHODS = {
    "random": "places in random order",
    "certain": "the most certain places first",
    "denoising": "noise taken back",
    "mending": "drawn anew",
}
Pieces = Sequence[tuple[str, str]]  # text, state: kept, new or hidden


@dataclass(frozen=True)
class Drafts:
    """One text of one sampler: its name, that of the model, and after how many steps it is how."""

    name: str
    model: str
    method: str
    lines: Sequence[tuple[int, Pieces]]


def drafts(rows: Sequence[Draft], corpus: str, names: Mapping[tuple[str, str], str]) -> list[Drafts]:
    """The texts of a corpus, of the models that have a name, up the ladder."""
    own = [row for row in rows if row.corpus == corpus and (row.tokenizer, row.model) in names]
    own.sort(key=lambda row: row.rank)
    texts = groups(own, "tokenizer", "model", "sampler", "number").values()
    return [_text(same, names) for same in texts]


def _text(rows: Sequence[Draft], names: Mapping[tuple[str, str], str]) -> Drafts:
    first = rows[0]
    method = f"{METHODS.get(first.sampler, visible(first.sampler))}, {first.steps} steps"
    lines = [(row.step, [(in_line(text), state) for text, state in json.loads(row.pieces)]) for row in rows]
    return Drafts(names[first.tokenizer, first.model], visible(first.model), method, lines)
