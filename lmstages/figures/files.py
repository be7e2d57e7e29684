"""Draws every figure of a results folder once, and writes each as SVG, PNG and PDF beside an index.

figures/NAME/GROUP.svg, .png, .pdf      GROUP: the values of BY, joined by "."; NAME where BY is ()
figures/index.json                      [{figure, group, title, caption, svg}], in the order of the registry
"""

import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.core.visible import visible
from lmstages.core.workflow_files import STARTER
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


def write(results: Results, out: Path, made: artifacts.Made, processes: int = 1) -> None:
    """Every figure of the results that has something to draw; the files are the same for any number of processes."""
    for table in _tables():  # so that nothing is written where one of them is damaged
        results.table(table)
    below = {**made, "below": 1}  # the folder of a drawing says of which figure it is
    others = [_start(results.folder, out, below, Part(index, processes)) for index in range(1, processes)]
    entries = write_part(results, out, below, Part(0, processes))
    for receiver in others:
        entries |= _received(receiver, out)
    artifacts.save_json(out / "index.json", [entries[position] for position in sorted(entries)], made)


@dataclass(frozen=True)
class Part:
    """Every ``of``-th drawing, beginning with ``index``."""

    index: int
    of: int


def write_part(results: Results, out: Path, made: artifacts.Made, part: Part) -> dict[int, dict[str, Any]]:
    """The files of a part of the drawings; the lines of the index by the positions of their drawings."""
    entries = {}
    for position, planned in enumerate(plan(results)):
        if position % part.of == part.index and (drawn := planned.drawn()) is not None:
            for extension, content in drawn.drawing.files():
                artifacts.save_bytes(out / f"{drawn.name}.{extension}", content, made)
            entries[position] = drawn.entry()
    return entries


def _start(folder: Path, out: Path, made: artifacts.Made, part: Part) -> Connection:
    """A process that writes a part; the lines of the index come through the connection, or an error."""
    context = get_context("spawn")  # a fork would copy the locks of pyarrow's threads as they stand
    receiver, sender = context.Pipe(duplex=False)
    context.Process(target=_write_and_send, args=(folder, out, made, part, sender), daemon=True).start()
    sender.close()
    return receiver


def _write_and_send(folder: Path, out: Path, made: artifacts.Made, part: Part, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the first process says that it was interrupted
    content: dict[int, dict[str, Any]] | Exception
    try:
        content = write_part(Results.open(folder), out, made, part)
    except Exception as error:  # the first process raises it
        content = error
    with suppress(BrokenPipeError):  # the first process was killed
        sender.send(content)


def _received(receiver: Connection, out: Path) -> dict[int, dict[str, Any]]:
    """What a process has drawn; raises what it raised."""
    try:
        content = receiver.recv()
    except EOFError as error:
        problem, remedy = "a process that draws was ended from outside, as by lack of memory", f"run {STARTER} again"
        raise UserError(out, problem, "", remedy) from error
    if isinstance(content, Exception):
        raise content
    entries: dict[int, dict[str, Any]] = content
    return entries


def inputs(folder: Path) -> list[Path]:
    """The files of all tables that figures read."""
    return [frame.path_of(folder, table) for table in _tables()]


def _tables() -> list[str]:
    return sorted({table for figure in registry().values() for table in figure.reads()})


@dataclass(frozen=True)
class Planned:
    """A drawing before it is drawn: a figure with the rows of one group."""

    figure: Figure
    group: Mapping[str, str] = field(default_factory=dict)
    frames: "Sequence[pd.DataFrame]" = ()  # the group's rows, none of a figure that reads no table
    facts: Mapping[Any, Any] = field(default_factory=dict)  # the columns of the first of them, for the title
    also: "Mapping[str, pd.DataFrame]" = field(default_factory=dict)
    note: str = ""  # closes the caption

    def drawn(self) -> Drawn | None:
        """None where the group has nothing to draw."""
        with settings():
            if (sheet := self.figure.draw(*self.frames, **self.also)) is None:
                return None
            title, caption = self.figure.title.format(**self.facts), self.figure.caption(*self.frames, **self.also)
            return Drawn(self.figure.name, self.group, Drawing(title, caption + self.note, sheet))


def drawings(results: Results) -> Iterator[Drawn]:
    """One after the other, so that one figure at a time is in memory."""
    return filter(None, (planned.drawn() for planned in plan(results)))


def plan(results: Results) -> Iterator[Planned]:
    """Every group of every figure, in the order of the registry."""

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
            yield from _groups(figure, tables[figure.table] if figure.table else None, also, note)


def of_experiments(data: "pd.DataFrame", kept: Collection[Experiment] | None) -> "pd.DataFrame":
    """The rows of some experiments, and of no model; all of them for None or in a table that names none."""
    if kept is None or not {"corpus", "tokenizer", "model"} <= {*data}:
        return data
    keys = zip(data["corpus"], data["tokenizer"], data["model"], strict=True)
    return data[np.fromiter((key in kept or key[2] == "" for key in keys), dtype=bool, count=len(data))]


def groups(figure: Figure, data: "pd.DataFrame | None", also: Mapping[str, "pd.DataFrame"]) -> Iterator[Drawn]:
    """The drawings of one figure: one for each combination of BY in its table."""
    return filter(None, (planned.drawn() for planned in _groups(figure, data, also, "")))


def _groups(
    figure: Figure, data: "pd.DataFrame | None", also: Mapping[str, "pd.DataFrame"], note: str
) -> Iterator[Planned]:
    if data is None:
        yield Planned(figure, also=also, note=note)
        return
    data = data[list(figure.reads()[str(figure.table)])]
    parts = data.groupby(list(figure.by), sort=False) if figure.by else [((), data)]
    for values, part in parts:
        group = dict(zip(figure.by, map(str, values), strict=True))
        rows = shown(part.reset_index(drop=True))
        if len(rows):
            yield Planned(figure, group, (rows,), rows.iloc[0].to_dict(), also, note)


def shown(data: "pd.DataFrame") -> "pd.DataFrame":
    """The same rows with control, direction and zero-width characters of every text written out."""
    from pandas.api.types import is_string_dtype

    written = data.copy()
    for name in data:
        if is_string_dtype(data[name].dtype):
            changed = {text: visible(text) for text in data[name].dropna().unique() if visible(text) != text}
            written[name] = data[name].replace(changed) if changed else data[name]
    return written
