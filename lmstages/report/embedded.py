"""The figures of a run as a page embeds them: SVG files and their captions, read from ``figures/index.json``.

A figure is found by its name and by the group it was drawn of, such as {corpus: fables, split: test}, so that a new
figure appears in the page without an edit of the page. Draws nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from markupsafe import Markup
from pydantic import Field

from lmstages.core import artifacts
from lmstages.core.errors import UserError
from lmstages.core.shapes import Shape
from lmstages.core.visible import visible

NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'  # an address, which an SVG inside a page does not need


class Entry(Shape):
    """A line of the index."""

    figure: str
    group: dict[str, str]
    title: str
    caption: str
    svg: Annotated[str, Field(pattern=r"^[^/.][^/]*/[^/]+\.svg$")]


@dataclass(frozen=True)
class EmbeddedFigure:
    """A drawn figure, which group of rows it shows, and the caption under it."""

    name: str
    group: Mapping[str, str]
    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Figures:
    """All figures of a run, in the order of its index."""

    drawn: Sequence[EmbeddedFigure] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path) -> "Figures":
        """The figures that ``lmstages figures`` wrote below ``folder``."""
        path = folder / "index.json"
        index = artifacts.load_json(path, list[Entry])
        artifacts.must_be_current(path)
        for record in index:
            artifacts.must_be_of_one_call(path, folder / record["svg"])
        return cls([_embedded(folder, record) for record in index])

    def of(self, *names: str, **group: str) -> list[EmbeddedFigure]:
        """Figures of these names, in this order, whose group has these values."""
        return [figure for name in names for figure in self.drawn if figure.name == name and _within(figure, group)]

    def besides(self, names: Sequence[str], **group: str) -> list[EmbeddedFigure]:
        """Figures of all other names whose group has these values."""
        return [figure for figure in self.drawn if figure.name not in names and _within(figure, group)]


def _within(figure: EmbeddedFigure, group: Mapping[str, str]) -> bool:
    return all(figure.group.get(key) == value for key, value in group.items())


def _embedded(folder: Path, record: Mapping[str, Any]) -> EmbeddedFigure:
    path = artifacts.verified(folder / record["svg"])
    try:
        svg = path.read_text("utf-8").replace(NAMESPACE, "", 1)
    except UnicodeDecodeError as error:
        raise UserError(path, "no drawing of lmstages", "", artifacts.make_again(path)) from error
    name, title, caption = (visible(record[key]) for key in ("figure", "title", "caption"))
    markup = Markup(svg)  # noqa: S704 - made and escaped by figures, its sha256 verified
    return EmbeddedFigure(name, record["group"], title, caption, markup)
