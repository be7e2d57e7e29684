"""A comparison as one page that needs nothing else: it opens from disk, and asks for nothing from anywhere.

The parts of the page are the templates beside this module; a content security policy admits its style and its script
by their hashes and nothing besides. Knows the content of ``comparison.json``; never a model, a text or a score file.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from lmstages.analyses import estimation
from lmstages.figures import catalogue, learning
from lmstages.figures.drawing import Drawing
from lmstages.figures.rows import BESIDES, Row, best_of, grouped, named, told
from lmstages.figures.sweeps import title as sweep_title
from lmstages.report import columns, passages, tables
from lmstages.report.shown import (
    DASH,
    MINUS,
    Comparison,
    chance,
    count,
    decimal,
    duration,
    interval,
    to_be_shown,
    value,
    what,
)


@dataclass(frozen=True)
class Figure:
    """A drawing as it stands in the page, and the sentence under it."""

    svg: Markup
    sentence: str


@dataclass(frozen=True)
class Strip:
    """The first line of the passage as one model read it."""

    name: str
    model: str
    tokenizer: str
    bits: float
    runs: Sequence[tuple[int, str]]


@dataclass(frozen=True)
class Split:
    """One held-out text of a corpus: its rows, the best of them, and what is drawn of them."""

    name: str
    rows: Sequence[Row]
    best: Row | None
    ladder: Figure | None
    fronts: Sequence[Figure]
    position: Figure | None
    neighbours: Sequence[Row]
    strips: Sequence[Strip]


@dataclass(frozen=True)
class Grid:
    """Facts that were measured, as a table of words."""

    title: str
    sentence: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


OF_THE_TEXT = {
    "overlap": (
        "Overlap of held-out text with train",
        "How much of it stands in train already, as whole documents, near copies and windows of characters; as shares.",
    ),
    "transfer": (
        "Near transfer",
        "Couples of words: bits per byte of the second where train holds such couples (seen) and where they were "
        "withheld (unseen). A gap near 0 of a model that sees the first word has learnt the kind, not the couple.",
    ),
    "induction": (
        "Induction",
        "Random tokens said twice. Score: how much the best head looks from a token of the second time to the one "
        "after it in the first, 1 for a head that does nothing else. Drop: nats a token by which the second time is "
        "cheaper than the first.",
    ),
}
OF_A_ROW = {
    "novelty": (
        "What is new in the samples",
        "How many samples are copies of train or test, how long their longest copied stretch, and how varied they are, "
        "beside test text of the same size.",
    ),
    "minimal_pairs": (
        "Minimal pairs",
        "Two texts that differ in one place, one of which the grammar refuses: the share of pairs in which a model "
        "finds the other to be likelier.",
    ),
    "unseen": (
        "On documents that train does not hold",
        "The same figures without the held-out documents that are documents of train, character for character.",
    ),
}
FIRST = ("model", "tokenizer", "split")  # columns of a grid that say what its line is of


@dataclass(frozen=True)
class Chapter:
    """Everything the page says of one corpus."""

    name: str
    facts: Mapping[str, Any]
    splits: Sequence[Split]
    curves: Sequence[Figure]
    grids: Sequence[Grid]


@dataclass(frozen=True)
class Reading:
    """What one model makes of one text under one tokenizer."""

    row: Row
    curve: Figure | None
    passage: Sequence[passages.Word]
    inspected: Sequence[Figure]


@dataclass(frozen=True)
class ModelConfig:
    """One model of the ladder with all its readings; ``settings`` None where they differ in them."""

    first: Row
    adds: str
    more: str
    readings: Sequence[Reading]
    settings: Mapping[str, Any] | None


@dataclass(frozen=True)
class Sweep:
    """One swept entry: its drawing and its table."""

    name: str
    title: str
    keys: Sequence[str]
    rows: Sequence[Row]
    lowest: float | None
    drawn: Figure | None


@dataclass(frozen=True)
class Estimation:
    """The closing section: a figure, and how many parameters m variables of V outcomes have."""

    figure: Figure
    counts: Sequence[tuple[str, int, int, int, int, int]]


def render(comparison: Comparison) -> str:
    """The whole page: no address, no network, the same bytes for the same comparison."""
    shown = to_be_shown(comparison)
    assert all(row["corpus"] in shown["corpora"] for row in shown["rows"]), "every row's corpus is described"
    drawn = {name: _inline(drawing) for name, drawing in catalogue.drawings(shown).items()}
    failed = [row for row in shown["rows"] if row["status"] != "ok"]
    parts = {
        "chapters": _chapters(shown, drawn),
        "models": _models(shown["rows"], drawn),
        "printed": shown["published"],
    }
    parts["sweeps"] = [_sweep(sweep, drawn) for sweep in shown["sweeps"]]
    parts["estimation"] = _estimation(drawn) if shown.get("estimation") else None
    parts |= {"table": columns.table(shown["run"], shown["rows"]), "downloads": _downloads(comparison)}
    parts |= {"style": _part("style.css.jinja"), "script": _part("script.js.jinja"), "legend": passages.legend()}
    page = _environment().get_template("page.html.jinja")
    return page.render(run=shown["run"], **parts, failed=failed, filters=columns.FILTERS, DASH=DASH, MINUS=MINUS)


def _environment() -> Environment:
    how: dict[str, Any] = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FunctionLoader(_source), **how)  # noqa: S701 - autoescape stands in how
    numbers = {"decimal": decimal, "count": count, "duration": duration, "interval": interval, "chance": chance}
    environment.filters |= {
        **numbers,
        "told": told,
        "prose": _prose,
        "pin": _pin,
        "what": what,
        "value": value,
        "named": named,
    }
    return environment


def _source(name: str) -> str:
    return resources.files("lmstages.report").joinpath(name).read_text("utf-8")


def _part(name: str) -> Markup:
    """A part that is no template: style and script stand in the page as they are, since their hashes admit them."""
    return Markup(_source(name))  # noqa: S704 - a file of this package


def _pin(inline: str) -> str:
    """The name by which a content security policy admits exactly this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()


def _prose(text: str) -> Markup:
    """What a docstring says, with its *stress* and its ``names`` set as such."""
    marked = re.sub(r"``([^`]+)``", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\*([^*\s][^*]*)\*", r"<em>\1</em>", marked))  # noqa: S704 - escaped before


def _inline(drawing: Drawing) -> Figure:
    """A drawing inside a page needs no namespace, and so no address."""
    svg = drawing.svg().replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    return Figure(Markup(svg), drawing.sentence)  # noqa: S704 - made and escaped by figures


def _downloads(comparison: Comparison) -> list[tuple[str, str, str]]:
    """The tables to take away: file name, what it is, and the file itself as an address of its own."""
    files = (
        ("table.csv", "CSV", "text/csv", tables.table_csv(comparison)),
        ("table.md", "Markdown", "text/markdown", tables.table_markdown(comparison)),
        ("table.tex", "LaTeX", "application/x-tex", tables.table_latex(comparison)),
    )
    return [
        (name, kind, f"data:{media};charset=utf-8;base64,{base64.b64encode(content.encode()).decode()}")
        for name, kind, media, content in files
    ]


# Corpus by corpus


def _chapters(shown: Comparison, drawn: Mapping[str, Figure]) -> list[Chapter]:
    rows = grouped(shown["rows"], lambda row: row["corpus"])
    return [_chapter(name, facts, rows.get(name, []), drawn) for name, facts in shown["corpora"].items()]


def _chapter(name: str, facts: Mapping[str, Any], rows: Sequence[Row], drawn: Mapping[str, Figure]) -> Chapter:
    splits = grouped(rows, lambda row: row["split"])
    tokenizers = dict.fromkeys(row["tokenizer"] for row in rows)
    curves = [figure for each in tokenizers if (figure := drawn.get(f"learning/{name}.{each}"))]
    measured = [(*told_of, facts.get(key)) for key, told_of in OF_THE_TEXT.items()]
    measured += [(*told_of, _by_row(rows, key)) for key, told_of in OF_A_ROW.items()]
    grids = [grid for each in measured if (grid := _grid(*each))]
    return Chapter(name, facts, [_split(*each, drawn) for each in splits.items()], curves, grids)


def _split(name: str, rows: Sequence[Row], drawn: Mapping[str, Figure]) -> Split:
    place = f"{rows[0]['corpus']}.{name}"
    fronts = [
        figure for cost in ("parameters", "flops", "fit_seconds") if (figure := drawn.get(f"fronts/{place}.{cost}"))
    ]
    neighbours = [row for row in rows if (row.get("below") or {}).get("difference") is not None]
    strips = [
        Strip(named(row), row["model"], row["tokenizer"], row["bits_per_byte"], passages.strip(row["passage"]))
        for row in rows
        if row.get("passage")
    ]
    figures = drawn.get(f"ladder/{place}"), fronts, drawn.get(f"position/{place}")
    return Split(name, rows, best_of(rows), *figures, neighbours, strips)


def _by_row(rows: Sequence[Row], key: str) -> dict[str, Any]:
    return {f"{named(row)}, {row['tokenizer']}, {row['split']}": row[key] for row in rows if row.get(key)}


def _grid(title: str, sentence: str, found: Any) -> Grid | None:
    """Measured facts, {name: {key: value}} or [{key: value}] or {key: value} -> a table; None for nothing."""
    if not found:
        return None
    lines = found if isinstance(found, list) else list(found.values())
    if not all(isinstance(line, Mapping) for line in lines):
        told_of = [[_worded(key), _measured(each)] for key, each in found.items()]
        return Grid(title, sentence, ["what", "measured"], told_of)
    keys = dict.fromkeys(key for line in lines for key in line)
    order = [*(key for key in FIRST if key in keys), *(key for key in keys if key not in FIRST)]
    names = [] if isinstance(found, list) else [[str(name)] for name in found]
    rows = [[_measured(line.get(key)) for key in order] for line in lines]
    head = [*([""] if names else []), *map(_worded, order)]
    return Grid(
        title, sentence, head, [[*name, *row] for name, row in zip(names or [[]] * len(rows), rows, strict=True)]
    )


def _worded(key: Any) -> str:
    return str(key).replace("_", " ")


def _measured(found: Any) -> str:
    if isinstance(found, Mapping):
        return ", ".join(f"{_worded(key)} {_measured(each)}" for key, each in found.items())
    if isinstance(found, list):
        return f"[{', '.join(map(_measured, found))}]"
    return DASH if found is None else f"{found:.4g}".replace("-", MINUS) if isinstance(found, float) else told(found)


# Model by model


def _models(rows: Sequence[Row], drawn: Mapping[str, Figure]) -> list[ModelConfig]:
    models = grouped((row for row in rows if row["family"] not in BESIDES), lambda row: (row["rank"], row["model"]))
    return [_model(models[place], drawn) for place in sorted(models)]


def _model(rows: Sequence[Row], drawn: Mapping[str, Figure]) -> ModelConfig:
    """The splits of a text share all but their figures: the one that tells a passage stands for them."""
    texts = grouped(rows, lambda row: (row["corpus"], row["tokenizer"])).values()
    chosen = [next((row for row in text if row.get("passage")), text[0]) for text in texts]
    first, settings = chosen[0], chosen[0]["hyperparameters"]
    adds, stop, more = first["adds"].partition(". ")
    alike = all(row["hyperparameters"] == settings for row in chosen)
    readings = [_reading(row, drawn) for row in chosen]
    return ModelConfig(first, adds + stop.strip(), more, readings, settings if alike else None)


def _reading(row: Row, drawn: Mapping[str, Figure]) -> Reading:
    curve, place = learning.curve(row), f"inspected/{row['corpus']}.{row['tokenizer']}.{row['model']}."
    inside = [figure for name, figure in drawn.items() if name.startswith(place)]
    passage = passages.words(row.get("passage") or [])
    return Reading(row, _inline(curve) if curve else None, passage, inside)


# What closes the page


def _sweep(sweep: Mapping[str, Any], drawn: Mapping[str, Figure]) -> Sweep:
    lowest = min((row["bits_per_byte"] for row in sweep["rows"] if row["bits_per_byte"] is not None), default=None)
    return Sweep(
        sweep["name"], sweep_title(sweep), sweep["keys"], sweep["rows"], lowest, drawn.get(f"sweeps/{sweep['name']}")
    )


def _estimation(drawn: Mapping[str, Figure]) -> Estimation:
    """What is counted: two halves of a day, 10 variables of 10 outcomes, words of 8 letters."""
    asked = (("two activities in two halves of a day", 2, 2), ("ten digits", 10, 10), ("eight characters", 67, 8))
    return Estimation(drawn["estimation/likelihoods"], [_counted(*each) for each in asked])


def _counted(name: str, outcomes: int, variables: int) -> tuple[str, int, int, int, int, int]:
    joint = estimation.joint_parameters(outcomes, variables)
    conditional = estimation.conditional_parameters(outcomes, variables)
    return name, outcomes, variables, joint, conditional, estimation.independent_parameters(outcomes)
