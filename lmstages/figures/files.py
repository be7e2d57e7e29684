"""Draws every figure of a results folder once, and writes each as SVG, PNG and PDF beside an index.

figures/NAME/GROUP.svg, .png, .pdf      GROUP: the values of BY, joined by "."; NAME where BY is ()
figures/index.json                      [{figure, group, title, caption, svg}], in the order of the registry
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmstages.core import artifacts
from lmstages.core.visible import visible
from lmstages.figures import Figure, registry
from lmstages.figures.drawing import Drawing, settings
from lmstages.results import frame
from lmstages.results.frame import Results
from lmstages.results.selection import Experiment, Limit, experiments, shown_rows

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Drawn:
    """One drawing of a figure, and the group of rows that it shows."""

    figure: str
    group: Mapping[str, str]
    drawing: Drawing

    @property
    def name(self) -> str:
        """Path below ``figures``, without an extension."""
        return f"{self.figure}/{'.'.join(self.group.values()) or self.figure}"

    def entry(self) -> dict[str, Any]:
        """The drawing's line of ``index.json``."""
        shown = {"title": self.drawing.title, "caption": self.drawing.caption, "svg": f"{self.name}.svg"}
        return {"figure": self.figure, "group": dict(self.group), **shown}


def write(results: Results, out: Path, made: artifacts.Made) -> None:
    """Every figure of the results that has something to draw."""
    index, below = [], {**made, "below": 1}  # the folder of a drawing says of which figure it is
    for table in _tables():  # so that nothing is written where one of them is damaged
        results.table(table)
    for drawn in drawings(results):
        for extension, content in drawn.drawing.files():
            artifacts.save_bytes(out / f"{drawn.name}.{extension}", content, below)
        index.append(drawn.entry())
    artifacts.save_json(out / "index.json", index, made)


def inputs(folder: Path) -> list[Path]:
    """The files of all tables that figures read."""
    return [frame.path_of(folder, table) for table in _tables()]


def _tables() -> list[str]:
    return sorted({table for figure in registry().values() for table in figure.reads()})


def drawings(results: Results) -> Iterator[Drawn]:
    """One after the other, so that one figure at a time is in memory."""

    @cache
    def table(name: str) -> "pd.DataFrame":
        return results.table(name)

    rows = shown_rows(results.rows)
    limit = Limit(len(rows), len(results.rows))
    for figure in registry().values():
        if figure.only_if is None or results.facts.get(figure.only_if):
            kept = experiments(rows) if figure.a_line_a_row and limit.is_reached else None
            tables = {name: of_experiments(table(name), kept) for name in figure.reads()}
            also = {name: shown(tables[name][list(columns)]) for name, columns in figure.also.items()}
            fewer = any(len(tables[name]) < len(table(name)) for name in tables)
            note = f" Drawn are the {limit.shown:,} rows that the report shows, of {limit.total:,}." if fewer else ""
            yield from groups(figure, tables[figure.table] if figure.table else None, also, note)


def of_experiments(data: "pd.DataFrame", kept: Collection[Experiment] | None) -> "pd.DataFrame":
    """The rows of some experiments, and of no model; all of them for None or in a table that names none."""
    if kept is None or not {"corpus", "tokenizer", "model"} <= {*data}:
        return data
    keys = zip(data["corpus"], data["tokenizer"], data["model"], strict=True)
    return data[np.fromiter((key in kept or key[2] == "" for key in keys), dtype=bool, count=len(data))]


def groups(
    figure: Figure, data: "pd.DataFrame | None", also: Mapping[str, "pd.DataFrame"], note: str = ""
) -> Iterator[Drawn]:
    """The drawings of one figure: one for each combination of BY in its table; ``note`` closes their captions."""
    if data is None:
        yield from _drawn(figure, {}, (), {}, also, note)
        return
    data = data[list(figure.reads()[str(figure.table)])]
    parts = data.groupby(list(figure.by), sort=False) if figure.by else [((), data)]
    for values, part in parts:
        group = dict(zip(figure.by, map(str, values), strict=True))
        visible_part = shown(part.reset_index(drop=True))
        if len(visible_part):
            yield from _drawn(figure, group, (visible_part,), visible_part.iloc[0].to_dict(), also, note)


def _drawn(figure: Figure, group: Any, frames: Any, facts: Any, also: Any, note: str) -> Iterator[Drawn]:
    with settings():
        if (sheet := figure.draw(*frames, **also)) is not None:
            title, caption = figure.title.format(**facts), figure.caption(*frames, **also) + note
            yield Drawn(figure.name, group, Drawing(title, caption, sheet))


def shown(data: "pd.DataFrame") -> "pd.DataFrame":
    """The same rows with control, direction and zero-width characters of every text written out."""
    from pandas.api.types import is_string_dtype

    written = data.copy()
    for name in data:
        if is_string_dtype(data[name].dtype):
            changed = {text: visible(text) for text in data[name].dropna().unique() if visible(text) != text}
            written[name] = data[name].replace(changed) if changed else data[name]
    return written
