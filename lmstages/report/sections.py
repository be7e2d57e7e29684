"""The page model by model, and its closing sections: sweeps of the config, and estimation before there is language."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmstages.analyses import estimation
from lmstages.core.visible import all_visible, visible
from lmstages.report import passages
from lmstages.report.chapters import COUNTS
from lmstages.report.embedded import EmbeddedFigure, Figures
from lmstages.report.entries import Entry, Key
from lmstages.results.formatting import display_name, in_words
from lmstages.results.frame import Results, groups
from lmstages.results.schema import PublishedFigure, SweepPoint
from lmstages.results.selection import Limit, fewest_bits

CURVE = "learning_of_model"


@dataclass(frozen=True)
class Evaluation:
    """What one model makes of one corpus under one tokenizer."""

    entry: Entry
    curves: Sequence[EmbeddedFigure]
    inspected: Sequence[EmbeddedFigure]
    passage: Sequence[passages.Word]


@dataclass(frozen=True)
class ModelSection:
    """One model of the ladder with all its evaluations; ``settings`` None where they differ in them."""

    first: Entry
    adds: str
    more: str
    evaluations: Sequence[Evaluation]
    settings: Mapping[str, Any] | None


def models(entries: Sequence[Entry], figures: Figures) -> list[ModelSection]:
    """Up the ladder; neither the oracle nor compressors have a section."""
    by_model: dict[tuple[int, str], list[Entry]] = {}
    for entry in entries:
        if entry.is_model:
            by_model.setdefault((entry.row.rank, entry.row.model), []).append(entry)
    return [_model(by_model[key], figures) for key in sorted(by_model)]


def _model(entries: Sequence[Entry], figures: Figures) -> ModelSection:
    """The splits of a text share all but their scores: the one that has the passage stands for them."""
    by_text: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        by_text.setdefault((entry.row.corpus, entry.row.tokenizer), []).append(entry)
    chosen = [next((entry for entry in text if entry.passage), text[0]) for text in by_text.values()]
    evaluations = [_evaluation(entry, figures) for entry in chosen]
    adds, stop, more = chosen[0].row.adds.partition(". ")
    settings = chosen[0].settings
    alike = all(entry.settings == settings for entry in chosen)
    return ModelSection(chosen[0], adds + stop.strip(), more, evaluations, settings if alike else None)


def _evaluation(entry: Entry, figures: Figures) -> Evaluation:
    row = entry.row
    own = {"corpus": row.corpus, "tokenizer": row.tokenizer, "model": row.model}
    return Evaluation(
        entry,
        figures.of(CURVE, **own),
        [*figures.of(*COUNTS, **own), *figures.besides((CURVE, *COUNTS), **own)],
        passages.words(entry.passage),
    )


# Sweeps


@dataclass(frozen=True)
class Sweep:
    """One swept entry of the config: its figures, and a table of (values of the keys, name of the model, score)."""

    name: str
    title: str
    keys: Sequence[str]
    lines: Sequence[tuple[Sequence[str], str, SweepPoint]]
    lowest: float | None
    figures: Sequence[EmbeddedFigure]
    limit: Limit


def sweeps(results: Results, figures: Figures) -> list[Sweep]:
    """Every sweep of the run that has a row."""
    points = {name: same for (name,), same in groups(results.records("sweeps"), "sweep").items()}
    titles = {row.key: row.title for row in results.rows}
    return [_sweep(name, same, titles, figures) for name, same in points.items()]


def _sweep(name: str, points: Sequence[SweepPoint], titles: Mapping[Key, str], figures: Figures) -> Sweep:
    keys = [visible(key).replace("_", " ") for key in json.loads(points[0].keys)]
    lowest = min((point.bits_per_byte for point in points if point.bits_per_byte is not None), default=None)
    shown = fewest_bits(points)
    values = [[visible(in_words(value)) for value in json.loads(point.values)] for point in shown]
    names = [visible(titles.get((row.corpus, row.tokenizer, row.model, row.split), row.model)) for row in shown]
    lines = list(zip(values, names, map(all_visible, shown), strict=True))
    limit = Limit(len(shown), len(points), "tables/sweeps.parquet")
    title = f"{visible(name)}: bits per byte over {' and '.join(keys)}"
    return Sweep(visible(name), title, keys, lines, lowest, figures.besides((), sweep=name), limit)


# Published figures


def published(results: Results) -> list[tuple[PublishedFigure, str | None]]:
    """What others printed, with what the page calls the model of it."""
    names = {row.key: visible(display_name(row)) for row in results.rows}
    figures = [
        (figure, (figure.corpus, figure.tokenizer, figure.model, figure.split))
        for figure in results.records("published")
    ]
    return [(all_visible(figure), names.get(key)) for figure, key in figures]


# Estimation


@dataclass(frozen=True)
class Factorisation:
    """How many parameters m variables of V outcomes have, jointly, the last given the others, and independently."""

    name: str
    outcomes: int
    variables: int
    joint: int
    conditional: int
    independent: int


@dataclass(frozen=True)
class Estimation:
    """The closing section: figures that are of no corpus, and how many numbers there are to estimate."""

    figures: Sequence[EmbeddedFigure]
    factorisations: Sequence[Factorisation]


EXAMPLES = (("two activities in two halves of a day", 2, 2), ("ten digits", 10, 10), ("eight characters", 67, 8))


def estimated(figures: Figures) -> Estimation:
    """Two halves of a day, 10 variables of 10 outcomes, words of 8 letters."""
    return Estimation(figures.of("likelihoods"), [_counted(*example) for example in EXAMPLES])


def _counted(name: str, outcomes: int, variables: int) -> Factorisation:
    joint = estimation.joint_parameters(outcomes, variables)
    conditional = estimation.conditional_parameters(outcomes, variables)
    return Factorisation(name, outcomes, variables, joint, conditional, estimation.independent_parameters(outcomes))
