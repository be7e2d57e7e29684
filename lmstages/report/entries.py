"""Rows of the results, each with what lies elsewhere: published figures, samples, the highlighted passage.

All text but the passage is made visible here, once; a passage is shown character by character by ``passages``.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmstages.core.visible import all_visible, visible
from lmstages.results.formatting import display_name
from lmstages.results.frame import Results, groups, hyperparameters
from lmstages.results.schema import NOT_ON_THE_LADDER, PublishedFigure, Result
from lmstages.results.statistics import LEVEL

Key = tuple[str, str, str, str]  # corpus, tokenizer, model, split
Piece = tuple[str, float | None]  # text, nats; None where the model held the text to be impossible


@dataclass(frozen=True)
class Sample:
    """A sampled text."""

    temperature: float
    text: str


@dataclass(frozen=True)
class Entry:
    """A row, its JSON columns read, the figures that others published of it, and the text of its first experiment."""

    row: Result
    settings: Mapping[str, Any]  # hyperparameters
    inputs: Mapping[str, str]  # short hashes of what the first fit was made from, by file
    published: Sequence[PublishedFigure]
    samples: Sequence[Sample]
    passage: Sequence[Piece]

    @property
    def name(self) -> str:
        """The model as pages call it."""
        return display_name(self.row)

    @property
    def warnings(self) -> list[str]:
        """What is doubtful of the row, a sentence each."""
        return re.split(r"(?<=\.)\s+(?=[A-Z])", self.row.warning) if self.row.warning else []

    @property
    def verdict(self) -> str | None:
        """How the row compares with the one before it on the ladder; None where it was not tested."""
        row = self.row
        tested = row.below_difference is not None and row.below_p_holm is not None
        return verdict(row.below_difference or 0.0, row.below_p_holm or 0.0) if tested else None

    @property
    def is_model(self) -> bool:
        """Whether it stands on the ladder; the oracle and compressors do not."""
        return self.row.family not in NOT_ON_THE_LADDER

    def texts_by_temperature(self) -> dict[float, list[str]]:
        """Sampled texts, in the order in which they were drawn."""
        texts: dict[float, list[str]] = {}
        for sample in self.samples:
            texts.setdefault(sample.temperature, []).append(sample.text)
        return texts


def entries(results: Results, rows: Sequence[Result] | None = None) -> list[Entry]:
    """Every row of a run, or those that are given, in the order of the results."""
    published = published_by_row(results)
    return [_entry(results, row, published.get(row.key, [])) for row in (results.rows if rows is None else rows)]


def _entry(results: Results, row: Result, published: Sequence[PublishedFigure]) -> Entry:
    samples = [Sample(sample["temperature"], visible(sample["text"])) for sample in results.samples(row)]
    passage = [(text, nats) for text, nats in results.passage(row)]
    settings, inputs = all_visible(hyperparameters(row)), all_visible(json.loads(row.inputs))
    return Entry(all_visible(row), settings, inputs, [all_visible(figure) for figure in published], samples, passage)


def published_by_row(results: Results) -> dict[Key, list[PublishedFigure]]:
    """Published figures by the row that they concern; claims that concern no row are left out."""
    figures: Mapping[tuple[str, ...], list[PublishedFigure]]
    figures = groups(results.records("published"), "corpus", "tokenizer", "model", "split")
    return {(key[0], key[1], key[2], key[3]): same for key, same in figures.items() if None not in key}


def best_static(rows: Iterable[Result]) -> Result | None:
    """The static model with the fewest bits per byte; neither the oracle nor online rows compete."""
    scored = [row for row in rows if row.family not in NOT_ON_THE_LADDER and row.bits_per_byte is not None]
    static = [row for row in scored if row.category == "static"]
    return min(static, key=lambda row: row.bits_per_byte or 0.0, default=None)


def verdict(difference: float, p: float) -> str:
    """A difference in bits per byte and its p-value -> better, worse or may be chance."""
    return "may be chance" if p >= LEVEL else "better" if difference < 0 else "worse"


def by_text(rows: Sequence[Result]) -> list[list[Result]]:
    """The rows of each held-out text: those that may be compared with each other."""
    return list(groups(rows, "corpus", "split").values())
