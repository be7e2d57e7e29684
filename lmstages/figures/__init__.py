"""The figures of a run: one file each, drawn once, and this folder is their registry.

A module of this folder that has ``draw`` is a figure. It declares

    TITLE         "Bits per byte on {corpus}, {split}", filled from the columns of the group's first row
    TABLE         the table of ``results.schema.TABLES`` that it reads; None for a figure that reads no table
    BY            columns by whose values the table is split: one drawing for each combination; () for one drawing
    COLUMNS       columns that it reads of the table
    ALSO          optional: further tables that it reads, each with its columns; they are passed whole, by name
    A_LINE_A_ROW  optional: True where a drawing grows with the models; of a large run it gets those that a page shows
    ONLY_IF       optional: the fact of ``run.json`` that must be true for the figure to be drawn

    caption(frame, **also) -> str               what to see; every claim follows from the frame that is drawn
    draw(frame, **also) -> Figure | None        None where the group has nothing to draw

Title and caption are also those of Snakemake's own report.

``files`` draws them all and writes them; ``drawing`` is the look that they share.
"""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Figure:
    """What a module of this folder declares."""

    name: str
    title: str
    table: str | None
    by: tuple[str, ...]
    columns: tuple[str, ...]
    caption: Callable[..., str]
    draw: Callable[..., Any]
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only_if: str | None = None
    a_line_a_row: bool = False

    def reads(self) -> dict[str, tuple[str, ...]]:
        """Every table that the figure reads, with the columns it reads of it."""
        own = {self.table: tuple(dict.fromkeys([*self.by, *self.columns]))} if self.table else {}
        return {**own, **self.also}


def modules() -> list[str]:
    """The names of all modules of this folder; imports none of them."""
    return sorted(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))


def registry() -> dict[str, Figure]:
    """Every figure by its name; a column that its table lacks is an error here."""
    imported = {name.rpartition(".")[2]: import_module(name) for name in modules()}
    figures = {name: _declared(name, module) for name, module in imported.items() if hasattr(module, "draw")}
    for figure in figures.values():
        _check(figure)
    return figures


def _declared(name: str, module: Any) -> Figure:
    optional: dict[str, tuple[str, Any]] = {
        "also": ("ALSO", {}),
        "only_if": ("ONLY_IF", None),
        "a_line_a_row": ("A_LINE_A_ROW", False),
    }
    given: Any = {key: getattr(module, constant, default) for key, (constant, default) in optional.items()}
    split = {"table": module.TABLE, "by": module.BY, "columns": module.COLUMNS}
    functions = {"caption": module.caption, "draw": module.draw}
    return Figure(name=name, title=module.TITLE, **given, **split, **functions)


def _check(figure: Figure) -> None:
    from lmstages.results.schema import TABLES, columns

    for table, names in figure.reads().items():
        assert table in TABLES, f"figures.{figure.name} reads {table}, which is no table of results.schema"
        lacking = set(names) - {column.name for column in columns(TABLES[table])}
        assert not lacking, f"figures.{figure.name} reads {sorted(lacking)}, which table {table} does not have"
